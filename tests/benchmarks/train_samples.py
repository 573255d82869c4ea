"""Does each sample do what its docstring says? Train it as its recipe would, and look.

``python -m tests.benchmarks.train_samples [NAME ...]`` trains every sample for 1,000 steps of its
own optimizer on its own batches, on three seeds, and prints where the loss went. "Trains": the loss
gets at least halfway from the best constant prediction to what the task allows, which is 0 for all
of these tasks (the training set can be learned by heart) but the text, where it is the
entropy of the training bigrams, a bar any model that looks at its input passes.

``+ control`` rows are the faulty samples with nothing but the fault taken away: they must train, or
something else than the fault is to blame.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
STEPS, SEEDS = 1000, (0, 1, 2)
TRAINS = {"sound_cnn", "lstm_forecast_scaled", "char_transformer"}


def without_fault(name: str, net: nn.Module) -> nn.Module | None:
    """The net of a faulty sample at a sound start; ``None`` where the fault is not in the net."""
    if name == "delayed_echo_rnn":
        nn.init.orthogonal_(net.rnn.weight_hh_l0)
        return net
    if name not in ("exploding_mlp", "vanishing_relu_mlp"):
        return None
    variance = 1.8 if name == "exploding_mlp" else 2.0
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=(variance / layer.in_features) ** 0.5)
    return net


def load(name: str) -> ModuleType:
    """The sample as a module, by file."""
    spec = importlib.util.spec_from_file_location(name, SAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loss_of(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy for class targets (classes in the last dimension), else the squared error."""
    if target.is_floating_point():
        return F.mse_loss(output, target)
    return F.cross_entropy(output.flatten(0, -2), target.flatten())


def entropy(counts: torch.Tensor) -> float:
    p = counts.double() / counts.sum()
    return float(-(p[p > 0] * p[p > 0].log()).sum())


def bounds(x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Loss of the best constant prediction, and what the task allows."""
    if y.is_floating_point():
        return float(y.double().var(unbiased=False)), 0.0
    constant = entropy(torch.bincount(y.flatten()))
    if y.shape != x.shape:
        return constant, 0.0
    pairs = torch.bincount(x.flatten() * 128 + y.flatten())
    return constant, entropy(pairs) - entropy(torch.bincount(x.flatten()))


def train(made: Any, net: nn.Module) -> tuple[float, float, float]:
    """First loss, mean loss over the last pass through the batches, and ms per step."""
    optimizer = made.optimizer(net.parameters())
    losses: list[float] = []
    start = time.perf_counter()
    for step in range(STEPS):
        x, y = made.sample[step % len(made.sample)]
        optimizer.zero_grad()
        loss = loss_of(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
    taken = 1e3 * (time.perf_counter() - start) / len(losses)
    return losses[0], statistics.fmean(losses[-len(made.sample) :]), taken


def outcome_of(first: float, last: float, constant: float, floor: float) -> str:
    if math.isfinite(last) and last <= (constant + floor) / 2:
        return "trains"
    return "stalls" if last <= 2 * max(first, constant) else "diverges"


def main(names: list[str]) -> int:
    torch.set_num_threads(1)
    wrong = 0
    print(
        f"{'sample':30}{'seed':>5}{'constant':>11}{'task':>7}{'first':>11}{'last':>11}{'ms/step':>9}"
    )
    for name in names or sorted(path.stem for path in SAMPLES.glob("*.py")):
        module = load(name)
        made, arrays = module.subject(), module.data()
        constant, floor = bounds(arrays["x"], arrays["y"])
        for label, seed in [(name, s) for s in SEEDS] + [(f"{name} + control", s) for s in SEEDS]:
            net = module.model(seed)
            if label != name:
                net = without_fault(name, net)
                if net is None:
                    continue
            first, last, taken = train(made, net)
            outcome = outcome_of(first, last, constant, floor)
            wrong += (outcome == "trains") != (name in TRAINS or label != name)
            print(
                f"{label:30}{seed:5}{constant:11.4g}{floor:7.3g}{first:11.4g}{last:11.4g}"
                f"{taken:9.1f}  {outcome}",
                flush=True,
            )
    print(f"{wrong} outcomes other than the sample says")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
