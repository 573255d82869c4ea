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
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from gradaudit.linalg.intervals import log_ratio_interval, student_quantile

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
    return 0


if __name__ == "__main__":
    sys.exit(main())
