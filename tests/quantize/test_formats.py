"""fp16, int8-dynamic, low-rank and deep-compression: what they compute, what they store, what they refuse."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.errors import ModelFileError, RecipeError
from compress.onnx_io.cost import onnx_cost
from compress.onnx_io.file import random_inputs, session
from compress.options import build
from compress.quantize.factors import rank_of, split_kernel, split_matrix
from compress.quantize.format import formats

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _seeded():
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


def model_of(nodes, weights, shape, outputs=("y",), axes=None):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * (axes or len(shape))) for n in outputs],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def convolution(W, **attributes):
    bias = np.arange(len(W)) / 10
    return model_of(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)],
        {"w": W, "b": bias},
        [2, W.shape[1] * attributes.get("group", 1), 9, 9],
    )


def gemm(W, **attributes):
    width = W.shape[1] if attributes.get("transB") else W.shape[0]
    bias = RNG.normal(size=W.shape[0] if attributes.get("transB") else W.shape[1])
    return model_of([helper.make_node("Gemm", ["x", "w", "b"], ["y"], **attributes)], {"w": W, "b": bias}, ["N", width])


def run(model, feed):
    onnx.checker.check_model(model, full_check=True)
    return session(model.SerializeToString()).run(None, feed)


def low_rank_kernel(out, inside, k, rank):
    parts = RNG.normal(size=(out, rank)), RNG.normal(size=(rank, rank, k, k)), RNG.normal(size=(rank, inside))
    return np.einsum("or,rskl,si->oikl", *parts)


class TestFloat16:
    def test_halves_the_weights_and_keeps_inputs_and_outputs(self):
        model = gemm(RNG.normal(size=(64, 64)))
        converted = build(formats, "fp16", {}).convert(model, ())
        assert {t.data_type for t in converted.model.graph.initializer} == {TensorProto.FLOAT16}
        assert [
            v.type.tensor_type.elem_type for v in (*converted.model.graph.input, *converted.model.graph.output)
        ] == [1, 1]
        feed = random_inputs(model, 3)
        difference = np.abs(run(model, feed)[0] - run(converted.model, feed)[0]).max()
        assert 0 < difference < 0.1
        assert 0 < converted.details["max_abs_diff"] < 0.1

    def test_each_weight_is_the_nearest_half(self):
        weights = np.array([[1 / 3, -2.0, 65504.0, 1e-3]])
        stored = build(formats, "fp16", {}).convert(gemm(weights), ()).model.graph.initializer[0]
        np.testing.assert_array_equal(numpy_helper.to_array(stored), weights.astype(np.float16))

    def test_what_overflows_is_refused(self):
        with pytest.raises(
            ModelFileError, match=r"tensor 'w' does not fit into float16; got 7e\+04; allowed: up to 65504"
        ):
            build(formats, "fp16", {}).convert(gemm(np.full((4, 4), 7e4)), ())
        with pytest.raises(ModelFileError, match="activation 'y' overflows in float16"):
            build(formats, "fp16", {}).convert(gemm(np.full((64, 4), 6e4)), ())


class TestInt8Dynamic:
    def test_quantizes_products_and_leaves_convolutions(self):
        nodes = [
            helper.make_node("Conv", ["x", "c"], ["h"], name="conv"),
            helper.make_node("Flatten", ["h"], ["f"]),
            helper.make_node("Gemm", ["f", "w", "b"], ["y"], name="classify"),
        ]
        weights = {"c": RNG.normal(size=(8, 3, 3, 3)), "w": RNG.normal(size=(8 * 36, 40)), "b": RNG.normal(size=40)}
        model = model_of(nodes, weights, ["N", 3, 8, 8], axes=2)
        converted = build(formats, "int8-dynamic", {}).convert(model, ()).model
        operators = [node.op_type for node in converted.graph.node]
        assert operators.count("Conv") == operators.count("MatMulInteger") == 1
        assert not {"Gemm", "MatMul", "ConvInteger"} & set(operators)
        feed = random_inputs(model, 0)
        exact, rounded = run(model, feed)[0], run(converted, feed)[0]
        assert 0 < np.abs(exact - rounded).max() < 0.03 * np.abs(exact).max()
        assert converted.ByteSize() < 0.4 * model.ByteSize()

    def test_per_channel_scales_keep_small_columns(self):
        model = gemm(RNG.normal(size=(32, 8)) * 10.0 ** -np.arange(8))
        feed = random_inputs(model, 0)
        exact = run(model, feed)[0]
        errors = {}
        for per_channel in (True, False):
            converted = build(formats, "int8-dynamic", {"per_channel": per_channel}).convert(model, ()).model
            errors[per_channel] = np.abs(run(converted, feed)[0] - exact)[:, -1].max()
        assert errors[True] < 0.1 * errors[False]

    def test_recorded_shapes_of_transposed_weights_do_no_harm(self):
        model = gemm(RNG.normal(size=(10, 64)), transB=1)
        model.graph.value_info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [10, 64]))
        converted = build(formats, "int8-dynamic", {}).convert(model, ()).model
        assert any(node.op_type == "MatMulInteger" for node in converted.graph.node)
        feed = random_inputs(model, 0)
        exact, rounded = run(model, feed)[0], run(converted, feed)[0]
        assert np.abs(exact - rounded).max() < 0.03 * np.abs(exact).max()

    def test_convolutions_alone_are_refused(self):
        with pytest.raises(ModelFileError, match="leaves convolutions alone; next: choose format int8"):
            build(formats, "int8-dynamic", {}).convert(convolution(RNG.normal(size=(4, 3, 3, 3))), ())


class TestLowRank:
    def test_ranks_by_hand(self):
        # Squares 16, 4, 4, 1: 16 / 25 = 0.64, 20 / 25 = 0.8, 24 / 25 = 0.96.
        assert [rank_of(np.array([4.0, 2, 2, 1]), e) for e in (0.5, 0.64, 0.65, 0.8, 0.9, 0.97, 1)] == [
            1,
            1,
            2,
            2,
            3,
            4,
            4,
        ]

    def test_a_matrix_by_hand(self):
        # diag(4, 2, 1): the leading two singular directions are the first two axes.
        factors = split_matrix(np.diag([4.0, 2.0, 1.0]), 0.9)
        np.testing.assert_allclose(factors.arrays[1] @ factors.arrays[0], np.diag([4.0, 2.0, 0.0]), atol=1e-12)
        assert factors.ranks == (2,)
        assert factors.energy == pytest.approx(20 / 21)

    def test_a_kernel_of_known_ranks_is_found_and_rebuilt(self):
        W = low_rank_kernel(8, 6, 3, 2)
        factors = split_kernel(W, 1.0)
        assert factors.ranks == (2, 2)
        into, core, out = factors.arrays
        np.testing.assert_allclose(np.einsum("or,rskl,si->oikl", out, core, into), W, atol=1e-10)

    def test_a_kernel_keeps_what_the_bound_says(self):
        W = RNG.normal(size=(8, 6, 3, 3))
        for energy in (0.6, 0.8, 0.95):
            assert split_kernel(W, energy).energy >= 2 * energy - 1

    @pytest.mark.parametrize(
        "attributes", [{}, {"strides": [2, 2], "pads": [1, 1, 1, 1]}, {"dilations": [2, 2]}, {"auto_pad": "SAME_UPPER"}]
    )
    @pytest.mark.parametrize("kernel", [1, 3])
    def test_convolutions_of_low_rank_compute_the_same_with_fewer_macs(self, attributes, kernel):
        model = convolution(low_rank_kernel(16, 12, kernel, 2), **attributes)
        converted = build(formats, "low-rank", {"energy": 1.0}).convert(model, ())
        (layer,) = converted.details["layers"]
        assert set(layer["ranks"]) == {2}
        assert layer["macs_before"] == converted.details["macs_before"] == onnx_cost(model).macs
        assert layer["macs_after"] == converted.details["macs_after"] == onnx_cost(converted.model).macs
        assert layer["macs_after"] < layer["macs_before"]
        feed = random_inputs(model, 1)
        np.testing.assert_allclose(run(converted.model, feed)[0], run(model, feed)[0], rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("attributes", [{}, {"transB": 1, "alpha": 0.5, "beta": 2.0}])
    def test_linear_layers_of_low_rank_compute_the_same(self, attributes):
        model = gemm(RNG.normal(size=(20, 3)) @ RNG.normal(size=(3, 24)), **attributes)
        converted = build(formats, "low-rank", {"energy": 1.0}).convert(model, ()).model
        assert [node.op_type for node in converted.graph.node] == ["MatMul", "Gemm"]
        assert onnx_cost(converted).macs == 3 * 44
        feed = random_inputs(model, 1)
        np.testing.assert_allclose(run(converted, feed)[0], run(model, feed)[0], rtol=1e-4, atol=1e-4)

    def test_nodes_that_share_a_weight_share_its_factors(self):
        W = RNG.normal(size=(20, 2)) @ RNG.normal(size=(2, 20))
        nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
        nodes.append(helper.make_node("Gemm", ["x", "w"], ["z"], transB=1))
        model = model_of(nodes, {"w": W}, [2, 20], ("y", "z"))
        converted = build(formats, "low-rank", {"energy": 1.0}).convert(model, ()).model
        assert len(converted.graph.initializer) == 4
        feed = random_inputs(model, 1)
        for after, before in zip(run(converted, feed), run(model, feed), strict=True):
            np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3)

    def test_what_gets_no_cheaper_stays(self):
        for model in (
            convolution(RNG.normal(size=(8, 8, 3, 3))),
            convolution(RNG.normal(size=(8, 1, 3, 3)), group=8),
            gemm(RNG.normal(size=(8, 8))),
        ):
            converted = build(formats, "low-rank", {"energy": 1.0}).convert(model, ())
            assert converted.model == model
            assert converted.details["layers"] == []

    def test_less_energy_means_fewer_macs_and_a_larger_error(self):
        model = convolution(RNG.normal(size=(16, 12, 3, 3)))
        feed = random_inputs(model, 1)
        exact, figures = run(model, feed)[0], []
        for energy in (0.7, 0.5, 0.3):
            converted = build(formats, "low-rank", {"energy": energy}).convert(model, ())
            figures.append((converted.details["macs_after"], -np.abs(run(converted.model, feed)[0] - exact).mean()))
        assert figures == sorted(figures, reverse=True)
        with pytest.raises(RecipeError, match="less than or equal to 1"):
            build(formats, "low-rank", {"energy": 1.5})


class TestDeepCompression:
    def test_each_kind_has_its_own_number_of_values_and_zeros_stay(self):
        # Spread evenly: no cluster of the linear initialisation is empty.
        conv, linear = RNG.uniform(-1, 1, (16, 3, 3, 3)), RNG.uniform(-1, 1, (16 * 49, 10))
        conv[::2] = 0
        linear[RNG.random(linear.shape) < 0.9] = 0
        nodes = [
            helper.make_node("Conv", ["x", "c"], ["h"]),
            helper.make_node("Flatten", ["h"], ["f"]),
            helper.make_node("Gemm", ["f", "l"], ["y"]),
        ]
        model = model_of(nodes, {"c": conv, "l": linear}, [1, 3, 9, 9], axes=2)
        converted = build(formats, "deep-compression", {"conv_bits": 4, "linear_bits": 2}).convert(model, ())
        stored = {t.name: numpy_helper.to_array(t) for t in converted.model.graph.initializer}
        for name, before, values in (("c", conv, 16), ("l", linear, 4)):
            np.testing.assert_array_equal(stored[name] == 0, before == 0)
            assert len(np.unique(stored[name][before != 0])) == values
        assert [layer["values"] for layer in converted.details["layers"]] == [16, 4]
        again = build(formats, "deep-compression", {"conv_bits": 4, "linear_bits": 2}).convert(converted.model, ())
        assert again.model == converted.model
        run(converted.model, random_inputs(model, 0))

    def test_weights_that_are_no_numbers_are_refused(self):
        for name in ("deep-compression", "low-rank"):
            with pytest.raises(ModelFileError, match="'w' holds NaN or infinity"):
                build(formats, name, {}).convert(gemm(np.full((4, 4), np.nan)), ())
