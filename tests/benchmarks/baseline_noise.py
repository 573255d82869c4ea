"""How often one model audited under two seeds is called a regression: the source of tolerances.

``python -m tests.benchmarks.baseline_noise [EFFORT [SEEDS]]`` audits small nets, sound and faulty,
each under 20 seeds: other start weights, other probes, the same data. Every audit is then held
against every other of the same net, in both orders, as ``--baseline`` holds them. Printed are, for
each net, the share of pairs that would end in 1, and in 1 with ``--fail-on warn``; for each metric
the share of pairs past its tolerance, and the tolerance that 99% of the pairs need. Ends in 1 where
1% or more of all pairs of sound nets would.
"""

from __future__ import annotations

import itertools
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import gradaudit
from gradaudit.comparing import compare, snapshot
from gradaudit.comparing.metrics import METRICS
from gradaudit.comparing.scale import Scale
from gradaudit.records import Estimate, FindingChange, MetricChange, Snapshot, exit_code, held
from gradaudit.tolerances import TOLERANCES
from samples import (
    char_transformer,
    exploding_mlp,
    lstm_forecast_scaled,
    sound_cnn,
    vanishing_relu_mlp,
)

Net = tuple[Callable[[int], nn.Module], Callable[[], gradaudit.Subject]]
SEEDS = 20
MOST = 0.01  # share of pairs of sound nets that may be called a regression


def classes(inputs: int, count: int) -> gradaudit.Subject:
    """Batches of 64 of a task of well-kept scale, under Adam; the model is put in by seed."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(320, inputs, generator=generator)
    y = (x @ torch.randn(inputs, count, generator=generator)).argmax(1)
    return gradaudit.Subject(
        nn.Identity(),
        sample=list(zip(x.split(64), y.split(64), strict=True)),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    )


def mlp(
    depth: int, width: int, phi: Callable[[], nn.Module], gain: float, *, norm: bool = False
) -> Callable[[int], nn.Module]:
    """A plain net whose weights are normal with variance gain^2 / fan_in."""

    def model(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for i in range(depth):
            layers.append(nn.Linear(width if i else 16, width))
            layers += [nn.LayerNorm(width), phi()] if norm else [phi()]
        net = nn.Sequential(*layers, nn.Linear(width, 10))
        for module in net.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=gain / module.in_features**0.5)
                nn.init.zeros_(module.bias)
        net[-1].weight.data *= 0.1  # as is customary: the loss starts at chance
        return net

    return model


def _sample(module: Any) -> Net:
    return module.model, module.subject


SOUND: dict[str, Net] = {
    "3 ReLU layers of 32": (mlp(3, 32, nn.ReLU, 2**0.5), lambda: classes(16, 10)),
    "8 ReLU layers of 64": (mlp(8, 64, nn.ReLU, 2**0.5), lambda: classes(16, 10)),
    "6 tanh layers of 16": (mlp(6, 16, nn.Tanh, 1.0), lambda: classes(16, 10)),
    "12 normed ReLU layers of 64": (
        mlp(12, 64, nn.ReLU, 2**0.5, norm=True),
        lambda: classes(16, 10),
    ),
    "sound_cnn": _sample(sound_cnn),
    "lstm_forecast_scaled": _sample(lstm_forecast_scaled),
    "char_transformer": _sample(char_transformer),
}
FAULTY: dict[str, Net] = {
    "exploding_mlp": _sample(exploding_mlp),
    "vanishing_relu_mlp": _sample(vanishing_relu_mlp),
}


def audits(net: Net, effort: Any, seeds: int) -> list[Snapshot]:
    """The model of every seed, audited under that seed on the same data."""
    model, make = net
    subject = make()
    found = []
    for seed in range(seeds):
        report = gradaudit.audit(
            model(seed),
            subject.sample,
            loss=subject.loss,
            optimizer=subject.optimizer,
            settings=gradaudit.Settings(effort=effort, seed=seed, threads=1),
        )
        found.append(snapshot(report))
    return found


def regressions(found: list[Snapshot]) -> tuple[Counter[str], int, int, int]:
    """What is new or worse over all ordered pairs; pairs that end in 1; with warnings; pairs."""
    told: Counter[str] = Counter()
    pairs = fails = warns = 0
    for before, now in itertools.permutations(found, 2):
        comparison = compare(before, now, "", TOLERANCES)
        told.update({_named(each) for each in comparison.regressions})
        pairs += 1
        judged = held("pass", comparison)
        fails += exit_code(judged)
        warns += exit_code(judged, "warn")
    return told, fails, warns, pairs


def _named(change: FindingChange | MetricChange) -> str:
    if isinstance(change, MetricChange):
        return change.metric
    return f"{change.change} {change.known.code}"


def needed(scale: Scale, before: Estimate, now: Estimate) -> float:
    """The least tolerance under which the pair is not called worse."""
    if scale.turn(before, now, 0.0) != "worse":
        return 0.0
    low, high = 0.0, 1.0
    while scale.turn(before, now, high) == "worse" and high < 1e12:
        high *= 2
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if scale.turn(before, now, middle) == "worse" else (low, middle)
    return high


def apart(name: str, scale: Scale, found: list[Snapshot]) -> list[float]:
    """The tolerance that each pair of audits needs of one metric."""
    values = [metric.estimate for each in found if (metric := each.metric(name)) is not None]
    return [needed(scale, one, other) for one, other in itertools.permutations(values, 2)]


def main(effort: str = "quick", seeds: str = str(SEEDS)) -> int:
    """Prints the tables; 1 where sound nets are called regressions too often."""
    torch.set_num_threads(1)
    needs: dict[str, list[float]] = {metric.name: [] for metric in METRICS}
    worse: Counter[str] = Counter()
    total = hits = 0
    for name, net in {**SOUND, **FAULTY}.items():
        found = audits(net, effort, int(seeds))
        told, hit, warned, pairs = regressions(found)
        shares = f"{hit / pairs:7.2%} {warned / pairs:7.2%}"
        print(f"{name:30} {shares}  {dict(told.most_common(6))}", flush=True)
        apart_by = {}
        for metric in METRICS:
            each = apart(metric.name, metric.scale, found)
            if name in SOUND:
                needs[metric.name] += each
            if len(each) > 1:
                apart_by[metric.name] = round(statistics.quantiles(each, n=100)[-1], 3)
        print("    ", apart_by, flush=True)
        if name in SOUND:
            worse.update(told)
            total, hits = total + pairs, hits + hit
    print(f"\n{'metric':24} {'tolerance':>9} {'99%':>9} {'most':>9} {'worse':>8}")
    for metric in METRICS:
        each = needs[metric.name]
        if each:
            limit = TOLERANCES[metric.name].value
            share = worse[metric.name] / len(each)
            high = statistics.quantiles(each, n=100)[-1]
            print(f"{metric.name:24} {limit:9.3g} {high:9.3g} {max(each):9.3g} {share:8.2%}")
    print(f"\n{hits / total:.2%} of {total} pairs of sound nets are called a regression")
    return int(hits / total >= MOST)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
