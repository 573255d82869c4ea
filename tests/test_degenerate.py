"""Degenerate subjects, end to end: an exact value or a reason, never NaN; the model unharmed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradaudit
from gradaudit.records import Estimate, Recipe
from tests.command import checked

WIDTH, OUT, BATCH = 6, 3, 8
ADAM = Recipe(optimizer="adam", lr=1e-3, clip_norm=1.0)


@dataclass
class Case:
    """A model and what it is audited with."""

    model: nn.Module
    sample: Any
    loss: Any = "mse"
    recipe: Recipe = ADAM


def net(bias: bool = True) -> nn.Sequential:
    """Three layers, nothing wrong with them."""
    return nn.Sequential(
        nn.Linear(WIDTH, 12, bias=bias),
        nn.Tanh(),
        nn.Linear(12, 12, bias=bias),
        nn.ReLU(),
        nn.Linear(12, OUT, bias=bias),
    )


def batch(rows: int = BATCH, width: int = WIDTH, out: int = OUT) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, width), torch.randn(rows, out)


def filled(model: nn.Module, change: Callable[[Tensor], Any]) -> nn.Module:
    """``model`` with every parameter changed in place."""
    with torch.no_grad():
        for parameter in model.parameters():
            change(parameter)
    return model


def rank_one(weight: Tensor) -> Tensor:
    if weight.dim() < 2:
        return weight.zero_()
    return weight.copy_(torch.outer(torch.ones(len(weight)), torch.ones(weight.shape[1])) / 4)


def poisoned(value: float) -> nn.Module:
    model = net()
    with torch.no_grad():
        model.get_parameter("2.weight")[0, 0] = value
    return model


class Constant(nn.Module):
    """Its output ignores the input, and is its bias."""

    def __init__(self) -> None:
        super().__init__()
        self.unused, self.bias = nn.Linear(WIDTH, OUT), nn.Parameter(torch.ones(OUT))

    def forward(self, x: Tensor) -> Tensor:
        return self.bias.expand(len(x), OUT)


class Fixed(Constant):
    """Its output ignores its parameters too."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), OUT)


class Cut(nn.Module):
    """The loss does not depend on the first stages: their result is times zero, or cut off."""

    def __init__(self, *, detached: bool) -> None:
        super().__init__()
        self.before, self.after, self.detached = net(), nn.Linear(OUT, OUT), detached

    def forward(self, x: Tensor) -> Tensor:
        found = self.before(x)
        return self.after(found.detach() if self.detached else found * 0.0)


class One(nn.Module):
    """A single number as its only parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :OUT] * self.factor


class Recurrent(nn.Module):
    """The last step of a recurrent layer."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.rnn: Any = kind(WIDTH, 5, batch_first=True)
        self.head = nn.Linear(5, OUT)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.rnn(x)
        return self.head(states[:, -1])


class Attentive(nn.Module):
    """One transformer layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(WIDTH, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(WIDTH, OUT)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x)[:, -1])


class Complex(nn.Module):
    """Complex weights between real numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(WIDTH, 12, dtype=torch.complex64)
        self.head = nn.Linear(12, OUT)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(x.to(torch.complex64)).abs())


def sequences(steps: int) -> tuple[Tensor, Tensor]:
    return torch.randn(BATCH, steps, WIDTH), torch.randn(BATCH, OUT)


def images(size: int) -> tuple[Tensor, Tensor]:
    return torch.randn(BATCH, 1, size, size), torch.randn(BATCH, OUT)


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, OUT)
    )


def exactly_zero(output: Tensor, target: Tensor) -> Tensor:
    return (output - output).square().sum()


def same_dtype(dtype: torch.dtype) -> Case:
    x, y = batch()
    return Case(net().to(dtype), (x.to(dtype), y.to(dtype)))


def with_nan_target() -> tuple[Tensor, Tensor]:
    x, y = batch()
    y[0, 0] = math.nan
    return x, y


