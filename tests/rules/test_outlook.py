"""What longer training showed: how it is read, and the rules that judge by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gradaudit.records import (
    ParameterRow,
    Trial,
)
from gradaudit.rules._outlook import (
    Pace,
    held_out,
    ill,
    learns_beyond,
    pace,
    reading,
    recipe_to_blame,
)
from tests.rules.literal import (
    FALLS,
    MADE_UP,
    TRAINED,
    check,
    estimate,
    loss,
    measurements,
    only,
    parameter,
)
from tests.rules.outlooks import BROKE, flat, followed, trial


def read(own: Trial, reference: Trial | None = None, **changes: Any) -> tuple[str, bool]:
    found = reading(followed(own, reference, **changes))
    assert found is not None
    return found.course, found.sure


def held(start: float, *rest: float) -> dict[str, Any]:
    """What the looks at the batch held out saw, in units of its constant's loss."""
    looks = (start, *rest)
    return {"held_start": start, "held_lowest": min(looks), "held_out": looks[-1]}


# --- reading


def test_without_an_outlook_there_is_nothing_to_read() -> None:
    seen = measurements(rehearsal=FALLS)
    assert (reading(seen), pace(seen), held_out(seen)) == (None, None, None)
    assert not ill(seen)
    assert not recipe_to_blame(seen)
    assert learns_beyond(seen)


def test_training_that_broke_diverges() -> None:
    found = reading(followed(BROKE))
    assert found is not None
    assert (found.course, found.level, found.progress, found.sure) == ("diverges", None, None, True)
    assert found.share == pytest.approx(0.007)


@pytest.mark.parametrize(
    ("start", "end", "course", "sure"),
    [
        (1.0, 1.4, "stalls", True),
        (1.0, 1.6, "diverges", False),
        (1.0, 3.1, "diverges", True),
        (5.0, 1.6, "stalls", False),  # on its way down from a wild start
    ],
)
def test_a_loss_that_leaves(start: float, end: float, course: str, sure: bool) -> None:
    assert read(trial(start, end, end, end)) == (course, sure)


@pytest.mark.parametrize(
    ("level", "course", "sure"),
    [
        (0.1, "trains", False),  # nothing was held out
        (0.56, "trains", False),
        (0.57, "stalls", False),
        (0.81, "stalls", True),
        (1.0, "stalls", True),
    ],
)
def test_settled_levels(level: float, course: str, sure: bool) -> None:
    seen = followed(flat(level))
    found = reading(seen)
    assert found is not None
    assert (found.course, found.sure, found.share) == (course, sure, 1.0)
    assert found.level == pytest.approx(level)
    assert found.progress == pytest.approx(1 - level)
    assert ill(seen) == (course == "stalls")


def test_more_steps_than_the_recipe_has_are_its_end() -> None:
    found = reading(followed(flat(0.3, steps=2000)))
    assert found is not None
    assert found.share == 1.0


@pytest.mark.parametrize(
    ("own", "level"),
    [
        (trial(1.0, 0.95, 0.9, 0.8, steps=250), 0.6),  # two doublings of 0.1 each
        (trial(1.0, 1.0, 1.0, 0.8, steps=250), 0.4),
        (trial(1.0, 1.0, 1.0, 0.8, steps=500), 0.6),
        (trial(1.0, 1.0, 1.0, 0.8, steps=1000), 0.8),  # that is the end
        (trial(1.0, 1.0, 0.8, steps=250), 0.8),  # too few points to tell a slope
        (trial(1.6, 1.5, 1.4, 1.1, steps=250), 1.1),  # not yet below the constant
        (trial(1.0, 0.7, 0.7, 0.8, steps=250), 0.8),  # rises
    ],
)
def test_each_further_doubling_brings_what_the_last_one_brought(own: Trial, level: float) -> None:
    found = reading(followed(own))
    assert found is not None
    assert found.level == pytest.approx(level)
    assert found.course == ("trains" if level <= 0.56 else "stalls")


@pytest.mark.parametrize(("steps", "sure"), [(499, False), (500, True)])
def test_a_stall_is_sure_from_half_of_the_steps_on(steps: int, sure: bool) -> None:
    assert read(flat(0.9, steps=steps)) == ("stalls", sure)


