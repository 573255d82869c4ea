"""The process-wide switches and random generators a run may move, saved and put back."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

Restore = Callable[[], None]
# torch._C has a _get_... and a _set_... of these; a build may lack some
_SWITCHES = (
    "cudnn_enabled",
    "cudnn_benchmark",
    "cudnn_deterministic",
    "cudnn_allow_tf32",
    "mkldnn_enabled",
    "mkldnn_deterministic",
    "onednn_allow_tf32",
    "nnpack_enabled",
    "cublas_allow_tf32",
    "cublas_allow_fp16_accumulation",
    "cpu_allow_fp16_reduced_precision_reduction",
    "math_sdp_allow_fp16_bf16_reduction",
    "deterministic_fill_uninitialized_memory",
    "warnAlways",
)
_ATTENTION = ("flash", "mem_efficient", "math", "cudnn")  # kernels that may be chosen from
# the general before the particular, which follows it where it was not set itself
_PRECISIONS = (
    ("generic", "all"),
    *(
        (backend, part)
        for backend in ("cuda", "mkldnn")
        for part in ("all", "matmul", "conv", "rnn")
    ),
)


def save_process_state() -> Restore:
    """Remember random states and global flags; the returned function puts them back.

    Covers torch's CPU generator, the CUDA generators if CUDA is initialised already, Python's
    ``random``, numpy's global generator and its treatment of floating-point errors; default dtype
    and device, grad mode, anomaly detection, deterministic algorithms, autocast on the CPU, threads
    within an operation, float32 precision, the cuDNN, mkldnn, cuBLAS and attention switches, and
    Python's filters of warnings. Not covered: inference mode and other contexts that are entered
    and not left, and what cannot be read (``set_flush_denormal``, threads between operations).
    """
    restores = [*_random_states(), *_flags()]

    def restore() -> None:
        for put_back in restores:
            put_back()

    return restore


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw everything in the body from ``seed``, and put the process's state back afterwards.

    The generators of torch, Python and numpy: a model's forward pass may ask any of them.
    """
    restore = save_process_state()
    try:
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        yield
    finally:
        restore()


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


def _flags() -> Iterator[Restore]:
    c: Any = torch._C
    yield _default_device()  # before anything that makes a tensor
    yield _kept(torch.get_default_dtype, torch.set_default_dtype)
    yield _kept(torch.is_grad_enabled, c._set_grad_enabled)
    yield _kept(c._is_multithreading_enabled, c._set_multithreading_enabled)
    yield _kept(_anomaly, lambda both: torch.autograd.set_detect_anomaly(*both))
    # set only where it has changed: torch imports its compiler to set it, which takes two seconds
    yield _kept(
        _deterministic, lambda both: torch.use_deterministic_algorithms(both[0], warn_only=both[1])
    )
    yield _kept(
        partial(torch.is_autocast_enabled, "cpu"), partial(torch.set_autocast_enabled, "cpu")
    )
    yield _kept(partial(torch.get_autocast_dtype, "cpu"), partial(torch.set_autocast_dtype, "cpu"))
    yield _kept(torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled)
    yield _kept(torch.get_num_threads, torch.set_num_threads)
    yield _kept(np.geterr, lambda actions: np.seterr(**actions))
    yield _kept(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision)
    for backend, part in _PRECISIONS:
        yield _kept(
            partial(c._get_fp32_precision_getter, backend, part),
            partial(c._set_fp32_precision_setter, backend, part),
        )
    for name in _SWITCHES:
        if hasattr(c, f"_get_{name}") and hasattr(c, f"_set_{name}"):
            yield _kept(getattr(c, f"_get_{name}"), getattr(c, f"_set_{name}"))
    for kernel in _ATTENTION:
        yield _kept(getattr(c, f"_get_{kernel}_sdp_enabled"), getattr(c, f"_set_sdp_use_{kernel}"))
    yield _filters()


def _kept(get: Callable[[], Any], put: Callable[[Any], Any]) -> Restore:
    """Put a value back where it is another one by then."""
    try:
        before = get()
    except RuntimeError:  # torch refuses where its two ways of setting precision were mixed
        return lambda: None

    def restore() -> None:
        try:
            same = get() == before
        except RuntimeError:
            same = False
        if not same:
            put(before)

    return restore


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _deterministic() -> tuple[bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def _device_context() -> Any:
    return getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)


def _default_device() -> Restore:
    before = _device_context()

    def restore() -> None:
        if _device_context() is not before:
            torch.set_default_device(None if before is None else before.device)

    return restore


def _filters() -> Restore:
    held, before = warnings.filters, list(warnings.filters)

    def restore() -> None:
        if warnings.filters is held and warnings.filters == before:
            return
        warnings.simplefilter("ignore")  # what was remembered of shown warnings is forgotten
        warnings.filters = held
        warnings.filters[:] = before  # type: ignore[index]

    return restore
