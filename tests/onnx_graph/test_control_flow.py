"""If, Loop, Scan and SequenceMap: results, and gradients to all that they reach."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gradaudit.onnx_graph.loading import load_onnx
from gradaudit.onnx_graph.node import NodeError
from tests.onnx_graph.small_models import agree, from_onnxruntime, from_text, ints

HEAD = '<ir_version: 8, opset_import: ["" : 16]>\n'
W = "<float[3] w = {0.5, -1.0, 2.0}>"

# A branch that reads an input, one that reads a parameter of the graph around, and one of its own.
CHOICE = f"""{HEAD} g (float[2,3] x, bool go) => (float[2,3] y) {W} {{
    y = If (go) <
        then_branch = a () => (float[2,3] p) {{ p = Mul(x, w) }},
        else_branch = b () => (float[2,3] q)
            <float[3] v = {{1.0, 2.0, 3.0}}> {{ s = Mul(x, v) q = Mul(s, x) }}
    >
}}"""

# h := tanh-less recurrence h * w + x, captured from around; every h is an output as well.
TURNS = f"""{HEAD} g (float[3] x, int64 n, bool go) => (float[3] h_last, float[n,3] all_h) {W} {{
    h_last, all_h = Loop (n, go, x) <
        body = b (int64 i, bool going, float[3] h) => (bool on, float[3] next, float[3] seen) {{
            m = Mul(h, w)
            next = Add(m, x)
            size = ReduceSum <keepdims = 0> (next)
            limit = Constant <value_float = 1000.0> ()
            on = Less(size, limit)
            seen = Identity(h)
        }}
    >
}}"""

# Two scanned inputs, one of them backwards and along axis 1; the output is put together backwards.
SCANNED = f"""{HEAD} g (float[3] h0, float[4,3] x, float[3,4] z)
    => (float[3] h_last, float[3,4] out) {W} {{
    h_last, out = Scan <num_scan_inputs = 2, scan_input_axes = [0, 1],
            scan_input_directions = [0, 1], scan_output_axes = [1], scan_output_directions = [1],
            body = b (float[3] h, float[3] u, float[3] v) => (float[3] next, float[3] seen) {{
                m = Mul(h, w)
                a = Add(m, u)
                next = Mul(a, v)
                seen = Mul(next, w)
            }}
    > (h0, x, z)
}}"""

# A loop in a branch in a loop, all reading the parameter.
NESTED = f"""{HEAD} g (float[3] x, int64 n, bool go) => (float[3] y) {W} {{
    y = Loop (n, go, x) <
        body = outer (int64 i, bool c, float[3] h) => (bool c_out, float[3] h_out) {{
            c_out = Identity(c)
            one = Constant <value_int = 1> ()
            odd = Equal(i, one)
            h_out = If (odd) <
                then_branch = a () => (float[3] p) {{
                    p = Loop (n, c, h) <
                        body = inner (int64 j, bool d, float[3] k)
                            => (bool d_out, float[3] k_out) {{
                            d_out = Identity(d)
                            k_out = Mul(k, w)
                        }}
                    >
                }},
                else_branch = b () => (float[3] q) {{ q = Add(h, w) }}
            >
        }}
    >
}}"""

VECTOR = torch.tensor([0.3, 0.2, -0.4])
MATRIX = torch.linspace(-1, 1, 6).reshape(2, 3)
TWELVE = torch.linspace(-1, 1, 12)
CASES: dict[str, tuple[str, tuple[Tensor, ...]]] = {
    "then": (CHOICE, (MATRIX, torch.tensor(True))),
    "else": (CHOICE, (MATRIX, torch.tensor(False))),
    "loop": (TURNS, (VECTOR, torch.tensor(4), torch.tensor(True))),
    "loop_ended": (TURNS, (VECTOR * 300, torch.tensor(40), torch.tensor(True))),
    "loop_not_begun": (TURNS, (VECTOR, torch.tensor(4), torch.tensor(False))),
    "scan": (SCANNED, (VECTOR, TWELVE.reshape(4, 3), TWELVE.reshape(3, 4))),
    "nested": (NESTED, (VECTOR, torch.tensor(3), torch.tensor(True))),
}


@pytest.mark.parametrize("name", CASES)
def test_results_are_onnxruntimes(name: str) -> None:
    text, values = CASES[name]
    model = from_text(text)
    ours = load_onnx(model)(*values)
    agree(ours if isinstance(ours, tuple) else (ours,), from_onnxruntime(model, values))


@pytest.mark.parametrize("name", CASES)
def test_gradients_reach_inputs_and_parameters(name: str) -> None:
    text, values = CASES[name]
    module = load_onnx(from_text(text)).double()
    names = [n for n, _ in module.named_parameters()]
    floating = [i for i, value in enumerate(values) if value.is_floating_point()]

    def call(*given: Tensor) -> Any:
        inputs = list(values)
        for i, value in zip(floating, given, strict=False):
            inputs[i] = value
        parameters = dict(zip(names, given[len(floating) :], strict=True))
        return torch.func.functional_call(module, parameters, tuple(inputs))

    given = [values[i].double().requires_grad_() for i in floating]
    given += [each.detach().clone().requires_grad_() for each in module.parameters()]
    assert torch.autograd.gradcheck(call, given)


def test_parameters_read_in_a_body_learn_from_an_ordinary_backward() -> None:
    module = load_onnx(from_text(TURNS))
    last, _ = module(VECTOR, torch.tensor(2), torch.tensor(True))
    last.sum().backward()
    w = module.w.detach()
    # h2 = (x w + x) w + x, so dh2/dw = 2 x w + x
    assert torch.allclose(module.w.grad, 2 * VECTOR * w + VECTOR)


def test_a_loop_of_no_turns_has_the_declared_outputs() -> None:
    last, seen = load_onnx(from_text(TURNS))(VECTOR, torch.tensor(0), torch.tensor(True))
    assert torch.equal(last, VECTOR)
    assert seen.shape == (0, 3)
    assert seen.dtype == torch.float32


COUNTED = """%s g (float x%s) => (float y) {
    y = Loop (%s, %s, x) <
        body = b (int64 i, bool c, float h) => (bool off, float up) {
            one = Constant <value_float = 1.0> ()
            up = Add(h, one)
            limit = Constant <value_float = 3.0> ()
            off = Less(up, limit)
        }
    >
}"""


@pytest.mark.parametrize(
    ("given", "turns", "condition", "expected"),
    [
        (", bool go", '""', "go", 3.0),  # a while loop
        (", int64 n", "n", '""', 5.0),  # a for loop: what the body says is ignored
    ],
)
def test_loops_with_one_way_to_end(given: str, turns: str, condition: str, expected: float) -> None:
    module = load_onnx(from_text(COUNTED % (HEAD, given, turns, condition)))
    end = torch.tensor(True) if turns == '""' else torch.tensor(5)
    assert module(torch.tensor(0.0), end) == expected


def test_a_loop_that_cannot_end_is_refused() -> None:
    module = load_onnx(from_text(COUNTED % (HEAD, "", '""', '""')))
    with pytest.raises(NodeError, match="neither a number of turns nor a condition"):
        module(torch.tensor(0.0))


BATCHED = """<ir_version: 8, opset_import: ["" : 8]> g (int64[2] n, float[2] h0, float[2,3] x)
    => (float[2] h_last, float[2,3] out) {
    h_last, out = Scan <num_scan_inputs = 1, directions = [%d],
        body = b (float h, float u) => (float next, float seen) {
            next = Add(h, u)
            seen = Identity(next)
        }
    > (n, h0, x)
}"""


@pytest.mark.parametrize(
    ("direction", "expected"),
    [(0, [[1.0, 3.0, 6.0], [5.0, 10.0, 0.0]]), (1, [[3.0, 5.0, 6.0], [6.0, 10.0, 0.0]])],
)
def test_scanning_a_batch_as_before_opset_9(direction: int, expected: list[list[float]]) -> None:
    module = load_onnx(from_text(BATCHED % direction))
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    last, out = module(ints(3, 2), torch.tensor([0.0, 1.0]), x)
    assert out.tolist() == expected
    assert last.tolist() == [6.0, 10.0]
    last.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]


MAPPED = """<ir_version: 8, opset_import: ["" : 17]>
    g (seq(float[n]) s, seq(float[n]) t, float w) => (seq(float[n]) u, seq(float[n]) v) {
    u, v = SequenceMap (s, t, w) <
        body = b (float[n] a, float[n] c, float k) => (float[n] d, float[n] e) {
            d = Mul(a, k)
            e = Add(a, c)
        }
    >
}"""


def test_a_body_over_sequences() -> None:
    module = load_onnx(from_text(MAPPED))
    w = torch.tensor(2.0, requires_grad=True)
    first, second = [torch.ones(2), torch.ones(3)], [torch.zeros(2), torch.ones(3)]
    u, v = module(first, second, w)
    assert [each.tolist() for each in u] == [[2.0, 2.0], [2.0, 2.0, 2.0]]
    assert [each.tolist() for each in v] == [[1.0, 1.0], [2.0, 2.0, 2.0]]
    sum(each.sum() for each in u).backward()
    assert w.grad == 5
    assert module([], [], w) == ([], [])
    with pytest.raises(NodeError, match="sequences of lengths 2 and 1"):
        module(first, second[:1], w)


def test_bodies_carry_wide_unsigned_integers() -> None:
    text = """<ir_version: 8, opset_import: ["" : 16]> g (uint16[2] x, bool go) => (uint16[2] y) {
        y = If (go) <
            then_branch = a () => (uint16[2] p) { p = Add(x, x) },
            else_branch = b () => (uint16[2] q) { q = Identity(x) }
        >
    }"""
    module = load_onnx(from_text(text))
    x = ints(1, 2).to(torch.uint16)
    for go, expected in ((True, [2, 4]), (False, [1, 2])):
        y = module(x, torch.tensor(go))
        assert y.dtype == torch.uint16
        assert y.tolist() == expected


def test_scanned_inputs_have_one_length() -> None:
    module = load_onnx(from_text(SCANNED))
    with pytest.raises(NodeError, match=r"scanned inputs of lengths \[2, 4\]"):
        module(VECTOR, torch.ones(2, 3), torch.ones(3, 4))