@pytest.mark.parametrize(
    ("own", "reference", "course"),
    [
        (flat(0.65), flat(0.64), "trains"),
        (flat(0.65), flat(0.9), "trains"),
        (flat(0.65), flat(0.61), "stalls"),  # the steady recipe gets further
        (flat(0.71), flat(0.71), "stalls"),  # too high for a floor
        (trial(1.0, 0.72, 0.72, 0.65), flat(0.65), "stalls"),  # still on its way
        (trial(1.0, 0.72, 0.70, 0.65), flat(0.65), "trains"),
        (flat(0.65), None, "stalls"),
        (flat(0.65), replace(flat(0.65), broke_at=30), "stalls"),
    ],
)
def test_a_plateau_that_a_steady_recipe_shares_is_the_tasks_floor(
    own: Trial, reference: Trial | None, course: str
) -> None:
    assert read(own, reference) == (course, False)


@pytest.mark.parametrize(
    ("lowest", "end", "course"),
    [
        (0.30, 0.50, "stalls"),
        (0.41, 0.50, "trains"),
        (0.10, 0.39, "trains"),  # still deep
        (0.55, 0.69, "stalls"),
    ],
)
def test_a_loss_on_its_way_up_again(lowest: float, end: float, course: str) -> None:
    own = trial(1.0, lowest, end, end)
    assert read(own)[0] == course
    if course == "stalls":  # and that is no floor of the task
        assert read(own, flat(end))[0] == "stalls"


SLOW = trial(1.0, 0.5, 0.31, 0.2)
FAST = trial(1.0, 0.5, 0.29, 0.2)


@pytest.mark.parametrize(
    ("own", "looks", "course"),
    [
        (SLOW, (1.0, 0.96), "stalls"),
        (SLOW, (1.0, 0.94, 3.0), "trains"),  # the least on the way counts
        (FAST, (1.0, 0.96), "trains"),
        (FAST, (7.1, 9.0), "stalls"),
        (FAST, (6.9, 9.0), "trains"),
        (replace(SLOW, steps=590), (1.0, 0.96), "trains"),  # too early to call it slow
        (replace(SLOW, steps=600), (1.0, 0.96), "stalls"),
    ],
)
def test_a_sample_that_is_slowly_learned_by_heart(
    own: Trial, looks: tuple[float, ...], course: str
) -> None:
    own = replace(own, **held(*looks))
    assert read(own, held_constant=1.0) == (course, False)
    assert read(replace(own, **held(*(2 * x for x in looks))), held_constant=2.0)[0] == course
    for constant in (None, 0.0):  # then what was held out says nothing
        assert read(own, held_constant=constant) == ("trains", False)


@pytest.mark.parametrize(("level", "look", "sure"), [
    (0.44, 0.89, True), (0.46, 0.89, False), (0.44, 0.91, False),
])  # fmt: skip
def test_training_is_sure_where_the_batch_held_out_says_so(
    level: float, look: float, sure: bool
) -> None:
    own = flat(level, **held(1.0, look))
    assert read(own, held_constant=1.0) == ("trains", sure)
    assert held_out(followed(own, held_constant=2.0)) == look / 2


@pytest.mark.parametrize(
    ("start", "end", "course", "sure"),
    [
        (0.5, 0.6, "trains", True),
        (0.1, 0.29, "trains", True),  # more than half again, and still deep
        (0.2, 0.31, "stalls", False),
        (0.6, 1.1, "diverges", False),
        (0.9, 1.4, "diverges", False),
        (0.9, 0.9, "trains", True),  # stays where it is
        (1.0, 1.0, "stalls", True),  # no better than a constant: not learned
        (0.5, 1.6, "diverges", False),
    ],
)
def test_learned_weights_must_stay_where_they_are(
    start: float, end: float, course: str, sure: bool
) -> None:
    assert read(trial(start, end, end, end), state=TRAINED) == (course, sure)


# --- the scale


def level(own: Trial, **changes: Any) -> float:
    found = reading(followed(own, **changes))
    assert found is not None
    assert found.level is not None
    return found.level


def test_levels_lie_between_a_perfect_and_a_constant_prediction() -> None:
    assert level(flat(1.5), constant=2.0, least=1.0) == pytest.approx(0.5)
    # a perfect loss that is unknown: 0 is the least that was reached, if anything was learned
    assert level(flat(1.5), constant=2.0, least=None) == pytest.approx(0.0)
    assert level(flat(1.95), constant=2.0, least=None) == pytest.approx(1.95 / 2.0)


