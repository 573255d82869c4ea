"""Jacobian growth along the trunk: gain, GSC and Jacobian norm of every stage, with intervals.

Gains are ratios of plain sums of squares of pulled-back cotangents (see
:mod:`gradaudit.probes.cotangents`), J from the end-to-end chain, so that the gains of all stages
multiply to the total. GSC is Philipp et al.'s gradient scale coefficient (arXiv 1712.05577).
Cost: one forward pass and ``settings.budget.probes`` vector-Jacobian products, more of them where
the growth lies astride its limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.linalg.intervals import log_ratio_interval
from gradaudit.probes.cotangents import (
    Forward,
    Ladder,
    Logs,
    probe,
    run_forward,
    source_nodes,
)
from gradaudit.probes.graph import Graph, leaf_variable
from gradaudit.probes.trace import Op, Trace, joint_norm
from gradaudit.probes.trunk import Trunk, find_trunk, module_chain
from gradaudit.probes.undecided import probes_to_spend, undecided
from gradaudit.records import Estimate, NotMeasured, StageRow, TrunkRow
from gradaudit.settings import Settings
from gradaudit.subject import Opened

GAIN = "gain (ratio of sums of squares)"
_LN10 = math.log(10.0)


@dataclass(frozen=True)
class Growth:
    """What the probe found, and the trace other probes reuse."""

    stages: tuple[StageRow, ...]
    trunk: TrunkRow
    trace: Trace | None
    plan: Trunk | None
    not_measured: tuple[NotMeasured, ...]
    source: int | None = None  # the input the trunk runs from, where others enter beside it
    outputs: tuple[Op, ...] = ()  # the output tensors that cotangents were drawn for

    @classmethod
    def nothing(cls) -> Growth:
        """Where no forward pass was made."""
        why = "no forward pass was made"
        return cls((), TrunkRow(False, None, None, None, None, why=why), None, None, ())


def _plan(model: nn.Module, forward: Forward) -> tuple[Trunk, Graph, int | None]:
    """The trunk from all inputs together, or from the one input (its number) that has a longer one.

    A decoder's trunk runs from its own input; what it attends to enters from beside it.
    """
    nodes = source_nodes(forward)
    ways: list[tuple[list[Any], int | None]] = [(nodes, None)]
    if len(forward.leaves) > 1:
        for number, leaf in enumerate(forward.leaves):
            ways.append(([node for node in nodes if leaf_variable(node) is leaf], number))
    plans = [
        (*find_trunk(model, forward.trace, way, forward.outputs, embedded=forward.embedded), number)
        for way, number in ways
        if way
    ]
    return max(plans, key=lambda entry: len(entry[0].stages))


def exp_estimate(interval: tuple[float, float, float], unit: str, power: float = 1.0) -> Estimate:
    """``exp(power * x)`` of ``(value, low, high)``, held within float64's range."""
    value, low, high = (math.exp(min(x * power, 700.0)) for x in interval)
    return Estimate(value, low, high, unit)


def _log10_estimate(interval: tuple[float, float, float]) -> Estimate:
    value, low, high = (x / _LN10 for x in interval)
    return Estimate(value, low, high, "log10 of the gain (sums of squares)")


def _ratio(logs: Logs, i: int, j: int) -> tuple[float, float, float] | None:
    """Interval of log ``mean(N_i) / mean(N_j)``; ``None`` where either is zero or not finite."""
    above, below = logs.arrived[:, i], logs.sent[:, j]
    if logs.shut(i, j) or not bool(torch.isfinite(torch.stack([above, below])).all()):
        return None
    return log_ratio_interval(above, below)


def _gain(logs: Logs, i: int) -> Estimate | None:
    interval = _ratio(logs, i, i + 1)
    if interval is not None:
        return exp_estimate(interval, GAIN)
    nothing_arrives = bool(torch.isneginf(logs.arrived[:, i]).all())
    return (
        Estimate.exact(0.0, GAIN) if nothing_arrives and logs.sent[0, i + 1] > -math.inf else None
    )


