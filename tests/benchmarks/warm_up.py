"""What do a warm-up and a cosine do for rates that are too high? Behind the warm-up's remedy.

``python -m tests.benchmarks.warm_up`` trains post-norm residual nets of 20 blocks for 600 steps of
Adam at three rates: as it is, with a warm-up over a tenth of the steps, with a cosine to zero
besides, and at lower rates. It prints how far the loss went from the best constant prediction's (1)
to what the task allows (0).
"""

from __future__ import annotations

import math
import statistics
import sys

import torch
from torch.nn import functional as F

from gradaudit.probes.outlook import scheduled
from gradaudit.records import Recipe
from tests.benchmarks.growth_limits import residual, task
from tests.benchmarks.train_samples import bounds

BLOCKS, STEPS, WINDOW, RATES = 20, 600, 16, (1e-3, 3e-3, 1e-2)


def outcome(recipe: Recipe) -> float:
    """Where the loss ends, from 1 (a constant prediction's) to 0 (what the task allows)."""
    x, y = task("teacher")
    constant, floor = bounds(x, y)
    torch.manual_seed(0)
    net = residual(BLOCKS, "post")
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.lr or 0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: scheduled(recipe, step))
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(STEPS):
        rows = torch.randint(len(x), (32,), generator=generator)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            return math.inf
    return (statistics.fmean(losses[-WINDOW:]) - floor) / (constant - floor)


def main() -> int:
    torch.set_num_threads(1)
    print("    rate   as it is    warm-up  and cosine     rate/3    rate/10")
    for rate in RATES:
        plain = Recipe("adam", rate, steps=STEPS)
        ways = (
            plain,
            Recipe("adam", rate, warmup=STEPS // 10, steps=STEPS),
            Recipe("adam", rate, warmup=STEPS // 10, steps=STEPS, schedule="cosine"),
            Recipe("adam", rate / 3, steps=STEPS),
            Recipe("adam", rate / 10, steps=STEPS),
        )
        print(f"{rate:8g}" + "".join(f"{outcome(way):11.2f}" for way in ways), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