def test_without_a_constant_the_uniform_guess_then_the_start_stands_in() -> None:
    own = trial(4.0, 3.0, 2.0, 2.0)
    chance = loss(initial=5.0, chance=2.5)
    assert level(own, constant=None, loss=chance) == pytest.approx(2.0 / 2.5)
    custom = replace(chance, chance=None, classes=None)
    assert level(own, constant=None, loss=custom) == pytest.approx(2.0 / 4.0)
    lower = replace(custom, initial=estimate(3.2))
    assert level(own, constant=None, loss=lower) == pytest.approx(2.0 / 3.2)
    for unknown in (None, replace(custom, initial=None)):
        assert level(own, constant=None, loss=unknown) == pytest.approx(2.0 / 4.0)


def test_a_constant_that_is_perfect_is_no_unit() -> None:
    assert level(flat(0.5), constant=0.0) == pytest.approx(1.0)
    assert level(trial(4.0, 3.0, 2.0, 2.0), constant=1.0, least=1.0) == pytest.approx(1 / 3)
    for start in (0.0, -3.0):  # a loss of its own, of which nothing is known
        assert read(flat(start), constant=0.0) == ("open", False)


# --- pace, and what goes beyond the sample


def test_pace() -> None:
    own = trial(1.0, 0.8, 0.3, 0.7, 0.5, 0.6, 0.2, 0.3)
    assert pace(followed(own)) == Pace(0.5, pytest.approx(0.4))
    assert pace(followed(trial(1.0, 0.8, 0.6, 0.4))) == Pace(0.6, 0.0)
    wild = trial(1.0, 0.5, 99.0, 0.4)
    assert pace(followed(wild)) == Pace(99.0, pytest.approx(1.0))  # what has left is 1.5
    early = trial(*([1.0, 0.9] + [0.95] * 14))  # the first eighth is where it begins
    assert pace(followed(early)) == Pace(0.95, 0.0)
    for silent in (BROKE, Trial("sgd", 0.1, 0, (), 0.0, 0.0, 0.0, None)):
        assert pace(followed(silent)) is None


@pytest.mark.parametrize(
    ("own", "looks", "beyond", "surely"),
    [
        (SLOW, (0.94,), True, True),
        (SLOW, (0.96,), False, False),
        (FAST, (0.96,), True, False),
        (FAST, (7.1,), False, False),
        (replace(SLOW, steps=590), (0.96,), True, False),
        (replace(SLOW, steps=600), (0.96,), False, False),
    ],
)
def test_learning_beyond_the_sample(
    own: Trial, looks: tuple[float], beyond: bool, surely: bool
) -> None:
    seen = followed(replace(own, **held(*looks)), held_constant=1.0)
    assert learns_beyond(seen) is beyond
    assert learns_beyond(seen, surely=True) is surely
    assert learns_beyond(followed(own), surely=True)  # nothing held out: nothing against it


# --- whether the recipe is to blame


@pytest.mark.parametrize(
    ("own", "reference", "blamed"),
    [
        (flat(1.0), flat(0.5), True),
        (flat(1.0), flat(0.56), True),
        (flat(0.55), flat(0.5), False),  # no further
        (flat(0.95), flat(0.87), True),  # 2.6 times as far
        (flat(0.95), flat(0.88), False),
        (flat(1.0), flat(0.89), True),
        (flat(1.0), flat(0.91), False),  # too little to tell
        (flat(3.0), flat(0.91), False),  # what lies above the constant counts as it
        (BROKE, flat(0.8), True),
        (BROKE, flat(0.81), False),
        (BROKE, None, False),
        (flat(1.0), None, False),
        (flat(1.0), replace(flat(0.1), broke_at=900), False),
        (flat(1.0), replace(flat(0.1), losses=()), False),
    ],
)
def test_the_recipe_is_to_blame_where_the_same_start_comes_down_under_another(
    own: Trial, reference: Trial | None, blamed: bool
) -> None:
    assert recipe_to_blame(followed(own, reference)) is blamed


