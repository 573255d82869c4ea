"""Convolutions of random shapes against their brute-force matrices: error and interval of each.

``python -m tests.benchmarks.convolutions [COUNT]`` draws COUNT (1,000) modules with hypothesis: one
to three dimensions, all padding modes, strides, dilations, groups, transposed ones; half of them
measured as large maps are (in float32, from a standing wave). Ends in 1 where a value is off by
more than 1%, or an interval misses the truth by more than float64's rounding.
"""

from __future__ import annotations

import statistics
import sys

import torch
from hypothesis import HealthCheck, given, settings

from tests.probes.convolution_shapes import Case, errors, modules

ROUNDING = 1e-9


def main(arguments: list[str]) -> int:
    torch.set_num_threads(1)
    count = int(arguments[0]) if arguments else 1000
    found: list[tuple[float, float, float]] = []

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(modules())
    def draw(case: Case) -> None:
        found.append(errors(case))

    draw()
    values, above, below = (list(column) for column in zip(*found, strict=True))
    outside = sum(max(a, b) > ROUNDING for a, b in zip(above, below, strict=True))
    print(f"{len(found)} convolutions: median error {statistics.median(values):.1e}, ", end="")
    print(f"largest {max(values):.1e}; intervals that miss the truth: {outside}")
    return 0 if max(values) <= 0.01 and outside == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
