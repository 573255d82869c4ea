"""What an audit costs, probe by probe, in training steps of the same model and sample.

``python -m tests.benchmarks.cost [MODEL ...]`` takes a 12-layer transformer and a 50-layer
convolutional net and, in one process on one thread, lets training steps (forward, backward, AdamW)
take turns with audits at each effort, so that whatever else the machine does weighs on both. CPU
time is counted, not the clock's; every number is the median over rounds of the ratio within a
round. The spectral norms are apart, and so is what only the first audit of a process pays (imports,
the first optimizer). Ends in 1 where an effort is past its budget.

``--lr 100`` is a recipe that diverges, for which the rehearsal looks for a rate that does not.
``--memory`` compares peak resident memory instead: each job in a process of its own.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Training steps, beside the spectral norms.
BUDGETS = {"quick": 12.0, "standard": 60.0, "thorough": 300.0}
FIXED = 3.0  # seconds, beside those
SEARCH, TOO_HIGH = 300.0, 100.0  # training steps, and the rate that a cure is looked for
ROUNDS, STEPS = 5, 8
LR = 3e-4
SPECTRAL = "spectral norms"
# The parts of an audit, and the function of gradaudit.measure or gradaudit.auditing that does each.
PARTS = {
    "opening": ("auditing", "from_python"),
    "copies of the model": ("measure", "borrowed"),
    "counting operations": ("measure", "expense_of"),
    "gradients of the loss": ("measure", "measure_real_loss"),
    "Jacobian growth": ("measure", "measure_growth"),
    "forward gain": ("measure", "measure_forward_gain"),
    "singular values of stages": ("measure", "measure_singular_values"),
    "through time": ("measure", "measure_through_time"),
    "attention weights": ("measure", "measure_attention"),
    "heads": ("measure", "measure_heads"),
    SPECTRAL: ("measure", "measure_weights"),
    "state of the weights": ("measure", "judge_state"),
    "half precision": ("measure", "measure_precision"),
    "data": ("measure", "measure_data"),
    "curvature": ("measure", "measure_curvature"),
    "learning-rate range": ("measure", "measure_rate_range"),
    "rehearsal": ("measure", "rehearse"),
    "training small nets on": ("measure", "measure_outlook"),
    "rules": ("judging", "run_rules"),
    "prescription": ("mending.proof", "prescribe"),
}


class Transformer(nn.Module):
    """12 encoder layers of width 256 over 64 tokens of a vocabulary of 1,000."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(1000, 256), nn.Embedding(64, 256)
        layer = nn.TransformerEncoderLayer(256, 8, 1024, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
        self.head = nn.Linear(256, 1000)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.body(self.tokens(tokens) + self.places(places)))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm beside a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.shortcut(x) + self.norms[1](self.second(y)))


def convolutional() -> nn.Module:
    """50 weighted layers: one convolution, 24 basic blocks of 16, 32 and 64 channels, one dense."""
    blocks = []
    inputs = 16
    for outputs in (16, 32, 64):
        for i in range(8):
            blocks.append(BasicBlock(inputs, outputs, 2 if i == 0 and outputs > 16 else 1))
            inputs = outputs
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(stem, *blocks, head)


def tokens(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, 1000, (8, 65), generator=generator)
    return drawn[:, :-1], drawn[:, 1:]


def images(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(16, 3, 32, 32, generator=generator)
    return x, torch.randint(0, 10, (16,), generator=generator)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], tuple[Tensor, Tensor]]]] = {
    "transformer": (Transformer, tokens),
    "convolutional": (convolutional, images),
}


def loss_of(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, -2), target.flatten())


def trainer(name: str) -> Callable[[], None]:
    """A function that takes one training step on a model of its own."""
    make, data = MODELS[name]
    torch.manual_seed(0)
    model, (x, y) = make(), data(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(model(x), y).backward()
        optimizer.step()

    return step


def auditor(name: str, effort: str, lr: float = LR, *, search: bool = False) -> Callable[[], None]:
    """A function that audits a model of its own under AdamW at ``lr``, on 12 batches."""
    from gradaudit import Settings
    from gradaudit.auditing import audit

    make, data = MODELS[name]
    torch.manual_seed(0)
    model, batches = make(), [data(seed) for seed in range(12)]
    settings = Settings(effort=effort)  # type: ignore[arg-type]
    if not search:  # the audit alone: a cure is counted apart
        settings = replace(settings, spent=replace(settings.budget, search_steps=0))

    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=lr)

    def run() -> None:
        audit(model, batches, loss="cross_entropy", optimizer=optimizer, settings=settings)

    return run


