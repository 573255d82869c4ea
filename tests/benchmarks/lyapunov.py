"""Lyapunov exponents against known values, and how often their 95% intervals hold the truth.

``python -m tests.benchmarks.lyapunov`` prints two tables. First maps whose exponents are known:
closed forms, and random tanh networks ``h' = tanh(g W h)`` (mean over networks, with its standard
error; asked for within 5%). Then nets driven by noise: over 200 samples the share of intervals that
hold the truth. An interval speaks of the long run, and is held against one long run of the same net
on other noise, or, where it says "over these N steps", of the mean over sequences of that length,
and is held against 1,000 of them.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradaudit.linalg.lyapunov import Exponents, burn_in, exponents, random_frame, stretches
from gradaudit.probes.lyapunov import SEQUENCES, layer_dynamics
from gradaudit.probes.time_packed import Call, given_sequences
from gradaudit.probes.time_sequences import rebuild
from gradaudit.records import Estimate

REPEATS = 200
# Gain, units, how many networks, known. At 1.5 networks of 500 differ by a tenth and their mean
# lies below that of larger ones, here and by a plain tangent vector alike; the known value is the
# wide limit's.
NETWORKS = (
    (1.5, 500, 8, 0.064),
    (1.5, 2000, 2, 0.064),
    (2.0, 500, 8, 0.151),
    (3.0, 500, 8, 0.303),
)
LENGTHS = (30, 100, 300)


def follow(jacobians: Tensor, count: int, generator: torch.Generator) -> Exponents:
    """Exponents of ``[steps, n, d, d]``."""
    steps, n, size, _ = jacobians.shape
    frame = random_frame(n, size, count, generator)
    logs = stretches(lambda t, q: jacobians[t] @ q, steps, frame)
    return exponents(logs[burn_in(steps) :], count)


def tanh_network(gain: float, units: int, generator: torch.Generator, steps: int = 1200) -> float:
    """The largest exponent of one random network along its own trajectory, 500 steps settled."""
    weight = gain * torch.randn(units, units, dtype=torch.float64, generator=generator)
    weight /= units**0.5
    h = torch.randn(1, units, dtype=torch.float64, generator=generator)
    slopes = []
    for _ in range(500 + steps):
        h = torch.tanh(h @ weight.T)
        slopes.append(1 - h.square())
    slopes = slopes[500:]
    frame = random_frame(1, units, 2, generator)
    logs = stretches(lambda t, q: slopes[t].unsqueeze(2) * (weight @ q), steps, frame)
    return exponents(logs[burn_in(steps) :], 1).values[0][0]


def closed_forms(generator: torch.Generator) -> Iterator[tuple[str, Estimate, float]]:
    """Name, what was measured, what is known."""
    weight = torch.randn(20, 20, dtype=torch.float64, generator=generator) / 5
    radius = torch.linalg.eigvals(weight).abs().max().log().item()
    yield "linear RNN", first(follow(weight.expand(4000, 1, -1, -1), 2, generator)), radius
    turns = torch.linalg.qr(torch.randn(500, 2, 20, 20, dtype=torch.float64, generator=generator)).Q
    yield "orthogonal", first(follow(turns, 4, generator)), 0.0
    x, slopes = torch.rand(8, dtype=torch.float64, generator=generator), []
    for _ in range(10000):
        slopes.append((4 - 8 * x)[:, None, None])
        x = 4 * x * (1 - x)
    yield "logistic, r = 4", first(follow(torch.stack(slopes), 1, generator)), math.log(2)
    henon = follow(henon_jacobians(20000, generator), 2, generator)
    yield "Henon, first", first(henon), 0.4192
    yield "Henon, second", first(henon, 1), -1.6239
    total = henon.values[0][0] + henon.values[1][0]
    yield "Henon, sum", Estimate.exact(total, ""), math.log(0.3)
    gaussian = torch.randn(3000, 4, 64, 64, dtype=torch.float64, generator=generator) / 8
    yield "iid N(0, 1/64), top", first(follow(gaussian, 2, generator)), -0.0079
    maps = torch.randn(3, 6, 6, dtype=torch.float64, generator=generator)
    cycle = follow(maps.repeat(2000, 1, 1)[:, None], 2, generator)
    radius = torch.linalg.eigvals(maps[2] @ maps[1] @ maps[0]).abs().max().log().item()
    yield "cycle of three", first(cycle), radius / 3


def first(found: Exponents, place: int = 0) -> Estimate:
    """One exponent as a record."""
    return Estimate(*found.values[place], "")


def henon_jacobians(steps: int, generator: torch.Generator) -> Tensor:
    """``[steps, 4, 2, 2]`` along four trajectories."""
    x = 0.1 * torch.rand(4, 2, dtype=torch.float64, generator=generator)
    found = torch.zeros(steps, 4, 2, 2, dtype=torch.float64)
    for t in range(-100, steps):
        if t >= 0:
            found[t, :, 0, 0], found[t, :, 0, 1], found[t, :, 1, 0] = -2.8 * x[:, 0], 1, 0.3
        x = torch.stack([1 - 1.4 * x[:, 0] ** 2 + x[:, 1], 0.3 * x[:, 0]], dim=1)
    return found


NETS = {
    "RNN(3, 16)": lambda: nn.RNN(3, 16),
    "RNN(3, 16), W x 2.5": lambda: scaled(nn.RNN(3, 16), 2.5),
    "RNN(3, 16), W x 4": lambda: scaled(nn.RNN(3, 16), 4.0),
    "LSTM(3, 16)": lambda: nn.LSTM(3, 16),
    "LSTM(3, 16), forget bias 3": lambda: forgetful(nn.LSTM(3, 16), 3.0),
    "GRU(3, 16), two layers": lambda: nn.GRU(3, 16, num_layers=2),
}


def scaled(layer: nn.RNN, factor: float) -> nn.RNN:
    """The layer with its recurrent weights multiplied."""
    with torch.no_grad():
        layer.weight_hh_l0.mul_(factor)
    return layer


def forgetful(layer: nn.LSTM, bias: float) -> nn.LSTM:
    """The layer with the sum of its forget biases set."""
    with torch.no_grad():
        layer.bias_ih_l0.chunk(4)[1].fill_(bias)
        layer.bias_hh_l0.chunk(4)[1].zero_()
    return layer


def noise_driven(
    layer: nn.RNNBase, steps: int, n: int, generator: torch.Generator
) -> tuple[Estimate, ...]:
    """The two largest exponents on fresh noise."""
    x = torch.randn(steps, n, 3, generator=generator)
    effort = "thorough" if steps > 1000 else "standard"
    given = given_sequences(layer, Call(x, None), n)
    return layer_dynamics(layer, given, effort, generator)["forward"].exponents[:2]


@dataclass(frozen=True)
class Held:
    """Percent of intervals that hold what they speak of, and what share speaks of the long run."""

    held: list[float]
    widths: list[float]
    long_run: float


def coverage(name: str, steps: int, generator: torch.Generator) -> Held:
    """Of the first two exponents, over :data:`REPEATS` samples of eight sequences."""
    torch.manual_seed(0)
    layer = rebuild(NETS[name]())
    known = {True: noise_driven(layer, 4096, 48, generator)}
    known[False] = noise_driven(layer, steps, 1000, generator)
    samples = [noise_driven(layer, steps, SEQUENCES, generator) for _ in range(REPEATS)]
    long_run = [sample[0].unit == "natural log per step" for sample in samples]
    held, widths = [], []
    for place in range(2):
        hits, spans = 0, []
        for sample, far in zip(samples, long_run, strict=True):
            low, high = sample[place].low, sample[place].high
            assert low is not None
            assert high is not None
            hits += low <= known[far][place].value <= high
            spans.append(high - low)
        held.append(100 * hits / REPEATS)
        scatter = statistics.stdev(sample[place].value for sample in samples)
        widths.append(statistics.median(spans) / (2 * 1.96 * scatter))
    return Held(held, widths, 100 * sum(long_run) / REPEATS)


def main() -> int:
    """Print both tables."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    print(f"{'map':32}{'known':>10}{'measured':>11}   95% interval")
    for name, found, known in closed_forms(generator):
        print(f"{name:32}{known:10.4f}{found.value:11.5f}   [{found.low:.5f}, {found.high:.5f}]")
    for gain, units, networks, known in NETWORKS:
        runs = [tanh_network(gain, units, generator) for _ in range(networks)]
        mean, error = statistics.mean(runs), statistics.stdev(runs) / math.sqrt(networks)
        off = 100 * (mean / known - 1)
        label = f"tanh RNN, g = {gain:g}, {networks} of N = {units}"
        print(f"{label:32}{known:10.4f}{mean:11.5f}   +- {error:.5f}, {off:+.1f}%", flush=True)
    print(
        f"\nshare of {REPEATS} intervals that hold what they speak of, in % (standard error 1.5),"
    )
    print(
        "and median width over that of the estimates' own scatter (Student's, of 8 or 16 numbers,"
    )
    print("is 1.21 or 1.09), first and second exponent; share that speaks of the long run, in %")
    print(f"{'net driven by noise':30}{'steps':>6}{'held':>15}{'width':>13}{'long run':>10}")
    for name in NETS:
        for steps in LENGTHS:
            found = coverage(name, steps, generator)
            cells = "".join(f"{value:8.1f}" for value in found.held)
            cells += " " + "".join(f"{value:7.2f}" for value in found.widths)
            print(f"{name:30}{steps:6}{cells}{found.long_run:9.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
