"""Tails and clip thresholds against what is known of the distributions drawn from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from gradaudit.probes.norm_distribution import clip_point, describe_norms, hill

TAIL_RATIO = 10.0


@pytest.mark.parametrize(("count", "percent"), [(29, 90), (58, 90), (60, 95)])
@pytest.mark.parametrize("law", [stats.lognorm(0.5), stats.pareto(1.5), stats.uniform(1, 1)])
def test_the_clip_rate_of_a_quantile_is_exact_whatever_the_norms(
    count: int, percent: int, law: Any
) -> None:
    rng = np.random.default_rng(count)
    held, rates = 0, []
    for _ in range(400):
        ordered = sorted(law.rvs(count, random_state=rng).tolist())
        threshold, basis, rate = clip_point(ordered, math.inf)
        assert threshold is not None
        assert rate is not None
        assert basis == f"{percent}% quantile of {count} batches"
        truth = float(law.sf(threshold))
        assert rate.low is not None
        assert rate.high is not None
        held += rate.low <= truth <= rate.high
        rates.append(truth)
    assert 0.92 * 400 <= held <= 0.99 * 400
    assert np.mean(rates) == pytest.approx(rate.value, rel=0.1)
    # the interval is the Beta distribution's own
    beyond = round(rate.value * (count + 1)) - 1
    expected = stats.beta(beyond + 1, count - beyond).ppf([0.025, 0.975])
    assert (rate.low, rate.high) == pytest.approx(tuple(expected))
    assert rate.value == pytest.approx(1 - percent / 100, abs=1 / (count + 1))


@pytest.mark.parametrize("count", [6, 12, 28])
def test_below_29_batches_the_threshold_is_a_heuristic_with_an_honest_rate(count: int) -> None:
    rng, held = np.random.default_rng(1), 0
    law = stats.lognorm(1.0)
    for _ in range(400):
        ordered = sorted(law.rvs(count, random_state=rng).tolist())
        threshold, basis, rate = clip_point(ordered, TAIL_RATIO)
        assert threshold == 2 * np.median(ordered)
        assert basis == f"heuristic: 2 x the median of {count} batches"
        assert rate is not None
        assert rate.low is not None
        assert rate.high is not None
        held += rate.low <= float(law.sf(threshold)) <= rate.high
    assert held >= 0.92 * 400


def test_a_tie_at_the_threshold_is_not_counted_as_clipped() -> None:
    threshold, _, rate = clip_point([1.0] * 60, TAIL_RATIO)
    assert threshold == 1.0
    assert rate is not None
    assert (rate.value, rate.low) == (0.0, 0.0)
    assert rate.high == pytest.approx(stats.beta(1, 60).ppf(0.975))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05])
def test_norms_that_repeat_have_the_rate_of_those_beyond(share: float) -> None:
    rng, held, met = np.random.default_rng(5), 0, 0
    for _ in range(400):
        ordered = sorted((1.0 + 4.0 * (rng.random(60) < share)).tolist())
        threshold, _, rate = clip_point(ordered, TAIL_RATIO)
        assert rate is not None
        assert rate.low is not None
        assert rate.high is not None
        met += threshold == 1.0
        held += threshold == 1.0 and rate.low <= share <= rate.high
        if threshold == 1.0:
            expected = stats.binomtest(ordered.count(5.0), 60).proportion_ci(method="exact")
            assert (rate.low, rate.high) == pytest.approx((expected.low, expected.high))
    assert held >= 0.95 * met > 0


@pytest.mark.parametrize(("count", "percent"), [(60, 95), (30, 90)])
def test_a_threshold_inside_the_tail_is_replaced(count: int, percent: int) -> None:
    """A tenth of the batches with targets x 300: clipping at their size would mend nothing."""
    rng, held = np.random.default_rng(6), 0
    for _ in range(200):
        spiked = np.arange(count) % 10 == 7
        norms = rng.uniform(1, 3, count) * np.where(spiked, 300, 1)
        ordered = sorted(norms.tolist())
        threshold, basis, rate = clip_point(ordered, TAIL_RATIO)
        assert threshold == 2 * np.median(ordered)
        assert threshold < 6
        expected = f"heuristic: 2 x the median of {count} batches, whose {percent}% quantile "
        assert basis == f"{expected}lies in the tail"
        assert rate is not None
        assert rate.low is not None
        assert rate.high is not None
        held += rate.low <= 0.1 <= rate.high
    assert held == 200  # the spikes, and nothing else of norms up to 3


def test_the_threshold_keeps_a_heavy_tail_out_of_the_weights() -> None:
    torch.manual_seed(0)
    batches = []
    for i in range(60):
        x = torch.randn(16, 10)
        y = x[:, :1] + 0.1 * torch.randn(16, 1)
        batches.append((x, 300 * y if i % 20 == 7 else y))
    model = torch.nn.Linear(10, 1)
    norms = []
    for x, y in batches:
        gradients = torch.autograd.grad(F.mse_loss(model(x), y), [*model.parameters()])
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))
    found = describe_norms(norms, TAIL_RATIO)
    assert found is not None
    assert found.tail == "heavy"
    assert found.clip_threshold is not None
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    x_test, errors = torch.randn(500, 10), []
    for step in range(1000):
        x, y = batches[step % 60]
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), found.clip_threshold)
        optimizer.step()
        errors.append(float(F.mse_loss(model(x_test).detach(), x_test[:, :1])))
    assert np.mean(errors[400:]) < 0.1  # unclipped 232, clipped at the 95% quantile 216


@pytest.mark.parametrize("index", [1.0, 2.5])
@pytest.mark.parametrize("count", [29, 60])
def test_hills_interval_is_exact_for_pareto_tails(index: float, count: int) -> None:
    rng, held, values = np.random.default_rng(2), 0, []
    for _ in range(400):
        estimate = hill(sorted((rng.pareto(index, count) + 1).tolist()))
        assert estimate is not None
        assert estimate.low is not None
        assert estimate.high is not None
        held += estimate.low <= index <= estimate.high
        values.append(estimate.value)
    assert 0.92 * 400 <= held <= 0.98 * 400
    assert np.mean(values) == pytest.approx(index, rel=0.1)


@pytest.mark.parametrize(
    ("law", "tail", "least"),
    [
        (stats.norm(1, 0.1), "light", 0.95),
        (stats.pareto(0.7), "heavy", 0.95),
        (stats.lognorm(0.6), "unresolved", 0.6),  # such tails look like a power to 60 batches
    ],
)
def test_tails_of_sixty_batches(law: Any, tail: str, least: float) -> None:
    rng, named = np.random.default_rng(3), 0
    for _ in range(200):
        found = describe_norms(law.rvs(60, random_state=rng).tolist(), TAIL_RATIO)
        assert found is not None
        named += found.tail == tail
    assert named >= least * 200


def test_a_tail_without_variance_is_hardly_ever_called_light() -> None:
    rng = np.random.default_rng(4)
    for count in (29, 60):
        for index in (1.0, 1.9):
            tails = [
                describe_norms((rng.pareto(index, count) + 1).tolist(), TAIL_RATIO)
                for _ in range(200)
            ]
            assert sum(t is not None and t.tail == "light" for t in tails) <= 0.05 * 200


def test_the_evidence_is_stated_within_what_the_batches_allow() -> None:
    six = describe_norms([1.0, 1.1, 0.9, 1.2, 1.0, 3.0], TAIL_RATIO)
    assert six is not None
    assert (six.tail, six.tail_index) == ("unresolved", None)
    assert six.tail_why == (
        "the largest of 6 norms is 2.86 times the median; with 95% confidence at most 39% of the "
        "batches lie beyond it; a light tail takes 29 batches to show"
    )
    spiked = describe_norms([1.0, 1.1, 0.9, 1.2, 1.0, 30.0], TAIL_RATIO)
    assert spiked is not None
    assert spiked.tail == "heavy"
    assert "28.6 times the median" in spiked.tail_why
    many = describe_norms(np.linspace(1, 2, 60).tolist(), TAIL_RATIO)
    assert many is not None
    assert "at most 5% of the batches lie beyond it; Hill's index is" in many.tail_why


def test_degenerate_norms() -> None:
    assert describe_norms([], TAIL_RATIO) is None
    one = describe_norms([2.0], TAIL_RATIO)
    assert one is not None
    assert (one.tail, one.tail_why) == ("unresolved", "one batch has no spread")
    assert (one.clip_threshold, one.clip_basis) == (4.0, "heuristic: 2 x the median of 1 batch")
    zero = describe_norms([0.0] * 40 + [1.0] * 20, TAIL_RATIO)
    assert zero is not None
    assert (zero.tail, zero.clip_threshold, zero.clip_rate) == ("unresolved", None, None)
    assert "zero on half of the 60 batches" in zero.tail_why
    same = describe_norms([2.0] * 60, TAIL_RATIO)
    assert same is not None
    assert (same.tail, same.tail_index) == ("light", None)
    assert math.isclose(same.median, same.max)


def test_the_norms_are_kept_in_the_batches_order() -> None:
    norms = [3.0, 1.0, 2.0, 2.0]
    found = describe_norms(norms, TAIL_RATIO)
    assert found is not None
    assert found.norms == tuple(norms)
