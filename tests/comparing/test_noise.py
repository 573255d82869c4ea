"""One model under several seeds is no regression of itself, and a larger start is one."""

from __future__ import annotations

from itertools import permutations

import pytest
from torch import nn

from gradaudit.comparing import compare
from gradaudit.records import Snapshot
from gradaudit.tolerances import TOLERANCES
from tests.benchmarks.baseline_noise import audits, classes, mlp

SEEDS = 3


@pytest.fixture(scope="module")
def sound() -> list[Snapshot]:
    """Eight ReLU layers from three starts."""
    return audits((mlp(8, 64, nn.ReLU, 2**0.5), lambda: classes(16, 10)), "quick", SEEDS)


def test_another_seed_is_no_regression(sound: list[Snapshot]) -> None:
    for before, now in permutations(sound, 2):
        assert compare(before, now, "", TOLERANCES).regressions == ()


def test_a_larger_start_is_one_whatever_the_seed(sound: list[Snapshot]) -> None:
    """A gain 1.3 times as large: growth 1.69 per layer, 38 in all."""
    larger = audits((mlp(8, 64, nn.ReLU, 1.3 * 2**0.5), lambda: classes(16, 10)), "quick", 2)
    for before in sound:
        for now in larger:
            worse = {m.metric for m in compare(before, now, "", TOLERANCES).metrics
                     if m.change == "worse"}  # fmt: skip
            assert "growth_per_stage" in worse
