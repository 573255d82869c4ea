"""The search, in worlds where it is written down what each set of remedies comes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from gradaudit.errors import ModelError
from gradaudit.judging import Judged
from gradaudit.mending import search
from gradaudit.mending.change import START
from gradaudit.mending.further import (
    further,
    rate_in_use,
    rate_remedy,
    steady_recipe_for,
    with_rate,
)
from gradaudit.mending.search import Search, Tried, cures, together, trial_settings, tuned
from gradaudit.pacing import QUIET
from gradaudit.records import (
    Estimate,
    Finding,
    Forecast,
    Limit,
    Measurements,
    Outlook,
    Recipe,
    Remedy,
    SampleRow,
    StateRow,
    Trial,
    Where,
)
from gradaudit.settings import Settings
from tests.listening import Listening
from tests.subjects import opened

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
SUBJECT = opened(nn.Linear(3, 1), X, recipe=Recipe("sgd", lr=0.1, steps=200))


def remedy(name: str, kind: str = "recipe", safety: Any = "recipe only", code: str = "") -> Remedy:
    return Remedy(name, kind, f"Do {name}.", {}, code or f"# {name}", safety, (name.upper(),))


DATA = remedy("data", "data")
INIT = remedy("init", "initialization", START)
RESET = remedy("reset", "initialization", START)
CLIP = remedy("clip")
EPS = remedy("eps")


def finding(code: str, severity: Any) -> Finding:
    return Finding(
        code, code, severity, Where(), Estimate(1.0, 1.0, 1.0, ""), Limit(1.0, "", ""), "Why."
    )


def trial(level: float, rate: float | None = 0.1, held: float | None = None) -> Trial:
    """A straight way from the constant down to a level."""
    losses = tuple(1 - (1 - level) * i / 19 for i in range(20))
    return Trial("sgd", rate, 200, losses, 1.0, level, level, None, held_lowest=held)


def judged(level: float = 0.1, *fails: str, **how: Any) -> Judged:
    """A subject whose loss comes down to ``level`` of the constant's."""
    own = trial(level, how.get("rate", 0.1), how.get("held"))
    found = [finding(code, "fail") for code in fails]
    found += [finding(code, "warn") for code in how.get("warns", ())]
    measurements = Measurements(
        SampleRow("given", "given", 1, None, ""),
        SUBJECT.recipe,
        StateRow(how.get("state", "fresh"), ""),
        outlook=Outlook(200, 200, own, how.get("reference"), 1.0, 1.0, least=0.0),
    )
    outcome = how.get("outcome", "stalls" if fails or level > 0.5 else "trains")
    return Judged(
        measurements, (), tuple(found), "fail" if fails else "pass", Forecast(outcome, 0.9)
    )