def _gsc(gain: tuple[float, float, float], rms_in: float, rms_out: float) -> Estimate:
    """From the interval of the log of the gain, as neither need be in float64's range itself."""
    offset = (math.log(rms_in) if rms_in > 0 else -math.inf) - math.log(rms_out)
    value, low, high = (x / 2 + offset for x in gain)
    return exp_estimate((value, low, high), "GSC")


def _norm_log10(logs: Logs, i: int) -> Estimate | None:
    """Of the Jacobian from boundary ``i`` to the output; ``None`` where it is zero."""
    column = logs.arrived[:, i]
    if logs.shut(i, logs.arrived.shape[1]) or not bool(torch.isfinite(column).all()):
        return None
    value, low, high = (x / (2 * _LN10) for x in log_ratio_interval(column))
    return Estimate(value, low, high, "log10 of the Frobenius norm")


def _rms_of(op: Op | None, otherwise: list[Tensor]) -> float:
    if op is not None:
        return op.rms
    count = sum(t.numel() for t in otherwise)
    return joint_norm(otherwise) / math.sqrt(max(count, 1))


def _role(index: int, plan: Trunk) -> str:
    stage, last = plan.stages[index], len(plan.stages) - 1
    if stage.residual:  # a block maps the stream to itself, wherever it stands
        return "interior"
    if index == 0 and not plan.starts_hidden:
        return "inlet"
    return "head" if index == last else "interior"


def _label(op: Op | None, fallback: str) -> str:
    if op is None:
        return fallback
    if op.call is None or not op.call.module:
        return op.name
    place = op.call.module
    return f"{place} ({op.name})" if op.call.type != op.name else place


def _stage_rows(
    plan: Trunk, logs: Logs, sources: list[Tensor], outputs: list[Tensor]
) -> tuple[StageRow, ...]:
    rows = []
    for i, stage in enumerate(plan.stages):
        gain = _gain(logs, i)
        rms_in, rms_end = _rms_of(stage.start, sources), _rms_of(stage.end, outputs)
        rms_out = rms_end if math.isfinite(rms_end) else None
        gsc = None
        if gain is not None and rms_out and math.isfinite(rms_in):
            passes_nothing = (-math.inf,) * 3
            gsc = _gsc(_ratio(logs, i, i + 1) or passes_nothing, rms_in, rms_out)
        rows.append(
            StageRow(
                index=i,
                name=stage.name,
                start=_label(stage.start, "embedding" if plan.starts_hidden else "input"),
                to=_label(stage.end, "output"),
                modules=stage.modules,
                parameters=stage.parameters,
                role=_role(i, plan) if plan.found else "interior",
                residual=stage.residual,
                backward_gain=gain,
                forward_gain=None,
                gsc=gsc,
                jacobian_norm_log10=_norm_log10(logs, i),
                output_rms=rms_out,
            )
        )
    return tuple(rows)


def _trunk_row(plan: Trunk, rows: Sequence[StageRow], logs: Logs, rms_in: float) -> TrunkRow:
    """Growth of the chain as a whole; fields stay ``None`` where a stage passes nothing on."""
    hidden = 1 if rows[0].role == "inlet" else 0
    last = len(rows)
    interior = [row.index for row in rows if row.role == "interior"]
    per_stage = inner = total = gsc = None
    if interior:
        span = _ratio(logs, interior[0], interior[-1] + 1)
        if span is not None:
            per_stage = exp_estimate(span, f"{GAIN} per stage", 1 / len(interior))
            inner = _log10_estimate(span)
    whole = _ratio(logs, hidden, last) if hidden < last else None
    if whole is not None:
        total = _log10_estimate(whole)
        rms_out = rows[-1].output_rms
        if rms_out and math.isfinite(rms_in) and rms_in > 0:
            gsc = _gsc(whole, rms_in, rms_out)
    return TrunkRow(
        found=True,
        growth_per_stage=per_stage,
        total_growth_log10=total,
        worst_stage=_worst(rows, inner or total),
        gsc=gsc,
        stages=last,
        interior_stages=len(interior),
        interior_growth_log10=inner,
    )


