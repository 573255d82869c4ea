"""The largest singular values of every stage's Jacobian, and of the whole chain behind the inlet.

A gain is an average over directions; the largest singular value is what the worst direction meets.
The maps are those of the growth probe: d(stage end) / d(stage start) over the whole batch as one
vector, at one forward pass (one draw of dropout's masks). Values come from Golub-Kahan-Lanczos (see
:mod:`gradaudit.linalg.top_values`) on products by reverse-mode differentiation
(:mod:`gradaudit.probes.stage_maps`). Small models are measured in a float64 pass.
Cost: per Lanczos step about ``PAIR_COST`` training steps for a pass over all stages, and as much
again for the chain as a whole. Where that is too dear, the stages that grow or shrink most.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from gradaudit.linalg.golub_kahan import NormBounds
from gradaudit.linalg.top_values import NotFinite, top_singular_values
from gradaudit.probes.cotangents import map_inputs, run_forward
from gradaudit.probes.expense import is_cheap
from gradaudit.probes.growth import Growth
from gradaudit.probes.kernels import math_kernels
from gradaudit.probes.stage_maps import Cuts, StageMap, at_tensors, chain_map, runs_past
from gradaudit.probes.trace import Op, l2_norm
from gradaudit.records import Estimate, NotMeasured, StageRow, TrunkRow
from gradaudit.settings import Settings
from gradaudit.subject import Opened, borrowed
from gradaudit.telling import first_line

UNIT = "singular value"
WHAT = "singular values of stages"
WHAT_OF_CHAIN = "end-to-end singular values"
CHEAP_STEPS = 20
MOST_STAGES = 16
PAIR_COST = 1.75  # training steps for a product with the whole chain's Jacobian and its transpose
LEAST_STEPS = 4  # where memory allows no more, the bounds would say nothing
SMALL_BASIS = 2**22  # entries: 16 MiB in float32, whatever the size of the model
SAME_PASS = 1e-2  # relative difference between norms of the same tensor in two passes
_OVER = 2.0**1000
_REPEATS_NOT = "the forward pass does not repeat itself under the same seed"

Found = tuple[tuple[StageRow, ...], TrunkRow, tuple[NotMeasured, ...]]


@dataclass(frozen=True)
class _Spending:
    """Lanczos steps per map, of how many stages, and whether of the whole chain too."""

    steps: int
    stages: int
    whole: bool

    @classmethod
    def of(cls, settings: Settings, stages: int, *, cheap: bool) -> _Spending:
        """What the effort affords; the worst stage at least, if any."""
        if cheap:
            return cls(CHEAP_STEPS, MOST_STAGES, True)
        steps, cost = settings.budget.singular_steps, settings.budget.singular_cost
        over_all = PAIR_COST * steps
        if cost >= 2 * over_all:
            return cls(steps, MOST_STAGES, True)
        return cls(steps, max(1, min(MOST_STAGES, int(cost / over_all * stages))), False)


class _Unlike(RuntimeError):
    """The second pass is not the pass that the trunk was found in."""


@dataclass(frozen=True)
class _Chain:
    """The stages as linear maps, and what numbers they are measured in."""

    maps: tuple[StageMap, ...]
    dtype: torch.dtype
    device: torch.device
    basis_entries: int

    def top(self, first: int, last: int, steps: int, seed: int) -> tuple[NormBounds, ...]:
        """Largest singular values of stages ``first`` to ``last`` together, less their exponent."""
        whole = chain_map(self.maps[first : last + 1], self.dtype, self.device)
        side = min(whole.rows, whole.columns)
        steps = side if side <= 2 * steps else steps
        steps = min(steps, self.basis_entries // side)
        if steps < min(LEAST_STEPS, side):
            raise _Unlike(
                f"a basis of vectors of {side:,} entries takes more memory than the model"
            )
        return top_singular_values(whole, steps, torch.Generator().manual_seed(seed))

    def exponent(self, first: int, last: int) -> int:
        """The power of two the stages' Jacobians were divided by."""
        return sum(stage.exponent for stage in self.maps[first : last + 1])


