"""Coverage and width of the 95% intervals for a mean of squares, over spectra and probe counts.

``python -m tests.benchmarks.intervals`` draws ``m`` samples of ``T = sum_i s_i z_i^2`` (the squared
norm that a random cotangent leaves behind a Jacobian with squared singular values ``s``) some
thousands of times for each spectrum, and looks how often the interval for ``log E T`` holds the
truth, for three intervals:

- ``ours``: :func:`gradaudit.linalg.intervals.log_ratio_interval`
- ``Student``: the mean of T with its standard error, the plain one
- ``cube root``: Student's on T^(1/3), nearly normal (Wilson and Hilferty 1931), mapped back by the
  factor that holds for a chi-square whose degrees of freedom are read off the sample

Widths are medians of ``log(high / low)``; an interval that reaches zero has none ("inf").

Then it takes the probes themselves to small nets, 200 seeds each, and looks how often the interval
of every stage holds this very net's value, from a float64 Jacobian computed entry by entry. A
singular value's upper bound holds for every matrix, so it holds more often than its 95%.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gradaudit.linalg.intervals import log_ratio_interval, student_quantile
from gradaudit.probes.forward_gain import measure_forward_gain
from gradaudit.probes.growth import measure_growth
from gradaudit.probes.singular_values import measure_singular_values
from gradaudit.records import Estimate
from gradaudit.settings import Settings
from tests.jacobians import in_float64, stage_jacobians, through_to_output
from tests.probes.test_growth import NETS
from tests.subjects import opened

Interval = tuple[float, float]  # of log E T
REPEATS = 4000
PROBES = (8, 16, 64)
SPECTRA: dict[str, Tensor] = {
    "rank one": torch.ones(1),
    "one dominant, 200 small": torch.cat([torch.tensor([200.0]), torch.ones(200)]),
    "geometric, ratio 0.7": 0.7 ** torch.arange(40.0),
    "flat, rank 10": torch.ones(10),
    "flat, rank 500": torch.ones(500),
}


def ours(samples: Tensor) -> Interval:
    _, low, high = log_ratio_interval(samples.log())
    return low, high


def student(samples: Tensor) -> Interval:
    m, mean = len(samples), float(samples.mean())
    half = student_quantile(m - 1) * float(samples.std()) / math.sqrt(m)
    return _log(mean - half), _log(mean + half)


def cube_root(samples: Tensor) -> Interval:
    """With ``k`` degrees of freedom ``E T^(1/3) = (E T)^(1/3) (1 - 2 / (9 k))`` or so."""
    m, roots = len(samples), samples ** (1 / 3)
    freedom = max(2 * float(samples.mean()) ** 2 / float(samples.var()), 1.0)
    half = student_quantile(m - 1) * float(roots.std()) / math.sqrt(m)
    centre, factor = float(roots.mean()), 1 - 2 / (9 * freedom)
    return 3 * _log((centre - half) / factor), 3 * _log((centre + half) / factor)


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


METHODS: dict[str, Callable[[Tensor], Interval]] = {
    "ours": ours,
    "Student": student,
    "cube root": cube_root,
}


def simulate(spectrum: Tensor, m: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Coverage in percent and median width of each method."""
    generator = torch.Generator().manual_seed(0)
    weights, truth = spectrum.double(), math.log(float(spectrum.double().sum()))
    hits = dict.fromkeys(METHODS, 0)
    widths: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(repeats):
        z = torch.randn(m, len(weights), generator=generator, dtype=torch.float64)
        samples = z.square() @ weights
        for name, method in METHODS.items():
            low, high = method(samples)
            hits[name] += low <= truth <= high
            widths[name].append(high - low)
    return {n: (100 * hits[n] / repeats, statistics.median(widths[n])) for n in METHODS}


