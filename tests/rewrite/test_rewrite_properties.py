"""What every rewrite must keep, on random networks."""

import numpy as np
import onnx
from hypothesis import given, settings
from strategies import networks

from compress.onnx_io.metadata import strip_metadata
from compress.onnx_io.session import random_inputs, session
from compress.recipe import RewriteSettings
from compress.rewrite import rewrite


def outputs(model, batch_size, seed=7):
    return session(model.SerializeToString()).run(None, random_inputs(model, seed, batch_size=batch_size))


def signature(model):
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
        )
        for value in (*model.graph.input, *model.graph.output)
    ]


def assert_sound(model, chosen):
    result = rewrite(model, chosen)
    assert result.proven, result.notes
    # A pass may be left out because it would make a tiny file larger, never because it is wrong.
    assert not [note for note in result.notes if "left out" in note and "would become" not in note], result.notes
    onnx.checker.check_model(result.model, full_check=True)
    assert signature(result.model) == signature(model)
    assert result.params_after <= result.params_before
    assert result.macs_after <= result.macs_before
    assert result.file_bytes_after <= result.file_bytes_before
    for batch_size in (1, 3):
        for expected, found in zip(outputs(model, batch_size), outputs(result.model, batch_size), strict=True):
            assert expected.dtype == found.dtype
            assert np.abs(expected - found).max() <= 1e-5 * max(1.0, np.abs(expected).max())
    again = rewrite(result.model, chosen)
    assert again.channels_removed == 0
    assert strip_metadata(again.model).SerializeToString() == strip_metadata(result.model).SerializeToString()


@settings(settings.get_profile("stable"), max_examples=60)
@given(networks())
def test_a_rewrite_is_sound_small_and_final(model):
    assert_sound(model, None)


@settings(settings.get_profile("stable"), max_examples=25)
@given(networks())
def test_true_zeros_alone_are_sound_too(model):
    assert_sound(model, RewriteSettings(epsilon=0))
