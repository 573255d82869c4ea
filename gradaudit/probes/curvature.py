"""Curvature of the loss at the start, and the learning rate it bears."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from gradaudit.errors import ModelError
from gradaudit.linalg.lanczos import Bounds, Extremes, SymmetricMap, extreme_eigenvalues
from gradaudit.probes._hooks import all_finite
from gradaudit.probes._memory import give_back_memory
from gradaudit.probes._training import choose_optimizer, optimizer_name
from gradaudit.probes.expense import is_cheap
from gradaudit.probes.hessian import DIFFERENCES, DOUBLE, Hessian, second_order_kernels
from gradaudit.probes.second_moment import inverse_root, mean_square_gradient
from gradaudit.probes.stability import (
    CURVATURE_UNIT,
    PRECONDITIONED_UNIT,
    Stability,
    stability_of,
    with_ceilings,
)
from gradaudit.records import Curvature, Estimate, NotMeasured
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Batch, Objective, Opened
from gradaudit.subject.sub_batch import every_nth, rows

PLENTY = 60  # products on each matrix where a step costs next to nothing
FINE, COARSE = 1e-2, 5e-2  # relative width of the interval at which no more products are spent
_STRIDE = 4  # a quarter of the rows, where products are dear
_WHOLE_SHARE = 3  # of a batch that cannot be divided, so many times fewer products
_MOMENT_BATCHES = {"quick": 2, "standard": 2, "thorough": 8}  # a training step each
_MANY_BATCHES = 16
_SYMMETRIC = {DOUBLE: 1e-3, DIFFERENCES: 5e-2}  # asymmetry allowed, relative to the top
_SETTLED = 10.0  # the high end of an interval over its value, at most
_PRECONDITIONED = "preconditioned sharpness"
_WHY_ASYMMETRIC = (
    "the products with it are not symmetric: what backward() returns is not the derivative of the "
    "loss, or is drowned in rounding"
)


@dataclass(frozen=True)
class _Plan:
    """What to measure on, and how much to spend on it."""

    batch: Batch
    samples: int
    of_batch: int
    products: int  # on all matrices together
    tolerance: float
    batches: tuple[Batch, ...]  # for the second moment

    def undivided(self, batch: Batch) -> _Plan:
        """The same on all rows of ``batch``, for fewer products."""
        products = math.ceil(self.products / _WHOLE_SHARE)
        return replace(self, batch=batch, samples=self.of_batch, products=products)


def measure_curvature(
    opened: Opened, settings: Settings, *, cheap: bool | None = None
) -> tuple[Curvature | None, tuple[NotMeasured, ...]]:
    """Largest eigenvalues of H and, for adaptive optimizers, of ``P^-1/2 H P^-1/2``.

    Call it inside ``borrowed(model, training=True)``. H is the Hessian of the loss on the first
    batch, with respect to the trainable parameters that the optimizer holds, at the start weights,
    with one draw of the model's random numbers. ``P = diag(sqrt(v) + eps)``, ``v`` the mean over
    the batches of the squared batch gradient: what Adam's bias-corrected second moment would be
    after one step on each if the weights stood still. Entries whose gradient is zero to rounding
    are left out of the preconditioned matrix and told of: the optimizer does not move them yet, and
    ``1 / eps`` would stand for curvature. A weight decay that acts through the gradient (Adam,
    RMSprop) belongs to both H and ``v``.

    Intervals are those of :func:`gradaudit.linalg.lanczos.extreme_eigenvalues`: low ends certain,
    high ends with a probability of at least 95%. They are about this batch: fewer rows make a
    Hessian whose top is higher on average.

    Cost: where a step costs next to nothing (``cheap``, asked of :func:`is_cheap` if not given), up
    to 60 products on each matrix on the whole batch. Else ``budget.curvature_products`` together on
    every fourth row, about 0.9 training steps each, or a third as many on all rows where the batch
    cannot be divided; and one step on each of 2 batches (8 at thorough) for ``v``.

    Raises :class:`ModelError` where the user's code raises.
    """
    why = _hindrance(opened)
    plan = None if why else _plan(opened, settings, cheap)
    if plan is not None and plan.products < 1:
        why = f"effort {settings.effort} spends no Hessian-vector products"
    if plan is None or why:
        return None, (NotMeasured("sharpness", "the model", why),)
    model = opened.model
    assert model is not None
    with borrowed(model):
        return _measured(model, opened, plan, settings.seed)


def _hindrance(opened: Opened) -> str:
    if opened.model is None:
        return "only weights were opened"
    if opened.objective is None or not opened.batches:
        return "there is no data or no loss"
    trainable = [p for p in opened.model.parameters() if p.requires_grad]
    if not trainable:
        return "no parameter is trainable"
    narrow = {p.dtype for p in trainable} - {torch.float32, torch.float64}
    if narrow:
        return f"second derivatives in {narrow.pop()} would be rounding"
    if len({p.device for p in trainable}) > 1:
        return "the parameters are spread over several devices"
    return ""


def _plan(opened: Opened, settings: Settings, cheap: bool | None) -> _Plan:
    batch = opened.batches[0]
    count = rows(batch)
    size = count if count is not None else opened.sample.batch_size or 1
    if is_cheap(opened) if cheap is None else cheap:
        return _Plan(batch, size, size, 3 * PLENTY, FINE, opened.batches[:_MANY_BATCHES])
    batches = opened.batches[: _MOMENT_BATCHES[settings.effort]]
    plan = _Plan(batch, size, size, settings.budget.curvature_products, COARSE, batches)
    if count is None or count <= _STRIDE:
        return plan.undivided(batch)
    part = every_nth(batch, _STRIDE)
    return replace(plan, batch=part, samples=math.ceil(count / _STRIDE))


def _measured(
    model: nn.Module, opened: Opened, plan: _Plan, seed: int
) -> tuple[Curvature | None, tuple[NotMeasured, ...]]:
    choice = choose_optimizer(opened)
    optimizer = choice.build(model)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    moving = [p for p in model.parameters() if p.requires_grad and id(p) in held]
    if not moving:
        why = "the optimizer holds no trainable parameter"
        return None, (NotMeasured("sharpness", "the model", why),)
    assert opened.objective is not None
    stability = stability_of(optimizer)
    look = _Look(model, opened.objective, moving, opened.batches[0], plan, seed)
    look.run(stability)
    if look.plain is None and look.preconditioned is None:
        return None, tuple(look.gaps)
    row = Curvature(
        sharpness=_estimate(look.plain, CURVATURE_UNIT),
        preconditioned_sharpness=_estimate(look.preconditioned, PRECONDITIONED_UNIT),
        ceiling=None,
        optimizer=optimizer_name(choice, optimizer),
        products=look.products,
        samples=look.plan.samples,
        of_batch=plan.of_batch,
        lowest=None if look.plain is None else _bounded(look.plain.bottom, CURVATURE_UNIT),
    )
    rate = None if choice.prescribed else max(float(g["lr"]) for g in optimizer.param_groups)
    row, gaps = with_ceilings(row, stability, rate)
    return row, (*look.gaps, *gaps)


@dataclass
class _Look:
    """Spends the products: on H, and for adaptive optimizers what is left on ``P^-1 H``."""

    model: nn.Module
    objective: Objective
    moving: list[nn.Parameter]
    whole: Batch
    plan: _Plan
    seed: int
    plain: Extremes | None = None
    preconditioned: Extremes | None = None
    products: int = 0
    gaps: list[NotMeasured] = field(default_factory=list)

    def run(self, stability: Stability | NotMeasured) -> None:
        scale, penalty = None, 0.0
        if isinstance(stability, Stability) and stability.second_moment:
            # before the Hessian's graph is there: the two are never in memory together
            scale, penalty = self._scale(stability), stability.penalty
        give_back_memory()
        with second_order_kernels(self.model):
            self._spend(self._hessian(), scale, penalty)

    def _spend(self, hessian: Hessian, scale: Tensor | None, penalty: float) -> None:
        if not hessian.finite:
            self._miss("sharpness", "the loss or its gradient is not finite")
            return
        # what an adaptive optimizer feels is the preconditioned one: it gets two thirds
        share = min(PLENTY, math.ceil(self.plan.products / (1 if scale is None else 3)))
        give_back_memory()
        self.plain = self._extremes("sharpness", hessian, hessian.product, share)
        if scale is not None:
            product = _preconditioned(hessian, scale, penalty)
            left = min(PLENTY, self.plan.products - hessian.products)
            give_back_memory()
            self.preconditioned = self._extremes(_PRECONDITIONED, hessian, product, left)
        self.products = hessian.products

    def _miss(self, what: str, why: str, where: str = "the model") -> None:
        self.gaps.append(NotMeasured(what, where, why))

    def _scale(self, stability: Stability) -> Tensor | None:
        moment = mean_square_gradient(
            self.model, self.objective, self.plan.batches, self.moving, stability.penalty
        )
        if not all_finite([moment]):
            self._miss(_PRECONDITIONED, "a gradient is not finite, or its square overflows")
            return None
        scale, left_out = inverse_root(moment, stability.eps)
        if left_out == len(scale):
            self._miss(_PRECONDITIONED, "the gradient is zero")
            return None
        if left_out:
            why = (
                "their gradient is zero on every batch seen: eps alone would set their scale, so "
                "they were left out"
            )
            self._miss(_PRECONDITIONED, why, f"{left_out} of {len(scale)} weights")
        return scale

    def _hessian(self) -> Hessian:
        """The Hessian on the plan's rows, or on all where the model does not take fewer."""
        try:
            return Hessian(self.model, self.objective, self.plan.batch, self.moving)
        except ModelError:
            if self.plan.samples == self.plan.of_batch:
                raise
        self.plan = self.plan.undivided(self.whole)
        return Hessian(self.model, self.objective, self.whole, self.moving)

    def _extremes(
        self, what: str, hessian: Hessian, product: Callable[[Tensor], Tensor], products: int
    ) -> Extremes | None:
        """Lanczos on ``product``, if it turns out symmetric.

        Where it does not, second derivatives may be what is wrong (a custom backward pass that
        hides what it depends on): gradients at two points settle it.
        """
        if products < 1:
            self._miss(what, "the products were used up")
            return None
        symmetric = SymmetricMap(product, hessian.size, hessian.dtype, hessian.device)
        while True:
            generator = torch.Generator().manual_seed(self.seed)
            try:
                found = extreme_eigenvalues(
                    symmetric, products, generator, tolerance=self.plan.tolerance
                )
            except FloatingPointError:
                self._miss(what, "a product with the Hessian is not finite")
                return None
            how = hessian.how  # not before: the first product may have changed it
            if found.asymmetry <= _SYMMETRIC[how] * found.scale:
                return found if self._settled(what, found) else None
            if how == DIFFERENCES:
                self._miss(what, _WHY_ASYMMETRIC)
                return None
            hessian.use_differences()

    def _settled(self, what: str, found: Extremes) -> bool:
        """Whether the interval names at least the order of magnitude."""
        value, high = found.top.value, found.top.high
        if high <= max(_SETTLED * value, 1e-3 * found.scale):
            return True
        why = f"{found.steps} products leave it between {value:.3g} and {high:.3g}"
        self._miss(what, why)
        return False


def _preconditioned(hessian: Hessian, scale: Tensor, penalty: float) -> Callable[[Tensor], Tensor]:
    """Products with ``S (H + penalty I) S``, ``S`` the diagonal matrix of ``scale``."""

    def product(vector: Tensor) -> Tensor:
        scaled = scale * vector
        if not penalty:
            return hessian.product(scaled, out=scaled).mul_(scale)
        return hessian.product(scaled).add_(scaled, alpha=penalty).mul_(scale)

    return product


def _estimate(found: Extremes | None, unit: str) -> Estimate | None:
    return None if found is None else _bounded(found.top, unit)


def _bounded(bounds: Bounds, unit: str) -> Estimate:
    low, high = (x if math.isfinite(x) else None for x in (bounds.low, bounds.high))
    return Estimate(bounds.value, low, high, unit)
