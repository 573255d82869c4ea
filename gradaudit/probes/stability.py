"""How much curvature an optimizer bears at its learning rate: exact on quadratics.

On ``L(x) = x' H x / 2`` each optimizer here is a linear recursion along every eigenvector, stable
iff its 2 x 2 matrix has both eigenvalues inside the unit circle (trace and determinant: Jury's
conditions). All of them come out as ``rate * (gain * lambda + decay) < limit``, with ``lambda`` an
eigenvalue of H, or of ``P^-1 H`` for the adaptive ones at rest, where the second moment P stands
still (Cohen et al. 2021, arXiv 2103.00065; 2022, arXiv 2207.14484 for Adam and RMSprop).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from gradaudit.records import Curvature, Estimate, NotMeasured

CURVATURE_UNIT = "loss / parameter^2"
PRECONDITIONED_UNIT = "1 / learning rate"
RATE_UNIT = "learning rate"


@dataclass(frozen=True)
class Stability:
    """The condition ``rate * (gain * lambda + decay) < limit``, and ``rule``, how to say it.

    ``penalty`` is a weight decay that acts through the gradient and is preconditioned with it: it
    belongs to H. ``second_moment`` marks the adaptive methods, ``eps`` is what they add to the
    root of it.
    """

    rule: str
    gain: float
    decay: float
    limit: float
    second_moment: bool = False
    eps: float = 0.0
    penalty: float = 0.0

    def ceiling(self, rate: float) -> Estimate:
        """The eigenvalue at which ``rate`` is critical; exact."""
        unit = PRECONDITIONED_UNIT if self.second_moment else CURVATURE_UNIT
        return Estimate.exact((self.limit / rate - self.decay) / self.gain, unit)

    def rate_ceiling(self, curvature: Estimate) -> Estimate | NotMeasured:
        """The rate at which the measured eigenvalue is critical, with its interval.

        Not measured where the curvature's interval is not positive from its value up: there is no
        rate then that this curvature forbids.
        """
        highest = self._rate(curvature.value)
        if highest is None:
            why = "no direction of positive curvature was found: none forbids a rate"
            return NotMeasured("rate ceiling", "the model", why)
        low = None if curvature.high is None else self._rate(curvature.high)
        high = None if curvature.low is None else self._rate(curvature.low)
        return Estimate(highest, low, high, RATE_UNIT)

    def _rate(self, eigenvalue: float) -> float | None:
        if eigenvalue <= 0:
            return None
        return self.limit / (self.gain * eigenvalue + self.decay)


def stability_of(optimizer: torch.optim.Optimizer) -> Stability | NotMeasured:
    """The stability condition of a torch optimizer with its own numbers.

    Of several parameter groups the largest weight decay counts. Not measured for optimizers with
    no closed form here, and for groups that move at different rates or in different ways.
    """
    kind, groups = type(optimizer).__name__.lower(), optimizer.param_groups
    if type(optimizer).__module__.partition(".")[0] != "torch":
        return _unknown(f"no closed form is known here for {type(optimizer).__name__}")
    group = {**groups[0], "weight_decay": max(float(g.get("weight_decay", 0)) for g in groups)}
    rule = _RULES.get(kind)
    if rule is None:
        return _unknown(f"no closed form is known here for {type(optimizer).__name__}")
    if any(g.get("maximize") for g in groups):
        return _unknown("the optimizer climbs (maximize=True)")
    for key in ("lr", "momentum", "dampening", "nesterov", "betas", "eps", "centered"):
        if any(g.get(key) != group.get(key) for g in groups):
            return _unknown(f"the parameter groups differ in {key}: no single ceiling holds")
    return rule({key: _plain(value) for key, value in group.items() if key != "params"})


def with_ceilings(
    row: Curvature, stability: Stability | NotMeasured, rate: float | None
) -> tuple[Curvature, list[NotMeasured]]:
    """``row`` with both readings of the condition, and what is missing for them.

    ``rate`` is the recipe's, ``None`` where it gives none.
    """
    if isinstance(stability, NotMeasured):
        return row, [stability]
    gaps = []
    row = replace(row, rule=stability.rule)
    if rate:
        row = replace(row, ceiling=stability.ceiling(rate))
    else:
        gaps.append(NotMeasured("curvature ceiling", "the recipe", "no learning rate was given"))
    felt = row.preconditioned_sharpness if stability.second_moment else row.sharpness
    if felt is not None:
        bears = stability.rate_ceiling(felt)
        if isinstance(bears, NotMeasured):
            gaps.append(bears)
        else:
            row = replace(row, rate_ceiling=bears)
    return row, gaps


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) else value


def _unknown(why: str) -> NotMeasured:
    return NotMeasured("curvature ceiling", "the recipe", why)


def _sgd(group: Mapping[str, Any]) -> Stability:
    momentum, dampening = float(group["momentum"]), float(group["dampening"])
    decay = float(group["weight_decay"])
    if momentum == 0:
        return Stability(_said("2 / lr", decay), 1.0, decay, 2.0)
    if group["nesterov"]:
        gain = 1 + 2 * momentum
        rule = "(2 + 2 momentum) / ((1 + 2 momentum) lr)"
    else:
        gain = 1 - dampening
        rule = "(2 + 2 momentum) / lr"
        if dampening:
            rule = "(2 + 2 momentum) / ((1 - dampening) lr)"
    return Stability(_said(rule, decay), gain, gain * decay, 2 + 2 * momentum)


def _said(rule: str, decay: float) -> str:
    return f"{rule} - weight decay" if decay else rule


def _adam(group: Mapping[str, Any]) -> Stability:
    first, decay = float(group["betas"][0]), float(group["weight_decay"])
    rule = "(2 + 2 beta1) / ((1 - beta1) lr)"
    gain, limit, eps = 1 - first, 2 + 2 * first, float(group["eps"])
    if group.get("decoupled_weight_decay"):
        rule = f"{rule} - weight decay (1 + beta1) / (1 - beta1)" if decay else rule
        return Stability(rule, gain, (1 + first) * decay, limit, True, eps)
    return Stability(rule, gain, 0.0, limit, True, eps, penalty=decay)


def _adamw(group: Mapping[str, Any]) -> Stability:
    return _adam({**group, "decoupled_weight_decay": True})


def _rmsprop(group: Mapping[str, Any]) -> Stability | NotMeasured:
    if group["centered"]:
        return _unknown("centered RMSprop divides by the variance, which few batches do not show")
    momentum, decay = float(group["momentum"]), float(group["weight_decay"])
    rule = "(2 + 2 momentum) / lr" if momentum else "2 / lr"
    eps = float(group["eps"])
    return Stability(rule, 1.0, 0.0, 2 + 2 * momentum, True, eps, penalty=decay)


_RULES = {"sgd": _sgd, "adam": _adam, "adamw": _adamw, "rmsprop": _rmsprop}
