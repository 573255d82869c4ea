"""Nets that look odd and train: an audit must not fail them. Each is trained here as the proof."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradaudit

SETTINGS = gradaudit.Settings(effort="quick", threads=1)


def plain(depth: int, phi: Callable[[], nn.Module]) -> nn.Sequential:
    """torch's default start, which shrinks the gradient by 6 (in squares) at each ReLU layer."""
    layers: list[nn.Module] = [nn.Linear(32, 64), phi()]
    for _ in range(depth - 1):
        layers += [nn.Linear(64, 64), phi()]
    return nn.Sequential(*layers, nn.Linear(64, 3))


class Residual(nn.Module):
    """Branches without a norm: the squared gradient grows at every block."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(32, 64), nn.Linear(64, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)) for _ in range(10)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = x + block(x)
        return self.leave(x)


def zero_head(net: nn.Sequential) -> nn.Module:
    """The customary start of a last layer: the loss begins at chance, the first step opens it."""
    for parameter in net[-1].parameters():
        nn.init.zeros_(parameter)
    return net


NETS: dict[str, Callable[[], nn.Module]] = {
    "a last layer of zeros": lambda: zero_head(plain(3, nn.ReLU)),
    "8 ReLU layers, default start": lambda: plain(8, nn.ReLU),
    "4 sigmoid layers": lambda: plain(4, nn.Sigmoid),
    "10 residual blocks without norm": Residual,
}


@pytest.mark.parametrize("name", NETS)
def test_a_net_that_trains_does_not_fail(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(512, 32)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    net = NETS[name]()

    def adam(parameters: object) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=1e-3)  # type: ignore[arg-type]

    report = gradaudit.audit(net, (x, y), loss="cross_entropy", optimizer=adam, settings=SETTINGS)
    assert report.verdict in ("pass", "warn"), report.cause
    optimizer = adam(net.parameters())
    for _ in range(500):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.25  # a constant guess costs 1.04


def test_vanishing_before_a_zero_head_is_found() -> None:
    torch.manual_seed(0)
    net = zero_head(plain(20, nn.ReLU))
    x = torch.randn(512, 32)
    report = gradaudit.audit(
        net,
        (x, (x[:, 0] > 0).long()),
        loss="cross_entropy",
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
        settings=SETTINGS,
    )
    assert report.verdict == "fail"
    assert {"GA102", "GA302"} <= {f.code for f in report.findings if f.severity == "fail"}


def test_an_optimizer_that_takes_no_single_steps_is_not_rehearsed() -> None:
    net = nn.Linear(4, 1)
    x = torch.randn(64, 4)
    report = gradaudit.audit(
        net,
        (x, x[:, :1]),
        loss="mse",
        optimizer=lambda p: torch.optim.LBFGS(p, lr=1.0),
        settings=SETTINGS,
    )
    assert report.measurements.rehearsal is None
    assert any("several times a step" in gap.why for gap in report.not_measured)


def test_two_layers_of_zeros_are_named() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(64, 4)
    report = gradaudit.audit(net, (x, (x[:, 0] > 0).long()), settings=SETTINGS)
    assert report.verdict == "fail"
    assert any(f.code == "GA302" and "all zero" in f.why for f in report.findings)