HALF = Recipe(optimizer="adam", lr=1e-3, precision="fp16")
CASES: dict[str, Callable[[], Case]] = {
    "zero weights": lambda: Case(filled(net(), Tensor.zero_), batch()),
    "zero weights in fp16": lambda: Case(filled(net(), Tensor.zero_), batch(), recipe=HALF),
    "zero weights and a softmax": lambda: Case(
        filled(net(), Tensor.zero_), (torch.randn(BATCH, WIDTH), torch.arange(BATCH) % OUT), None
    ),
    "rank-one weights": lambda: Case(filled(net(), rank_one), batch()),
    "width one": lambda: Case(
        nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 1)), batch(BATCH, 1, 1)
    ),
    "one layer": lambda: Case(nn.Linear(WIDTH, OUT), batch()),
    "batch of one": lambda: Case(net(), batch(1)),
    "batch of two of one": lambda: Case(net(), [batch(1), batch(1)]),
    "batch norm without spread": lambda: Case(convolutional(), images(1)),
    "constant network": lambda: Case(Constant(), batch()),
    "constant tensor": lambda: Case(Fixed(), batch()),
    "loss that skips a stage": lambda: Case(Cut(detached=False), batch()),
    "loss cut off from a stage": lambda: Case(Cut(detached=True), batch()),
    "RNN over one step": lambda: Case(Recurrent(nn.RNN), sequences(1)),
    "LSTM over one step": lambda: Case(Recurrent(nn.LSTM), sequences(1)),
    "GRU over two steps": lambda: Case(Recurrent(nn.GRU), sequences(2)),
    "RNN of zero weights": lambda: Case(filled(Recurrent(nn.RNN), Tensor.zero_), sequences(6)),
    "attention over one token": lambda: Case(Attentive(), sequences(1)),
    "attention of zero weights": lambda: Case(filled(Attentive(), Tensor.zero_), sequences(4)),
    "infinite weight": lambda: Case(poisoned(math.inf), batch()),
    "NaN weight": lambda: Case(poisoned(math.nan), batch()),
    "all weights NaN": lambda: Case(filled(net(), lambda p: p.fill_(math.nan)), batch()),
    "all frozen": lambda: Case(net().requires_grad_(False), batch()),
    "one parameter": lambda: Case(One(), batch()),
    "huge weights": lambda: Case(filled(net(bias=False), lambda p: p.mul_(1e30)), batch()),
    "huge weights in fp16": lambda: Case(
        filled(net(bias=False), lambda p: p.mul_(1e5)), batch(), recipe=HALF
    ),
    "tiny weights": lambda: Case(filled(net(bias=False), lambda p: p.mul_(1e-30)), batch()),
    "subnormal weights": lambda: Case(filled(net(bias=False), lambda p: p.fill_(1e-42)), batch()),
    "float64": lambda: same_dtype(torch.float64),
    "bfloat16": lambda: same_dtype(torch.bfloat16),
    "float16": lambda: same_dtype(torch.float16),
    "complex weights": lambda: Case(Complex(), batch()),
    "loss of exactly zero": lambda: Case(net(), batch(), exactly_zero),
    "zero input": lambda: Case(net(bias=False), (torch.zeros(BATCH, WIDTH), batch()[1])),
    "constant target": lambda: Case(net(), (batch()[0], torch.ones(BATCH, OUT))),
    "layer of no columns": lambda: Case(
        nn.Sequential(nn.Linear(WIDTH, 0), nn.Linear(0, OUT)), batch()
    ),
    "rate of 1e30": lambda: Case(net(), batch(), recipe=Recipe("sgd", 1e30)),
}
# What no training can start from: one clear line is the answer, and no report.
REFUSED: dict[str, tuple[Callable[[], Case], str]] = {
    "no parameters": (
        lambda: Case(nn.Sequential(nn.Flatten(), nn.Tanh()), batch(BATCH, OUT)),
        "the model Sequential has no parameters; expected a model with something to train",
    ),
    "output of no columns": (
        lambda: Case(nn.Linear(WIDTH, 0), batch(out=0)),
        r"the sample is empty: target has shape \[8, 0\]",
    ),
    "NaN target": (lambda: Case(net(), with_nan_target()), r"target holds 1 value .* \[0, 0\]"),
    "infinite input": (
        lambda: Case(net(), (torch.full((BATCH, WIDTH), math.inf), batch()[1])),
        "input holds 48 values that are NaN or infinite",
    ),
}


def bits(tensor: Tensor) -> bytes:
    """Of NaN too, which equals nothing."""
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""


def state_of(model: nn.Module) -> list[Any]:
    named = [*model.named_parameters(), *model.named_buffers()]
    values = [(name, id(t), t.dtype, t.requires_grad, t.grad is None, bits(t)) for name, t in named]
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()
    ]
    return [values, hooks]


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, float):
        yield value


