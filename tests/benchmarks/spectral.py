"""Spectral norms beside their peers, in one run: GPT-2's weights and a ResNet-50's convolutions.

``python -m tests.benchmarks.spectral [gpt2] [resnet]`` takes

- all weights of GPT-2 small (124M, random from its config, then with a spectrum that falls as
  ``1 / rank`` added to each, as trained weights have it), and times
  ``gradaudit.probes.weights.measure_weights`` with everything else its rows say, against
  ``torch.linalg.svdvals`` in the weights' own precision and ``weightwatcher``'s ``analyze()``
  (``pip install --target DIR weightwatcher`` and add DIR to PYTHONPATH; left out where missing).
  Errors are against eigenvalues of float64 Gram matrices;
- every distinct convolution of a ResNet-50 on 224 x 224, against 100 power iterations on the same
  operator. Errors are against ARPACK on the float64 operator.

CPU time, one thread, ours the median of three runs before and after the peer's. Ends in 1 where it
is not 8 times as fast as svdvals, 10 times as weightwatcher, faster and closer than power
iteration, or where a value is off by more than 1e-3 (1e-2 for convolutions) or an interval misses.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

from gradaudit.probes.weights import measure_weights
from gradaudit.records import WeightRow
from gradaudit.settings import Settings

LARGEST_ERROR = {"gpt2": 1e-3, "resnet": 1e-2}


def seconds(run: Callable[[], Any]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def beside(ours: Callable[[], Any], peer: Callable[[], Any]) -> tuple[float, float]:
    """CPU seconds of both; ours runs on either side of the peer."""
    mine = [seconds(ours) for _ in range(3)]
    theirs = seconds(peer)
    return statistics.median(mine + [seconds(ours) for _ in range(3)]), theirs


def holds(row: WeightRow, truth: float) -> bool:
    estimate = row.spectral_norm
    assert estimate is not None
    high = float("inf") if estimate.high is None else estimate.high
    return (estimate.low or 0.0) <= truth * (1 + 1e-12) and truth * (1 - 1e-12) <= high


def value(row: WeightRow) -> float:
    assert row.spectral_norm is not None
    return row.spectral_norm.value


# GPT-2


def falling(weight: Tensor, generator: torch.Generator) -> None:
    """Add singular values of about ``1 / rank``, the first 10, to ``weight``."""
    rank = 64
    left = torch.randn(weight.shape[0], rank, generator=generator) / weight.shape[0] ** 0.5
    right = torch.randn(weight.shape[1], rank, generator=generator) / weight.shape[1] ** 0.5
    weight += 10 * (left / torch.arange(1.0, rank + 1)) @ right.T


def exact(row: WeightRow, weight: Tensor) -> float:
    """Largest row norm of an embedding, largest singular value of anything else."""
    wide = weight.double()
    if row.kind == "embedding":
        return float(torch.linalg.vector_norm(wide, dim=1).max())
    small = wide if wide.shape[0] <= wide.shape[1] else wide.T
    return float(torch.linalg.eigvalsh(small @ small.T)[-1]) ** 0.5


def peers(model: nn.Module) -> dict[str, tuple[Callable[[], Any], float]]:
    """By name: the run, and how many times as fast ours has to be."""
    weights = [p.detach() for p in model.parameters() if p.dim() >= 2]

    def svdvals() -> None:
        for weight in weights:
            torch.linalg.svdvals(weight)

    found: dict[str, tuple[Callable[[], Any], float]] = {"svdvals": (svdvals, 8.0)}
    try:
        weightwatcher = importlib.import_module("weightwatcher")
    except ImportError:
        print("weightwatcher is missing: pip install --target DIR weightwatcher; PYTHONPATH=DIR")
        return found
    logging.getLogger("weightwatcher").setLevel(logging.ERROR)
    watcher = weightwatcher.WeightWatcher(model=model)

    def analyze() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            watcher.analyze()

    found["weightwatcher"] = (analyze, 10.0)
    return found


def gpt2() -> bool:
    """Print times, ratios and errors over all weights; whether they are as good as claimed."""
    transformers = importlib.import_module("transformers")
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    settings, good = Settings(), True

    def ours() -> None:
        measure_weights(model, {}, {}, settings)

    ours()
    for name, (run, wanted) in peers(model).items():
        mine, theirs = beside(ours, run)
        good = good and theirs >= wanted * mine
        print(f"GPT-2: ours {mine:.2f} s, {name} {theirs:.2f} s: {theirs / mine:.1f} times as fast")
    generator = torch.Generator().manual_seed(1)
    for kind in ("random", "falling"):
        rows = measure_weights(model, {}, {}, settings)[0]
        truths = [exact(row, model.get_parameter(row.parameter).detach()) for row in rows]
        worst = max(abs(value(row) / truth - 1) for row, truth in zip(rows, truths, strict=True))
        held = sum(holds(row, truth) for row, truth in zip(rows, truths, strict=True))
        print(f"GPT-2, {kind}: largest error {worst:.1e}; {held} of {len(rows)} intervals hold")
        good = good and worst <= LARGEST_ERROR["gpt2"] and held == len(rows)
        with torch.no_grad():
            for row in rows:
                falling(model.get_parameter(row.parameter), generator)
    return good


# ResNet-50


@dataclass(frozen=True)
class Layer:
    """A convolution of a ResNet-50 on the size it sees."""

    inputs: int
    outputs: int
    taps: int
    stride: int
    size: int

    def module(self) -> nn.Conv2d:
        pad = self.taps // 2
        made = nn.Conv2d(self.inputs, self.outputs, self.taps, self.stride, pad, bias=False)
        nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
        return made


def layers() -> list[Layer]:
    """The distinct convolutions of He et al.'s ResNet-50 (stride in the 3 x 3) on 224 x 224."""
    found = {Layer(3, 64, 7, 2, 224): None}
    inputs, size = 64, 56
    for width in (64, 128, 256, 512):
        stride = 1 if width == 64 else 2
        for layer in (
            Layer(inputs, width, 1, 1, size),
            Layer(width, width, 3, stride, size),
            Layer(width, 4 * width, 1, 1, size // stride),
            Layer(inputs, 4 * width, 1, stride, size),
            Layer(4 * width, width, 1, 1, size // stride),
            Layer(width, width, 3, 1, size // stride),
        ):
            found[layer] = None
        inputs, size = 4 * width, size // stride
    return list(found)


def both_ways(layer: Layer, weight: Tensor) -> tuple[Callable[[Tensor], Tensor], int]:
    """``A^T A`` of the convolution on flat inputs, in ``weight``'s precision, and its size."""
    shape = (1, layer.inputs, layer.size, layer.size)
    pad, end = layer.taps // 2, (layer.size + 2 * (layer.taps // 2) - layer.taps) % layer.stride

    def product(x: Tensor) -> Tensor:
        y = nn.functional.conv2d(x.reshape(shape), weight, None, layer.stride, pad)
        back = nn.functional.conv_transpose2d(y, weight, None, layer.stride, pad, end)
        return back.flatten()

    return product, layer.inputs * layer.size**2


def power_iteration(layer: Layer, weight: Tensor) -> float:
    product, size = both_ways(layer, weight)
    x = torch.randn(size, generator=torch.Generator().manual_seed(0))
    norm = 0.0
    for _ in range(100):
        y = product(x / x.norm())
        norm, x = float(y.norm()) ** 0.5, y
    return norm


def arpack(layer: Layer, weight: Tensor) -> float:
    product, size = both_ways(layer, weight.double())
    operator = LinearOperator(
        (size, size), matvec=lambda x: product(torch.tensor(x).flatten()).numpy(), dtype="float64"
    )
    values = eigsh(operator, k=1, ncv=24, tol=1e-7, return_eigenvectors=False)
    return float(values[0]) ** 0.5


def resnet() -> bool:
    """Print times and errors by convolution; whether ours is faster and closer, and holds."""
    totals, worst, held = [0.0, 0.0], [0.0, 0.0], True
    torch.manual_seed(0)
    settings = Settings()
    print(f"{'convolution':34}{'s':>7}{'power, s':>10}{'error':>10}{'power':>10}{'width':>10}")
    for layer in layers():
        module = layer.module()
        weight, sizes = module.weight.detach(), {"": (layer.size,) * 2}
        begun = time.process_time()
        (row,), _ = measure_weights(module, sizes, {}, settings)
        between = time.process_time()
        powered = power_iteration(layer, weight)
        times = (between - begun, time.process_time() - between)
        with torch.no_grad():
            truth = arpack(layer, weight)
        errors = (abs(value(row) / truth - 1), abs(powered / truth - 1))
        totals = [total + spent for total, spent in zip(totals, times, strict=True)]
        worst = [max(pair) for pair in zip(worst, errors, strict=True)]
        estimate = row.spectral_norm
        assert estimate is not None
        assert estimate.high is not None
        held = held and (estimate.low or 0.0) <= truth * (1 + 1e-6) <= estimate.high * (1 + 2e-6)
        name = f"{layer.outputs}x{layer.inputs}x{layer.taps}x{layer.taps}"
        print(
            f"{f'{name} / {layer.stride} on {layer.size}':34}{times[0]:7.2f}{times[1]:10.2f}"
            f"{errors[0]:10.1e}{errors[1]:10.1e}{estimate.high / truth - 1:10.1e}",
            flush=True,
        )
    print(f"ResNet-50: {totals[1] / totals[0]:.1f} times as fast as 100 power iterations; ", end="")
    print(f"largest error {worst[0]:.1e}, theirs {worst[1]:.1e}; intervals hold: {held}")
    good = worst[0] <= LARGEST_ERROR["resnet"] and worst[0] <= worst[1]
    return held and good and totals[0] < totals[1]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.spectral")
    parts = {"gpt2": gpt2, "resnet": resnet}
    parser.add_argument("parts", nargs="*", metavar="PART", help=" or ".join(parts))
    chosen = parser.parse_args(arguments).parts or list(parts)
    torch.set_num_threads(1)
    good = [parts[part]() for part in chosen]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
