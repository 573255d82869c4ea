"""What else may help where what the findings call for does not: rates, a steady recipe, LSUV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gradaudit.judging import Judged
from gradaudit.mending.change import START, changed
from gradaudit.mending.lsuv import lsuv
from gradaudit.records import Measurements, Remedy
from gradaudit.remedies._code import rounded
from gradaudit.remedies.learning_rate import ADAPTIVE_MOST, CLASSES
from gradaudit.rules._judge import is_adaptive, optimizer_in_use
from gradaudit.rules._outlook import recipe_to_blame
from gradaudit.settings import Settings
from gradaudit.subject import Opened

if TYPE_CHECKING:
    from gradaudit.mending.search import Tried

_STEADY_RATES = (1e-3, 3e-3, 3e-4)
_USUAL = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3}  # torch's, and He et al. 2016
_CLIP = 1.0  # Pascanu et al. 2013 and most transformer recipes since


def further(
    opened: Opened,
    base: Sequence[Remedy],
    before: Judged,
    last: Tried | None,
    settings: Settings,
) -> Iterator[tuple[Remedy, ...]]:
    """Sets to try, the milder first: other rates, AdamW with warm-up, then orthogonal layers."""
    kept = tuple(each for each in base if each.id not in ("learning-rate", "steady-recipe"))
    seen = (last.judged if last is not None else before).measurements
    start = _without_recipe(kept)
    steady = [(*start, steady_recipe(before.measurements, rate)) for rate in _STEADY_RATES]
    rates = [with_rate(kept, seen, rate) for rate in _rates(seen)]
    anew = () if before.measurements.state.state == "trained" else _anew(opened, start, settings)
    if recipe_to_blame(before.measurements):
        yield from (*rates, *steady[:2], *anew)
    else:
        yield from (*rates[:1], *anew[:2], steady[0], *rates[1:], *anew[2:], steady[1])
    yield steady[2]


def _anew(
    opened: Opened, start: tuple[Remedy, ...], settings: Settings
) -> tuple[tuple[Remedy, ...], ...]:
    """Orthogonal layers of unit variance, alone and under steady recipes."""
    with changed(opened, [each for each in start if each.kind == "data"], settings.seed) as it:
        scaled = lsuv(it, settings.seed)
    if scaled is None:
        return ()
    others = [each for each in start if not set(each.sets) & set(scaled.sets)]
    recipe = opened.recipe
    steady = (steady_recipe_for(recipe.steps, rate) for rate in _STEADY_RATES)
    return ((*others, scaled), *((*others, scaled, each) for each in steady))


def _without_recipe(remedies: Sequence[Remedy]) -> tuple[Remedy, ...]:
    return tuple(each for each in remedies if each.safety == START or each.kind == "data")


def _rates(measurements: Measurements) -> tuple[float, ...]:
    """Lower where the loss left or bounced, higher where it moved too slowly."""
    given, outlook = rate_in_use(measurements), measurements.outlook
    if given is None:
        return ()
    rehearsal = measurements.rehearsal
    bounced = rehearsal is not None and rehearsal.outcome == "diverges"
    if outlook is not None:
        own = outlook.own
        bounced = bounced or own.broke_at is not None or own.end > 1.2 * own.lowest
    name = optimizer_in_use(measurements).lower()
    if bounced:
        highest = min(given * 0.1, ADAPTIVE_MOST) if is_adaptive(name) else given * 0.1
        return tuple(rounded(highest * factor) for factor in (1.0, 0.1, 0.01))
    usual = _USUAL.get(name, 1e-3) * (1 - min(measurements.recipe.momentum or 0.0, 0.99))
    if given < usual / 3:
        return tuple(rounded(usual * factor) for factor in (1.0, 10.0, 0.1))
    return tuple(rounded(given * factor) for factor in (10.0, 100.0, 0.1))


def trained_with(measurements: Measurements) -> tuple[str, float] | None:
    """The optimizer and the rate of the longest training seen."""
    outlook, rehearsal = measurements.outlook, measurements.rehearsal
    if outlook is not None and outlook.own.lr:
        return outlook.own.optimizer, outlook.own.lr
    if rehearsal is not None and rehearsal.rates:
        return rehearsal.optimizer, max(rehearsal.rates)
    return None


def rate_in_use(measurements: Measurements) -> float | None:
    """The rate of the longest training seen."""
    used = trained_with(measurements)
    return None if used is None else used[1]


def with_rate(
    remedies: Sequence[Remedy], measurements: Measurements, rate: float
) -> tuple[Remedy, ...]:
    """The set with another rate; a steady recipe stays one."""
    rate = float(f"{rate:.2g}")  # nobody types more
    if any(each.id == "steady-recipe" for each in remedies):
        other = steady_recipe_for(measurements.recipe.steps, rate)
        return tuple(other if each.id == "steady-recipe" else each for each in remedies)
    kept = tuple(each for each in remedies if each.id != "learning-rate")
    return (*kept, rate_remedy(measurements, rate))


def rate_remedy(measurements: Measurements, rate: float) -> Remedy:
    """Another rate for the optimizer in use."""
    given = measurements.recipe.optimizer
    return Remedy(
        "learning-rate",
        "recipe",
        f"Train at a learning rate of {rate} (found by training with it).",
        {"lr": rate, "basis": "found by training with it"},
        "# `optimizer` is your torch.optim.Optimizer.\n"
        "for group in optimizer.param_groups:\n"
        f'    group["lr"] = {rate!r}\n'
        if given is not None
        else _made(measurements.rehearsal.optimizer if measurements.rehearsal else "adamw", rate),
        "recipe only",
        ("GA601", "GA602", "GA603", "GA604", "GA605"),
    )


def _made(name: str, rate: float) -> str:
    kind = CLASSES.get(name, "AdamW")
    return (
        "# `model` is your torch.nn.Module.\nimport torch\n\n"
        f"optimizer = torch.optim.{kind}(model.parameters(), lr={rate!r})\n"
    )


def steady_recipe(measurements: Measurements, rate: float) -> Remedy:
    """The steady recipe for as many steps as the user means to take."""
    return steady_recipe_for(measurements.recipe.steps, rate)


def steady_recipe_for(steps: int, rate: float) -> Remedy:
    """AdamW with a short warm-up, clipping, and a cosine to zero: what most nets bear."""
    warmup = max(1, min(100, steps // 10))
    return Remedy(
        "steady-recipe",
        "recipe",
        f"Train with AdamW at a learning rate of {rate}, reached over {warmup} steps and lowered "
        f"to 0 along a cosine, gradients clipped at {_CLIP}.",
        {
            "optimizer": "adamw",
            "lr": rate,
            "momentum": None,
            "betas": (0.9, 0.999),
            "eps": 1e-8,
            "weight_decay": 0.01,
            "clip_norm": _CLIP,
            "warmup_steps": warmup,
            "schedule": "cosine",
        },
        "# `model` is your torch.nn.Module. Call schedule.step() after each optimizer.step(), and\n"
        f"# torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={_CLIP}) before it.\n"
        "import math\n\nimport torch\nfrom torch.optim.lr_scheduler import LambdaLR\n\n"
        f"WARMUP, STEPS = {warmup}, {steps}\n"
        f"optimizer = torch.optim.AdamW(model.parameters(), lr={rate!r}, weight_decay=0.01)\n"
        "schedule = LambdaLR(\n"
        "    optimizer,\n"
        "    lambda step: min(1.0, (step + 1) / WARMUP)\n"
        "    * 0.5 * (1 + math.cos(math.pi * min(1.0, step / STEPS))),\n"
        ")\n",
        "recipe only",
        ("GA601", "GA602", "GA603", "GA604", "GA605"),
    )
