"""Whatever ends an audit or a search, and wherever: the model and the process are as before."""

from __future__ import annotations

import inspect
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradaudit
from gradaudit import Settings
from tests.command import CHECKOUT, files_in
from tests.subject.test_process_state import MOVES
from tests.test_cli import LISTENING

QUICK = Settings(effort="quick", threads=1)


class Counted(nn.Module):
    """Counts its forward and backward passes, and raises in the one it is told."""

    def __init__(self, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for _ in range(6):
            layers += [nn.Linear(8, 8), nn.Tanh()]
        self.body = nn.Sequential(nn.BatchNorm1d(8), *layers, nn.Dropout(0.1), nn.Linear(8, 1))
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(5.0)
        self.to(dtype)
        self.body[1].bias.requires_grad_(False)
        self.body[3].eval()
        self.body[1].weight.grad = torch.ones_like(self.body[1].weight)
        self.steps: list[int] = []
        self.body[5].register_forward_hook(_passed)
        self.body[1].weight.register_hook(_same)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps.append(1)
        COUNT.step("forward")
        output: torch.Tensor = self.body(x)
        if output.requires_grad:
            output.register_hook(lambda grad: COUNT.step("backward"))
        return output


def _passed(_module: nn.Module, _inputs: Any, _output: Any) -> None:
    return None


def _same(grad: torch.Tensor) -> torch.Tensor:
    return grad


class _Count:
    def __init__(self) -> None:
        self.start(0, ValueError)

    def start(self, last: int, error: type[BaseException], what: str = "forward") -> None:
        self.last, self.error, self.what, self.done = (
            last,
            error,
            what,
            {"forward": 0, "backward": 0},
        )

    def step(self, what: str) -> None:
        self.done[what] += 1
        if what == self.what and self.done[what] == self.last:
            # moved just before, as a forward pass that dies halfway leaves it
            torch.manual_seed(99)
            torch.set_num_threads(2)
            torch.set_grad_enabled(False)
            raise self.error("on purpose")


COUNT = _Count()


def _data(dtype: torch.dtype = torch.float32) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 8, generator=generator)
    pairs = [(x[:32], x[:32, :1]), (x[32:], x[32:, :1])]
    return [(a.to(dtype), b.to(dtype)) for a, b in pairs]


def state(model: nn.Module) -> dict[str, Any]:
    """Everything about a model and the process that an audit might have changed."""
    found: dict[str, Any] = {"process": _process()}
    for name, module in model.named_modules():
        for key, item in vars(module).items():
            found[f"{name}/{key}"] = id(item)
            if isinstance(item, dict):
                found[f"{name}/{key}/items"] = [(k, id(v)) for k, v in item.items()]
            elif isinstance(item, (list, bool, int)):
                found[f"{name}/{key}/value"] = item if not isinstance(item, list) else list(item)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found[name] = (
            id(tensor), tensor.data_ptr(), tensor.dtype, tensor.requires_grad, tensor._version >= 0,
            _bits(tensor), id(tensor.grad), None if tensor.grad is None else _bits(tensor.grad),
            list(tensor._backward_hooks or ()),
        )  # fmt: skip
    return found


