"""Functions that a model brings along, and what names mean in subgraphs."""

from __future__ import annotations

import pytest
import torch
from onnx import parser
from torch import Tensor

from gradaudit.onnx_graph.loading import load_onnx
from tests.onnx_graph.small_models import agree, from_onnxruntime, from_text

HEAD = '<ir_version: 8, opset_import: ["" : 16, "own" : 1]>\n'
OWN = '<opset_import: ["" : 16, "own" : 1], domain: "own">\n'
W = "<float[2] w = {0.5, 2.0}>"

FUNCTIONS = {
    # Called twice with the same parameter and other attributes; not all outputs are read.
    "attributes": f"""{HEAD} g (float[2] x) => (float[2] y) {W} {{
        a, spare = own.scaled <by = 3.0> (x, w)
        y, other = own.scaled <by = 0.5> (a, w)
    }}
    {OWN} scaled <by> (u, v) => (r, s) {{
        c = Constant <value_float: float = @by> ()
        s = Mul(u, v)
        r = Mul(s, c)
    }}""",
    # An attribute with a default, which one call leaves out.
    "defaults": f"""{HEAD} g (float[2] x) => (float[2] y, float[2] z) {{
        y = own.leaky (x)
        z = own.leaky <slope = 0.5> (x)
    }}
    {OWN} leaky <slope: float = 0.25> (u) => (r) {{ r = LeakyRelu <alpha: float = @slope> (u) }}""",
    # An attribute handed on through two functions, and names that all have in common.
    "nested": f"""{HEAD} g (float[2] x) => (float[2] y) {W} {{
        t = Neg(x)
        y = own.outer <axis = 0> (t, w)
    }}
    {OWN} outer <axis> (x, w) => (y) {{
        t = own.inner <along: int = @axis> (w)
        y = Mul(x, t)
    }}
    {OWN} inner <along> (x) => (y) {{ t = Mul(x, x) y = Softmax <axis: int = @along> (t) }}""",
    # A subgraph in a function: it reads the function's inputs, its values, and an attribute.
    "subgraphs": f"""{HEAD} g (float[2] x, bool go) => (float[2] y) {W} {{
        y = own.chosen <low = -0.1> (x, w, go)
    }}
    {OWN} chosen <low> (u, v, go) => (r) {{
        m = Mul(u, v)
        r = If (go) <
            then_branch = a () => (float[2] p) {{
                c = Constant <value_float: float = @low> ()
                p = Max(m, c)
            }},
            else_branch = b () => (float[2] q) {{ q = own.twice (m) }}
        >
    }}
    {OWN} twice (u) => (r) {{ r = Add(u, u) }}""",
    # A function called in the body of a loop, with a value carried and a parameter.
    "in_a_loop": f"""{HEAD} g (float[2] x, bool go) => (float[2] y) {W} {{
        n = Constant <value_int = 3> ()
        y = Loop (n, go, x) <
            body = b (int64 i, bool c, float[2] h) => (bool d, float[2] k) {{
                d = Identity(c)
                k = own.step (h, w)
            }}
        >
    }}
    {OWN} step (u, v) => (r) {{ m = Mul(u, v) r = Tanh(m) }}""",
}
# What subgraphs see: an initializer of their own by the name of one around, a value they make by
# the name of a parameter around, read before and after, and what a subgraph in them then captures.
SCOPES = {
    "own_initializer": """g (float[2] x, bool go) => (float[2] y) <float[2] w = {0.5, 2.0}> {
        a = If (go) <
            then_branch = a () => (float[2] p) <float[2] w = {3.0, 4.0}> { p = Mul(x, w) },
            else_branch = b () => (float[2] q) { q = Mul(x, w) }
        >
        y = Mul(a, w)
    }""",
    "passed_on": """g (float[2] x, bool go) => (float[2] y) <float[2] w = {0.5, 2.0}> {
        k = Constant <value_float = 2.0> ()
        t = Neg(x)
        y = If (go) <
            then_branch = a () => (float[2] t2) {
                t2 = If (go) <
                    then_branch = c () => (float[2] r) { u = Mul(t, k) r = Mul(u, w) },
                    else_branch = d () => (float[2] w) { }
                >
            },
            else_branch = b () => (float[2] t) { }
        >
    }""",
}
X = torch.tensor([0.7, -0.3])


def _values(text: str, go: bool) -> tuple[Tensor, ...]:
    return (X, torch.tensor(go)) if "bool go" in text else (X,)


@pytest.mark.parametrize("go", [True, False])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_give_what_onnxruntime_gives(name: str, go: bool) -> None:
    model = from_text(FUNCTIONS[name])
    values = _values(FUNCTIONS[name], go)
    ours = load_onnx(model)(*values)
    agree(ours if isinstance(ours, tuple) else (ours,), from_onnxruntime(model, values))


@pytest.mark.parametrize("name", ["attributes", "nested", "subgraphs", "in_a_loop"])
def test_parameters_learn_through_functions(name: str) -> None:
    text = FUNCTIONS[name]
    module = load_onnx(from_text(text)).double()
    assert [n for n, _ in module.named_parameters()] == ["w"]
    go = _values(text, True)[1:]

    def call(x: Tensor, w: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(module, {"w": w}, (x, *go))
        return result

    given = (X.double().requires_grad_(), module.w.detach().clone().requires_grad_())
    assert torch.autograd.gradcheck(call, given)


@pytest.mark.parametrize("go", [True, False])
@pytest.mark.parametrize("name", SCOPES)
def test_names_in_subgraphs(name: str, go: bool) -> None:
    text = '<ir_version: 8, opset_import: ["" : 16]> ' + SCOPES[name]
    ours = load_onnx(parser.parse_model(text))(X, torch.tensor(go))  # not all pass ONNX's checks
    w = torch.tensor([0.5, 2.0])
    expected = {
        ("own_initializer", True): X * torch.tensor([3.0, 4.0]) * w,
        ("own_initializer", False): X * w * w,
        ("passed_on", True): -X * 2 * w,
        ("passed_on", False): -X,
    }
    assert torch.allclose(ours, expected[name, go])


def test_inputs_that_a_call_leaves_out() -> None:
    text = f"""{HEAD} g (float[2] x) => (float[2] y, float[2] z) {{
        low = Constant <value_float = 0.0> ()
        y = own.bounded (x, "", low)
        z = own.bounded (x, low)
    }}
    {OWN} bounded (u, low, high) => (r) {{ r = Clip(u, low, high) }}"""
    y, z = load_onnx(from_text(text))(X)
    assert torch.allclose(y, X.clamp(max=0))
    assert torch.allclose(z, X.clamp(min=0))