@contextmanager
def timed_parts() -> Iterator[dict[str, float]]:
    """CPU seconds that each part of an audit takes while the context lasts."""
    spent = dict.fromkeys(PARTS, 0.0)
    originals = []
    for part, (where, name) in PARTS.items():
        module = importlib.import_module(f"gradaudit.{where}")
        function = getattr(module, name)
        originals.append((module, name, function))
        clocked = _clocked_context if part == "copies of the model" else _clocked
        setattr(module, name, clocked(function, spent, part))
    try:
        yield spent
    finally:
        for module, name, function in originals:
            setattr(module, name, function)


def _clocked(function: Callable[..., Any], spent: dict[str, float], part: str) -> Any:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        begun = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[part] += time.process_time() - begun

    return run


def _clocked_context(function: Callable[..., Any], spent: dict[str, float], part: str) -> Any:
    """As :func:`_clocked` for a context manager: its entry and exit, not its body."""

    @contextmanager
    def run(*args: Any, **kwargs: Any) -> Iterator[Any]:
        begun = time.process_time()
        with function(*args, **kwargs) as value:
            spent[part] += time.process_time() - begun
            yield value
            begun = time.process_time()
        spent[part] += time.process_time() - begun

    return run


def cpu_seconds(run: Callable[[], None]) -> float:
    """CPU seconds of ``run()``, not of collecting what was dropped before it."""
    gc.collect()
    begun = time.process_time()
    run()
    return time.process_time() - begun


def measure(
    name: str, efforts: list[str], rounds: int, lr: float
) -> tuple[float, dict[str, dict[str, float]]]:
    """Seconds of one training step, and by effort and part the training steps an audit costs."""
    step = trainer(name)
    audits = {effort: auditor(name, effort, lr) for effort in efforts}
    for run in (step, step, *audits.values()):  # what only the first run pays
        run()
    seconds: list[float] = []
    costs: dict[str, dict[str, list[float]]] = {effort: {} for effort in efforts}
    for _ in range(rounds):
        for effort, audit in audits.items():
            before = [cpu_seconds(step) for _ in range(STEPS)]
            with timed_parts() as spent:
                total = cpu_seconds(audit)
            one = statistics.median(before + [cpu_seconds(step) for _ in range(STEPS)])
            seconds.append(one)
            spent["the rest"] = total - sum(spent.values())
            spent["total"] = total
            for part, taken in spent.items():
                costs[effort].setdefault(part, []).append(taken / one)
    medians = {
        effort: {part: statistics.median(ratios) for part, ratios in parts.items()}
        for effort, parts in costs.items()
    }
    return statistics.median(seconds), medians


def search(name: str, rounds: int) -> bool:
    """Print what looking for a cure costs where the rate is far too high, and whether it may.

    Taken as the difference of two audits, with and without it.
    """
    step = trainer(name)
    plain, mending = (auditor(name, "thorough", TOO_HIGH, search=on) for on in (False, True))
    for run in (step, plain):
        run()
    ratios = []
    for _ in range(rounds):
        one = statistics.median(cpu_seconds(step) for _ in range(2 * STEPS))
        without = cpu_seconds(plain)
        ratios.append((cpu_seconds(mending) - without) / one)
    cost = statistics.median(ratios)
    print(f"{'search for a cure':32}{cost:12.1f}   budget {SEARCH:.0f}", flush=True)
    return cost <= SEARCH


def report(name: str, efforts: list[str], rounds: int, lr: float) -> bool:
    """Print the table of one model; whether every effort keeps its budget."""
    one, costs = measure(name, efforts, rounds, lr)
    model = MODELS[name][0]()
    count = sum(p.numel() for p in model.parameters())
    print(f"\n{name}: {count:,} parameters, one training step {1e3 * one:.0f} ms of CPU")
    print(f"{'training steps':32}" + "".join(f"{effort:>12}" for effort in efforts))
    kept = True
    for part in costs[efforts[0]]:
        if part not in (SPECTRAL, "total"):
            print(f"{part:32}" + "".join(f"{costs[e][part]:12.2f}" for e in efforts))
    beside = {e: costs[e]["total"] - costs[e][SPECTRAL] for e in efforts}
    rows = {
        "sum": beside,
        "budget": BUDGETS,
        "spectral norms, apart": {e: costs[e][SPECTRAL] for e in efforts},
        "spectral norms, apart, seconds": {e: costs[e][SPECTRAL] * one for e in efforts},
    }
    for label, values in rows.items():
        print(f"{label:32}" + "".join(f"{values[e]:12.2f}" for e in efforts), flush=True)
    for effort in efforts:
        kept = kept and beside[effort] <= BUDGETS[effort]
    return kept


