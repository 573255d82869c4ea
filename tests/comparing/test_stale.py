"""A baseline that no longer tells what it was written to tell says so, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.comparing.literal import SETTINGS, compared, known, snapshot

ANEW = "; write it anew with --write-baseline."


def stale(before: Any, now: Any, *, baseline: bool = True) -> tuple[str, ...]:
    return compared(before, now, baseline=baseline).stale


def test_nothing_is_said_of_a_fresh_one() -> None:
    assert stale(snapshot(known()), snapshot(known())) == ()


def test_findings_that_are_gone() -> None:
    (sentence,) = stale(snapshot(known("a"), known("b"), known("c")), snapshot(known("b")))
    assert sentence.startswith("2 of its findings are no longer found (GA401 at a, GA401 at c)")
    assert sentence.endswith(ANEW)
    assert stale(snapshot(known("a")), snapshot(), baseline=False) == ()


def test_another_version() -> None:
    (sentence,) = stale(snapshot(version="0.0.9"), snapshot())
    assert "is by gradaudit 0.0.9 and this is 0.1.0" in sentence
    assert sentence.endswith(ANEW)


def test_another_model() -> None:
    (sentence,) = stale(snapshot(subject={"name": "Old"}), snapshot())
    assert sentence.startswith("The baseline is of a model of class Old, this one is of class Net")


def test_a_model_that_is_not_in_it() -> None:
    comparison = compared(None, snapshot(known("a")))
    assert [each.change for each in comparison.findings] == ["new"]
    assert comparison.metrics == ()
    assert "this model is not in the baseline" in comparison.stale[0].lower()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"effort": "standard"}, "effort (quick, now standard)"),
        ({"seed": 7}, "seed (0, now 7)"),
        ({"torch": "2.11.0"}, "torch version (2.10.0, now 2.11.0)"),
        ({"sample": "made up: 1 batch"}, "sample (given: 5 batches of 64, now made up: 1 batch)"),
        ({"ignore": ["GA401"]}, "rules ignored (not set, now GA401)"),
        (
            {"recipe": {"lr": 0.1, "optimizer": "sgd"}},
            "recipe (not set, now lr 0.1, optimizer sgd)",
        ),
        ({"limits": {"growth_max": 10.0}}, "limits (not set, now growth_max 10.0)"),
    ],
)
def test_another_setting(changed: dict[str, Any], words: str) -> None:
    (sentence,) = stale(snapshot(), snapshot(settings={**SETTINGS, **changed}))
    assert words in sentence
    assert "numbers may differ for that alone" in sentence
    (diffed,) = stale(snapshot(), snapshot(settings={**SETTINGS, **changed}), baseline=False)
    assert diffed.startswith("The older report")
    assert "--write-baseline" not in diffed


def test_of_a_recipe_only_what_differs() -> None:
    before = snapshot(settings={**SETTINGS, "recipe": {"lr": 0.1, "optimizer": "sgd"}})
    now = snapshot(settings={**SETTINGS, "recipe": {"lr": 0.2, "optimizer": "sgd"}})
    (sentence,) = stale(before, now)
    assert "recipe (lr 0.1, now lr 0.2)" in sentence


def test_hostile_names_stay_on_their_line() -> None:
    (sentence,) = stale(snapshot(subject={"name": "\x1b[31m\nOld"}), snapshot())
    assert sentence.isprintable()