class _Look:
    """Keeps the gradient edge of every trunk tensor, and compares it with the growth probe's."""

    def __init__(self, ops: Sequence[Op]) -> None:
        self.wanted = {op.ordinal: op for op in ops}
        self.edges: dict[int, GradientEdge] = {}

    def __call__(self, ordinal: int, tensor: Tensor) -> None:
        op = self.wanted.get(ordinal)
        if op is None:
            return
        norm, before = float(l2_norm(tensor)), float(op.norm)
        same = tuple(tensor.shape) == op.shape and tensor.grad_fn is not None
        if not same or not math.isclose(norm, before, rel_tol=SAME_PASS):
            raise _Unlike(_REPEATS_NOT)
        self.edges[ordinal] = get_gradient_edge(tensor)


@contextmanager
def _in_precision(opened: Opened, dtype: torch.dtype) -> Iterator[Opened]:
    """The subject with its model and first batch in ``dtype``, and kernels that differentiate."""
    assert opened.model is not None
    floating = [p.dtype for p in opened.model.parameters() if p.is_floating_point()]
    with math_kernels(opened.model):
        if all(d == dtype for d in floating):
            yield opened
            return
        with borrowed(opened.model) as model:
            model.to(dtype)
            torch.set_default_dtype(dtype)
            batch = map_inputs(opened.batches[0], lambda value: value.to(dtype), masks=True)
            if isinstance(batch.target, Tensor) and batch.target.is_floating_point():
                batch = replace(batch, target=batch.target.to(dtype))
            yield replace(opened, batches=(batch,))


def _lay_out(opened: Opened, growth: Growth, settings: Settings, dtype: torch.dtype) -> _Chain:
    """One forward pass cut into maps at the growth probe's trunk tensors."""
    assert opened.model is not None
    assert growth.plan is not None
    stages = growth.plan.stages
    look = _Look([op for s in stages for op in (s.start, s.end) if op is not None])
    torch.manual_seed(settings.seed)  # the same dropout masks as the pass that found the trunk
    forward = run_forward(opened.model, opened, look=look)
    if forward.reentrant:
        raise _Unlike("reentrant checkpointing hides its graph (use_reentrant=False shows it)")
    if len(forward.outputs) != len(growth.outputs) or len(look.edges) < len(look.wanted):
        raise _Unlike(_REPEATS_NOT)
    cuts = Cuts(forward, look.edges)
    inputs, first = forward.from_input(growth.source), stages[0].start
    cut = at_tensors(inputs) if first is None else cuts.at(first)
    maps = []
    for stage, row in zip(stages, growth.stages, strict=True):
        end = cuts.at_output() if stage.end is None else cuts.at(stage.end)
        gain = row.backward_gain.value if row.backward_gain else 0.0
        maps.append(StageMap(cut, end, round(math.log2(gain) / 2) if gain > 0 else 0))
        cut = end
    ends = {edge.node for edge in cuts.at_output().edges}
    whole = stages[-1].end is None or ends == {edge.node for edge in cut.edges}
    if not whole or runs_past(maps, {edge.node for edge in at_tensors(inputs).edges}):
        raise _Unlike("with kernels that can be differentiated twice, paths run past the trunk")
    parameters = sum(p.numel() for p in opened.model.parameters())
    device = forward.outputs[0].device
    return _Chain(tuple(maps), dtype, device, max(parameters, SMALL_BASIS))


def _estimates(bounds: Sequence[NormBounds], exponent: int) -> tuple[Estimate, ...]:
    """Bounds in units of ``2 ** exponent`` as estimates; raises where float64 cannot hold them."""
    made = []
    for bound in bounds:
        largest = bound.high if math.isfinite(bound.high) else bound.value
        size = math.log2(largest) + exponent if largest > 0 else 0.0
        if abs(size) > math.log2(_OVER):
            raise NotFinite(f"its size, 1e{size * math.log10(2):+.0f}, is out of float64's range")
        value, low, high = (
            math.ldexp(x, exponent) if math.isfinite(x) else None
            for x in (bound.value, bound.low, bound.high)
        )
        made.append(Estimate(value or 0.0, low, high, UNIT))
    return tuple(made)


