"""Every operator that was met in real networks has a rule, or a stated reason to have none."""

from pathlib import Path

import onnx
import pytest

from compress.channels.rules import rules
from compress.onnx_io.graph import channel_graph
from compress.onnx_io.tensors import all_nodes

MODELS = sorted((Path(__file__).parents[3] / "shared" / "models").glob("*.onnx"))

# What torch's exporter writes for 25 small networks: residual, dense, shuffled, gated, recurrent, attention, ….
FROM_TORCH = [
    "Shape",
    "Constant",
    "Expand",
    "CastLike",
    "Conv",
    "BatchNormalization",
    "Relu",
    "Add",
    "Reshape",
    "ReduceMean",
    "Concat",
    "Gemm",
    "Cast",
    "Slice",
    "Pad",
    "MaxPool",
    "Identity",
    "Transpose",
    "SplitToSequence",
    "SequenceAt",
    "AveragePool",
    "Sigmoid",
    "Unsqueeze",
    "Mul",
    "ConvTranspose",
    "Resize",
    "LayerNormalization",
    "MatMul",
    "Squeeze",
    "Gather",
    "Sqrt",
    "Div",
    "Softmax",
    "Gelu",
    "InstanceNormalization",
    "Sub",
    "Range",
    "PRelu",
    "Abs",
    "LSTM",
    "DepthToSpace",
    "Einsum",
]
# What ONNX Runtime's optimizer and its quantizer write.
FROM_RUNTIME = [
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLinear",
    "QuantizeLinear",
    "DequantizeLinear",
    "com.microsoft::QLinearAdd",
    "com.microsoft::QLinearMul",
    "com.microsoft::QLinearConcat",
    "com.microsoft::QLinearConv",
    "com.microsoft::QLinearGlobalAveragePool",
    "com.microsoft::QLinearAveragePool",
    "com.microsoft::QLinearSigmoid",
    "com.microsoft::QLinearLeakyRelu",
    "com.microsoft::QGemm",
    "com.microsoft::FusedConv",
    "com.microsoft::FusedGemm",
    "com.microsoft::FusedMatMul",
    "com.microsoft::Gelu",
    "com.microsoft::FastGelu",
    "com.microsoft::BiasGelu",
    "com.microsoft::QuickGelu",
    "com.microsoft::SkipLayerNormalization",
    "com.microsoft::EmbedLayerNormalization",
    "com.microsoft::Attention",
    "com.microsoft::MultiHeadAttention",
    "com.microsoft::NhwcMaxPool",
    "com.microsoft::MatMulNBits",
    "SimplifiedLayerNormalization",
    "Attention",
    "RotaryEmbedding",
]
IN_PARTS = "said of the plain operators that it stands for"
WITHOUT_RULE = {
    "Constant": "a constant of the graph, no operator",
    "If": "its branches are not looked into; what they read from outside stays",
    **dict.fromkeys(("SequenceAt", "SequenceConstruct", "ConcatFromSequence"), IN_PARTS),
    **dict.fromkeys(("com.microsoft::FusedConv", "com.microsoft::FusedGemm"), IN_PARTS),
    **dict.fromkeys(("com.microsoft::SkipLayerNormalization", "com.microsoft::NhwcMaxPool"), IN_PARTS),
    "SimplifiedLayerNormalization": IN_PARTS,
}


@pytest.mark.parametrize("operator", sorted({*FROM_TORCH, *FROM_RUNTIME}))
def test_an_operator_that_was_met_has_a_rule_or_a_reason(operator):
    assert (operator in rules) != (operator in WITHOUT_RULE)


@pytest.mark.skipif(not MODELS, reason="needs the models in ../shared/models")
def test_operators_of_published_models_have_a_rule_or_a_reason():
    met = set()
    for path in MODELS:
        for node in all_nodes(onnx.load(path)):
            met.add(f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type)
    assert len(met) > 40
    assert {name for name in met if name not in rules} <= WITHOUT_RULE.keys()


@pytest.mark.skipif(not MODELS, reason="needs the models in ../shared/models")
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem[:30])
def test_every_tensor_of_published_models_has_a_shape(path):
    graph = channel_graph(onnx.load(path))
    opaque = {name for node in graph.nodes if node.operator == "If" for name in node.outputs}
    unknown = {name for node in graph.nodes for name in node.outputs if name and name not in graph.shapes}
    assert not unknown or opaque
