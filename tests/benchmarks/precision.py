"""The half-precision forecast against real half-precision runs, its intervals, and its cost.

``python -m tests.benchmarks.precision`` prints four tables, on the GPU too where there is one:

- overflow: what is forecast beside what the real run made of loss and gradients
- underflow: the share of gradient entries forecast to be zero beside the real share of zeros
- lost updates: how often the interval from a sample of the weights holds what all of them show
- cost: the probe in units of a training step on the same batch
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

from gradaudit.probes._half_updates import first_updates
from gradaudit.probes.half_formats import FP16
from gradaudit.probes.precision import measure_precision
from gradaudit.records import Estimate, Recipe
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from tests.probes.half_runs import Case, gradient_cases, overflow_cases, scaled_error
from tests.probes.lossy import MSE, mlp, opened

SEEDS = 1000
SAMPLES = (500, 2000, 8000)


def moved(case: Case, device: str) -> Case:
    return Case(case.model.to(device), case.x.to(device), case.y.to(device), case.loss)


def overflow(device: str) -> int:
    """Number of cases in which forecast and real run disagree."""
    wrong = 0
    print(f"\noverflow on {device}: forecast | real")
    for name, case in overflow_cases().items():
        here, told = moved(case, device), []
        for pure in (False, True):
            if pure and name == "huge weights":
                continue  # infinite before anything has run: nothing to forecast
            precision, row = here.forecast(torch.float16, pure=pure)
            real = here.run(torch.float16, pure=pure)
            gradients = (row.largest_gradient or 0.0) >= FP16.infinite_from
            forecast = bool(row.overflow_spreads) or gradients
            wrong += forecast == real.finite
            told.append(f"{precision.regime} {forecast!s:5} | {not real.finite!s:5}")
        print(f"  {name:32}{'   '.join(told)}", flush=True)
    return wrong


def underflow(device: str) -> float:
    """Largest difference of the shares."""
    worst = 0.0
    print(f"\nshare of zeros in fp16 gradients on {device}: forecast, real (unscaled); scaled")
    for name in gradient_cases():
        for factor in (1.0, 1e-2, 1e-4, 1e-5, 1e-6):
            case = moved(gradient_cases()[name], device)
            case.loss = scaled_error(factor)
            precision, row = case.forecast(torch.float16, pure=False)
            shares, cells = (row.underflow, row.underflow_scaled), []
            plain = case.run(torch.float32, pure=True).gradients()
            for share, scale in zip(shares, (1.0, precision.loss_scale or 1.0), strict=True):
                assert share is not None
                real = case.run(torch.float16, pure=False, scale=scale).gradients()
                zeros = sum(
                    int(((a != 0) & (b == 0)).sum()) for a, b in zip(plain, real, strict=True)
                )
                found = zeros / sum(int((a != 0).sum()) for a in plain)
                worst = max(worst, abs(found - share.value))
                cells.append(f"{share.value:8.4f}{found:8.4f}")
            print(f"  {name:10}loss x {factor:<8g}{'   '.join(cells)}", flush=True)
    return worst


def lost_updates() -> list[float]:
    """Coverage in percent, by size of the sample."""
    torch.manual_seed(5)
    model, batch = mlp(64, 100, 50), (torch.randn(8, 64), torch.randn(8, 50))
    subject = opened(model, [batch], recipe=Recipe(optimizer="adam", lr=1e-4))

    def lost(seed: int, look_at: int) -> tuple[float, float]:
        with borrowed(model):
            F.mse_loss(model(batch[0]), batch[1]).backward()
            found: Estimate = first_updates(model, subject, seed, look_at=look_at).lost["bf16"]
        assert found.low is not None
        assert found.high is not None
        return found.low, found.high

    low, high = lost(0, 1 << 30)
    print(f"\nlost bf16 updates over {SEEDS} seeds: all weights show [{low:.3f}, {high:.3f}]")
    covered = []
    for count in SAMPLES:
        found = [lost(seed, count) for seed in range(SEEDS)]
        covered.append(100 * sum(a <= low and high <= b for a, b in found) / SEEDS)
        width = statistics.median(b - a for a, b in found)
        print(f"  {count:5} looked at: holds both ends in {covered[-1]:.1f}%, width {width:.3f}")
    return covered


def cost() -> None:
    print("\ncost in training steps (Adam), with the recipe's first step")
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True, norm_first=True)
    nets = {
        "dense, 1.6M weights, batch 128": (
            nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU()),
            torch.randn(128, 512),
        ),
        "12-layer transformer, 4 x 64": (
            nn.TransformerEncoder(layer, 12, enable_nested_tensor=False),
            torch.randn(4, 64, 256),
        ),
    }
    for name, (model, x) in nets.items():
        y = torch.randn_like(model(x))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        steps = []
        for _ in range(4):
            started = time.perf_counter()
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()
            steps.append(time.perf_counter() - started)
        subject = opened(model, [(x, y)], MSE, recipe=Recipe(optimizer="adam", lr=1e-3))
        probes = []
        for _ in range(3):
            started = time.perf_counter()
            measure_precision(subject, Settings())
            probes.append(time.perf_counter() - started)
        print(f"  {name:34}{statistics.median(probes) / statistics.median(steps[1:]):5.2f}")


def main() -> int:
    torch.set_num_threads(1)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    wrong = {device: overflow(device) for device in devices}
    worst = {device: underflow(device) for device in devices}
    covered = lost_updates()
    cost()
    print(f"\noverflow misforecast: {wrong}; largest difference of zeros: {worst}")
    sound = not any(wrong.values()) and all(92 <= each <= 99 for each in covered)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
