"""A process that has imported everything once and runs each command in a forked child of its own.

``python -m tests.hostile.zygote`` reads one JSON request a line from standard input and answers
each with one line of JSON. A child lives under limits on address space, time and what it may
leave behind; its peak memory is what the kernel says.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

_PRELOADED = (
    "gradaudit.auditing",
    "gradaudit.gate",
    "gradaudit.reports.html",
    "gradaudit.reports.json_report",
    "gradaudit.reports.terminal",
    "gradaudit.run",
    "onnx",
    "safetensors.torch",
    "torch._weights_only_unpickler",
    "torch.export",
)


def main() -> None:
    """Serve requests until standard input ends."""
    import torch

    torch.set_num_threads(1)  # a pool of threads would not survive a fork
    for name in _PRELOADED:
        importlib.import_module(name)
    _warm()
    gc.collect()
    gc.freeze()  # a child that looked for garbage would copy every page
    threads = len(os.listdir("/proc/self/task"))
    _answer({"ready": threads == 1, "threads": threads, "rss": _pages("VmRSS")})
    for line in sys.stdin:
        _answer(_served(json.loads(line)))


def _warm() -> None:
    """Audit small sound files once, so that what is imported or worked out on the way is there."""
    import torch
    from safetensors.torch import save_file
    from torch import nn

    from tests.command import FAST, run

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        torch.save(nn.Linear(2, 2), home / "model.pt")
        save_file({"a.weight": torch.ones(2, 2)}, home / "model.safetensors")
        for name in ("model.pt", "model.safetensors", "nothing.pt"):
            run(name, *FAST, "--no-html", "--json", "report.json", cwd=home)


def _answer(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _served(request: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            _child(request, out.fileno(), err.fileno())
        status, usage, ended = _awaited(child, request["seconds"])
        return {
            "code": os.waitstatus_to_exitcode(status),
            "hung": not ended,
            "peak": usage.ru_maxrss * 1024,
            "seconds": time.monotonic() - start,
            "cpu": usage.ru_utime + usage.ru_stime,
            "out": _content(out.fileno()),
            "err": _content(err.fileno()),
        }


def _awaited(child: int, seconds: float) -> tuple[int, resource.struct_rusage, bool]:
    handle = os.pidfd_open(child)
    try:
        ended = bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it may have started goes too
    _, status, usage = os.wait4(child, 0)
    return status, usage, ended


def _content(handle: int) -> str:
    os.lseek(handle, 0, os.SEEK_SET)
    with os.fdopen(os.dup(handle), "rb") as file:
        return file.read(1 << 22).decode("utf-8", "backslashreplace")


def _child(request: dict[str, Any], out: int, err: int) -> NoReturn:
    code = 99
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for handle, place in ((nothing, 0), (out, 1), (err, 2)):
            os.dup2(handle, place)
        os.chdir(request["cwd"])
        os.environ.update(request.get("environment", {}))
        space = _pages("VmSize") + request["space"]
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        if request.get("file_size") is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails instead
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"],) * 2)
        code = _run(request)
    except BaseException:  # whatever it was, it is to be seen
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _run(request: dict[str, Any]) -> int:
    if "opens" in request:
        return _victim(request["opens"])
    from gradaudit.cli import main as command

    sys.argv = ["gradaudit", *map(os.fsdecode, map(os.fsencode, request["arguments"]))]
    try:
        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 98
    return 97


def _victim(path: str) -> int:
    """What a careless program does: opens the file and runs what it says."""
    import pickle

    import torch

    try:
        torch.load(path, weights_only=False)
    except Exception:
        with open(path, "rb") as stream:
            try:
                pickle.load(stream)
            except Exception:
                return 1
    return 0


def _pages(field: str) -> int:
    """Bytes the kernel states for this process under ``field``."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
