"""The process-wide switches and random generators a run may move, saved and put back."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Restore = Callable[[], None]


def save_process_state() -> Restore:
    """Remember random states and global flags; the returned function puts them back.

    Covers torch's CPU generator, the CUDA generators if CUDA is initialised already, Python's
    ``random``, numpy's global generator, default dtype, grad mode, deterministic algorithms,
    float32 matmul precision, autocast on the CPU, and the cuDNN and mkldnn switches.
    """
    restores = [*_random_states(), *_flags()]

    def restore() -> None:
        for put_back in restores:
            put_back()

    return restore


def _random_states() -> list[Restore]:
    cpu, python, numpy_state = torch.get_rng_state(), random.getstate(), np.random.get_state()
    restores: list[Restore] = [
        lambda: torch.set_rng_state(cpu),
        lambda: random.setstate(python),
        lambda: np.random.set_state(numpy_state),
    ]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        cuda = torch.cuda.get_rng_state_all()
        restores.append(lambda: torch.cuda.set_rng_state_all(cuda))
    return restores


def _flags() -> list[Restore]:
    c: Any = torch._C
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    autocast = torch.is_autocast_enabled("cpu")
    restores: list[Restore] = [
        lambda: torch.set_default_dtype(dtype),
        lambda: torch._C._set_grad_enabled(grad),
        lambda: _set_deterministic(deterministic, warn_only),
        lambda: torch.set_autocast_enabled("cpu", autocast),
    ]
    for name in ("cudnn_enabled", "cudnn_benchmark", "cudnn_deterministic", "mkldnn_enabled"):
        value, setter = getattr(c, f"_get_{name}")(), getattr(c, f"_set_{name}")
        # bound now: a closure over the loop's variables would see the last pair only
        restores.append(lambda setter=setter, value=value: setter(value))  # type: ignore[misc]
    precision = torch.get_float32_matmul_precision()
    restores.append(lambda: _set_matmul_precision(precision))
    return restores


def _set_deterministic(mode: bool, warn_only: bool) -> None:
    """Only where it has changed: torch imports its compiler to set it, which takes two seconds."""
    now = torch.are_deterministic_algorithms_enabled()
    if (now, torch.is_deterministic_algorithms_warn_only_enabled()) != (mode, warn_only):
        torch.use_deterministic_algorithms(mode, warn_only=warn_only)


def _set_matmul_precision(precision: str) -> None:
    if torch.get_float32_matmul_precision() != precision:
        torch.set_float32_matmul_precision(precision)