@contextmanager
def unharmed(model: nn.Module) -> Iterator[None]:
    """The model and torch's generator are the same afterwards, bit for bit."""
    before, random = state_of(model), torch.get_rng_state()
    try:
        yield
    finally:
        assert state_of(model) == before
        assert torch.equal(torch.get_rng_state(), random)


def audited(case: Case, effort: Any) -> gradaudit.Report:
    settings = gradaudit.Settings(effort=effort, threads=1, recipe=case.recipe)
    with unharmed(case.model):
        return gradaudit.audit(case.model, case.sample, loss=case.loss, settings=settings)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")
@pytest.mark.parametrize("effort", ["quick", "standard"])
@pytest.mark.parametrize("name", CASES)
def test_a_degenerate_subject_gives_values_or_reasons(name: str, effort: Any) -> None:
    torch.manual_seed(0)
    report = audited(CASES[name](), effort)
    found = checked(json.dumps(report.to_dict(), allow_nan=False))
    assert all(map(math.isfinite, numbers(found)))
    for gap in found["not_measured"]:
        assert gap["what"]
        assert gap["where"]
        assert gap["why"]
        assert "Error" not in gap["why"], gap  # a reason, not an exception passed on


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_in_one_line(name: str) -> None:
    torch.manual_seed(0)
    make, message = REFUSED[name]
    with pytest.raises(gradaudit.GradauditError, match=message) as caught:
        audited(make(), "quick")
    assert "\n" not in str(caught.value)


def norms_of(name: str) -> list[tuple[Estimate, float | None, tuple[int, ...], float]]:
    """Spectral norm, stable rank, shape and rms of every weight."""
    torch.manual_seed(0)
    rows = audited(CASES[name](), "quick").measurements.weights
    assert all(row.spectral_norm is not None for row in rows)
    return [
        (row.spectral_norm, row.stable_rank, row.shape, row.rms)
        for row in rows
        if row.spectral_norm is not None
    ]


def test_zero_and_rank_one_weights_have_exact_norms() -> None:
    for norm, _, _, _ in norms_of("zero weights"):
        assert (norm.value, norm.low, norm.high) == (0.0, 0.0, 0.0)
    for norm, rank, shape, _ in norms_of("rank-one weights"):
        assert rank == pytest.approx(1.0, abs=1e-6)
        assert norm.value == pytest.approx(math.sqrt(math.prod(shape)) / 4, rel=1e-6)
    for norm, _, _, rms in norms_of("width one"):
        assert norm.value == pytest.approx(rms, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("infinite weight", "GA001"),
        ("NaN weight", "GA001"),
        ("all weights NaN", "GA001"),
        ("loss cut off from a stage", "GA104"),
        ("constant network", "GA104"),
        ("zero weights", "GA302"),
        ("huge weights", "GA001"),
    ],
)
def test_what_is_wrong_with_it_is_found(name: str, code: str) -> None:
    torch.manual_seed(0)
    found = {f.code for f in audited(CASES[name](), "quick").findings if f.severity != "note"}
    assert code in found


def test_a_step_that_spoils_the_weights_is_not_blamed_on_the_start() -> None:
    """Adam's eps of 1e-8 is zero in fp16, so that a gradient of zero is divided by zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).half()
    sample = (torch.randn(64, 16).half(), torch.randint(0, 4, (64,)))
    recipe = Recipe(optimizer="adam", lr=1e-3)
    report = audited(Case(model, sample, "cross_entropy", recipe), "standard")
    why = next(f.why for f in report.findings if f.code == "GA001")
    assert "optimizer's step 1 of the rehearsal made the weight `0.weight` non-finite" in why
    assert report.prescription is not None
    assert "finite-numbers" not in {remedy.id for remedy in report.prescription.remedies}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_buffer_that_is_not_finite_is_the_one_finding(value: float) -> None:
    class Shifted(nn.Linear):
        def __init__(self) -> None:
            super().__init__(WIDTH, OUT)
            self.register_buffer("shift", torch.full((OUT,), value))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.get_buffer("shift")

    torch.manual_seed(0)
    sample = (torch.randn(BATCH, WIDTH), torch.arange(BATCH) % OUT)
    report = audited(Case(Shifted(), sample, "cross_entropy"), "quick")
    failed = [f for f in report.findings if f.severity == "fail"]
    assert [(f.code, f.where.parameter) for f in failed] == [("GA001", "shift")]
