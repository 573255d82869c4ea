"""Checkpoints of given shapes, written tensor by tensor, so that they may exceed the memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gradaudit.subject.formats.pickles.dry import dry_read
from gradaudit.subject.formats.torch_files.archive import read_archive

Shapes = Mapping[str, tuple[int, ...]]
Fill = Callable[[tuple[int, ...]], Tensor]

SLACK = 500_000_000  # bytes of the memory limit that do not depend on the weights


def limit_for(shapes: Shapes, itemsize: int) -> int:
    """The most memory the audit of such weights may take: three times the largest tensor, and
    ``SLACK`` for the interpreter, torch and all else.
    """
    return 3 * itemsize * max(torch.Size(shape).numel() for shape in shapes.values()) + SLACK


def llama(layers: int, width: int, hidden: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a Llama checkpoint."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, width)}
    for i in range(layers):
        layer = f"model.layers.{i}"
        for name in "qkvo":
            shapes[f"{layer}.self_attn.{name}_proj.weight"] = (width, width)
        shapes[f"{layer}.mlp.gate_proj.weight"] = (hidden, width)
        shapes[f"{layer}.mlp.up_proj.weight"] = (hidden, width)
        shapes[f"{layer}.mlp.down_proj.weight"] = (width, hidden)
        shapes[f"{layer}.input_layernorm.weight"] = (width,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (width,)
    return {**shapes, "model.norm.weight": (width,), "lm_head.weight": (vocabulary, width)}


def drawn(seed: int) -> Fill:
    """Start values as Llama draws them, in bfloat16."""
    generator = torch.Generator().manual_seed(seed)

    def fill(shape: tuple[int, ...]) -> Tensor:
        if len(shape) == 1:
            return torch.ones(shape, dtype=torch.bfloat16)
        return torch.empty(shape, dtype=torch.bfloat16).normal_(0.0, 0.02, generator=generator)

    return fill


def write_safetensors(path: Path, shapes: Shapes, fill: Fill | None) -> None:
    """A safetensors file in bfloat16; without ``fill`` a sparse one, of zeros."""
    header, begin = {}, 0
    for name, shape in shapes.items():
        end = begin + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        if fill is not None:
            for shape in shapes.values():
                stream.write(fill(shape).view(torch.uint8).numpy().data)
        stream.truncate(8 + len(text) + begin)


def write_shards(folder: Path, shapes: Shapes, fill: Fill | None, most: int) -> None:
    """A folder of safetensors files of at most ``most`` bytes each, with their index."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, shape in shapes.items():
        held = sum(2 * torch.Size(s).numel() for s in shards[-1].values())
        if shards[-1] and held + 2 * torch.Size(shape).numel() > most:
            shards.append({})
        shards[-1][name] = shape
    folder.mkdir()
    index = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write_safetensors(folder / file, shard, fill)
        index.update(dict.fromkeys(shard, file))
    text = json.dumps({"metadata": {}, "weight_map": index})
    (folder / "model.safetensors.index.json").write_text(text)


def write_zip(path: Path, shapes: Shapes, fill: Fill | None) -> None:
    """A file as ``torch.save`` lays it out, its storages filled in afterwards."""
    # never written to, these take no memory
    declared = {name: torch.empty(s, dtype=torch.bfloat16) for name, s in shapes.items()}
    with torch.serialization.skip_data():
        torch.save(declared, path)
    del declared
    if fill is None:
        return
    archive = read_archive(path)
    dry, _ = dry_read(archive.pickle)
    with path.open("r+b") as stream:
        for tensor in dry.tensors:
            stream.seek(archive.storages[tensor.storage].begin)
            stream.write(fill(tensor.shape).view(torch.uint8).numpy().data)


@dataclass(frozen=True)
class Audited:
    """How an audit in a process of its own went."""

    code: int
    peak: int  # bytes resident at most
    seconds: float
    errors: str


# A process inherits the peak that ``getrusage`` tells of it from the one that started it, so the
# kernel is asked elsewhere; the command works in processes of its own, which start small.
_CHILD = """
import resource, sys
from gradaudit.cli import main
sys.argv[0] = "gradaudit"
try:
    code = main()
except SystemExit as ended:
    code = ended.code
try:
    lines = open("/proc/self/status").read().splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
except OSError:
    own = 0
below = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
peak = max(own, below if sys.platform != "darwin" else below // 1024)
print(f"peak {peak}", file=sys.__stderr__)
sys.exit(code)
"""


def audited(*arguments: str) -> Audited:
    """The command with ``arguments`` in a child process."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *arguments], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    peaks = [line for line in done.stderr.splitlines() if line.startswith("peak ")]
    peak = 1024 * int(peaks[-1].split()[1]) if peaks else -1
    said = "\n".join(line for line in done.stderr.splitlines() if line not in peaks)
    return Audited(done.returncode, peak, seconds, said)
