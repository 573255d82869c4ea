"""Constants are worked out once, and what is no parameter is not trained."""

from __future__ import annotations

import onnx
import pytest
import torch

from gradaudit.errors import ModelError
from gradaudit.onnx_graph.graph import Graph
from gradaudit.onnx_graph.loading import load_onnx
from gradaudit.onnx_graph.node import Node


def _loaded(text: str) -> Graph:
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    return load_onnx(onnx.parser.parse_model(f"{header} net {text}"))


def _called(graph: Graph) -> list[str]:
    return [each.call.operator.name for each in graph.modules() if isinstance(each, Node)]


def test_a_shape_written_as_nodes_is_worked_out_once() -> None:
    graph = _loaded(
        """(float[N, 6] x) => (float[N, 2, 3] y) {
            zero = Constant <value = int64[1] {0}> ()
            six = Constant <value = int64 {6}> ()
            two = Constant <value = int64 {2}> ()
            three = Div (six, two)
            inner = Unsqueeze (three, zero)
            outer = Unsqueeze (two, zero)
            shape = Concat <axis = 0> (zero, outer, inner)
            y = Reshape (x, shape)
        }"""
    )
    assert _called(graph) == ["Reshape"]
    assert list(graph.state_dict()) == []
    x = torch.randn(4, 6)
    assert graph(x).equal(x.reshape(4, 2, 3))


@pytest.mark.parametrize(
    "made",
    [
        "Add (held, one)",  # an initializer, which may be exchanged
        "Mul (half, half)",
        "Concat <axis = 0> (many, many)",
        "Expand (one, many)",
    ],
)
def test_other_values_are_worked_out_when_called(made: str) -> None:
    many = ", ".join(["1"] * 40)
    graph = _loaded(
        f"""(float[N] x) => (float[N] x_, y) <int64 held = {{1}}> {{
            one = Constant <value = int64 {{1}}> ()
            half = Constant <value = float {{0.5}}> ()
            many = Constant <value = int64[40] {{{many}}}> ()
            x_ = Neg (x)
            y = {made}
        }}"""
    )
    assert _called(graph) == ["Neg", made.split(maxsplit=1)[0]]


def test_constants_that_do_not_fit_fail_as_their_node() -> None:
    graph = _loaded(
        """(float[N] x) => (float[N] y) {
            two = Constant <value = int64[2] {1, 2}> ()
            three = Constant <value = int64[3] {1, 2, 3}> ()
            sum = Add (two, three)
            y = Reshape (x, sum)
        }"""
    )
    with pytest.raises(ModelError, match="Add"):
        graph(torch.ones(6))
