"""Peak memory and time of auditing the weights of a 7-billion-parameter model.

A Llama's shapes (32 layers of width 4,096 and 11,008, a vocabulary of 32,000; 13.5 GB in bfloat16)
are written to a temporary folder tensor by tensor, as one ``torch.save`` file, as one safetensors
file and as a folder of shards with their index, and each is audited in a process of its own. The
peak must stay within three times the largest tensor and 500 MB.

    python -m tests.benchmarks.weights_memory [--sparse] [--small] [--only KIND] [--threads N]

``--sparse`` leaves the files empty (all weights are zero then), ``--small`` takes 4 layers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.checkpoints import (
    Fill,
    Shapes,
    audited,
    drawn,
    limit_for,
    llama,
    write_safetensors,
    write_shards,
    write_zip,
)

_SHARD = 5_000_000_000  # bytes, as transformers cuts them
_WRITERS: dict[str, tuple[str, Callable[[Path, Shapes, Fill | None], None]]] = {
    "zip": ("model.pt", write_zip),
    "safetensors": ("model.safetensors", write_safetensors),
    "shards": ("model", partial(write_shards, most=_SHARD)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sparse", action="store_true")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", choices=list(_WRITERS))
    parser.add_argument("--effort", default="quick")
    parser.add_argument("--threads", default="2")
    options = parser.parse_args()
    shapes = llama(4 if options.small else 32, 4096, 11008, 32000)
    limit, sound = limit_for(shapes, itemsize=2), True
    print("file          GB   written    audit   peak MB  limit MB  exit code")
    for kind, (file, write) in _WRITERS.items():
        if options.only not in (None, kind):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / file
            start = time.perf_counter()
            write(path, shapes, None if options.sparse else drawn(0))
            written = time.perf_counter() - start
            found = audited(
                str(path), "--no-html", "--effort", options.effort, "--threads", options.threads
            )
            files = path.iterdir() if path.is_dir() else [path]
            size = sum(file.stat().st_size for file in files) / 1e9
        fits = 0 < found.peak <= limit and found.code in (1, 3)
        sound = sound and fits
        print(
            f"{kind:12} {size:4.1f} {written:7.0f} s {found.seconds:6.0f} s "
            f"{found.peak / 1e6:9.0f} {limit / 1e6:9.0f}  {found.code}",
            flush=True,
        )
        if not fits:
            print(found.errors, file=sys.stderr)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
