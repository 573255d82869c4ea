"""Recurrent layers beyond ONNX's node tests, which have defaults and peepholes only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gradaudit.onnx_graph.operators.recurrent import gru, lstm, rnn
from tests.onnx_graph.one_node import as_onnxruntime

STEPS, BATCH, WIDTH, HIDDEN = 4, 3, 2, 5
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
DIRECTIONS = ("forward", "reverse", "bidirectional")
OPERATORS = {"RNN": rnn, "LSTM": lstm, "GRU": gru}


def tensors(kind: str, direction: str, **without: Any) -> dict[str, Any]:
    """Random inputs; ``without`` replaces some."""
    draw = np.random.default_rng(len(kind) + len(direction))
    n, gates = (2 if direction == "bidirectional" else 1), GATES[kind]

    def random(*shape: int) -> Any:
        return draw.standard_normal(shape).astype(np.float32)

    made = {
        "x": random(STEPS, BATCH, WIDTH),
        "w": random(n, gates * HIDDEN, WIDTH),
        "r": random(n, gates * HIDDEN, HIDDEN),
        "b": random(n, 2 * gates * HIDDEN),
        "lengths": None,
        "h": random(n, BATCH, HIDDEN),
    }
    if kind == "LSTM":
        made |= {"c": random(n, BATCH, HIDDEN), "p": None}
    return {**made, **without}


def outputs(kind: str) -> list[str]:
    return ["y", "y_h", "y_c"] if kind == "LSTM" else ["y", "y_h"]


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "defaults": ({}, {}),
    "neither bias nor state": ({"b": None, "h": None, "c": None}, {}),
    "lengths": ({"lengths": np.array([4, 1, 2], np.int32)}, {}),
    "full lengths": ({"lengths": np.array([4, 4, 4], np.int32)}, {}),
    "clip": ({}, {"clip": 0.3}),
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("case", CASES)
def test_as_onnxruntime(case: str, kind: str, direction: str) -> None:
    replaced, attributes = CASES[case]
    inputs = tensors(kind, direction)
    inputs |= {name: value for name, value in replaced.items() if name in inputs}
    as_onnxruntime(
        kind, inputs, outputs(kind), hidden_size=HIDDEN, direction=direction, **attributes
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    "attributes", [{}, {"input_forget": 1}, {"clip": 0.4}, {"input_forget": 1, "clip": 0.4}]
)
def test_peepholes(attributes: dict[str, Any], direction: str) -> None:
    inputs = tensors("LSTM", direction)
    count = len(inputs["w"])
    inputs["p"] = np.random.default_rng(1).standard_normal((count, 3 * HIDDEN)).astype(np.float32)
    as_onnxruntime(
        "LSTM", inputs, outputs("LSTM"), hidden_size=HIDDEN, direction=direction, **attributes
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("lengths", [None, np.array([4, 1, 3], np.int32)])
@pytest.mark.parametrize("first", [0, 1])
def test_linear_before_reset(first: int, lengths: Any, direction: str) -> None:
    as_onnxruntime(
        "GRU",
        tensors("GRU", direction, lengths=lengths),
        outputs("GRU"),
        hidden_size=HIDDEN,
        direction=direction,
        linear_before_reset=first,
    )


@pytest.mark.parametrize(
    ("activations", "alpha", "beta"),
    [
        (["Relu", "Relu", "Tanh"], [], []),
        (["Sigmoid", "Affine", "Tanh"], [0.3], [0.2]),
        (["Sigmoid", "LeakyRelu", "Tanh"], [], []),
        (["Sigmoid", "ThresholdedRelu", "Elu"], [0.5, 0.7], []),
        (["HardSigmoid", "ScaledTanh", "HardSigmoid"], [0.3, 0.9, 0.1], [0.4, 1.2]),
        (["HardSigmoid", "Softsign", "Softplus"], [], []),
    ],
)
@pytest.mark.parametrize("kind", GATES)
def test_activations(kind: str, activations: list[str], alpha: Any, beta: Any) -> None:
    count = {"RNN": 1, "GRU": 2, "LSTM": 3}[kind]
    attributes = {"activation_alpha": alpha} if alpha else {}
    attributes |= {"activation_beta": beta} if beta else {}
    as_onnxruntime(
        kind,
        tensors(kind, "forward"),
        outputs(kind),
        tolerance=1e-4,
        hidden_size=HIDDEN,
        activations=activations[:count],
        **attributes,
    )


@pytest.mark.parametrize("kind", GATES)
def test_batch_first(kind: str) -> None:
    given = {
        name: None if value is None else torch.from_numpy(value)
        for name, value in tensors(kind, "bidirectional").items()
    }
    states = ("h", "c")
    turned = {
        name: value.transpose(0, 1) if name in ("x", *states) and value is not None else value
        for name, value in given.items()
    }
    function: Any = OPERATORS[kind]
    y, *state = function(*given.values(), direction="bidirectional")
    y_turned, *state_turned = function(*turned.values(), direction="bidirectional", layout=1)
    torch.testing.assert_close(y_turned, y.permute(2, 0, 1, 3))
    for one, other in zip(state_turned, state, strict=True):
        torch.testing.assert_close(one, other.transpose(0, 1))


def test_an_empty_sequence_keeps_its_state() -> None:
    given = tensors("LSTM", "forward", lengths=np.array([4, 0, 2], np.int32))
    values = [None if each is None else torch.from_numpy(each) for each in given.values()]
    y, h, c = lstm(*values)
    assert not y[:, :, 1].any()
    assert torch.equal(h[:, 1], values[5][:, 1])
    assert torch.equal(c[:, 1], values[6][:, 1])


@pytest.mark.parametrize("lengths", [None, [4, 1, 2]])
@pytest.mark.parametrize("kind", GATES)
def test_gradients(kind: str, lengths: Any) -> None:
    given = tensors(kind, "bidirectional")
    floats = {
        name: torch.from_numpy(value).double().requires_grad_()
        for name, value in given.items()
        if value is not None
    }
    function: Any = OPERATORS[kind]
    extra = {"linear_before_reset": 1} if kind == "GRU" else {}

    def run(*values: Any) -> Any:
        named = dict(zip(floats, values, strict=True))
        x, w, r, b, h = (named[name] for name in ("x", "w", "r", "b", "h"))
        cut = None if lengths is None else torch.tensor(lengths, dtype=torch.int32)
        rest = (named["c"],) if kind == "LSTM" else ()
        return function(x, w, r, b, cut, h, *rest, direction="bidirectional", **extra)

    assert torch.autograd.gradcheck(run, tuple(floats.values()), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, tuple(floats.values()), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types(dtype: torch.dtype) -> None:
    given = [torch.from_numpy(tensors("LSTM", "reverse")[name]).to(dtype) for name in "xwrb"]
    single = [each.float() for each in given]
    for cut in (None, torch.tensor([4, 1, 2], dtype=torch.int32)):
        for got, want in zip(
            lstm(*given, cut, direction="reverse"),
            lstm(*single, cut, direction="reverse"),
            strict=True,
        ):
            assert got.dtype == dtype
            torch.testing.assert_close(got.float(), want, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"direction": "sideways"}, "expected a direction of .* found 'sideways'"),
        ({"direction": "bidirectional"}, "expected weights of 2 directions, found 1"),
        ({"activations": ["Sine"]}, "expected an activation of .* found 'Sine'"),
        ({"direction": "forward", "activations": [""]}, "found ''"),
    ],
)
def test_what_cannot_be_is_said(attributes: dict[str, Any], words: str) -> None:
    x, w, r = torch.ones(2, 1, 1), torch.ones(1, 1, 1), torch.ones(1, 1, 1)
    with pytest.raises(ValueError, match=words):
        rnn(x, w, r, **attributes)


def test_too_few_activations() -> None:
    x, w, r = torch.ones(2, 1, 1), torch.ones(1, 4, 1), torch.ones(1, 4, 1)
    with pytest.raises(ValueError, match="expected 3 activations, found"):
        lstm(x, w, r, activations=["Sigmoid", "Tanh"])


@pytest.mark.parametrize(
    ("name", "sizes"), [("h", (1, 7, 6)), ("c", (1, 3, 6)), ("w", (1, 24, 4)), ("b", (1, 24))]
)
def test_sizes_that_disagree_are_refused(name: str, sizes: tuple[int, ...]) -> None:
    """torch's kernel would read beyond the state, and make a NaN of what lies there."""
    given = {"w": (1, 24, 5), "r": (1, 24, 6), "b": (1, 48), "h": (1, 4, 6), "c": (1, 4, 6)}
    w, r, b, h, c = (torch.ones(each) for each in {**given, name: sizes}.values())
    with pytest.raises(ValueError, match=r"of sizes .* found"):
        lstm(torch.ones(3, 4, 5), w, r, b, None, h, c)
