"""Dense layers written as several nodes, computed as one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from gradaudit.onnx_graph.loading import load_onnx

generator = np.random.default_rng(0)
W = generator.standard_normal((3, 4), dtype=np.float32)
B = generator.standard_normal(4, dtype=np.float32)
X = torch.from_numpy(generator.standard_normal((2, 5, 3), dtype=np.float32))


def node(kind: str, inputs: list[str], output: str) -> NodeProto:
    return helper.make_node(kind, inputs, [output], name=f"to_{output}")


def model(
    nodes: list[NodeProto], outputs: tuple[str, ...] = ("y",), w: np.ndarray = W
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "t", 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(B, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


PRODUCT, SUM = node("MatMul", ["x", "w"], "p"), node("Add", ["b", "p"], "y")
TURN = helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0], name="turn")
TURNED = node("MatMul", ["x", "wt"], "p")


def expected() -> torch.Tensor:
    return X @ torch.from_numpy(W) + torch.from_numpy(B)


@pytest.mark.parametrize("order", [["b", "p"], ["p", "b"]])
def test_the_bias_is_the_products(order: list[str]) -> None:
    net = load_onnx(model([PRODUCT, node("Add", order, "y")]))
    layer = net.get_submodule("to_p")
    assert layer.bias is net.get_parameter("b")
    assert layer.weight is net.get_parameter("w")
    assert type(layer).__name__ == "MatMul"
    assert type(net.get_submodule("to_y")).__name__ == "Add"
    torch.testing.assert_close(net(X), expected())


def test_a_turned_weight_makes_a_linear_layer() -> None:
    net = load_onnx(model([TURN, TURNED, SUM], w=W.T.copy()))
    layer = net.get_submodule("to_p")
    assert isinstance(layer, nn.Linear)
    assert (layer.in_features, layer.out_features) == (3, 4)
    assert layer.weight is net.get_parameter("w")
    assert not hasattr(net, "turn")  # nobody reads the turned weight any more
    torch.testing.assert_close(net(X), expected())
    net(X).sum().backward()
    torch.testing.assert_close(layer.weight.grad, X.sum((0, 1)).expand(4, 3))


def test_values_that_are_read_elsewhere_stay() -> None:
    net = load_onnx(model([PRODUCT, SUM], ("y", "p")))
    y, p = net(X)
    torch.testing.assert_close(p, X @ torch.from_numpy(W))
    torch.testing.assert_close(y, expected())
    net = load_onnx(model([TURN, TURNED, SUM], ("y", "wt"), w=W.T.copy()))
    torch.testing.assert_close(net(X)[1], torch.from_numpy(W))


def test_what_is_no_bias_is_added() -> None:
    twice = [PRODUCT, node("Add", ["p", "b"], "q"), node("Mul", ["p", "q"], "y")]
    net = load_onnx(model(twice))
    assert net.get_submodule("to_p").bias is None
    torch.testing.assert_close(net(X), (expected() - torch.from_numpy(B)) * expected())
    other = [PRODUCT, node("Reshape", ["b", "s"], "c"), node("Add", ["p", "c"], "y")]
    proto = model(other)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 4]), "s"))
    torch.testing.assert_close(load_onnx(proto)(X), expected())


def test_the_state_dict_has_each_parameter_once_and_loads() -> None:
    net = load_onnx(model([PRODUCT, SUM]))
    state = net.state_dict()
    assert list(state) == ["w", "b"]
    net.load_state_dict({name: torch.zeros_like(value) for name, value in state.items()})
    assert net(X).abs().max() == 0


def gelu(order: str, half: float = 0.5, *, outputs: tuple[str, ...] = ("y",)) -> ModelProto:
    """``x (1 + erf(x / sqrt 2)) half`` with the factors in this order."""
    scale = node("Div", ["x", "root"], "s") if "d" in order else node("Mul", ["inverse", "x"], "s")
    nodes = [scale, node("Erf", ["s"], "e"), node("Add", ["one", "e"], "a")]
    if order.startswith("x"):
        nodes += [node("Mul", ["x", "a"], "m"), node("Mul", ["m", "half"], "y")]
    else:
        nodes += [node("Mul", ["half", "a"], "m"), node("Mul", ["x", "m"], "y")]
    proto = model(nodes, outputs)
    numbers = {"root": 2**0.5, "inverse": 0.5**0.5, "half": half}
    for name, value in {**numbers, "one": 1.0}.items():
        constant = helper.make_node("Constant", [], [name], value_float=value)
        proto.graph.node.insert(0, constant)
    return proto


@pytest.mark.parametrize("order", ["x d", "h d", "x m", "h m"])
def test_a_gelu_written_out_is_one(order: str) -> None:
    net = load_onnx(gelu(order))
    torch.testing.assert_close(net(X), nn.functional.gelu(X))
    (made,) = (module for module in net.modules() if isinstance(module, nn.GELU))
    assert made is net.get_submodule("to_y")
    assert not hasattr(net, "to_e")


@pytest.mark.parametrize(
    "proto", [gelu("x d", 0.6), gelu("h m", outputs=("y", "e"))], ids=["other factor", "read"]
)
def test_what_only_looks_like_one_stays(proto: ModelProto) -> None:
    net = load_onnx(proto)
    assert not any(isinstance(module, nn.GELU) for module in net.modules())
    out = net(X)
    half = 0.6 if isinstance(out, torch.Tensor) else 0.5
    y = out if isinstance(out, torch.Tensor) else out[0]
    torch.testing.assert_close(y, nn.functional.gelu(X) * half / 0.5)
