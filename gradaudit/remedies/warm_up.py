"""Warm the rate up, and lower it along a cosine: for nets whose first steps are the hardest.

The only owner of ``warmup_steps`` and ``schedule``. Adam's second moment, and the gradient of a
post-norm net's last blocks, are at their worst at the start (Xiong et al. 2020, arXiv 2002.04745;
Liu et al. 2020, arXiv 1908.03265; Ma and Yarats, arXiv 1910.04209, for the length). It takes both:
a post-norm net of 20 blocks at three times the best rate of Adam was left with 36% of its loss,
with a warm-up 23%, with a cosine besides 10% (tests/benchmarks/warm_up.py). Far above it neither
helps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies import learning_rate
from gradaudit.remedies._layers import codes
from gradaudit.remedies._post_norm import post_norm_stages
from gradaudit.rules._judge import is_adaptive
from gradaudit.settings import Settings

ORDER = 61

_ANSWERS = ("GA601", "GA604", "GA605")
_SETTLED = 2000  # 2 / (1 - beta2) at beta2 = 0.999: Ma and Yarats, arXiv 1910.04209
_SHARES = {
    "constant": "rise",
    "linear": "rise * (1 - done)",
    "cosine": "rise * 0.5 * (1 + math.cos(math.pi * done))",
}
_FALLS = {"constant": "", "linear": " and lower it to 0", "cosine": " and lower it along a cosine"}


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy, where the recipe has no warm-up, an adaptive method or a post-norm net is the
    reason, and no rate was found that training bears from its first step.
    """
    recipe = measurements.recipe
    rates = learning_rate.prescribe(findings, measurements, settings)
    rate = next(iter(rates), None)
    from_curvature = rate is not None and rate.parameters["basis"] == learning_rate.CURVATURE
    too_large = {f.code for f in findings if f.code in _ANSWERS and not _too_small(f)}
    if recipe.warmup or learning_rate.others_fail(findings) or not (too_large or from_curvature):
        return
    post_norm = bool(post_norm_stages(measurements))
    if not post_norm and not is_adaptive(learning_rate.optimizer_of(measurements)):
        return
    if not post_norm and rate is not None and not from_curvature:
        return  # that rate was sustained from the first step on
    steps, schedule = warmup_steps(measurements), recipe.schedule or "cosine"
    yield Remedy(
        "warm-up",
        "recipe",
        f"Raise the learning rate to its full size over {steps} steps{_FALLS[schedule]}"
        + (f" over all {recipe.steps}." if schedule != "constant" else "."),
        {"warmup_steps": steps, "schedule": schedule},
        _code(steps, recipe.steps, schedule),
        "recipe only",
        tuple(code for code in _ANSWERS if code in codes(findings)) or ("GA604",),
    )


def _too_small(finding: Finding) -> bool:
    return finding.code == "GA605" and finding.measured.value < finding.limit.value


def warmup_steps(measurements: Measurements) -> int:
    """Steps until an adaptive method's second moment has settled, a tenth of all at most."""
    recipe = measurements.recipe
    settled = _SETTLED
    if recipe.betas is not None and recipe.betas[1] < 1:
        settled = round(2 / (1 - recipe.betas[1]))
    return max(1, min(settled, recipe.steps // 10))


def _code(warmup: int, steps: int, schedule: str) -> str:
    return (
        "# `optimizer` is your torch.optim.Optimizer.\n"
        "# Call schedule.step() after every optimizer.step().\n"
        "import math\n"
        "\n"
        "from torch.optim.lr_scheduler import LambdaLR\n"
        "\n"
        f"WARMUP, STEPS = {warmup}, {steps}\n"
        "\n"
        "\n"
        "def share(step):\n"
        "    rise, done = min(1.0, (step + 1) / WARMUP), min(1.0, step / STEPS)\n"
        f"    return {_SHARES[schedule]}\n"
        "\n"
        "\n"
        "schedule = LambdaLR(optimizer, share)\n"
    )
