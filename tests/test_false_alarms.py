"""Nets that look odd and train: an audit must not fail them. Each is trained here as the proof."""

from __future__ import annotations

import copy
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


class LastStep(nn.Module):
    """What a recurrent layer says at the last step."""

    def __init__(self, layer: nn.RNN) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(layer.hidden_size, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)[0][-1])


def small_mlp(depth: int) -> nn.Module:
    layers = [m for _ in range(depth) for m in (nn.Linear(16, 16), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(16, 1))


WITHOUT_RECIPE = [
    *(("rnn", seed) for seed in (1, 3, 10)),
    *(("mlp", seed) for seed in (2, 6, 22, 26)),
    ("long rnn", 2),
]


@pytest.mark.parametrize(("kind", "seed"), WITHOUT_RECIPE)
def test_the_tools_own_rate_fails_no_sound_model(kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    if kind == "mlp":
        net = small_mlp([2, 4, 8, 3][seed % 4])
        x = torch.randn([4, 16, 64][seed % 3], 16)
        y = x[:, :1] + 0.1 * torch.randn(len(x), 1)
    elif kind == "rnn":
        net = LastStep(nn.RNN(3, 12, nonlinearity="relu"))
        x, _, y = torch.randn(20, 4, 3), torch.randn(4, 1), torch.randn(4, 1)
    else:
        net, x, y = LastStep(nn.RNN(3, 6)), torch.randn(60, 3, 3), torch.randn(3, 1)
    report = gradaudit.audit(net, (x, y), loss="mse", settings=gradaudit.Settings(threads=1))
    assert report.verdict in ("pass", "warn"), report.cause
    assert report.forecast.outcome == "trains"
    assert report.prescription is not None
    rate = report.prescription.recipe["lr"]
    assert isinstance(rate, float)
    for lr in (1e-3, rate):  # what anybody would start with, and what is prescribed
        trained = copy.deepcopy(net)
        optimizer = torch.optim.AdamW(trained.parameters(), lr=lr)
        losses = []
        for _ in range(300):
            optimizer.zero_grad()
            loss = F.mse_loss(trained(x), y)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert min(losses[-10:]) < 0.5 * float(y.var(unbiased=False)), lr


def pixels(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey values as a file holds them, 0 to 255, and which of four directions they lie in."""
    x = torch.randn(256, 16)
    return 255 * x.sigmoid().reshape(256, *shape), (x @ torch.randn(16, 4)).argmax(1)


def pixel_cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 4)),
    )


def pixel_mlp() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    )


@pytest.mark.parametrize(
    ("make", "shape", "severity"), [(pixel_cnn, (1, 4, 4), "note"), (pixel_mlp, (16,), "warn")]
)
def test_raw_pixels_that_adam_trains_on_do_not_fail(
    make: Callable[[], nn.Module], shape: tuple[int, ...], severity: str
) -> None:
    torch.manual_seed(0)
    (x, y), net = pixels(shape), make()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    batches = list(zip(x.split(32), y.split(32), strict=True))
    settings = gradaudit.Settings(threads=1)
    report = gradaudit.audit(
        net, batches, loss="cross_entropy", optimizer=optimizer, settings=settings
    )
    assert [f.severity for f in report.findings if f.code == "GA501"] == [severity]
    assert report.verdict in ("pass", "warn"), report.cause
    for step in range(400):
        rows, target = batches[step % 8]
        optimizer.zero_grad()
        F.cross_entropy(net(rows), target).backward()
        optimizer.step()
    with torch.no_grad():
        assert float(F.cross_entropy(net(x), y)) < 0.1


class Reader(nn.Module):
    """Two LSTM layers, and a head on the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.tell = nn.LSTM(4, 32, 2, batch_first=True), nn.Linear(32, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tell(self.read(x)[0][:, -1])


def test_a_plateau_that_a_high_rate_leaves_does_not_fail() -> None:
    """Its range test of 12 rates puts the ceiling at 0.23, and the rehearsal stays flat."""
    x = torch.randn(128, 20, 4, generator=torch.Generator().manual_seed(0))
    batches = list(zip(x.split(32), (x[:, :, 0].mean(1) > 0).long().split(32), strict=True))
    torch.manual_seed(0)
    net = Reader()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    settings = gradaudit.Settings(threads=1)
    report = gradaudit.audit(
        net, batches, loss="cross_entropy", optimizer=optimizer, settings=settings
    )
    assert report.verdict in ("pass", "warn"), report.cause
    for step in range(400):
        rows, target = batches[step % 4]
        optimizer.zero_grad()
        F.cross_entropy(net(rows), target).backward()
        optimizer.step()
    with torch.no_grad():
        assert float(F.cross_entropy(net(batches[0][0]), batches[0][1])) < 0.05


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
