"""How strong may weight decay be before nothing is learned? The experiment behind its limits.

``python -m tests.benchmarks.weight_decay`` trains small nets for 1,000 steps with SGD, momentum,
Adam and AdamW under decays of 1e-4 to 30. For each it prints what the rule would measure at the
start and how much of the fall that training has without decay is left: 1 all of it, 0 none.

Measured is the decay over the loss's own pull. Where decay is part of the gradient (SGD, Adam) that
is ``decay * ||w|| / ||g||``. AdamW's decay works beside steps of about the rate in every entry, so
there it is ``decay * rms(w)``. At the end it prints between which values nets stop training.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS, WINDOW, WIDTH = 1000, 20, 64
DECAYS = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
Make = Callable[[list[nn.Parameter], float], torch.optim.Optimizer]
RECIPES: dict[str, Make] = {
    "sgd": lambda p, decay: torch.optim.SGD(p, lr=0.1, weight_decay=decay),
    "momentum": lambda p, decay: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=decay),
    "adam": lambda p, decay: torch.optim.Adam(p, lr=1e-3, weight_decay=decay),
    "adamw": lambda p, decay: torch.optim.AdamW(p, lr=1e-3, weight_decay=decay),
    "adamw 1e-2": lambda p, decay: torch.optim.AdamW(p, lr=1e-2, weight_decay=decay),
}


class PreNorm(nn.Module):
    """Four blocks x + f(norm(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(16, WIDTH), nn.Linear(WIDTH, 4)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH)),
                *(nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)),
            )
            for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = x + block(x)
        return self.leave(x)


def mlp(
    phi: type[nn.Module], depth: int, out: int = 4, width: int = WIDTH, *, he: bool = False,
    norm: bool = False,
) -> nn.Module:  # fmt: skip
    layers: list[nn.Module] = []
    for i in range(depth):
        layer = nn.Linear(width if i else 16, width)
        if he:
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        layers += [layer, *([nn.BatchNorm1d(width)] if norm else []), phi()]
    return nn.Sequential(*layers, nn.Linear(width, out))


def cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4)),
    )


NETS: dict[str, Callable[[], nn.Module]] = {
    "ReLU x3": lambda: mlp(nn.ReLU, 3),
    "tanh x3, regression": lambda: mlp(nn.Tanh, 3, 1),
    "ReLU x6, He": lambda: mlp(nn.ReLU, 6, he=True),
    "ReLU x2, He, 512 wide": lambda: mlp(nn.ReLU, 2, width=512, he=True),
    "CNN x2": cnn,
    "BatchNorm x4": lambda: mlp(nn.ReLU, 4, norm=True),
    "pre-norm residual x4": PreNorm,
}


def task(out: int) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor], float]:
    """512 samples of a teacher, the loss, and what a constant prediction costs."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 16, generator=generator)
    z = x @ torch.randn(16, out, generator=generator)
    if out == 1:
        y = torch.tanh(z / 2)
        return x, y, F.mse_loss, float(y.var(unbiased=False))
    y = z.argmax(1)
    shares = torch.bincount(y) / len(y)
    return x, y, F.cross_entropy, float(-(shares * shares.log()).sum())


def trained(name: str, recipe: str, decay: float) -> tuple[float, float]:
    """What the rule would measure at the start, and the share of the loss that training took."""
    torch.manual_seed(0)
    net = NETS[name]()
    x, y, criterion, constant = task(1 if "regression" in name else 4)
    weights = list(net.parameters())
    criterion(net(x), y).backward()
    size = math.sqrt(sum(float(w.detach().square().sum()) for w in weights))
    pull = math.sqrt(sum(float(w.grad.square().sum()) for w in weights if w.grad is not None))
    if "adamw" in recipe:
        pull = math.sqrt(sum(w.numel() for w in weights))
    optimizer = RECIPES[recipe](weights, decay)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(STEPS):
        rows = torch.randint(len(x), (32,), generator=generator)
        optimizer.zero_grad()
        loss = criterion(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            return decay * size / pull, 0.0
    return decay * size / pull, 1 - statistics.fmean(losses[-WINDOW:]) / constant


def main() -> int:
    torch.set_num_threads(1)
    names = sys.argv[1:] or list(NETS)
    ends: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    print("net                    recipe     " + "".join(f"{decay:>14g}" for decay in DECAYS))
    for name in names:
        for recipe in RECIPES:
            _, best = trained(name, recipe, 0.0)
            row = []
            for decay in DECAYS:
                measured, share = trained(name, recipe, decay)
                left = max(0.0, share / best)
                row.append(f"{measured:8.2g}: {left:4.2f}")
                ends["adamw" in recipe].append((measured, left))
            print(f"{name:22} {recipe:10} " + "".join(row), flush=True)
    for decoupled, found in ends.items():
        kept = max((m for m, left in found if left > 0.5), default=0.0)
        lost = min((m for m, left in found if left <= 0.5), default=math.inf)
        print(
            f"{'AdamW' if decoupled else 'in the gradient'}: over half of the fall is left up to "
            f"{kept:.3g}, less from {lost:.3g}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
