"""Scale the last weight of each residual branch, or zero it? Behind two remedies.

``python -m tests.benchmarks.branch_starts`` trains residual nets of 10 and 40 blocks without a norm
from three starts: as drawn (He), the last weight of each of ``L`` branches times ``1 / sqrt(L)``
(Hanin and Rolnick 2018, arXiv 1803.01719), and zeroed (Fixup, Zhang et al. 2019, arXiv 1901.09321).
It prints, a line for each recipe, how far the loss went from the best constant prediction's (1) to
what the task allows (0); ``inf`` where a run broke.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from tests.benchmarks.growth_limits import Residual, residual, task
from tests.benchmarks.train_samples import bounds

BLOCKS, STEPS, SEEDS, WINDOW = (10, 40), 200, (0,), 16
RECIPES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd 0.01": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum 0.01": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "adam 1e-4": lambda p: torch.optim.Adam(p, lr=1e-4),
    "adam 1e-3": lambda p: torch.optim.Adam(p, lr=1e-3),
}
STARTS: dict[str, Callable[[int], float]] = {
    "as drawn": lambda blocks: 1.0,
    "scaled": lambda blocks: blocks**-0.5,
    "zeroed": lambda blocks: 0.0,
}


def outcome(blocks: int, recipe: str, start: str, seed: int) -> float:
    """Where the loss ends, from 1 (a constant prediction's) to 0 (what the task allows)."""
    x, y = task("teacher")
    constant, floor = bounds(x, y)
    torch.manual_seed(seed)
    net = residual(blocks, "none")
    for block in net.modules():
        if isinstance(block, Residual):
            with torch.no_grad():
                block.down.weight.mul_(STARTS[start](blocks))
                if start == "zeroed":
                    nn.init.zeros_(block.down.bias)
    optimizer = RECIPES[recipe](net.parameters())
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(STEPS):
        rows = torch.randint(len(x), (32,), generator=generator)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            return math.inf
    return (statistics.fmean(losses[-WINDOW:]) - floor) / (constant - floor)


def main() -> int:
    torch.set_num_threads(1)
    print(f"{'blocks':>6}  {'recipe':14}" + "".join(f"{start:>10}" for start in STARTS))
    for blocks in BLOCKS:
        for recipe in RECIPES:
            ends = [
                statistics.fmean(outcome(blocks, recipe, start, seed) for seed in SEEDS)
                for start in STARTS
            ]
            shown = "".join(f"{end:10.2f}" for end in ends)
            print(f"{blocks:6}  {recipe:14}{shown}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
