"""A net exported to ONNX and loaded, against the net itself: time of forward and backward pass.

``python -m tests.benchmarks.onnx_speed [ROUNDS]`` exports a transformer encoder (4 layers of width
256, 128 positions) and an 18-layer residual net (64 x 64 images), at batches of 8, by both of
torch's exporters, and lets the net and what was loaded take turns, on one thread in one process.
CPU time is counted, not the clock's. Every line is the ratio of medians over ROUNDS (15), with a
95% interval from resampling the rounds. Ends in 1 where a ratio is past 1.3.

The newer exporter writes batch norm as in evaluation, so there the net evaluates as well.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from gradaudit.onnx_graph.loading import load_onnx
from tests.onnx_graph.exported import Way, export
from tests.onnx_graph.exported_nets import encoder, resnet

LIMIT = 1.3
ROUNDS = 15
RESAMPLES = 2000
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "transformer encoder": (partial(encoder, 256, 8, 4), (8, 128, 256)),
    "residual net": (partial(resnet, (32, 64, 128, 256), 2, 100), (8, 3, 64, 64)),
}
WAYS = (
    *(Way(new=True, opset=opset, training=False) for opset in (17, 20, 23)),
    *(Way(new=False, opset=opset, training=True) for opset in (17, 20)),
)


def seconds(model: nn.Module, x: Tensor, cotangent: Tensor) -> float:
    """CPU seconds of one forward and backward pass."""
    leaves = [x, *(p for p in model.parameters() if p.requires_grad)]
    begun = time.process_time()
    torch.autograd.grad(model(x), leaves, cotangent, allow_unused=True)
    return time.process_time() - begun


def measure(net: nn.Module, graph: nn.Module, x: Tensor, rounds: int) -> list[tuple[float, float]]:
    """Seconds of the net and of what was loaded, round by round."""
    cotangent = torch.randn_like(net(x))
    for model in (net, graph):  # what only the first run pays
        seconds(model, x, cotangent)
    return [(seconds(net, x, cotangent), seconds(graph, x, cotangent)) for _ in range(rounds)]


def interval(pairs: list[tuple[float, float]]) -> tuple[float, float, float]:
    """The ratio of medians, and the 95% interval of the ratios of resampled rounds."""
    times = np.array(pairs)
    drawn = np.random.default_rng(0).integers(len(times), size=(RESAMPLES, len(times)))
    own, loaded = np.median(times[drawn], axis=1).T
    low, high = np.quantile(loaded / own, [0.025, 0.975])
    own, loaded = np.median(times, axis=0)
    return float(loaded / own), float(low), float(high)


def main(arguments: list[str]) -> int:
    torch.set_num_threads(1)
    rounds = int(arguments[0]) if arguments else ROUNDS
    worst = 0.0
    print(f"{'':22}{'exporter':>9}{'opset':>7}{'net, ms':>10}{'loaded / net':>14}   95%")
    for name, (make, shape) in MODELS.items():
        for way in WAYS:
            torch.manual_seed(0)
            net, x = make().train(way.training), torch.randn(shape, requires_grad=True)
            graph = load_onnx(export(net, (x,), way))
            pairs = measure(net, graph, x, rounds)
            ratio, low, high = interval(pairs)
            own = 1e3 * statistics.median(own for own, _ in pairs)
            word = "new" if way.new else "old"
            print(f"{name:22}{word:>9}{way.opset:>7}{own:>10.1f}{ratio:>14.2f}", end="")
            print(f"   {low:.2f} to {high:.2f}", flush=True)
            worst = max(worst, ratio)
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
