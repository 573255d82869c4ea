"""Remedies for graphs, whose weights and biases have names of their own."""

from __future__ import annotations

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from gradaudit.onnx_graph.loading import load_onnx
from gradaudit.probes.weights import measure_weights
from gradaudit.remedies._layers import Start
from gradaudit.remedies.initialization import code
from gradaudit.settings import Settings
from tests.remedies.pasted import paste

SIZES = (3, 5, 4)


def net() -> nn.Module:
    """Sigmoid between two dense layers stored (inputs, outputs), biases named for nobody."""
    generator = np.random.default_rng(0)
    arrays = {
        name: generator.standard_normal(shape).astype(np.float32)
        for name, shape in {
            "w1": SIZES[:2],
            "bias": SIZES[1:2],
            "w2": SIZES[1:],
            "b2": (4,),
        }.items()
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "bias"], ["a"], name="first"),
        helper.make_node("Sigmoid", ["a"], ["s"], name="bend"),
        helper.make_node("Gemm", ["s", "w2", "b2"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return load_onnx(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )


def test_each_weights_own_bias_is_set() -> None:
    graph = net()
    before = graph.get_parameter("bias").detach().clone()
    rows, _ = measure_weights(graph, {}, {}, Settings())
    row = {each.parameter: each for each in rows}["w2"]
    assert (row.bias, row.inputs_first, row.elsewhere) == ("b2", True, True)
    paste(code([Start("w2", "critical", 0.5, None, recentred=True, row=row)]), model=graph)
    weight = graph.get_parameter("w2")
    torch.testing.assert_close(graph.get_parameter("b2"), -0.5 * weight.sum(0))
    assert torch.equal(graph.get_parameter("bias"), before)  # of the other layer
    paste(code([Start("w2", "He", 0.5, None, row=row)]), model=graph)
    assert not graph.get_parameter("b2").any()
