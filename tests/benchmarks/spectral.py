"""Time and error of the spectral norms on weights of GPT-2's shapes, beside a full SVD.

``python -m tests.benchmarks.spectral`` builds one weight of each shape that GPT-2 small has (random
at std 0.02, and with a spectrum that falls as ``1 / rank``, as trained weights' do) and compares
``gradaudit.probes.weights.measure_weights`` with ``torch.linalg.svdvals`` in float64: CPU time as a
ratio within the run, the largest relative error of the value, and whether the interval holds the
truth. What the rows say besides (Frobenius norm, initialization, ...) is in the time. The embedding
is measured as the largest row norm, its norm for one-hot inputs, so it has no SVD beside it.
"""

from __future__ import annotations

import functools
import statistics
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from gradaudit.probes.weights import measure_weights
from gradaudit.settings import BUDGETS, Settings

T = TypeVar("T")
SHAPES = {  # (out, in)
    "attention, q k v": (2304, 768),
    "attention, output": (768, 768),
    "feed-forward, up": (3072, 768),
    "feed-forward, down": (768, 3072),
    "positions": (1024, 768),
    "vocabulary": (50257, 768),
}
EMBEDDINGS = ("positions", "vocabulary")


def random(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator) * 0.02


def falling(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Singular values about ``1 / rank``, on top of the random ones."""
    rank = 64
    left = torch.randn(shape[0], rank, generator=generator) / shape[0] ** 0.5
    right = torch.randn(shape[1], rank, generator=generator) / shape[1] ** 0.5
    return random(shape, generator) + 10 * (left / torch.arange(1.0, rank + 1)) @ right.T


def module(name: str, weight: Tensor) -> nn.Module:
    made: nn.Embedding | nn.Linear
    if name in EMBEDDINGS:
        made = nn.Embedding(*weight.shape)
    else:
        made = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    made.weight.data = weight
    return made


def exact(name: str, weight: Tensor) -> float:
    if name in EMBEDDINGS:
        return float(torch.linalg.vector_norm(weight.double(), dim=1).max())
    return float(torch.linalg.svdvals(weight.double())[0])


def timed(run: Callable[[], T]) -> tuple[float, T]:
    """Median CPU seconds of three runs, and what the last returned."""
    seconds = []
    for _ in range(3):
        begun = time.process_time()
        result = run()
        seconds.append(time.process_time() - begun)
    return statistics.median(seconds), result


def timed_norms(made: nn.Module, settings: Settings) -> tuple[float, float, float, float]:
    """CPU seconds, and the norm with its bounds."""
    seconds, (rows, _) = timed(lambda: measure_weights(made, {}, {}, settings))
    estimate = rows[0].spectral_norm
    assert estimate is not None
    high = float("inf") if estimate.high is None else estimate.high
    return seconds, estimate.value, estimate.low or 0.0, high


def main() -> int:
    torch.set_num_threads(1)
    efforts = [effort for effort in BUDGETS if effort != "thorough"]
    print(f"{'weight':36}{'effort':>10}{'s':>8}{'SVD':>9}{'error':>10}{'width':>9}")
    worst, held, sums = 0.0, True, dict.fromkeys(("SVD", *efforts), 0.0)
    for kind in (random, falling):
        for name, shape in SHAPES.items():
            generator = torch.Generator().manual_seed(0)
            weight = kind(shape, generator)
            made = module(name, weight)
            full, truth = timed(functools.partial(exact, name, weight))
            for effort in efforts:
                settings = Settings(effort=effort)  # type: ignore[arg-type]
                seconds, value, low, high = timed_norms(made, settings)
                error = abs(value / truth - 1)
                if name not in EMBEDDINGS:
                    worst, held = max(worst, error), held and low <= truth <= high
                    sums[effort] += seconds
                beside = "" if name in EMBEDDINGS else f"{full / seconds:8.1f}x"
                print(
                    f"{f'{name} ({kind.__name__})':36}{effort:>10}{seconds:8.3f}{beside:>9}"
                    f"{error:10.1e}{high / low - 1:9.1e}",
                    flush=True,
                )
            sums["SVD"] += 0.0 if name in EMBEDDINGS else full
    for effort in efforts:
        print(f"{effort}: {sums['SVD'] / sums[effort]:.0f} times as fast as all singular values")
    print(f"largest relative error {worst:.1e}; intervals hold the truth: {held}")
    return 0 if held and worst <= 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
