"""One row per module call: output and gradient size, dead units, saturated outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.probes._hooks import CallStack, ModuleCall, first_floating
from gradaudit.probes.activations import ActivationWatch, Key
from gradaudit.probes.representation import Ranks
from gradaudit.probes.trace import l2_norm
from gradaudit.records import ModuleRow, NotMeasured
from gradaudit.telling import listed


@dataclass
class _SumOfSquares:
    total: float = 0.0
    entries: int = 0

    def add(self, norm: float, entries: int) -> None:
        self.total += norm * norm
        self.entries += entries

    @property
    def rms(self) -> float | None:
        """Root mean square; ``None`` where nothing came, or something not finite."""
        if not self.entries or not math.isfinite(self.total):
            return None
        return math.sqrt(self.total / self.entries)


@dataclass
class _Row:
    type: str
    output: _SumOfSquares = field(default_factory=_SumOfSquares)
    gradient: _SumOfSquares = field(default_factory=_SumOfSquares)
    norm: float = 0.0  # of this batch's output
    waiting: bool = False  # its output had no graph: a checkpointed call, run again in backward

    def watch(self, tensor: Tensor) -> Any:
        """Measure the gradient that arrives at ``tensor``; returns the hook's handle."""

        def hook(gradient: Tensor) -> None:
            with torch._C.DisableTorchFunction():
                self.gradient.add(float(l2_norm(gradient)), gradient.numel())

        return tensor.register_hook(hook)


class CallRecorder:
    """Context manager that hooks a model and gathers its rows over several passes.

    Tensor hooks only: ``register_full_backward_hook`` wraps outputs and breaks in-place modules.
    A tensor hook sees the gradient at the moment the tensor was returned, also where it is
    overwritten later. Sums run over all batches; ``ranks`` looks at one of them.
    """

    def __init__(self, model: nn.Module, ranks: Ranks | None = None) -> None:
        self._watch = ActivationWatch(self._function_called)
        self._stack = CallStack(model, self._watch.module_entered, self._module_left)
        self._watch.stack = self._stack
        self._ranks = ranks
        self._rows: dict[Key, _Row] = {}
        self._handles: list[Any] = []
        self._paused = False
        self._last: tuple[Tensor, int, float] | None = None
        self.output_finite = True

    def __enter__(self) -> CallRecorder:
        self._stack.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        self._drop_handles()

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Around one forward pass and its loss; the backward pass comes after it."""
        self._drop_handles()
        self._stack.forward_begins()
        self._watch.forward_begins()
        for row in self._rows.values():
            row.waiting = False
        with self._watch:
            yield
        self._stack.forward_ended()
        self._last = None
        if self._ranks is not None:
            self._ranks.forward_ended()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the model run without counting it."""
        self._paused = True
        self._stack.forward_ended()
        try:
            yield
        finally:
            self._paused = False

    def rows(self, missing: list[NotMeasured]) -> tuple[ModuleRow, ...]:
        """The rows in order of execution; what is not finite goes to ``missing``."""
        spoilt: list[str] = []
        rows = []
        ranks = self._ranks.found(missing) if self._ranks is not None else {}
        for (name, index), row in self._rows.items():
            units = self._watch.seen.get((name, index))
            rank = ranks.get((name, index))
            rows.append(
                ModuleRow(
                    module=name,
                    call=index,
                    type=row.type,
                    output_rms=row.output.rms,
                    gradient_rms=row.gradient.rms,
                    dead_fraction=units.dead_fraction if units else None,
                    saturated_fraction=units.saturated_fraction if units else None,
                    units=units.units if units else None,
                    effective_rank=rank.effective_rank if rank else None,
                    rank_limit=rank.limit if rank else None,
                    sample_correlation=rank.correlation if rank else None,
                )
            )
            if not math.isfinite(row.output.total) or not math.isfinite(row.gradient.total):
                spoilt.append(name or "the model")
        if spoilt:
            missing.append(NotMeasured("output or gradient rms", listed(spoilt), "NaN or infinite"))
        return tuple(rows)

    def _drop_handles(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _module_left(self, call: ModuleCall, output: Any) -> None:
        if self._paused:
            return
        tensor = first_floating(output)
        if tensor is None:
            return
        if call.recomputed:
            self._recomputed(call, tensor)
            return
        self._watch.module_left(call, output)
        if self._ranks is not None:
            self._ranks.see(call, tensor)
        finite = self._measure((call.name, call.index), type(call.module).__name__, tensor)
        if not call.name:
            self.output_finite = finite

    def _function_called(self, name: str, index: int, function: str, output: Tensor) -> None:
        self._measure((name, index), function, output)

    def _measure(self, key: Key, kind: str, tensor: Tensor) -> bool:
        """Add a call's output to its row; whether it is finite."""
        row = self._rows.setdefault(key, _Row(kind))
        with torch._C.DisableTorchFunction():
            row.norm = self._norm(tensor)
            row.output.add(row.norm, tensor.numel())
            if tensor.requires_grad:
                self._handles.append(row.watch(tensor))
            else:
                row.waiting = True
        return math.isfinite(row.norm)

    def _norm(self, tensor: Tensor) -> float:
        # A container returns its last module's tensor: the norm of the same bits is known.
        if self._last is not None:
            last, version, norm = self._last
            if last is tensor and version == tensor._version:
                return norm
        norm = float(l2_norm(tensor))
        self._last = (tensor, tensor._version, norm)
        return norm

    def _recomputed(self, call: ModuleCall, tensor: Tensor) -> None:
        """Reentrant checkpointing made the first output without a graph: this one has it.

        Of several waiting calls of one module (they come back in another order) it is the one
        whose output had the same norm, since a recomputation repeats it bit for bit.
        """
        if not tensor.requires_grad:
            return
        waiting = [r for (name, _), r in self._rows.items() if name == call.name and r.waiting]
        if not waiting:
            return
        norm = float(l2_norm(tensor))
        row = next((r for r in waiting if r.norm == norm), waiting[-1])
        row.waiting = False
        self._handles.append(row.watch(tensor))
