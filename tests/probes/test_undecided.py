"""More probes where the growth lies near its limit, and none where it does not."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gradaudit.linalg.intervals import student_quantile
from gradaudit.probes.growth import Growth, measure_growth
from gradaudit.probes.undecided import MORE, MORE_WHERE_CHEAP
from gradaudit.records import Estimate
from gradaudit.settings import LIMITS, Settings
from tests.subjects import opened

QUICK = Settings(effort="quick")


def grown(settings: Settings, *, cheap: bool) -> Growth:
    torch.manual_seed(0)
    layers = [layer for _ in range(6) for layer in (nn.Linear(24, 24), nn.Tanh())]
    net = nn.Sequential(*layers, nn.Linear(24, 3))
    return measure_growth(opened(net, torch.randn(4, 24)), settings, cheap=cheap)


def with_limit(name: str, value: float) -> Settings:
    return replace(QUICK, limits={**LIMITS, name: replace(LIMITS[name], value=value)})


def width(measured: Estimate | None) -> float:
    assert measured is not None
    assert measured.low is not None
    assert measured.high is not None
    return measured.high - measured.low


@pytest.mark.parametrize(("cheap", "times"), [(True, MORE_WHERE_CHEAP), (False, MORE)])
@pytest.mark.parametrize("kind", ["growth", "gsc"])
@pytest.mark.parametrize("end", ["min", "max"])
def test_near_a_limit_there_are_more_probes(kind: str, end: str, cheap: bool, times: int) -> None:
    few = grown(QUICK, cheap=cheap).trunk
    total = few.total_growth_log10 if kind == "growth" else few.gsc
    assert total is not None
    limit = 10**total.value if kind == "growth" else total.value
    more = grown(with_limit(f"{kind}_{end}", limit), cheap=cheap).trunk
    probes = QUICK.budget.probes
    expected = student_quantile(times * probes - 1) / student_quantile(probes - 1) / times**0.5
    ratio = width(more.total_growth_log10) / width(few.total_growth_log10)
    assert 0.6 * expected < ratio < 1.7 * expected


def test_far_from_every_limit_there_are_as_many_as_the_effort_says() -> None:
    assert grown(QUICK, cheap=True).trunk == grown(QUICK, cheap=False).trunk