def _worst(rows: Sequence[StageRow], total: Estimate | None) -> int | None:
    """The stage that pulls hardest in the direction the whole chain goes."""
    inner = [r for r in rows if r.role == "interior" and r.backward_gain is not None] or [
        r for r in rows if r.role != "inlet" and r.backward_gain is not None
    ]
    if not inner:
        return None
    gains = {r.index: r.backward_gain.value for r in inner if r.backward_gain is not None}
    growing = total is not None and total.value > 0
    return (max if growing else min)(gains, key=gains.__getitem__)


def _missing(rows: Sequence[StageRow], trunk: TrunkRow, logs: Logs) -> list[NotMeasured]:
    missing = []
    for row in rows:
        if row.backward_gain is None:
            overflow = bool(torch.isnan(logs.arrived[:, row.index]).any())
            why = (
                "the gradient leaves float32's range inside the stage"
                if overflow
                else "no gradient reaches the stage's output"
            )
            missing.append(NotMeasured("backward gain", row.name, why))
    if trunk.found and trunk.growth_per_stage is None:
        why = (
            "a stage passes no finite gradient on"
            if missing
            else "there is no stage between the first and the last layer"
        )
        missing.append(NotMeasured("growth per stage", "trunk", why))
    return missing


def measure_growth(opened: Opened, settings: Settings, *, cheap: bool = False) -> Growth:
    """Backward gain, GSC and Jacobian norm of every stage, and of the trunk as a whole.

    Where the growth then lies astride its limit, by more probes; by many more where they are
    ``cheap``. To be called inside ``borrowed(model)`` on an opened subject with a model and a
    batch. What forward raises passes through.
    """
    assert opened.model is not None
    torch.manual_seed(settings.seed)
    forward = run_forward(opened.model, opened)
    reason = ""
    nodes_missing = not forward.sources or not source_nodes(forward)
    if nodes_missing and forward.outputs:
        reason = "the output does not depend on any input that takes a gradient"
    elif not forward.outputs:
        reason = "the output carries no gradient (is it detached?)"
    elif not all(bool(torch.isfinite(t).all()) for t in forward.outputs):
        reason = "the forward pass is not finite"
    if reason:
        row = TrunkRow(False, None, None, None, None, why=reason)
        gap = NotMeasured("Jacobian growth", "trunk", reason)
        return Growth((), row, forward.trace, None, (gap,))
    return _measure(opened.model, forward, settings, cheap=cheap)


def _measure(model: nn.Module, forward: Forward, settings: Settings, *, cheap: bool) -> Growth:
    plan, graph, source = _plan(model, forward)
    sources = forward.from_input(source)
    if not plan.found:
        chain = module_chain(model, forward.trace, graph)
        plan = replace(plan, stages=chain)
        if not chain:
            row = TrunkRow(False, None, None, None, None, why=plan.why)
            gap = NotMeasured("Jacobian growth", "trunk", plan.why)
            return Growth((), row, forward.trace, None, (gap,))
    hidden = int(_role(0, plan) == "inlet") if plan.found else 0
    rms = _rms_of(plan.stages[hidden].start, sources) if hidden < len(plan.stages) else math.nan

    def open_still(logs: Logs) -> bool:
        rows = _stage_rows(plan, logs, sources, forward.outputs)
        return undecided(_trunk_row(plan, rows, logs, rms), settings)

    ladder, count = Ladder(plan.stages, settings.seed, rescale=plan.found), settings.budget.probes
    more = probes_to_spend(count, cheap=cheap) if plan.found else count
    logs = probe(forward, sources, ladder, count, up_to=more, wanted=open_still)
    if forward.reentrant:  # its backward passes left gradients behind
        model.zero_grad(set_to_none=True)
    rows = _stage_rows(plan, logs, sources, forward.outputs)
    if not plan.found:
        row = TrunkRow(False, None, None, None, None, stages=len(rows), why=plan.why)
        gap = NotMeasured("growth along a trunk", "trunk", plan.why)
        return Growth(rows, row, forward.trace, plan, (gap,))
    trunk = _trunk_row(plan, rows, logs, rms)
    made, ends = forward.trace.by_result(), [(t.grad_fn, t.output_nr) for t in forward.outputs]
    outputs = tuple(made[end] for end in ends if end in made)
    missing = tuple(_missing(rows, trunk, logs))
    return Growth(rows, trunk, forward.trace, plan, missing, source, outputs)
