"""Proofs, searches and longer training built of literals, for the reports of shared_report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradaudit.records import Attempt, Estimate, Forecast, Outlook, Proof, Side, Trial

UNIT = "log10 of total gain (sum of squares)"


def exploding_side(names: Sequence[str]) -> Side:
    """Before: it grows to the input and never falls below a constant guess."""
    return Side(
        "fail",
        Forecast("diverges", 0.93, ("GA101", "GA105")),
        ("GA101",),
        Estimate(3.561, 3.441, 3.681, UNIT),
        tuple((name, 2.4 - 0.06 * i) for i, name in enumerate(names)),
        4.83,
        tuple(2.61 + 0.06 * i + 0.5 * math.sin(1.7 * i) for i in range(20)),
        20,
        2.61,
        None,
        tuple((2.34 - 0.06 * i, 2.46 - 0.06 * i) for i, _ in enumerate(names)),
    )


def mended_side(names: Sequence[str]) -> Side:
    """After: it keeps its size and learns."""
    return Side(
        "pass",
        Forecast("trains", 0.87),
        (),
        Estimate(-0.94, -0.96, -0.92, UNIT),
        tuple((name, 0.6 + 0.002 * i) for i, name in enumerate(names)),
        1.62,
        tuple(2.31 * 0.9**i for i in range(48)),
        143,
        2.31,
        0.0218,
        tuple((0.59 + 0.002 * i, 0.61 + 0.002 * i) for i, _ in enumerate(names)),
    )


def proof(names: Sequence[str]) -> Proof:
    """The exploding net before and after."""
    before, after = exploding_side(names), mended_side(names)
    return Proof(before, after, 143, "held back from the search")


def failed() -> tuple[Attempt, ...]:
    """A search that came to nothing."""
    return (
        Attempt(
            ("clip",),
            ("Clip the gradient norm at 2.4",),
            "diverges",
            passed=False,
            why="GA101 still fails; forecast: diverges",
        ),
        Attempt(
            ("clip", "rate"),
            ("Clip the gradient norm at 2.4", "Lower the rate to `0.003`"),
            "stalls",
            passed=False,
            why="GA101 still fails; forecast: stalls",
            last_loss=2.284,
        ),
        Attempt(
            ("init-glorot",),
            ("Initialize the 30 Linear layers with Glorot, gain 1.17",),
            "not applied",
            passed=False,
            why="RuntimeError: `layers.4.weight` is shared",
        ),
    )


def tried() -> tuple[Attempt, ...]:
    """A search that found something in the end, and what it found."""
    titles = ("Initialize the 30 Linear layers with Glorot, gain 1.17", "Clip the norm at 2.4")
    found = Attempt(
        ("init-glorot", "clip"), titles, "trains", passed=True, why="it passes", last_loss=0.023
    )
    return (*failed()[:2], found)


def hostile(names: Sequence[str]) -> tuple[Proof, tuple[Attempt, ...]]:
    """Names that try to escape, in every place that a name can be in."""
    one = exploding_side(names)
    side = Side(
        one.verdict,
        Forecast("unknown", 0.0, tuple(names)),
        tuple(names),
        None,
        tuple((name, float(i)) for i, name in enumerate(names)),
        None,
        (1e30, 1e-30),
        2,
        1e30,
        None,
    )
    attempts = tuple(
        Attempt((name,), tuple(names), "stalls", passed=False, why=name, last_loss=1e30)
        for name in names
    )
    return Proof(side, side, 2, names[0]), attempts


def outlook(own: Trial | None = None) -> Outlook:
    """The recipe stays at a constant guess; a steady one leaves it behind."""
    stuck = Trial(
        "sgd",
        0.1,
        143,
        tuple(2.3 + 2.2 * 0.8**i + 0.05 * math.sin(2.1 * i) for i in range(48)),
        4.16,
        2.47,
        2.38,
        None,
        2.52,
    )
    steady = Trial(
        "adamw",
        0.001,
        71,
        tuple(4.5 * 0.93**i for i in range(36)),
        4.5,
        0.35,
        0.34,
        None,
        settled="the loss is far below what a constant prediction costs, and stays there",
    )
    return Outlook(1000, 143, own or stuck, steady, 2.29, 2.2)


def whole() -> Outlook:
    """A recipe that was followed to its end."""
    losses = tuple(2.3 * 0.9**i for i in range(40))
    own = Trial("adamw", 3e-4, 400, losses, 2.3, 0.034, 0.033, None)
    return Outlook(400, 4000, own, None, None)
