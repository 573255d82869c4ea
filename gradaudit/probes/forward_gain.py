"""Forward gain of every stage: how a small random change of the input grows on its way.

A random tangent ``v ~ N(0, I)`` at the input (for integer inputs: at the embedding's output) is
pushed forward by forward-mode automatic differentiation; the gain of a stage is the ratio of the
tangent's sums of squares behind and before it. The math kernels are used where the fused ones have
no forward derivative (``nn.LSTM`` under mkldnn, scaled dot product attention).
Cost: ``settings.budget.tangents`` Jacobian-vector products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.autograd.forward_ad as fwad
from torch import Tensor

from gradaudit.linalg.intervals import log_ratio_interval
from gradaudit.probes.cotangents import map_inputs
from gradaudit.probes.growth import GAIN, Growth, exp_estimate
from gradaudit.probes.kernels import math_kernels
from gradaudit.probes.trace import Op, l2_norm, record, unit_shift
from gradaudit.probes.trunk import Trunk
from gradaudit.records import Estimate, NotMeasured, StageRow
from gradaudit.settings import Settings
from gradaudit.subject import Opened
from gradaudit.telling import first_line

Rows = tuple[StageRow, ...]


class _Tangents:
    """Carries one tangent through a forward pass and reads it at the trunk's tensors."""

    def __init__(self, plan: Trunk, growth: Growth, generator: torch.Generator) -> None:
        self.generator = generator
        self.source, self.inputs = growth.source, 0
        self.shapes = {op.ordinal: op.shape for op in growth.trace.ops} if growth.trace else {}
        ops = [op for stage in plan.stages for op in (stage.start, stage.end) if op is not None]
        self.trunk = {op.ordinal for op in ops}
        self.outputs = {op.ordinal for op in growth.outputs}
        self.logs: dict[int, float] = {}
        self.exponent = 0
        self.at_input = -math.inf
        self.differs = False

    def enter(self, tensor: Tensor) -> Tensor:
        """The next of the model's inputs: a dual number if the trunk starts there."""
        number, self.inputs = self.inputs, self.inputs + 1
        return tensor if self.source not in (None, number) else self.seed(tensor)

    def seed(self, tensor: Tensor) -> Tensor:
        """``tensor`` as a dual number with a random tangent."""
        tangent = torch.randn(tensor.shape, generator=self.generator).to(tensor)
        self.at_input = float(torch.logaddexp(*torch.tensor([self.at_input, _log_square(tangent)])))
        return fwad.make_dual(tensor.detach(), tangent)

    def watch(self, ordinal: int, tensor: Tensor, replaceable: bool) -> Tensor | None:
        """Read the tangent of a trunk tensor or output; bring the trunk's back to unit scale."""
        if ordinal in self.shapes and self.shapes[ordinal] != tuple(tensor.shape):
            self.differs = True
        if ordinal not in self.trunk and ordinal not in self.outputs:
            return None
        primal, tangent = fwad.unpack_dual(tensor)
        if tangent is None:
            return None
        norm = float(l2_norm(tangent))
        if norm == 0 or not math.isfinite(norm):
            self.logs[ordinal] = -math.inf if norm == 0 else math.nan
            return None
        self.logs[ordinal] = 2 * (math.log(norm) + self.exponent * math.log(2.0))
        shift = unit_shift(norm / math.sqrt(tangent.numel()), tangent.dtype)
        far = abs(shift) < 20  # from float32's edges
        if far or not replaceable or ordinal not in self.trunk:
            return None
        self.exponent -= shift
        return fwad.make_dual(primal, tangent * 2.0**shift)


def _log_square(tensor: Tensor) -> float:
    norm = float(l2_norm(tensor))
    return 2 * math.log(norm) if norm > 0 else -math.inf


def _push(opened: Opened, growth: Growth, settings: Settings, number: int) -> _Tangents | None:
    """One tangent through one forward pass; ``None`` where the pass did not repeat itself."""
    assert opened.model is not None
    assert growth.plan is not None
    assert growth.trace is not None
    model, plan = opened.model, growth.plan
    generator = torch.Generator().manual_seed(settings.seed + 1000 + number)
    tangents = _Tangents(plan, growth, generator)
    tables = {op.ordinal for op in growth.trace.ops if op.name == "embedding"}

    def watch(ordinal: int, tensor: Tensor, replaceable: bool) -> Tensor | None:
        if plan.starts_hidden and ordinal in tables:
            return tangents.seed(tensor)
        return tangents.watch(ordinal, tensor, replaceable)

    torch.manual_seed(settings.seed)  # the same dropout masks as the pass that found the trunk
    with torch.no_grad(), fwad.dual_level(), math_kernels(model):
        batch = opened.batches[0].fresh()
        if not plan.starts_hidden:
            batch = map_inputs(batch, tangents.enter)
        record(model, lambda: batch.call(model), watch=watch, keep_norms=False)
    return None if tangents.differs else tangents


def _columns(found: list[_Tangents], ops: Sequence[Op]) -> Tensor:
    """``[m]`` log squared norms of the tangents at ``ops`` together."""
    rows = [[t.logs.get(op.ordinal, math.nan) for op in ops] for t in found]
    return torch.tensor(rows, dtype=torch.float64).logsumexp(dim=1)


def _starts(found: list[_Tangents], op: Op | None) -> Tensor:
    inputs = torch.tensor([t.at_input for t in found], dtype=torch.float64)
    return inputs if op is None else _columns(found, [op])


def _gain(before: Tensor, behind: Tensor) -> Estimate | None:
    if bool(torch.isneginf(behind).all() & torch.isfinite(before).all()):
        return Estimate.exact(0.0, GAIN)
    if not bool(torch.isfinite(torch.stack([before, behind])).all()):
        return None
    return exp_estimate(log_ratio_interval(behind, before), GAIN)


def measure_forward_gain(
    opened: Opened, growth: Growth, settings: Settings
) -> tuple[Rows, tuple[NotMeasured, ...]]:
    """The growth probe's stage rows with ``forward_gain`` filled in, and why where it is not.

    To be called inside ``borrowed(model)``.
    """
    rows, probes = growth.stages, settings.budget.tangents

    def skip(why: str) -> tuple[Rows, tuple[NotMeasured, ...]]:
        return rows, ((NotMeasured("forward gain", "trunk", why),) if rows else ())

    if probes < 2:
        return skip(f"effort {settings.effort} affords no forward-mode probes")
    if growth.plan is None or not growth.plan.found or growth.trace is None:
        return skip("there is no trunk")
    try:
        found = [t for i in range(probes) if (t := _push(opened, growth, settings, i)) is not None]
    except (RuntimeError, NotImplementedError) as error:
        return skip(f"an operation has no forward derivative ({first_line(error)[:160]})")
    if len(found) < probes:
        return skip("the forward pass does not repeat itself under the same seed")
    measured, gaps = [], []
    for row, stage in zip(rows, growth.plan.stages, strict=True):
        ends = growth.outputs if stage.end is None else (stage.end,)
        gain, why = _gain(_starts(found, stage.start), _columns(found, ends)), ""
        if gain is None:
            why = "no finite change arrives there"
        elif gain.value == 0 and row.backward_gain is not None and row.backward_gain.value > 0:
            gain, why = None, "the change that arrives there is too small for its numbers"
        if why:
            gaps.append(NotMeasured("forward gain", row.name, why))
        measured.append(replace(row, forward_gain=gain))
    return tuple(measured), tuple(gaps)
