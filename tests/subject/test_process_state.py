"""Every switch that a user's forward pass may move is put back after it."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradaudit.subject import borrowed
from gradaudit.subject.process_state import save_process_state

c: Any = torch._C
_KERNELS = ("flash", "mem_efficient", "math", "cudnn")


def _other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    return {"none": "ieee", "ieee": "tf32", "tf32": "ieee", "highest": "high"}[value]


def _switch(name: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    get, put = getattr(c, f"_get_{name}"), getattr(c, f"_set_{name}")
    return get, lambda: put(_other(get()))


def _precision(backend: str, part: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    def get() -> Any:
        return c._get_fp32_precision_getter(backend, part)

    return get, lambda: c._set_fp32_precision_setter(backend, part, _other(get()))


def _shown() -> tuple[int, list[Any]]:
    return id(warnings.filters), list(warnings.filters)


MOVES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "default dtype": (torch.get_default_dtype, lambda: torch.set_default_dtype(torch.float64)),
    "default device": (torch.get_default_device, lambda: torch.set_default_device("meta")),
    "gradients": (torch.is_grad_enabled, lambda: torch.set_grad_enabled(False)),
    "autograd's threads": (
        c._is_multithreading_enabled, lambda: c._set_multithreading_enabled(False)),
    "anomaly": (torch.is_anomaly_enabled, lambda: torch.autograd.set_detect_anomaly(True)),
    "anomaly's check": (
        torch.is_anomaly_check_nan_enabled,
        lambda: torch.autograd.set_detect_anomaly(True, check_nan=False)),
    "determinism": (
        torch.are_deterministic_algorithms_enabled,
        lambda: torch.use_deterministic_algorithms(True)),
    "determinism warns": (
        torch.is_deterministic_algorithms_warn_only_enabled,
        lambda: torch.use_deterministic_algorithms(True, warn_only=True)),
    "autocast": (lambda: torch.is_autocast_enabled("cpu"),
                 lambda: torch.set_autocast_enabled("cpu", True)),
    "autocast's dtype": (lambda: torch.get_autocast_dtype("cpu"),
                         lambda: torch.set_autocast_dtype("cpu", torch.float16)),
    "autocast's cache": (
        torch.is_autocast_cache_enabled, lambda: torch.set_autocast_cache_enabled(False)),
    "threads": (torch.get_num_threads, lambda: torch.set_num_threads(torch.get_num_threads() + 1)),
    "matmul precision": (
        torch.get_float32_matmul_precision, lambda: torch.set_float32_matmul_precision("medium")),
    "numpy's errors": (np.geterr, lambda: np.seterr(all="raise")),
    "warnings": (_shown, lambda: warnings.simplefilter("ignore")),
    "warnings replaced": (_shown, lambda: warnings.catch_warnings().__enter__()),
    "torch's generator": (lambda: torch.get_rng_state().tolist(), lambda: torch.rand(1)),
    "Python's generator": (random.getstate, random.random),
    "numpy's generator": (lambda: str(np.random.get_state()), np.random.rand),
    **{
        name: _switch(name)
        for name in (
            "cudnn_enabled", "cudnn_benchmark", "cudnn_deterministic", "mkldnn_enabled",
            "mkldnn_deterministic", "nnpack_enabled", "cublas_allow_fp16_accumulation",
            "cublas_allow_tf32", "cudnn_allow_tf32", "math_sdp_allow_fp16_bf16_reduction",
            "deterministic_fill_uninitialized_memory", "warnAlways",
        )
    },
    **{
        f"precision of {backend} {part}": _precision(backend, part)
        for backend, part in (
            ("generic", "all"), ("cuda", "all"), ("cuda", "matmul"), ("cuda", "conv"),
            ("mkldnn", "all"), ("mkldnn", "matmul"), ("mkldnn", "conv"), ("mkldnn", "rnn"),
        )
    },
    **{
        f"{kernel} attention": (
            getattr(c, f"_get_{kernel}_sdp_enabled"),
            lambda kernel=kernel: getattr(c, f"_set_sdp_use_{kernel}")(
                not getattr(c, f"_get_{kernel}_sdp_enabled")()))
        for kernel in _KERNELS
    },
}  # fmt: skip


class Moves(nn.Module):
    def __init__(self, move: Callable[[], Any]) -> None:
        super().__init__()
        self.layer, self.move = nn.Linear(3, 3), move

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layer(x)
        self.move()
        return output


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("raises", [False, True])
def test_put_back(name: str, raises: bool) -> None:
    look, move = MOVES[name]
    model, x = Moves(move), torch.randn(2, 3)
    before, whole = (
        look(),
        {key: get() for key, (get, _) in MOVES.items() if "generator" not in key},
    )
    try:
        with borrowed(model):
            model(x)
            assert look() != before, "the body must really move something"
            if raises:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert look() == before
    assert {key: get() for key, (get, _) in MOVES.items() if "generator" not in key} == whole


def test_what_was_set_by_the_user_stays() -> None:
    torch.set_default_device("meta")
    try:
        with borrowed(nn.Linear(2, 2, device="cpu")):
            torch.set_default_device("cpu")
        assert torch.get_default_device() == torch.device("meta")
    finally:
        torch.set_default_device(None)
    assert torch.empty(1).device.type == "cpu"


def test_warnings_that_were_shown_are_looked_at_anew() -> None:
    restore = save_process_state()
    warnings.simplefilter("ignore")
    warnings.warn("quiet", stacklevel=1)
    restore()
    with pytest.raises(UserWarning, match="quiet"):
        warnings.warn("quiet", stacklevel=1)
