"""What is told of an audit's progress: how far it is, and how long the rest takes."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console
from torch import nn

from gradaudit import plan
from gradaudit.auditing import audit_file, examine
from gradaudit.gauge import Gauge, shown, words
from gradaudit.pacing import QUIET, Progress, time_left
from gradaudit.probes.expense import Expense
from gradaudit.settings import Settings
from gradaudit.subject import from_python
from tests.listening import Listening


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> Progress:
    told = Progress(clock)
    told.plan("Measuring", {"a": 10.0, "b": 20.0, "c": 10.0})
    return told


def test_without_a_plan_nothing_is_known() -> None:
    told = Progress()
    told("opening")
    assert not told.known
    assert words(told) == "opening"


def test_time_left_is_the_plan_until_something_is_measured(
    progress: Progress, clock: Clock
) -> None:
    progress("a")
    assert progress.known
    assert progress.left == pytest.approx(40)
    clock.now += 4
    assert progress.left == pytest.approx(36)
    assert progress.done == pytest.approx(0.1)


def test_the_pace_of_what_is_done_is_that_of_what_is_left(progress: Progress, clock: Clock) -> None:
    progress("a")
    clock.now += 20  # twice what was planned
    progress("b")
    assert progress.left == pytest.approx(60, rel=0.02)
    clock.now += 40
    progress("c")
    assert progress.left == pytest.approx(20, rel=0.02)
    assert progress.done == pytest.approx(0.75, rel=0.02)


def test_a_phase_that_is_left_out_costs_nothing(progress: Progress, clock: Clock) -> None:
    progress("a")
    clock.now += 10
    progress("c")
    assert progress.left < 10


def test_what_says_how_far_it_is_is_believed(progress: Progress, clock: Clock) -> None:
    progress("c")
    clock.now += 6
    progress.within(0.25, "tensor 2 of 8")
    assert progress.left == pytest.approx(18)
    assert words(progress) == "Measuring, 20 s left: c, tensor 2 of 8"


def test_a_phase_past_its_time_is_expected_to_go_on(progress: Progress, clock: Clock) -> None:
    progress("a")
    clock.now += 30
    assert 30 < progress.left < 90  # b and c, and more of a
    seen = []
    for _ in range(5):
        seen.append(progress.left)
        clock.now += 10
    assert all(left > 0 for left in seen)


def test_what_was_not_planned_is_said_within_its_phase(progress: Progress) -> None:
    progress("try 1 of at most 7: clipping", "b")
    left = progress.left
    progress("something else")
    assert progress.left == pytest.approx(left)
    assert words(progress).endswith(": something else")


def test_a_new_part_starts_anew(progress: Progress, clock: Clock) -> None:
    progress("b")
    clock.now += 50
    progress.plan("Finding a cure", {"trial 1": 5.0})
    assert progress.done == 0
    progress("try 1", "trial 1")
    assert progress.left == pytest.approx(5)
    progress.forget()
    assert not progress.known


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "a moment left"),
        (8.2, "8 s left"),
        (43.0, "45 s left"),
        (200.0, "3 min left"),
        (9000.0, "2.5 h left"),
    ],
)
def test_time_is_told_as_exactly_as_it_is_known(seconds: float, said: str) -> None:
    assert time_left(seconds) == said


def test_the_gauge_draws_bar_and_words(progress: Progress, clock: Clock) -> None:
    progress.heading = "model 2 of 3"
    progress("b")
    clock.now += 15
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    console.print(Gauge(progress, console).get_renderable())
    (line,) = stream.getvalue().splitlines()
    assert len(line) <= 80
    assert "model 2 of 3, Measuring, 15 s left: b" in line
    assert "━" in line


def test_a_pipe_gets_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(quiet=False) as told:
        told.plan("Measuring", {"a": 1.0})
        told("a")
    assert told is QUIET
    assert not told.known
    assert capsys.readouterr() == ("", "")


@pytest.fixture(scope="module")
def heard() -> Listening:
    """An audit that looks for a cure: one trial of a small net with a rate that is far too high."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    sample = (torch.randn(64, 8), torch.randn(64, 1))
    settings = Settings(threads=1)
    opened = from_python(net, sample, "mse", lambda p: torch.optim.SGD(p, lr=1e3), settings)
    told = Listening()
    examine(opened, settings, told, 0.0)
    return told


def test_every_phase_of_an_audit_is_planned(heard: Listening) -> None:
    assert [what for part, what, planned in heard.heard if part and not planned] == []
    measured = [what for part, what, _ in heard.heard if part == plan.MEASURING]
    assert {"spectral norms", "rehearsal", "training small nets on", "judging"} <= set(measured)
    assert "weight 2 of 2" in heard.details


def test_every_trial_of_a_search_is_planned(heard: Listening) -> None:
    tried = [what for part, what, _ in heard.heard if part == plan.SEARCHING]
    assert tried[0].startswith("try 1 of at most ")
    assert plan.PROVING in tried


def test_weights_alone_are_told_tensor_by_tensor(tmp_path: object) -> None:
    path = f"{tmp_path}/weights.pt"
    torch.save({f"layer{i}.weight": torch.randn(9, 9) for i in range(4)}, path)
    told = Listening()
    audit_file(path, Settings(threads=1), told)
    assert told.details == [f"tensor {i} of 4" for i in (1, 2, 3, 4)]
    assert told.heard[-1][:2] != ("", "spectral norms")


def test_phases_begin_in_the_order_of_the_plan(heard: Listening) -> None:
    """Else the time that is left would be that of phases long past."""
    rose = [what for part, what, _ in heard.heard if part == plan.MEASURING]
    expected = plan.measuring(
        Expense(1e6, 10, 4, 4), Settings().budget, nn.Linear(1, 1), steps=1000, real=True
    )
    assert rose == [name for name in expected if name in rose]


def test_only_the_usual_trials_are_expected() -> None:
    assert list(plan.searching(2.0, 2)) == ["trial 1", "trial 2", plan.PROVING]
    assert plan.searching(2.0, 9)["trial 9"] == 0.0
