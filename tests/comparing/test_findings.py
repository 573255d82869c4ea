"""Findings before and now: told apart by rule and layer, and by nothing else."""

from __future__ import annotations

import itertools
import time
from collections import Counter

import pytest

from gradaudit.comparing.pairing import ONE_PLACE, pairs
from gradaudit.records import Comparison, Estimate, Known, Limit, exit_code, held
from gradaudit.rules import all_rules
from tests.comparing.literal import compared, known, snapshot

GROWTH = Limit(-6.0, "log10 of total gain", "a source")


def changes(before: list[Known], now: list[Known]) -> list[tuple[str, str]]:
    found = compared(snapshot(*before), snapshot(*now)).findings
    return [(each.change, each.known.place) for each in found]


def only(before: Known, now: Known) -> tuple[str, str]:
    (change,) = compared(snapshot(before), snapshot(now)).findings
    return change.change, change.why


def test_new_fixed_and_unchanged() -> None:
    before, now = [known("a"), known("b")], [known("b"), known("c", 0.9)]
    assert changes(before, now) == [("unchanged", "b"), ("new", "c"), ("fixed", "a")]


def test_severity_counts_before_value() -> None:
    assert only(known(severity="warn"), known(severity="fail"))[0] == "worse"
    assert only(known(severity="fail"), known(severity="note"))[0] == "better"
    assert "was a warn, now it is a fail" in only(known(), known(severity="fail"))[1]


def test_a_value_further_past_its_limit_is_worse() -> None:
    assert only(known(value=0.6), known(value=0.7))[0] == "unchanged"
    assert only(known(value=0.6), known(value=0.8))[0] == "worse"
    assert only(known(value=0.8), known(value=0.6))[0] == "better"
    assert only(known(value=0.6, half=0.15), known(value=0.8, half=0.1))[0] == "unchanged"


def test_below_a_limit_the_lower_is_worse() -> None:
    limit = Limit(0.9, "x the variance", "a source")
    low, lower = known(value=0.6, limit=limit), known(value=0.3, limit=limit)
    assert only(low, lower)[0] == "worse"
    assert only(lower, low)[0] == "better"


def test_growth_is_held_to_decades() -> None:
    def deep(value: float) -> Known:
        return known("12", value, "fail", code="GA102", limit=GROWTH)

    assert only(deep(-23.0), deep(-27.0))[0] == "unchanged"  # a fifth of the exponent
    assert only(deep(-23.0), deep(-29.0))[0] == "worse"
    assert only(deep(-6.5), deep(-7.4))[0] == "unchanged"
    assert only(deep(-6.5), deep(-8.2))[0] == "worse"


def test_zero_has_no_ratio() -> None:
    limit = Limit(1e-6, "1 - cosine", "a source")
    assert only(known(value=5e-7, limit=limit), known(value=0.0, limit=limit))[0] == "unchanged"
    assert only(known(value=9e-7, limit=limit), known(value=0.0, limit=limit))[0] == "worse"


def test_another_unit_is_not_compared() -> None:
    change, why = only(known(value=0.6), known(value=60, limit=Limit(50.0, "percent", "")))
    assert change == "unchanged"
    assert "measured otherwise" in why


def test_several_of_one_rule_at_one_place() -> None:
    one, other = known("a", 0.6), known("a", 0.62)
    assert changes([one, other], [one, other]) == [("unchanged", "a")] * 2
    assert changes([one], [one, other]) == [("unchanged", "a"), ("unchanged", "a")]
    assert changes([one], [one, known("a", 0.9)]) == [("unchanged", "a"), ("new", "a")]
    assert changes([one, other], [one]) == [("unchanged", "a"), ("fixed", "a")]


def test_a_rule_about_the_whole_model_may_move() -> None:
    """Where it is worst is another layer after every change; it is the same finding."""
    before = known("layers.3", -9.0, "fail", code="GA102", limit=GROWTH)
    now = known("layers.7", -9.1, "fail", code="GA102", limit=GROWTH)
    change, why = only(before, now)
    assert change == "unchanged"
    assert "then at layers.3" in why
    assert changes([known("layers.3", 0.9)], [known("layers.7", 0.9)]) == [
        ("new", "layers.7"),
        ("fixed", "layers.3"),
    ]


def test_rules_that_name_their_worst_place_exist() -> None:
    assert {rule.code for rule in all_rules()} >= ONE_PLACE


