"""From trained losses to labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gradaudit.records import Recipe
from tests.corpus import label, outcomes
from tests.corpus.case import Case, Task

ROW = {"task": "t", "constant": 2.0}
LEAST = 0.2  # of the constant: a loss of 0.4


def run(final: float | None, first: float = 2.1) -> dict[str, Any]:
    return {"first": first, "final": final}


def row(*finals: float | None) -> dict[str, Any]:
    return {**ROW, "runs": [run(final) for final in finals]}


@pytest.mark.parametrize(
    ("final", "first", "expected"),
    [
        (0.4, 2.1, "trains"),  # the best there is
        (1.03, 2.1, "trains"),  # 0.61 of the way down
        (1.05, 2.1, "borderline"),  # 0.59
        (1.35, 2.1, "borderline"),  # 0.41
        (1.37, 2.1, "stalls"),  # 0.39
        (2.0, 2.1, "stalls"),
        (2.9, 2.1, "stalls"),
        (3.1, 2.1, "diverges"),
        (3.1, 9.0, "stalls"),  # high, but lower than where it began
        (None, 2.1, "diverges"),
    ],
)
def test_one_run(final: float | None, first: float, expected: str) -> None:
    assert outcomes.one(ROW, LEAST, run(final, first)) == expected


def test_progress_is_0_at_the_constant_and_1_at_the_best() -> None:
    assert outcomes.progress(ROW, LEAST, 2.0) == pytest.approx(0)
    assert outcomes.progress(ROW, LEAST, 0.4) == pytest.approx(1)
    assert outcomes.progress(ROW, LEAST, 1.2) == pytest.approx(0.5)


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing remembered, neither from before nor for after."""
    caches = (outcomes.recorded, outcomes.best, outcomes.labels)
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


def case(name: str) -> Case:
    return Case(name, Task("t", "mse", lambda _: iter(())), lambda: None, Recipe())  # type: ignore


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh: None) -> Any:
    """A corpus of one module whose label file the test writes."""
    monkeypatch.setattr(label, "LABELS", tmp_path)
    monkeypatch.setattr(label, "digest", lambda half, module: "now")
    monkeypatch.setattr(outcomes, "modules", lambda half: ("module",))

    def write(rows: dict[str, Any], *, names: tuple[str, ...] = (), digest: str = "now") -> None:
        every = [case(name) for name in names or rows]
        monkeypatch.setattr(outcomes, "cases_of", lambda half, module: tuple(every))
        text = json.dumps({"digest": digest, "cases": rows})
        label.place("held", "module").write_text(text, encoding="utf-8")

    return write


def test_labels_are_what_the_seeds_agree_on(corpus: Any) -> None:
    corpus(
        {
            "a/best": row(0.4, 0.39, 0.41),
            "a/stalls": row(1.9, 1.8, 2.0),
            "a/leaves": row(None, None, 5.0),
            "a/stalls-or-leaves": row(None, 1.9, 1.9),
            "a/leaves-or-stalls": row(None, 1.9, None),
            "a/now-and-then": row(0.4, 0.4, 1.9),
            "a/close": row(1.2, 1.2, 1.2),
        }
    )
    assert outcomes.best("held") == {"t": pytest.approx(0.2)}
    assert list(outcomes.labels("held").values()) == [
        *("trains", "stalls", "diverges", "stalls", "diverges", "borderline", "borderline")
    ]


def test_the_best_is_a_median_and_a_run_that_broke_sets_none(corpus: Any) -> None:
    corpus({"a/lucky": row(0.01, 1.0, 1.0), "a/broke": row(0.01, 0.01, None)})
    assert outcomes.best("held") == {"t": pytest.approx(0.5)}


def test_of_a_task_that_nothing_learns_no_case_is_held_against_anyone(corpus: Any) -> None:
    corpus({"a/one": row(1.9, 1.9, 1.9), "a/two": row(None, None, None)})
    assert set(outcomes.labels("held").values()) == {"borderline"}


def test_a_case_that_is_no_more_has_no_label_and_sets_no_best(corpus: Any) -> None:
    corpus({"a/gone": row(0.1, 0.1, 0.1), "a/here": row(1.0, 1.0, 1.0)}, names=("a/here",))
    assert outcomes.best("held") == {"t": pytest.approx(0.5)}
    assert outcomes.labels("held") == {"a/here": "trains"}


def test_what_other_code_trained_does_not_count(corpus: Any) -> None:
    corpus({"a/here": row(1.0, 1.0, 1.0)}, digest="before")
    assert label.known("held", "module") is None
    assert outcomes.recorded("held") == {}
    assert outcomes.best("held") == {}


def test_a_module_without_labels_has_none(corpus: Any) -> None:
    corpus({"a/here": row(1.0, 1.0, 1.0)})
    label.place("held", "module").unlink()
    assert outcomes.labels("held") == {}