ILL = judged(0.9, "GA101", "GA601")


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Search]:
    """A search in a world; the sets as they are tried are in its attempts."""

    def make(world: Callable[[set[str]], Judged], left: int = 50, **how: Any) -> Search:
        def judge(_: Any, remedies: Sequence[Remedy], __: Any) -> Judged:
            return world({each.id for each in remedies})

        monkeypatch.setattr(search, "judge_changed", how.pop("judge", judge))
        return Search(
            SUBJECT, Settings(), how.pop("said", QUIET), left, frozenset({"GA101", "GA601"})
        )

    return make


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What the findings call for, in the order of asking, and what else may help."""

    def make(*sets: tuple[Remedy, ...], more: Sequence[tuple[Remedy, ...]] = ()) -> None:
        waiting = list(sets)
        monkeypatch.setattr(
            search, "called_for", lambda *_: waiting.pop(0) if len(waiting) > 1 else waiting[0]
        )
        monkeypatch.setattr(search, "further", lambda *_: iter(more))

    return make


def tried(looking: Search) -> list[tuple[str, ...]]:
    return [attempt.remedies for attempt in looking.attempts]


# One set after another


def test_data_come_first_then_start_values_then_the_recipe() -> None:
    assert together((CLIP, INIT), (RESET, DATA, EPS)) == (DATA, INIT, RESET, CLIP, EPS)


def test_the_first_data_scaling_stays_and_of_two_recipes_the_later_counts() -> None:
    first = replace(DATA, parameters={"input": {"shift": 0, "scale": 9}})
    again = replace(DATA, parameters={"input": {"shift": 0, "scale": 1}})
    slow, fast = replace(CLIP, parameters={"lr": 1}), replace(CLIP, parameters={"lr": 2})
    assert together((first, slow), (again, fast)) == (first, fast)


def test_start_values_measured_later_are_changed_later_but_not_the_same_twice() -> None:
    first = replace(INIT, sets=("a.weight",))
    other = replace(INIT, code="# another weight", sets=("b.weight",))
    assert together((first,), (other, first)) == (first, other)
    again = replace(INIT, code="# both anew", sets=("a.weight", "b.weight"))
    assert together((first,), (again,)) == (again,)  # what was drawn first would be gone


def test_a_set_is_tried_once_and_no_empty_one(looking: Any) -> None:
    it = looking(lambda _: judged())
    assert it.attempt((DATA, INIT)) is not None
    assert it.attempt((DATA, INIT)) is None
    assert it.attempt(()) is None
    assert it.attempt((DATA, replace(INIT, code="# others"))) is not None
    assert it.left == 48
    assert tried(it) == [("data", "init")] * 2


def test_trials_are_counted_aloud_and_end(looking: Any) -> None:
    said = Listening()
    it = looking(lambda _: judged(), 2, said=said)
    for each in (DATA, INIT, CLIP):
        it.attempt((each, EPS))
    assert said.said == [
        "try 1 of at most 2: data + eps",
        "try 2 of at most 2: init + eps",
    ]
    assert tried(it) == [("data", "eps"), ("init", "eps")]


def test_what_breaks_is_listed_and_not_taken(looking: Any) -> None:
    def judge(*_: Any) -> Judged:
        raise ModelError("the model failed", found="a shape")

    it = looking(lambda _: judged(), judge=judge)
    assert it.attempt((INIT,)) is None
    (attempt,) = it.attempts
    assert (attempt.outcome, attempt.passed, attempt.titles) == (
        *("not applied", False, ("Do init.",)),
    )
    assert "the model failed" in attempt.why
    assert it.tried == []


def test_an_attempt_says_what_came_of_it(looking: Any) -> None:
    it = looking(lambda ids: judged(0.2) if "init" in ids else judged(0.9, "GA301", "GA302"))
    it.attempt((INIT,))
    it.attempt((CLIP,))
    good, bad = it.attempts
    assert (good.passed, good.why, good.last_loss) == (True, "it passes", 0.2)
    assert (bad.passed, bad.outcome) == (False, "stalls")
    assert bad.why == "GA301, GA302 still fails; forecast: stalls"


@pytest.mark.parametrize(
    ("after", "passed", "well"),
    [
        (judged(0.1), True, True),
        (judged(0.39), True, True),
        (judged(0.45), True, False),  # without room to spare
        (judged(0.1, warns=("GA101",)), True, False),  # what failed before warns now
        (judged(0.1, warns=("GA501",)), True, True),
        (judged(0.1, "GA501"), False, False),
        (judged(0.1, outcome="unknown"), False, False),
        (judged(0.1, outcome="stalls"), False, False),
        (judged(0.1, held=8.0), True, False),  # by heart
        (judged(0.1, held=0.5), True, True),
    ],
)
def test_only_what_silences_the_rules_and_trains_with_room_to_spare_is_well(
    looking: Any, after: Judged, passed: bool, well: bool
) -> None:
    found = looking(lambda _: after).attempt((INIT,))
    assert (found.passed, found.well) == (passed, well)


# The order of the sets


def test_the_milder_set_comes_first_and_a_cure_ends_the_search(looking: Any, calls: Any) -> None:
    calls((DATA, INIT, CLIP))
    it = looking(lambda _: judged(rate=None))
    first = next(cures(it, ILL, Settings()))
    assert tried(it)[0] == ("data", "clip")
    assert set(tried(it)) <= {("data", "clip"), ("data",), ("clip",)}
    assert not any(each.safety == START for each in first.remedies)


def test_then_all_of_it_then_what_shows_behind_it_then_what_else_may_help(
    looking: Any, calls: Any
) -> None:
    calls((DATA, INIT), (RESET, EPS), (CLIP,), more=[(DATA, CLIP), (EPS,)])
    it = looking(lambda _: ILL)
    assert list(cures(it, ILL, Settings())) == []
    assert tried(it) == [
        ("data",),
        ("data", "init"),
        ("data", "init", "reset", "eps"),
        ("data", "init", "reset", "eps", "clip"),
        ("data", "clip"),
        ("eps",),
    ]


def test_no_more_than_allowed_are_tried(looking: Any, calls: Any) -> None:
    sets = [(replace(CLIP, id=f"clip {i}"),) for i in range(99)]
    calls((DATA, INIT), more=sets)
    it = looking(lambda _: ILL, 7)
    assert list(cures(it, ILL, Settings())) == []
    assert len(it.attempts) == 7
    it = looking(lambda _: judged(), 5)
    assert len(list(cures(it, ILL, Settings()))) >= 1
    assert len(it.attempts) <= 5


def test_what_passes_only_just_is_offered_last_the_best_first(looking: Any, calls: Any) -> None:
    calls((INIT,), more=[(CLIP,), (EPS,), (DATA,)])
    levels = {"init": 0.47, "clip": 0.42, "eps": 0.9, "data": 0.1}
    it = looking(lambda ids: judged(levels[min(ids)], rate=None))
    offered = [each.remedies[0].id for each in cures(it, ILL, Settings())]
    assert list(dict.fromkeys(offered)) == ["data", "clip", "init"]


# What is not needed goes, the most invasive first


def pruned(looking: Search, remedies: tuple[Remedy, ...]) -> tuple[str, ...]:
    found = looking.attempt(remedies)
    assert found is not None
    assert found.well
    return tuple(each.id for each in search._pruned(found, looking).remedies)


def test_what_it_passes_without_is_dropped(looking: Any) -> None:
    it = looking(lambda ids: judged(0.1) if {"data", "clip"} <= ids else ILL)
    assert pruned(it, (DATA, INIT, CLIP, EPS)) == ("data", "clip")
    assert tried(it)[1] == ("data", "clip", "eps")  # start values are the first to go


def test_nothing_goes_that_a_rule_or_the_loss_misses(looking: Any) -> None:
    def world(ids: set[str]) -> Judged:
        if "init" not in ids:
            return judged(0.1, warns=("GA101",))
        return judged(0.1) if "clip" in ids else judged(0.2)

    assert pruned(looking(world), (INIT, CLIP)) == ("init", "clip")


def test_a_single_change_is_needed(looking: Any) -> None:
    it = looking(lambda _: judged(0.1))
    assert pruned(it, (INIT,)) == ("init",)
    assert pruned(it, (INIT, CLIP)) in [("clip",)]
    assert len(it.attempts) == 3


# The rate


def rates(looking: Search) -> list[float]:
    return [each.judged.measurements.outlook.own.lr for each in looking.tried]  # type: ignore[union-attr,misc]


def at_rates(looking: Any, levels: Callable[[float], float], start: float) -> Search:
    """A search in a world whose level depends on the rate alone, with one trial made."""

    def judge(_: Any, remedies: Sequence[Remedy], __: Any) -> Judged:
        written = [float(r.parameters["lr"]) for r in remedies if "lr" in r.parameters]  # type: ignore[arg-type]
        rate = written[-1] if written else start
        return judged(levels(rate), rate=rate)

    it: Search = looking(lambda _: ILL, judge=judge)
    assert it.attempt((EPS,)) is not None
    return it


def chosen(looking: Search, *, lower: bool) -> float | None:
    return rate_in_use(tuned(looking.tried[0], looking, lower=lower).judged.measurements)


def test_higher_rates_are_taken_where_they_bring_much(looking: Any) -> None:
    it = at_rates(looking, {0.1: 0.39, 0.3: 0.2, 0.9: 0.01}.__getitem__, 0.1)
    assert chosen(it, lower=False) == 0.9
    assert rates(it) == [0.1, 0.3, 0.9]


def test_and_not_where_they_bring_little(looking: Any) -> None:
    levels = {0.1: 0.10, 0.3: 0.09, 0.033: 0.3}
    it = at_rates(looking, levels.__getitem__, 0.1)
    assert chosen(it, lower=False) == 0.1
    assert rates(it) == [0.1, 0.3, 0.033]


def test_where_the_rate_was_too_high_lower_ones_are_taken_while_they_cost_little(
    looking: Any,
) -> None:
    levels = {0.1: 0.10, 0.033: 0.12, 0.011: 0.14}
    it = at_rates(looking, levels.__getitem__, 0.1)
    assert chosen(it, lower=True) == 0.011
    assert rates(it) == [0.1, 0.033, 0.011]


def test_but_not_where_they_cost_much(looking: Any) -> None:
    levels = {0.1: 0.10, 0.033: 0.3, 0.3: 0.10}
    it = at_rates(looking, levels.__getitem__, 0.1)
    assert chosen(it, lower=True) == 0.1
    assert rates(it) == [0.1, 0.033, 0.3]


def test_a_rate_at_which_it_does_not_train_is_not_taken(looking: Any) -> None:
    it = at_rates(looking, lambda rate: 0.39 if rate == 0.1 else 0.8, 0.1)
    assert chosen(it, lower=False) == 0.1


def test_a_cure_of_a_rate_that_was_too_high_is_tuned_down(looking: Any, calls: Any) -> None:
    calls((EPS,))
    it = at_rates(looking, lambda _: 0.1, 0.1)
    it.attempts.clear(), it.tried.clear(), it._seen.clear()
    first = next(cures(it, ILL, Settings()))  # GA601 is among what failed
    assert rate_in_use(first.judged.measurements) == 0.011


def test_rates_are_written_as_people_write_them() -> None:
    measurements = judged().measurements
    assert with_rate((EPS,), measurements, 1 / 30) == (EPS, rate_remedy(measurements, 0.033))
    old = rate_remedy(measurements, 7.0)
    assert with_rate((old, EPS), measurements, 0.2) == (EPS, rate_remedy(measurements, 0.2))
    assert with_rate((EPS, steady_recipe_for(200, 9.0)), measurements, 0.2) == (
        *(EPS, steady_recipe_for(200, 0.2)),
    )


# What else may help


def sets(before: Judged, base: tuple[Remedy, ...] = ()) -> list[tuple[str, ...]]:
    found = further(SUBJECT, base, before, None, Settings())
    return [tuple(each.id for each in remedies) for remedies in found]


def test_start_values_are_drawn_anew_unless_they_are_learned() -> None:
    assert any("lsuv" in each for each in sets(judged(0.9)))
    assert not any("lsuv" in each for each in sets(judged(0.9, state="trained")))


def test_where_a_steady_recipe_trains_the_recipe_is_changed_first() -> None:
    blamed = sets(judged(0.9, reference=trial(0.2)))
    unclear = sets(judged(0.9, reference=trial(0.9)))
    first = [next(i for i, each in enumerate(s) if "lsuv" in each) for s in (blamed, unclear)]
    assert [{"learning-rate", "steady-recipe"} >= set(each) for each in blamed[: first[0]]] == [
        True
    ] * 5
    assert first == [5, 1]
    assert sorted(blamed) == sorted(unclear)


def test_data_scaling_and_start_values_are_kept_and_the_old_recipe_is_not() -> None:
    for each in sets(judged(0.9, state="trained"), (DATA, INIT, CLIP, steady_recipe_for(9, 1.0))):
        assert each[:2] == ("data", "init")
        assert each[2:] in (("clip", "learning-rate"), ("steady-recipe",))


def test_a_rate_that_bounced_goes_down_and_one_that_crept_goes_up() -> None:
    def found(own: Trial) -> list[float]:
        ill = judged(0.9, state="trained")
        outlook = replace(ill.measurements.outlook, own=own)  # type: ignore[type-var]
        ill = replace(ill, measurements=replace(ill.measurements, outlook=outlook))
        every = further(SUBJECT, (), ill, None, Settings())
        return [
            float(each.parameters["lr"])  # type: ignore[arg-type]
            for (each,) in every
            if each.id == "learning-rate"
        ]

    assert found(trial(0.9)) == [1.0, 10.0, 0.01]
    assert found(replace(trial(0.9), end=2.0)) == [0.01, 0.001, 0.0001]
    assert found(replace(trial(0.9), broke_at=7)) == [0.01, 0.001, 0.0001]


def test_a_steady_recipe_is_what_its_code_makes() -> None:
    steady = steady_recipe_for(200, 3e-3)
    model = nn.Linear(3, 1)
    scope: dict[str, Any] = {"model": model}
    exec(steady.code, scope)
    (group,) = scope["optimizer"].param_groups
    assert type(scope["optimizer"]).__name__.lower() == steady.parameters["optimizer"]
    assert group["initial_lr"] == steady.parameters["lr"] == 3e-3
    for name in ("betas", "eps", "weight_decay"):
        assert group[name] == steady.parameters[name]
    followed = []
    for _ in range(200):
        followed.append(scope["optimizer"].param_groups[0]["lr"])
        scope["optimizer"].step()
        scope["schedule"].step()
    assert steady.parameters["warmup_steps"] == 20
    assert followed[0] == pytest.approx(3e-3 / 20)
    assert max(followed) == pytest.approx(3e-3, rel=0.03)
    assert followed.index(max(followed)) == 19
    assert followed[-1] < 1e-3 * 3e-3


# A pass that its proof did not bear out


def test_the_refused_one_is_marked_and_no_other_of_the_same_names(looking: Any) -> None:
    it = looking(lambda _: judged(0.2))
    slow = it.attempt(with_rate((EPS,), judged().measurements, 0.1))
    fast = it.attempt(with_rate((EPS,), judged().measurements, 0.3))
    assert tried(it) == [("eps", "learning-rate")] * 2
    it.refuse(fast, judged(0.9, "GA601"))
    assert [each.passed for each in it.attempts] == [True, False]
    assert it.attempts[1].why == "in its proof: GA601 still fails; forecast: stalls"
    assert it.attempts[1].titles == tuple(each.title for each in fast.remedies)
    assert it.tried == [slow]
    it.refuse(slow, judged(0.9))
    assert [each.passed for each in it.attempts] == [False, False]
    assert it.tried == []


# What a trial costs


def test_a_trial_is_a_short_audit_that_does_not_search() -> None:
    settings = Settings(effort="thorough", seed=7)
    budget = trial_settings(settings, judged(state="trained")).budget
    assert (budget.search_steps, budget.rehearsal_steps, budget.range_steps) == (0, 16, 0)
    assert budget.allowance == 1.5
    assert trial_settings(settings, judged(state="trained")).state == "trained"
    assert trial_settings(settings, judged()).state == "fresh"
    assert trial_settings(settings, judged()).seed == 7
    quick = trial_settings(Settings(effort="quick"), judged()).budget
    assert (quick.rehearsal_steps, quick.allowance) == (4, 0.0)


def test_the_cost_is_low_where_training_is_fast_smooth_and_of_use() -> None:
    def cost(own: Trial, held: float | None = None) -> float:
        it = judged()
        outlook = replace(it.measurements.outlook, own=replace(own, held_lowest=held))  # type: ignore[type-var]
        return search._cost(
            Tried((), replace(it, measurements=replace(it.measurements, outlook=outlook)))
        )

    smooth = trial(0.1)
    losses = list(smooth.losses)
    losses[10] += 0.4
    bumpy = replace(smooth, losses=tuple(losses))
    assert cost(smooth) < cost(trial(0.3)) < cost(trial(0.5))
    assert cost(smooth) < cost(bumpy)
    assert cost(smooth, 0.5) < cost(smooth, 0.9) < cost(smooth, 1.5)
