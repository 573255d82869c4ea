"""Rehearsal: a borrowed model takes the recipe's own steps on the sample, and is put back.

At initialization no threshold on rate or curvature decides alone whether a recipe trains
(progressive sharpening, catapults, unsettled moment estimates): a few of its own steps do.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

from gradaudit.probes._estimates import median_estimate, wilson
from gradaudit.probes._run import Run, updates_watched
from gradaudit.probes._training import Choice, choose_optimizer, optimizer_name, step_hindrance
from gradaudit.records import Estimate, NotMeasured, Recipe, Rehearsal
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Batch, Opened
from gradaudit.telling import listed

MEASURED = 6  # steps of a rehearsal whose updates are looked at: each costs a copy of the weights
VISITS = 3  # each batch is seen about this often, so that its own losses can be compared
RATIO_UNIT = "||step|| / ||weight||, at the full rate, median over steps"
LOWER = (0.1, 0.01, 0.001)  # of a rate that broke: what is tried instead


@dataclass(frozen=True)
class RehearsalResult:
    """The rehearsal, and each parameter's median update-to-weight ratio over its steps.

    The ratios are those at the full rate: a step of the warm-up is scaled up to it.
    """

    rehearsal: Rehearsal | None
    update_ratios: Mapping[str, Estimate]
    not_measured: tuple[NotMeasured, ...]


@dataclass(frozen=True)
class _Tried:
    run: Run
    outcome: str


def rehearse(
    opened: Opened, settings: Settings, *, lr: float | None = None, steps: int | None = None
) -> RehearsalResult:
    """Take ``steps`` (default: the effort's) steps of the recipe, at ``lr`` instead of its own.

    Call it inside ``borrowed(model, training=True)``; the weights come back as they were. With
    an optimizer or a rate missing the steps are *prescribed*: AdamW, at ``lr`` (the range test's)
    or 1e-3. Where such a rate breaks, that says little about the model: a tenth, a hundredth and a
    thousandth of it are rehearsed too, and the first under which the loss falls is reported.
    Batches are cycled, no more of them than can be seen three times. The warm-up is taken as it is
    if it fits into half of the steps, else it is shortened to that, which is harsher, and said in
    ``not_measured``. Everything runs in float32, whatever the recipe's precision.

    ``outcome``: *diverges* where a loss or gradient is not finite or the loss leaves for good,
    *falls* where it falls beyond its noise and fast enough that the recipe's steps would take off
    at least the limit ``rate_floor_fall``, else *flat*. Cost: one training step a step, and one
    more for a model that draws random numbers (three forward passes, see
    :meth:`Run.take_first_again`); where a given rate diverges, a few more to find a lower one under
    which it falls, and where a prescribed one breaks up to as many again.

    Raises :class:`ModelError` where the user's code raises.
    """
    count = settings.budget.rehearsal_steps if steps is None else steps
    why = _hindrance(opened, count)
    if why:
        return RehearsalResult(None, {}, (NotMeasured("rehearsal", "the model", why),))
    choice = choose_optimizer(opened, lr)
    floor = settings.limit("rate_floor_fall").value
    first = _try(opened, choice, count, floor)
    run, outcome, rescued = first.run, first.outcome, None
    if choice.prescribed and opened.recipe.lr is None:
        # the default rate is low already: flat under it is not too high
        if outcome == "diverges" or (outcome == "flat" and lr is not None):
            best = _best([first, *_lowered(opened, choice, run, count, floor)])
            run, outcome = best.run, best.outcome
    elif outcome == "diverges":
        rescued = _rescue(opened, choice, run, count, floor)
    used = opened.batches[: max(1, count // VISITS)]
    rehearsal = _record(run, choice, outcome, rescued, used)
    missing = [*run.missing, *_caveats(opened.recipe, choice, count), *_still(run)]
    ratios = {name: median_estimate(values, RATIO_UNIT) for name, values in run.ratios.items()}
    return RehearsalResult(rehearsal, ratios, tuple(missing))


def _hindrance(opened: Opened, steps: int) -> str:
    if opened.model is None:
        return "only weights were opened"
    if opened.objective is None or not opened.batches:
        return "there is no data or no loss"
    if not any(p.requires_grad for p in opened.model.parameters()):
        return "no parameter is trainable"
    return step_hindrance(opened) if steps > 0 else "no steps were asked for"


def _try(opened: Opened, choice: Choice, steps: int, floor: float, fraction: float = 1.0) -> _Tried:
    run = _attempt(opened, choice, steps, fraction=fraction)
    return _Tried(run, _outcome(run, opened.recipe.steps, floor))


def _lowered(
    opened: Opened, choice: Choice, broken: Run, steps: int, floor: float
) -> Iterator[_Tried]:
    """Rehearsals at lower and lower rates until the loss falls, twice ``steps`` steps in all.

    None where not even the first step could be taken: no rate had a part in that.
    """
    left = 2 * steps - len(broken.losses)
    for fraction in LOWER if broken.losses else ():
        if left < 3:  # no curve
            return
        tried = _try(opened, choice, min(steps, left), floor, fraction)
        yield tried
        if tried.outcome == "falls":
            return
        left -= len(tried.run.losses)


def _best(tried: Sequence[_Tried]) -> _Tried:
    """The one whose loss falls, else the first that does not diverge, else the first."""
    return min(tried, key=lambda t: ("falls", "flat", "diverges").index(t.outcome))


def _attempt(
    opened: Opened, choice: Choice, steps: int, *, fraction: float = 1.0, brief: bool = False
) -> Run:
    """Up to ``steps`` steps at ``fraction`` of the rate; the weights are put back afterwards.

    A ``brief`` attempt takes no more than the losses it is judged by: instead of the last step a
    forward pass, and no first loss again on the way.
    """
    model = opened.model
    assert model is not None
    used = opened.batches[: max(1, steps // VISITS)]
    warmup = shortened_warmup(opened.recipe.warmup, steps)
    retakes = set() if brief else {math.ceil(steps * part / 3) for part in (1, 2, 3)}
    stride = max(2, math.ceil(steps / MEASURED))
    with borrowed(model):
        optimizer = choice.build(model)
        run = Run(opened, model, optimizer, optimizer_name(choice, optimizer), brief)
        full = [group["lr"] * fraction for group in optimizer.param_groups]
        for t in range(steps):
            number = t % len(used)
            if brief and t == steps - 1:
                run.look(number, used[number])
                break
            share = min(1.0, (t + 1) / warmup) if warmup else 1.0
            for group, rate in zip(optimizer.param_groups, full, strict=True):
                group["lr"] = rate * share
            with updates_watched(run, share) if t % stride == 0 else nullcontext():
                run.step(number, used[number], share)
            if run.broke:
                break
            if t + 1 in retakes:
                run.take_first_again()
    return run


def shortened_warmup(warmup: int | None, steps: int) -> int:
    """The warm-up a rehearsal of ``steps`` takes: the recipe's, or half of the steps if longer."""
    return min(warmup or 0, max(1, steps // 2))


def _outcome(run: Run, steps: int, floor: float) -> str:
    if run.broke or run.curve.blows_up or _stays_high(run):
        return "diverges"
    share = _projected_fall(run, steps)
    every_step = run.brief and all(b < a for a, b in pairwise([*run.losses, *run.again]))
    lower = run.falls or every_step
    return "falls" if lower and (share is None or share >= floor) else "flat"


def _stays_high(run: Run) -> bool:
    """Whether the loss ends at five times its start without coming down: it bounces, or is lost."""
    if len(run.losses) < 3 or run.falls:
        return False
    return run.curve.start > 0 and run.curve.end > 5 * run.curve.start


def _projected_fall(run: Run, steps: int) -> float | None:
    """Share of the initial loss that ``steps`` steps may take off, at most 1.

    A straight line at the slope of the losses, read at the far end of its interval, or at the fall
    that the steps themselves predict to first order, whichever is less. ``None`` where the loss
    broke, or starts at or below zero, so that zero is not its floor.
    """
    if run.broke or not run.losses or run.losses[0] <= 0:
        return None
    effective = max(steps - (run.opened.recipe.warmup or 0) / 2, 0.0)
    falls = [run.curve.greatest_fall()]
    if run.predicted:
        falls.append(max(statistics.median(run.predicted), 0.0))
    return min(1.0, min(falls) * effective / run.losses[0])


def _rescue(opened: Opened, choice: Choice, run: Run, steps: int, floor: float) -> float | None:
    """The largest of a tenth, a hundredth and a thousandth of the rate under which it falls.

    Each try is a quarter of the rehearsal and at least three steps; together they take no more
    than the steps that the broken rehearsal left over, and three. So few losses have no noise to
    be held against: falling at every step counts too.
    """
    left, each = steps - len(run.losses) + 3, max(3, steps // 4)
    for fraction in LOWER:
        if left < 3:
            why = "the steps for it were used up"
            run.missing.append(NotMeasured("a rate that trains", f"{fraction:g} of the rate", why))
            return None
        attempt = _attempt(opened, choice, min(each, left), fraction=fraction, brief=True)
        left -= len(attempt.losses) + len(attempt.again)
        if _outcome(attempt, opened.recipe.steps, floor) == "falls":
            return max(attempt.rates)
    return None


def _record(
    run: Run, choice: Choice, outcome: str, rescued: float | None, batches: tuple[Batch, ...]
) -> Rehearsal:
    recipe, objective = run.opened.recipe, run.opened.objective
    assert objective is not None
    clip, norms = recipe.clip_norm, run.norms
    clip_rate = None
    if clip is not None and norms:
        clip_rate = wilson(sum(norm > clip for norm in norms), len(norms), "share of steps")
    constant = objective.constant(batches)
    beats = None
    if constant is not None and run.losses:
        beats = not run.broke and run.curve.end <= constant - 0.1 * abs(constant)
    return Rehearsal(
        steps=len(run.losses),
        losses=tuple(run.losses),
        rates=tuple(run.rates),
        clip_rate=clip_rate,
        first_nonfinite=run.first_nonfinite,
        outcome=outcome,
        optimizer=run.name,
        prescribed=choice.prescribed,
        gradient_norms=tuple(norms),
        beats_constant=beats,
        rescued_by_rate=rescued,
        projected_fall=None if outcome == "diverges" else _projected_fall(run, recipe.steps),
    )


def _caveats(recipe: Recipe, choice: Choice, steps: int) -> list[NotMeasured]:
    missing = []
    if recipe.precision in ("fp16", "bf16"):
        why = "the rehearsal runs in float32: overflow and rounding of this format are not in it"
        missing.append(NotMeasured(f"training in {recipe.precision}", "the recipe", why))
    shortened = shortened_warmup(recipe.warmup, steps)
    if recipe.warmup and shortened < recipe.warmup:
        why = f"shortened to {shortened} of {steps} rehearsed steps, which is harsher"
        missing.append(NotMeasured(f"warm-up over {recipe.warmup} steps", "the recipe", why))
    if recipe.optimizer and choice.replaced:
        why = f"not an optimizer of torch.optim that is known here: {choice.name} was rehearsed"
        missing.append(NotMeasured(f"optimizer {recipe.optimizer}", "the recipe", why))
    return missing


def _still(run: Run) -> list[NotMeasured]:
    names = [n for n, p in run.model.named_parameters() if p.requires_grad and n not in run.ratios]
    zero = [name for name in names if name in run.from_zero]
    otherwise = "it was not finite at any step looked at"
    if not run.losses:
        otherwise = "loss or gradient is not finite at the first step, which was not taken"
    whys = {
        "it starts at zero: its size is only what the steps have made of it": zero,
        otherwise: [n for n in names if n not in zero],
    }
    return [NotMeasured("update ratio", listed(each), why) for why, each in whys.items() if each]