_FIRST = """
import time
begun = time.process_time()
import torch
torch.set_num_threads(1)
with_torch = time.process_time()
import gradaudit
from gradaudit import Settings
from gradaudit.auditing import audit
model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
sample = (torch.zeros(8, 4) + torch.arange(4.0), torch.zeros(8, dtype=torch.int64))
def once():
    begun = time.process_time()
    audit(model, sample, loss="cross_entropy", settings=Settings(effort="quick"))
    return time.process_time() - begun
imported = time.process_time()
first = once()
print(with_torch - begun, imported - with_torch, first - min(once() for _ in range(3)))
"""


def fixed() -> float:
    """Print and return the CPU seconds that only a process's first audit costs, without torch's."""
    runs = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", _FIRST], stdout=subprocess.PIPE, check=True)
        runs.append([float(x) for x in done.stdout.split()])
    with_torch, imports, first = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"import torch, which training pays too   {with_torch:6.2f} s")
    print(f"import gradaudit                        {imports:6.2f} s")
    print(f"first audit beyond the ones after it    {first:6.2f} s")
    return imports + first


def memory(names: list[str], efforts: list[str]) -> bool:
    """Print peak resident memory of training and of audits; whether all keep to the budget."""
    kept = True
    for name in names:
        jobs = ["model", "training", *efforts]
        peaks = {job: _peak_of(name, job) for job in jobs}
        model = MODELS[name][0]()
        copies = 2 * sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
        limit = peaks["training"][1] + copies
        print(f"\n{name}: two copies of the parameters are {copies:.0f} MiB")
        print(f"what the first audit of any model loads: {peaks['model'][0]:.0f} MiB, in all rows")
        for job in jobs:
            peak = peaks[job][1]
            over = peak - peaks["model"][1]
            print(f"{job:12} peak {peak:6.0f} MiB, {over:+5.0f} over the bare model")
        print(f"{'limit':12} peak {limit:6.0f} MiB: one training step and two copies", flush=True)
        kept = kept and all(peaks[effort][1] <= limit for effort in efforts)
    return kept


def _peak_of(name: str, job: str) -> tuple[float, float]:
    """MiB that a first audit adds, and the peak of a process that does ``job`` after it."""
    code = f"from tests.benchmarks.cost import alone; alone({name!r}, {job!r})"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    fixed, peak = done.stdout.split()[-2:]
    return float(fixed), float(peak)


def alone(name: str, job: str) -> None:
    """Do one job and print the peak; before it all load the same, so that only the work differs."""
    torch.set_num_threads(1)
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    for module in ("networkx", "gradaudit.auditing"):
        importlib.import_module(module)
    before = _peak()
    first_audit()
    fixed = _peak() - before
    run = trainer(name) if job == "training" else auditor(name, "quick" if job == "model" else job)
    if job == "training":
        for _ in range(3):
            run()
    elif job != "model":
        run()
    print(fixed, _peak())


def first_audit() -> None:
    """An audit of next to nothing: what it takes is code and tables, once per process."""
    from gradaudit import Settings
    from gradaudit.auditing import audit

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    batches = [(torch.randn(8, 3, 8, 8), torch.randint(0, 3, (8,))) for _ in range(12)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    audit(model, batches, loss="cross_entropy", optimizer=optimizer, settings=Settings())


def _peak() -> float:
    """Peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cost")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=" or ".join(MODELS))
    parser.add_argument("--effort", action="append", choices=list(BUDGETS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--lr", type=float, default=LR, help="rate of the audited recipe")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args(arguments)
    names, efforts = options.models or list(MODELS), options.effort or list(BUDGETS)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    if options.memory:
        return 0 if memory(names, efforts) else 1
    kept = fixed() <= FIXED
    for name in names:
        kept = report(name, efforts, options.rounds, options.lr) and kept
        kept = search(name, min(options.rounds, 2)) and kept
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