class Coverage:
    """How often intervals held the truth, and how wide they were."""

    def __init__(self) -> None:
        self.inside, self.widths = 0, list[float]()

    def add(self, estimate: Estimate | None, truth: float, rounding: float = 1e-5) -> None:
        if estimate is None or estimate.low is None or estimate.high is None:
            raise ValueError("nothing was measured")
        slack = rounding * truth
        self.inside += estimate.low - slack <= truth <= estimate.high + slack
        self.widths.append(_log(estimate.high) - _log(estimate.low))

    def __str__(self) -> str:
        share = 100 * self.inside / len(self.widths)
        return f"{share:8.1f}{statistics.median(self.widths):8.3f}"


def of_nets(name: str, effort: str, seeds: int) -> dict[str, Coverage]:
    """Coverage of every interval of one net, all stages together."""
    build, shape = NETS[name]
    layers = build()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(8))
    jacobians = stage_jacobians(in_float64(layers), x)
    chain = through_to_output(jacobians)
    squares = [*(float(j.square().sum()) for j in chain), float(chain[-1].shape[0])]
    ahead = [torch.eye(x.numel(), dtype=torch.float64)]
    for jacobian in jacobians:
        ahead.append(jacobian @ ahead[-1])
    arrived = [float(product.square().sum()) for product in ahead]
    tops = [float(torch.linalg.svdvals(j)[0]) for j in [*jacobians, chain[1]]]
    subject = opened(nn.Sequential(*layers), x)
    kinds = ("Jacobian norm", "backward gain", "forward gain", "top singular value")
    found = {kind: Coverage() for kind in kinds}
    for seed in range(1000, 1000 + seeds):
        settings = Settings(effort=effort, seed=seed)  # type: ignore[arg-type]
        growth = measure_growth(subject, settings)
        forward, _ = measure_forward_gain(subject, growth, settings)
        rows, trunk, _ = measure_singular_values(subject, growth, settings, cheap=True)
        for i, (row, pushed) in enumerate(zip(rows, forward, strict=True)):
            norm = row.jacobian_norm_log10
            if norm is not None and norm.low is not None and norm.high is not None:
                low, high = 10 ** (2 * norm.low), 10 ** (2 * norm.high)
                norm = Estimate(10 ** (2 * norm.value), low, high, "squared norm")
            found["Jacobian norm"].add(norm, squares[i])
            found["backward gain"].add(row.backward_gain, squares[i] / squares[i + 1])
            found["forward gain"].add(pushed.forward_gain, arrived[i + 1] / arrived[i])
            found["top singular value"].add(row.top_singular_values[0], tops[i])
        found["top singular value"].add(trunk.top_singular_values[0], tops[-1])
    return found


def report_nets(seeds: int = 200) -> None:
    for effort in ("standard", "thorough"):
        budget = Settings(effort=effort).budget  # type: ignore[arg-type]
        print(
            f"\n{effort}: {budget.probes} cotangents, {budget.tangents} tangents, {seeds} seeds; "
            "coverage in %, median log(high / low)"
        )
        for name in NETS:
            found = of_nets(name, effort, seeds)
            cells = "  ".join(f"{kind}{coverage}" for kind, coverage in found.items())
            print(f"{name:14}{cells}", flush=True)


def main() -> int:
    torch.set_num_threads(1)
    error = 100 * math.sqrt(0.95 * 0.05 / REPEATS)
    print(f"coverage in % (standard error {error:.2f}), then median width of log E T")
    print(f"{'spectrum':26}{'m':>4}" + "".join(f"{name:>18}" for name in METHODS))
    covered = []
    for label, spectrum in SPECTRA.items():
        for m in PROBES:
            found = simulate(spectrum, m, REPEATS)
            cells = "".join(f"{found[n][0]:10.1f}{found[n][1]:8.3f}" for n in METHODS)
            print(f"{label:26}{m:4}{cells}", flush=True)
            covered.append((m, found["ours"][0]))
    for m in PROBES:
        mine = [coverage for probes, coverage in covered if probes == m]
        print(f"ours with {m} probes: {min(mine):.1f} to {max(mine):.1f}%")
    report_nets()
    return 0


if __name__ == "__main__":
    sys.exit(main())