def _changes(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What differs, by name."""
    flat = [{**found["process"], **found} for found in (before, now)]
    names = {*flat[0], *flat[1]} - {"process"}
    pairs = {name: (flat[0].get(name), flat[1].get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _process() -> dict[str, Any]:
    found = {name: look() for name, (look, _) in MOVES.items()}
    return {**found, "numpy": str(np.random.get_state()), "python": random.getstate()}


def _audit(model: Counted, dtype: torch.dtype = torch.float32) -> Any:
    make = _sgd
    return gradaudit.audit(model, _data(dtype), loss="mse", optimizer=make, settings=QUICK)


def _fix(model: Counted, dtype: torch.dtype = torch.float32) -> Any:
    return gradaudit.fix(model, _data(dtype), loss="mse", optimizer=_sgd, settings=QUICK)


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05)


ERRORS = {
    "an error": ValueError,
    "Ctrl-C": KeyboardInterrupt,
    "no memory": MemoryError,
    "no memory on a GPU": torch.OutOfMemoryError,
}


@pytest.mark.parametrize("what", ["forward", "backward"])
@pytest.mark.parametrize("error", ERRORS)
def test_an_audit_that_is_ended(error: str, what: str) -> None:
    _ended_at_several_points(_audit, ERRORS[error], what, (0.0, 0.3, 0.8))


@pytest.mark.parametrize("error", ["an error", "Ctrl-C"])
def test_a_search_that_is_ended(error: str) -> None:
    _ended_at_several_points(_fix, ERRORS[error], "forward", (0.3, 0.95))


def _ended_at_several_points(
    run: Callable[[Counted], Any], error: type[BaseException], what: str, parts: tuple[float, ...]
) -> None:
    model = Counted()
    model(torch.ones(4, 8))  # so that it remembers something
    passes = _passes(run)[what]
    before = state(model)
    for part in parts:
        last = 1 + int(part * (passes - 1))
        COUNT.start(last, error, what)
        try:
            run(model)
        except (error, gradaudit.GradauditError):
            pass  # or it was noted as not measured, and the audit went on
        finally:
            reached = COUNT.done[what]
            COUNT.start(0, ValueError)
        assert reached >= last
        assert _changes(before, state(model)) == {}, f"{what} pass {last} of {passes}"


_KNOWN: dict[Any, dict[str, int]] = {}


def _passes(run: Callable[[Counted], Any]) -> dict[str, int]:
    if run not in _KNOWN:
        COUNT.start(0, ValueError)
        model = Counted()
        before = state(model)
        COUNT.start(0, ValueError)
        run(model)
        assert state(model) == before
        _KNOWN[run] = dict(COUNT.done)
    assert min(_KNOWN[run].values()) > 5
    return _KNOWN[run]


class _At:
    """Raises ``KeyboardInterrupt`` when the n-th function of gradaudit's own is called."""

    def __init__(self, last: int) -> None:
        self.last, self.done = last, 0

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if code.co_flags & inspect.CO_GENERATOR:
            return  # what is raised while one is closed goes nowhere
        if event == "call" and f"{os.sep}gradaudit{os.sep}" in code.co_filename:
            self.done += 1
            if self.done == self.last:
                raise KeyboardInterrupt


def test_ctrl_c_between_any_two_calls() -> None:
    """Not only inside of the model: where gradaudit itself is at work, too."""
    model = Counted()
    before = state(model)
    _audit(model)  # what is imported or remembered, is from now on
    count = _At(0)
    sys.setprofile(count)
    try:
        _audit(model)
    finally:
        sys.setprofile(None)
    points = [1 + int(part * count.done) for part in (0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)]
    for point in points:
        at = _At(point)
        sys.setprofile(at)
        try:
            with pytest.raises(KeyboardInterrupt):
                _audit(model)
        finally:
            sys.setprofile(None)
        assert _changes(before, state(model)) == {}, f"call {point} of {count.done}"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_keeps_its_numbers(dtype: torch.dtype) -> None:
    model = Counted(dtype=dtype)
    before = state(model)
    COUNT.start(0, ValueError)
    _audit(model, dtype)
    assert state(model) == before
    assert {p.dtype for p in model.parameters()} == {dtype}


SLOW = """
import time
import torch
from torch import nn

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x):
        open("running", "w").close()
        time.sleep(0.2)
        return self.layer(x)

def net():
    return Slow()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_in_a_search(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    command = ["fix", "slow.py:net", "-o", "fixed", "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-B", "-c", LISTENING, *command],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "running").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert err == "gradaudit: interrupted; nothing was written\n"
    assert out == ""
    assert list(files_in(tmp_path)) == ["running", "slow.py"]
