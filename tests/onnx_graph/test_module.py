"""A loaded graph as a torch module: names, buffers, frozen parameters, copies, calls."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn
from torch.func import functional_call

from gradaudit.onnx_graph.loading import load_onnx
from gradaudit.onnx_graph.node import NodeError

Arrays = dict[str, np.ndarray]
X = torch.tensor([[1.0, -2.0], [3.0, 4.0]])


def model(nodes: list[NodeProto], arrays: Arrays, inputs: tuple[str, ...] = ("x",)) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 2]) for n in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def scaled(name: str, node: str = "scaled") -> nn.Module:
    array = np.array([2.0, 3.0], np.float32)
    return load_onnx(model([helper.make_node("Mul", ["x", name], ["y"], name=node)], {name: array}))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("w", "w"),
        ("layer.0.weight", "layer.0.weight"),
        ("onnx::Mul_12", "onnx::Mul_12"),
        ("a/b", "a/b"),
        ("training", "training_"),  # modules have that
        ("a..b", "a__b"),  # torch has no empty names
        ("<b>bold</b>", "<b>bold</b>"),
    ],
)
def test_parameters_have_the_graphs_names(name: str, expected: str) -> None:
    net = scaled(name)
    assert [found for found, _ in net.named_parameters()] == [expected]
    assert list(net.state_dict()) == [expected]
    torch.testing.assert_close(net(X), X * torch.tensor([2.0, 3.0]))


@pytest.mark.parametrize("node", ["layer", "layer.0", "layer.0.weight", "forward", ""])
def test_nodes_have_theirs_also_beside_parameters(node: str) -> None:
    net = scaled("layer.0.weight", node)
    calls = []
    for name, module in net.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    torch.testing.assert_close(net(X), X * torch.tensor([2.0, 3.0]))
    assert calls[-1] == ""  # the graph itself
    assert calls[0].rstrip("_") == (node or "Mul_0")
    assert list(net.state_dict()) == ["layer.0.weight"]


def test_integers_and_masks_are_buffers_and_settings_are_not_trained() -> None:
    arrays = {
        "w": np.ones(2, np.float32),
        "power": np.array(2.0, np.float32),
        "val_3": np.array(0.5, np.float32),
        "gain": np.array(0.5, np.float32),
        "mask": np.array([0.0, -np.inf], np.float32),
        "shape": np.array([-1, 2]),
    }
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("Pow", ["a", "power"], ["b"]),
        helper.make_node("Mul", ["b", "val_3"], ["c"]),
        helper.make_node("Mul", ["c", "gain"], ["d"]),
        helper.make_node("Add", ["d", "mask"], ["e"]),
        helper.make_node("Reshape", ["e", "shape"], ["y"]),
    ]
    net = load_onnx(model(nodes, arrays))
    trained = {name: p.requires_grad for name, p in net.named_parameters()}
    assert trained == {"w": True, "power": False, "val_3": False, "gain": True}
    assert {name for name, _ in net.named_buffers()} == {"mask", "shape"}
    assert set(net.state_dict()) == set(arrays)
    assert any("floating initializers are not trained here" in note for note in net.notes.told)


def test_weights_in_constant_nodes_are_parameters() -> None:
    arrays = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "bias": np.array([1, 2, 3], np.float32),
    }
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
        for name, array in {**arrays, "half": np.full(3, 0.5, np.float32)}.items()
    ]
    nodes += [
        helper.make_node("Gemm", ["x", "w", "bias"], ["a"]),
        helper.make_node("Mul", ["a", "half"], ["y"]),
    ]
    net = load_onnx(model(nodes, {}))
    assert list(net.state_dict()) == ["w", "bias"]
    assert all(parameter.requires_grad for parameter in net.parameters())
    w, bias = (torch.from_numpy(array) for array in arrays.values())
    torch.testing.assert_close(net(X), (X @ w + bias) * 0.5)


@pytest.mark.parametrize(
    ("name", "shape", "trained"),
    [
        ("reconstruct.bias", (1,), True),
        ("dense_1/BiasAdd/ReadVariableOp:0", (1,), True),
        ("onnx::Conv_32", (1,), True),  # a folded bias of one channel
        ("zeros", (1,), False),
    ],
)
def test_biases_are_trained_whatever_they_are_called(
    name: str, shape: tuple[int, ...], trained: bool
) -> None:
    arrays = {"w": np.ones((2, 1), np.float32), name: np.full(shape, 3.0, np.float32)}
    net = load_onnx(model([helper.make_node("Gemm", ["x", "w", name], ["y"])], arrays))
    (found,) = (p for n, p in net.named_parameters() if n != "w")
    assert found.requires_grad == trained


@pytest.mark.parametrize(
    ("frozen", "trained"), [(True, []), (["w"], ["b"]), (False, ["w", "b"])], ids=str
)
def test_parameters_can_be_frozen(frozen: bool | list[str], trained: list[str]) -> None:
    nodes = [helper.make_node("Mul", ["x", "w"], ["a"]), helper.make_node("Add", ["a", "b"], ["y"])]
    arrays = {name: np.ones(2, np.float32) for name in "wb"}
    net = load_onnx(model(nodes, arrays), frozen=frozen)
    assert [name for name, p in net.named_parameters() if p.requires_grad] == trained


def test_inputs_by_order_and_by_name() -> None:
    nodes = [helper.make_node("Sub", ["left", "right.0"], ["y"])]
    net = load_onnx(model(nodes, {}, ("left", "right.0")))
    torch.testing.assert_close(net(X, 2 * X), -X)
    torch.testing.assert_close(net(**{"right.0": X, "left": 2 * X}), X)
    torch.testing.assert_close(net(2 * X, **{"right.0": X}), X)
    with pytest.raises(TypeError, match=r"needs its input 'right.0'"):
        net(X)
    with pytest.raises(TypeError, match=r"no input 'other'; it takes left, right.0"):
        net(X, other=X)
    with pytest.raises(TypeError, match=r"takes 2 inputs"):
        net(X, X, X)


def test_copies_and_exchanged_parameters_compute_with_their_own() -> None:
    net = scaled("w")
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.get_parameter("w").zero_()
    assert other(X).abs().max() == 0
    torch.testing.assert_close(net(X), X * torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(functional_call(net, {"w": torch.ones(2)}, (X,)), X)
    assert net.double()(X.double()).dtype == torch.float64


def test_an_operator_that_fails_names_its_node() -> None:
    with pytest.raises(
        NodeError, match=r"node 'scaled' \(Mul\) failed on float32\[2, 3\], float32\[2\]"
    ):
        scaled("w")(torch.ones(2, 3))