def _why(error: Exception) -> str:
    if isinstance(error, (_Unlike, NotFinite)):
        return str(error)
    return f"an operation cannot be differentiated twice ({first_line(error)[:160]})"


def _chosen(rows: Sequence[StageRow], most: int) -> list[int]:
    """The stages whose gain is furthest from one, in order."""

    def distance(row: StageRow) -> float:
        gain = row.backward_gain.value if row.backward_gain else 0.0
        return abs(math.log(gain)) if gain > 0 else math.inf

    worst = sorted(rows, key=distance, reverse=True)[:most]
    return sorted(row.index for row in worst)


def _fill(growth: Growth, chain: _Chain, spending: _Spending, settings: Settings) -> Found:
    """Every chosen stage, then the chain from the first hidden tensor to the output."""
    rows, gaps = list(growth.stages), []

    def take(first: int, last: int, what: str, where: str) -> tuple[Estimate, ...]:
        try:
            bounds = chain.top(first, last, spending.steps, settings.seed + 2000 + first)
            return _estimates(bounds, chain.exponent(first, last))
        except (RuntimeError, NotImplementedError, ArithmeticError) as error:
            gaps.append(NotMeasured(what, where, _why(error)))
            return ()

    chosen = _chosen(rows, spending.stages)
    for i in chosen:
        rows[i] = replace(rows[i], top_singular_values=take(i, i, WHAT, rows[i].name))
    if len(chosen) < len(rows):
        why = f"measured where the gain is furthest from one, {len(chosen)} of {len(rows)} stages"
        gaps.append(NotMeasured(WHAT, "the other stages", why))
    trunk, last = growth.trunk, len(rows) - 1
    hidden = 1 if rows[0].role == "inlet" else 0
    if hidden > last:
        why = "there is no hidden tensor: the only stage runs from input to output"
        gaps.append(NotMeasured(WHAT_OF_CHAIN, "end to end", why))
    elif not spending.whole:
        why = f"effort {settings.effort} affords none of the whole chain of a model of this size"
        gaps.append(NotMeasured(WHAT_OF_CHAIN, "end to end", why))
    else:
        trunk = replace(trunk, top_singular_values=take(hidden, last, WHAT_OF_CHAIN, "end to end"))
    return tuple(rows), trunk, tuple(gaps)


def measure_singular_values(
    opened: Opened, growth: Growth, settings: Settings, *, cheap: bool | None = None
) -> Found:
    """The growth probe's stage rows and trunk row with ``top_singular_values`` filled in.

    Up to three values each, largest first, not squared; what could not be measured comes last with
    its reason. ``low`` is a Ritz value and holds to rounding; ``high`` holds with 95% probability
    over the random start (for the smaller values it is that of the largest, until a Krylov space is
    used up and they are exact).

    ``cheap``: whether a step costs next to nothing; asked of :func:`is_cheap` if not given. To be
    called inside ``borrowed(model)``, after :func:`measure_growth` with the same settings.
    """
    rows, trunk, plan = growth.stages, growth.trunk, growth.plan

    def skip(why: str) -> Found:
        return rows, trunk, (NotMeasured(WHAT, "trunk", why),) if rows else ()

    if plan is None or not plan.found:
        return skip("there is no trunk")
    cheap = is_cheap(opened) if cheap is None else cheap
    spending = _Spending.of(settings, len(rows), cheap=cheap)
    if spending.steps < LEAST_STEPS:
        return skip(f"effort {settings.effort} affords no Lanczos steps on a model of this size")
    if cheap:
        # A model may not run in float64, whatever its code then raises: it is measured as it is.
        with suppress(Exception), _in_precision(opened, torch.float64) as subject:
            chain = _lay_out(subject, growth, settings, torch.float64)
            return _fill(growth, chain, spending, settings)
    try:
        with _in_precision(opened, torch.float32) as subject:
            chain = _lay_out(subject, growth, settings, torch.float32)
            return _fill(growth, chain, spending, settings)
    except (RuntimeError, NotImplementedError) as error:
        return skip(_why(error))
