"""Up to which scale of the inputs does Adam train where its rehearsal falls? Behind two limits.

``python -m tests.benchmarks.input_scale`` audits and trains small nets under Adam on inputs
``scale * N(0, 1) + offset`` and prints one line a setting: how many of the nets whose rehearsal
falls without yet beating a constant guess get halfway from that guess to zero in 1,000 steps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gradaudit

STEPS, RATES = 1000, (1e-3, 1e-2)
SETTINGS = ((100, 127), (300, 0), (1000, 0), (3000, 0), (10000, 0), (20, 200), (200, 1000))


def mlp(phi: Callable[[], nn.Module], out: int = 4) -> nn.Module:
    hidden = [m for _ in range(2) for m in (nn.Linear(64, 64), phi())]
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 64), phi(), *hidden, nn.Linear(64, out))


def cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 4)),
    )


NETS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: mlp(nn.ReLU),
    "tanh": lambda: mlp(nn.Tanh),
    "regression": lambda: mlp(nn.ReLU, 1),
    "cnn": cnn,
}


def task(name: str) -> tuple[Tensor, Tensor, str]:
    """256 samples of 16 numbers, and a target that depends on directions in them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 16, generator=generator)
    if name == "regression":
        y = torch.tanh(x @ torch.randn(16, 1, generator=generator) / 4)
        return x.reshape(-1, 1, 4, 4), y, "mse"
    y = (x @ torch.randn(16, 4, generator=generator)).argmax(1)
    return x.reshape(-1, 1, 4, 4), y, "cross_entropy"


def outcome(name: str, scale: float, offset: float, rate: float) -> bool | None:
    """Whether it trains; ``None`` where the rehearsal alone settles it."""
    x, y, loss = task(name)
    batches = list(zip((scale * x + offset).split(32), y.split(32), strict=True))
    torch.manual_seed(0)
    net = NETS[name]()
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    report = gradaudit.audit(net, batches, loss=loss, optimizer=optimizer)
    rehearsal, row = report.measurements.rehearsal, report.measurements.loss
    assert rehearsal is not None
    assert row is not None
    assert row.constant is not None
    if rehearsal.outcome != "falls" or rehearsal.beats_constant:
        return None
    function = F.mse_loss if loss == "mse" else F.cross_entropy
    losses = []
    for step in range(STEPS):
        rows, target = batches[step % 8]
        optimizer.zero_grad()
        value = function(net(rows), target)
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    return sum(losses[-8:]) / 8 < row.constant / 2


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'scale':>8} {'offset':>8}  trained, of those that fell")
    for scale, offset in SETTINGS:
        found = {(n, lr): outcome(n, scale, offset, lr) for n in NETS for lr in RATES}
        judged = {key: trained for key, trained in found.items() if trained is not None}
        failed = ", ".join(f"{n} at {lr:g}" for (n, lr), yes in judged.items() if not yes)
        print(
            f"{scale:8} {offset:8}  {sum(judged.values())} of {len(judged)}  {failed}", flush=True
        )


if __name__ == "__main__":
    main()
