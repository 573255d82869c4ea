"""The corpus is what the scoreboard takes it for: many families, two halves, labels that hold."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from gradaudit.rules import all_rules
from tests.corpus import causes, label, outcomes
from tests.corpus.board import balanced
from tests.corpus.case import FAULTS, Case
from tests.corpus.catalogue import HALVES, cases, cases_of, digest, modules
from tests.corpus.training import train

EVERY = [case for half in HALVES for case in cases(half)]


def families(half: str) -> set[str]:
    return {case.family for case in cases(half)}


def test_it_is_large_enough() -> None:
    assert len(EVERY) >= 200
    assert len(families("tune") | families("held")) >= 20
    trained = Counter(outcomes.labels("held").values())
    assert trained["trains"] >= 50
    assert trained["stalls"] + trained["diverges"] >= 50


def test_the_halves_share_no_family_no_task_and_no_name() -> None:
    assert not families("tune") & families("held")
    assert not {c.task.base for c in cases("tune")} & {c.task.base for c in cases("held")}
    assert [name for name, count in Counter(c.name for c in EVERY).items() if count > 1] == []


def test_every_fault_is_a_known_one_and_every_known_one_is_planted() -> None:
    planted = {fault for case in EVERY for fault in (case.fault, *case.also) if fault}
    assert planted - set(FAULTS) == set()
    assert set(FAULTS) - {case.fault for case in EVERY} == set()


def test_names_say_family_and_variant() -> None:
    assert [c.name for c in EVERY if not c.family or not c.name.partition("/")[2]] == []


@pytest.mark.parametrize("half", HALVES)
def test_every_module_has_labels_made_by_the_code_as_it_is(half: str) -> None:
    for module in modules(half):
        found = json.loads(label.place(half, module).read_text(encoding="utf-8"))
        assert found["digest"] == digest(half, module), module
        assert label.known(half, module) == found
        assert list(found["cases"]) == [case.name for case in cases_of(half, module)]
        for row in found["cases"].values():
            assert [run["seed"] for run in row["runs"]] == list(label.SEEDS)


@pytest.mark.parametrize("half", HALVES)
def test_every_case_has_a_label_and_few_are_too_close_to_call(half: str) -> None:
    labels = outcomes.labels(half)
    assert set(labels) == {case.name for case in cases(half)}
    assert set(labels.values()) <= {"trains", "stalls", "diverges", "borderline"}
    assert Counter(labels.values())["borderline"] <= 0.1 * len(labels)


@pytest.mark.parametrize("half", HALVES)
def test_a_label_file_of_no_module_is_not_left_behind(half: str) -> None:
    found = {path.name for path in label.LABELS.glob(f"{half}.*.json")}
    assert found == {label.place(half, module).name for module in modules(half)}


def fell_in_30_steps(half: str, case: Case) -> bool:
    """Whether the mean loss after 30 steps is below 95% of the first, on most seeds."""
    width = max(1, case.recipe.steps // 20)

    def fell(run: dict[str, Any]) -> bool:
        after = run["curve"][-(-30 // width) :]
        return bool(after) and after[0] < 0.95 * run["first"]

    runs = outcomes.recorded(half)[case.name]["runs"]
    return sum(fell(run) for run in runs) > len(runs) / 2


def test_thirty_steps_by_hand_do_not_tell_who_trains() -> None:
    accuracy, sound, faulty = balanced("held", lambda case: fell_in_30_steps("held", case))
    assert 0.6 < accuracy <= 0.9
    assert sound.trials >= 50
    assert faulty.trials >= 50
    assert sound.value > 0.85  # most of what trains has fallen by then: the rule is no straw man


def quick(half: str) -> list[str]:
    """A sample of six that were trained in two seconds."""
    rows = outcomes.recorded(half)
    names = [
        case.name for case in cases(half) if all(r["seconds"] <= 2 for r in rows[case.name]["runs"])
    ]
    return random.Random(f"six of {half}").sample(names, 6)


@pytest.mark.parametrize(
    ("half", "name"), [(half, name) for half in HALVES for name in quick(half)]
)
def test_training_again_comes_to_what_was_recorded(half: str, name: str) -> None:
    case = next(case for case in cases(half) if case.name == name)
    row = outcomes.recorded(half)[name]
    least = outcomes.best(half).get(row["task"], 1.0)
    recorded = row["runs"][1]
    again = train(case, recorded["seed"])
    kind = outcomes.one(row, least, {"first": again.first, "final": again.final})
    assert (kind == "trains") == (outcomes.one(row, least, recorded) == "trains")


def test_every_fault_has_names_and_all_are_rules() -> None:
    assert set(causes.NAMES) == set(FAULTS)
    assert all(causes.NAMES.values())
    known = {rule.code for rule in all_rules()}
    assert {code for codes in causes.NAMES.values() for code in codes} - known == set()


def test_the_first_finding_is_the_first_of_the_worst() -> None:
    said = [
        {"code": "GA604", "severity": "note"},
        {"code": "GA602", "severity": "warn"},
        {"code": "GA501", "severity": "fail"},
        {"code": "GA601", "severity": "fail"},
    ]
    assert causes.first_code(said) == "GA501"
    assert causes.first_code(said[:2]) == "GA602"
    assert causes.first_code(said[:1]) == ""


def test_a_fault_is_named_by_its_own_codes_and_those_of_its_other_names() -> None:
    case = next(case for case in EVERY if case.fault == "input-scale" and "saturation" in case.also)
    for code, expected in (("GA501", True), ("GA402", True), ("GA607", False)):
        assert causes.named(case, [{"code": code, "severity": "fail"}]) is expected
    assert not causes.named(case, [])
    assert not causes.named(case, [{"code": "GA501", "severity": "note"}])
