"""GA303 to GA305: what weights show by themselves, beside the norms."""

from dataclasses import replace

import pytest

from gradaudit.records import Measurements, StateRow, WeightRow
from tests.rules.literal import NONE, TRAINED, check, measurements, only, weight


def bag(*rows: WeightRow, state: StateRow = TRAINED) -> Measurements:
    return measurements(weights=rows, sample=NONE, state=state)


@pytest.mark.parametrize(
    ("dead", "severity"), [(63, "warn"), (33, "warn"), (32, "note"), (1, "note")]
)
def test_dead_rows_of_trained_weights_are_told_and_warned_of_from_half(
    dead: int, severity: str
) -> None:
    row = replace(weight(0, 1.0), outputs=64, dead_outputs=dead)
    finding = only("GA303", bag(row))
    assert (finding.severity, finding.measured.value) == (severity, dead / 64)


@pytest.mark.parametrize("dead", [None, 0, 64])
def test_a_weight_of_zeros_or_without_dead_rows_is_no_case_of_dead_rows(dead: int | None) -> None:
    assert check("GA303", bag(replace(weight(0, 1.0), outputs=64, dead_outputs=dead))) == []


def test_dead_rows_of_a_start_or_a_table_are_silent() -> None:
    row = replace(weight(0, 1.0), outputs=64, dead_outputs=40)
    assert check("GA303", measurements(weights=(row,))) == []
    assert check("GA303", bag(replace(row, kind="embedding"))) == []


@pytest.mark.parametrize(("share", "found"), [(0.98, 0), (0.995, 1), (1.0, 1)])
def test_one_entry_has_to_outweigh_all_others_tenfold(share: float, found: int) -> None:
    row = replace(weight(0, 1.0), shape=(32, 32), peak=(share * 1024) ** 0.5)
    assert len(check("GA304", bag(row))) == found
    assert len(check("GA304", measurements(weights=(row,)))) == found
    assert check("GA304", bag(replace(row, shape=(15, 17)))) == []


@pytest.mark.parametrize(
    ("ratio", "trained", "fresh"), [(11.0, 1, 1), (9.0, 0, 0), (0.11, 0, 0), (0.09, 1, 0)]
)
def test_imbalance_counts_both_ways_but_a_start_may_close_a_layer(
    ratio: float, trained: int, fresh: int
) -> None:
    row = replace(weight(0, 1.0), peer_ratio=ratio, peers=6)
    assert len(check("GA305", bag(row))) == trained
    assert len(check("GA305", measurements(weights=(row,)))) == fresh
    assert check("GA305", bag(replace(row, kind="other"))) == []
