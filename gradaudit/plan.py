"""About what each phase costs, in seconds of one core: for the time shown as left, nothing else.

In units of a training step, as the effort's budget counts: fitted to the samples and a few corpus
recipes. What is wrong by a factor for all phases alike does not matter, because the pace is
measured on the way.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from gradaudit.probes.expense import Expense
from gradaudit.settings import Budget

MEASURING, SEARCHING, READING = "Measuring", "Finding a cure", "Reading weights"
_PROBE, _TANGENT, _PRODUCT = 0.6, 3.0, 4.0  # training steps that one of each costs
_HALF, _FIXED = 6.0, 4.0  # steps: half-precision runs; the forward passes around a phase
_LANCZOS_FLOPS = 4.0  # per entry of a weight and Lanczos step, there and back
_MEMORY = 8.0  # a matrix-vector product is that much slower than the products of a step
_FLOPS = 4.5e10  # per second, as in gradaudit.probes.expense
_PER_WEIGHT = 2e-3  # seconds
_OUTLOOK = 1.6  # seconds that a second of the allowance takes
_USUAL_TRIALS = 4  # of those that may be made
_TRIAL, _PROOF = 0.6, 0.65  # of what measuring took


def measuring(
    expense: Expense, budget: Budget, model: nn.Module, *, steps: int, real: bool
) -> Mapping[str, float]:
    """The phases of one audit in their order; ``real``: on data that are not made up."""
    step = expense.seconds
    phases = {
        "gradients of the loss": step * (2 * budget.gradient_batches + 2 * _FIXED),
        "Jacobian growth": step
        * (budget.probes * _PROBE + budget.tangents * _TANGENT + budget.singular_cost + _FIXED),
        "gradient through time": step * _FIXED if _recurrent(model) else 0.0,
        "attention": step * 2,
        "spectral norms": weights_cost(model, budget),
        "half-precision range": step * _HALF,
    }
    if real:
        phases |= {
            "curvature": step * (budget.curvature_products * _PRODUCT + _FIXED),
            "learning-rate range": step * (budget.range_steps + _FIXED),
            "rehearsal": step * (1.5 * budget.rehearsal_steps + _FIXED),
            "training small nets on": outlook_cost(step, budget, steps),
        }
    return phases | {"judging": 0.05}


def outlook_cost(step: float, budget: Budget, steps: int) -> float:
    """Of training beyond the rehearsal, which stops early as often as not."""
    affordable = _OUTLOOK * min(budget.allowance, 1.5 * steps * step)
    return affordable if affordable > 24 * step else 0.0


def searching(measured: float, trials: int) -> Mapping[str, float]:
    """The phases of a search, from the seconds that measuring took: a trial is a part of that."""
    usual = min(trials, _USUAL_TRIALS)
    each = _TRIAL * measured
    phases = {trial(i + 1): each * (i < usual) for i in range(trials)}
    return phases | {PROVING: _PROOF * measured}


PROVING = "proving the changes"


def trial(number: int) -> str:
    """Name of the phase of one trial."""
    return f"trial {number}"


def weights_cost(model: nn.Module, budget: Budget) -> float:
    """Of the spectral norms: a few products with each weight, or its decomposition if small."""
    sizes = [p.numel() for p in model.parameters() if p.dim() > 1]
    work = _LANCZOS_FLOPS * _MEMORY * budget.lanczos_steps * sum(sizes) / _FLOPS
    return work + _PER_WEIGHT * len(sizes)


def _recurrent(model: nn.Module) -> bool:
    return any(isinstance(m, nn.RNNBase | nn.RNNCellBase) for m in model.modules())