def test_it_is_held_against_the_same_number_of_steps() -> None:
    own = trial(1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5)
    assert recipe_to_blame(followed(own, flat(0.5, steps=300)))
    assert not recipe_to_blame(followed(own, flat(0.5, steps=1000)))
    assert not recipe_to_blame(followed(own, flat(0.5, steps=5000)))


# --- GA609


def test_a_stall_is_a_finding() -> None:
    finding = only("GA609", followed(trial(1.2, 1.0, 0.9, 0.9), flat(0.4, steps=500)))
    assert (finding.severity, finding.limit.value) == ("fail", 0.5)
    assert finding.measured.value == pytest.approx(0.1)
    assert finding.why == (
        "1000 steps of the recipe take the loss from 1.2 to 0.9, where a constant prediction costs "
        "1. From the same start adamw at 0.001 with warm-up and clipping comes to 0.4 in 500 steps."
    )


@pytest.mark.parametrize(
    ("own", "severity"),
    [
        (flat(0.6), "fail"),  # seen to its end
        (flat(0.6, steps=900), "warn"),
        (flat(0.9, steps=600), "fail"),
        (flat(0.9, steps=400), "warn"),
        (flat(0.4), None),
        (BROKE, None),
    ],
)
def test_how_a_stall_is_judged(own: Trial, severity: str | None) -> None:
    found = check("GA609", followed(own))
    assert [f.severity for f in found] == ([severity] if severity else [])


def test_a_stall_that_is_foreseen_says_how_far_it_gets() -> None:
    finding = only("GA609", followed(trial(1.0, 0.95, 0.9, 0.8, steps=250), constant=None))
    assert finding.measured.value == pytest.approx(0.4)
    assert finding.why == (
        "250 steps of the recipe take the loss from 1 to 0.8; 1000 are expected to get 40% of "
        "the way."
    )
    worse = only("GA609", followed(trial(1.0, 1.1, 1.2, 1.2, steps=250)))
    assert worse.measured.value == 0.0
    assert "get 0% of the way" in worse.why


@pytest.mark.parametrize("reference", [flat(0.95), replace(flat(0.1), broke_at=3)])
def test_a_steady_recipe_that_gets_no_further_is_not_mentioned(reference: Trial) -> None:
    assert "same start" not in only("GA609", followed(flat(0.9), reference)).why


@pytest.mark.parametrize(
    "changes",
    [
        {"rehearsal": None},
        {"rehearsal": replace(FALLS, prescribed=True)},
        {"sample": MADE_UP},
    ],
)
def test_only_a_given_recipe_on_real_data_stalls(changes: dict[str, Any]) -> None:
    assert check("GA609", followed(flat(0.9), **changes)) == []


# --- GA105


def frozen(share: float) -> tuple[ParameterRow, ...]:
    size = round(1000 * share)
    return (
        parameter("body.weight", trainable=False, size=size - 10),
        parameter("body.bias", trainable=False, size=10),
        parameter("head.weight", size=1000 - size),
    )


def test_weights_frozen_at_their_random_start_where_training_stalls() -> None:
    finding = only("GA105", followed(flat(0.9), parameters=frozen(0.6)))
    assert (finding.severity, finding.measured.value, finding.limit.value) == ("fail", 0.6, 0.3)
    assert finding.why.startswith(
        "60% of the parameters are frozen at their random start (`body.weight` and `body.bias`)"
    )
    assert only("GA105", followed(flat(0.9), parameters=frozen(0.31)))


@pytest.mark.parametrize(
    ("own", "changes"),
    [
        (flat(0.9), {"parameters": frozen(0.3)}),
        (flat(0.9), {"parameters": ()}),
        (flat(0.4), {"parameters": frozen(0.6)}),  # random features that suffice
        (BROKE, {"parameters": frozen(0.6)}),
        (trial(0.2, 0.4, 0.4, 0.4), {"parameters": frozen(0.6), "state": TRAINED}),
        (flat(0.9), {"parameters": frozen(0.6), "sample": MADE_UP}),
    ],
)
def test_what_may_stay_frozen(own: Trial, changes: dict[str, Any]) -> None:
    assert check("GA105", followed(own, **changes)) == []


def test_without_an_outlook_frozen_weights_are_not_judged() -> None:
    assert check("GA105", measurements(parameters=frozen(0.9), rehearsal=FALLS)) == []
