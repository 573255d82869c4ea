"""GRUs that have to say at the end what stood at the start, and GRUs that need no memory."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradaudit.records import Recipe
from tests.corpus.case import Case, Pair, Task, drawn
from tests.corpus.held._kit import Build, Recurrent, adam, each, sgd, times

SYMBOLS = 6


def first_token(length: int) -> Task:
    """Which of six symbols came first?"""

    def draw(generator: torch.Generator) -> Pair:
        text = torch.randint(0, SYMBOLS, (32, length), generator=generator)
        return text, text[:, 0]

    return Task(f"first-of-{length}", "cross_entropy", drawn(draw), same_as=FIRST)


def both(length: int) -> Task:
    """The last symbol and, at four times the weight of it, the first."""

    def draw(generator: torch.Generator) -> Pair:
        text = torch.randint(0, SYMBOLS, (32, length), generator=generator)
        return text, torch.stack([text[:, 0], text[:, -1]], 1)

    return Task(f"both-of-{length}", weighed, drawn(draw), constant=1.791759, same_as=FIRST)


def weighed(output: Tensor, target: Tensor) -> Tensor:
    parts = [F.cross_entropy(output[:, i * 6 : i * 6 + 6], target[:, i]) for i in (0, 1)]
    return 0.8 * parts[0] + 0.2 * parts[1]


FIRST = "first-of-10"


@cache
def near(lag: int) -> Task:
    """At each step, the symbol some steps ago."""

    def draw(generator: torch.Generator) -> Pair:
        text = torch.randint(0, SYMBOLS, (32, 20), generator=generator)
        return text, text.roll(lag, 1)

    return Task(f"lag-{lag}", "cross_entropy", drawn(draw))


def gru(hidden: int = 32, whole: bool = False, out: int = SYMBOLS) -> Build:
    def made() -> nn.Module:
        rnn = nn.GRU(12, hidden, batch_first=True)
        return Recurrent(nn.Embedding(SYMBOLS, 12), rnn, nn.Linear(hidden, out), whole)

    return made


def keeping(build: Build, bias: float) -> Build:
    """A start whose update gates hold on to the state."""

    def change(rnn: nn.GRU) -> None:
        hidden = rnn.hidden_size
        rnn.bias_ih_l0[hidden : 2 * hidden] += bias
        nn.init.orthogonal_(rnn.weight_hh_l0)

    return each(build, nn.GRU, change)


def inner(build: Build, factor: float) -> Build:
    return each(build, nn.GRU, lambda rnn: rnn.weight_hh_l0.mul_(factor))


def case(name: str, task: Task, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"gru/{name}", task, build, recipe, fault, **more)


def sound() -> list[Case]:
    return [
        case("first-of-10", first_token(10), gru(), adam(1e-2, 500)),
        case(
            "first-of-20-keeping", first_token(20), keeping(gru(), 2.0), adam(1e-2, 400), shown=16
        ),
        case("first-of-40-keeping", first_token(40), keeping(gru(), 4.0), adam(5e-3, 400)),
        case(
            "first-of-60-keeping", first_token(60), keeping(gru(24), 5.0), adam(1e-2, 350), shown=4
        ),
        case("both-of-10", both(10), gru(out=12), adam(1e-2, 500)),
        case("lag-0", near(0), gru(whole=True), adam(3e-3, 300), shown=2),
        case("lag-1-sgd", near(1), gru(whole=True), sgd(0.3, 500)),
    ]


def faulty() -> list[Case]:
    fades = "time-vanishing"
    return [
        case("first-of-20", first_token(20), gru(), adam(1e-2, 500), fades),
        case("first-of-60", first_token(60), gru(24), adam(1e-3, 250), fades),
        case("first-of-150", first_token(150), gru(16), adam(3e-3, 150), fades),
        case("both-of-50", both(50), gru(out=12), adam(2e-3, 350), fades, shown=16),
        case(
            "lag-1-words-1e3",
            near(1),
            each(gru(whole=True), nn.Embedding, times(1e3)),
            sgd(0.01, 400),
            "embedding-scale",
            also=("saturation",),
        ),
        case("lag-1-adam-2", near(1), gru(whole=True), adam(2.0, 300), "rate-high"),
        case(
            "lag-1-inner-200",
            near(1),
            inner(gru(whole=True), 200.0),
            sgd(0.02, 400),
            "init-large",
            also=("time-exploding", "saturation"),
        ),
        case("lag-0-clip", near(0), gru(whole=True), sgd(0.1, 400, clip_norm=1e-3), "clip-tight"),
    ]


def cases() -> list[Case]:
    """How far back, and how it is started."""
    return sound() + faulty()