def test_a_renamed_layer_is_new_and_says_so() -> None:
    found = compared(snapshot(known("enc.3", 0.9)), snapshot(known("encoder.3", 0.9))).findings
    assert [each.change for each in found] == ["new", "fixed"]
    assert "enc.3 is gone, with the same value: was the layer renamed?" in found[0].why
    for gone, arrived in (
        ([known("a", 0.9)], [known("b", 0.8)]),
        ([known("a", 0.9), known("c", 0.9)], [known("b", 0.9)]),
        ([known("a", 0.9)], [known("b", 0.9), known("c", 0.9)]),
    ):
        assert not any(
            "renamed" in each.why for each in compared(snapshot(*gone), snapshot(*arrived)).findings
        )


def test_a_known_rule_hardly_past_its_limit_elsewhere_is_no_news() -> None:
    """Which of 30 half-dead layers lie just above one half is chance."""
    before = [known(f"layers.{i}", 0.6) for i in range(5)]
    (*_, last) = compared(snapshot(*before), snapshot(*before, known("layers.9", 0.6))).findings
    assert (last.change, last.before) == ("unchanged", None)
    assert "GA401 is known at 5 other places" in last.why
    for now in (known("layers.9", 0.7), known("layers.9", 0.6, "fail"), known("x", code="GA402")):
        assert changes(before, [*before, now])[-1] == ("new", now.place)
    assert changes([], [known("layers.9", 0.6)]) == [("new", "layers.9")]


def test_many_places_beside_a_few_known_ones_are_news() -> None:
    before = snapshot(known("layers.0", 0.6))
    for more, expected in ((1, "unchanged"), (2, "new"), (29, "new")):
        now = snapshot(*(known(f"layers.{i}", 0.6) for i in range(more + 1)))
        found = compared(before, now).findings
        assert [row.change for row in found] == ["unchanged", *[expected] * more]


@pytest.mark.parametrize("shuffle", range(6))
def test_every_finding_is_told_once(shuffle: int) -> None:
    before = [known("a"), known("a", 0.8), known("b"), known("b", code="GA302", value=3.0)]
    now = [known("b"), known("a"), known("c"), known("d", code="GA302", value=3.0)]
    ordered = list(itertools.permutations(now))[shuffle * 4]
    found = list(pairs(before, ordered))
    assert [new for _, new in found if new is not None] == list(ordered)
    olds = [old for old, _ in found if old is not None]
    assert sorted(olds, key=repr) == sorted(before, key=repr)


# --- what the gate makes of it


def gated(comparison: Comparison, verdict: str = "fail", fail_on: str = "fail") -> int:
    return exit_code(held(verdict, comparison), fail_on)  # type: ignore[arg-type]


def test_only_what_is_new_or_worse_counts() -> None:
    failing = known("a", severity="fail")
    same = compared(snapshot(failing), snapshot(failing))
    assert gated(same) == gated(same, fail_on="warn") == 0
    new = compared(snapshot(failing), snapshot(failing, known("b", 0.9, "fail")))
    assert gated(new) == 1
    warns = compared(snapshot(failing), snapshot(failing, known("b", 0.9, code="GA402")))
    assert (gated(warns), gated(warns, fail_on="warn")) == (0, 1)
    notes = compared(snapshot(), snapshot(known("b", severity="note")))
    assert gated(notes, fail_on="warn") == 0
    fixed = compared(snapshot(failing), snapshot())
    assert gated(fixed, "pass") == 0


def test_what_cannot_be_judged_stays_so() -> None:
    failing = known("a", severity="fail")
    assert gated(compared(snapshot(failing), snapshot(failing)), "inconclusive") == 3
    assert gated(compared(None, snapshot(failing)), "inconclusive") == 1


def test_without_an_estimate_there_is_only_the_severity() -> None:
    bare = Known("GA001", "non-finite", "a", "fail", None)
    assert only(bare, bare)[0] == "unchanged"
    exact = Known("GA001", "non-finite", "a", "fail", Estimate.exact(1.0, "operations"))
    assert only(bare, exact)[0] == "unchanged"


def test_ten_thousand_findings_take_no_more_than_a_second() -> None:
    before = [known(f"layers.{i}", 0.9) for i in range(10_000)]
    now = [known(f"layers.{i}", 0.9) for i in range(5_000, 15_000)]
    started = time.process_time()
    found = Counter(each.change for each in compared(snapshot(*before), snapshot(*now)).findings)
    assert found == {"unchanged": 5_000, "new": 5_000, "fixed": 5_000}
    assert time.process_time() - started < 3
