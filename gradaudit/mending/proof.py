"""Proof: the changed model measured again with the audit's own probes, before beside after."""

from __future__ import annotations

from dataclasses import replace

from gradaudit.judging import Judged
from gradaudit.measure import Progress
from gradaudit.mending.completed import completed
from gradaudit.mending.search import (
    TRIAL_STEPS,
    Search,
    Tried,
    cures,
    failing_codes,
    judge_changed,
    last_loss,
    trial_settings,
    worse,
)
from gradaudit.records import Finding, Prescription, Proof, Remedy, Side
from gradaudit.remedies import answered, prescribe, recipe_of, shown_only
from gradaudit.rules._judge import made_up
from gradaudit.settings import Settings
from gradaudit.subject import Opened

_BACK = "held back from the search"
_SAME = "the same as in the search: the sample is one batch"
PROOF_STEPS = 60  # training steps that a proof takes: an audit's


def mend(
    opened: Opened, judged: Judged, settings: Settings, progress: Progress
) -> tuple[Prescription | None, tuple[Finding, ...]]:
    """What to change, shown to work where the effort affords it; and the findings it answers.

    For an ill subject a cure is searched. What a warning calls for, or a recipe that lacks a part,
    is held against the subject as it is, and dropped where it does not pass. Without real data,
    without a model or at quick effort the remedies are prescribed without proof.
    """
    called_for, findings = prescribe(judged.findings, judged.measurements, settings)
    if settings.budget.search_steps == 0 or opened.model is None or not opened.batches:
        return called_for, findings
    if made_up(judged.measurements) or (called_for is None and not judged.ill):
        return called_for, findings
    choosing, proving, batches = _split(opened)
    trials = max(1, (settings.budget.search_steps - PROOF_STEPS) // TRIAL_STEPS)
    if judged.measurements.outlook is not None:  # steps are small: what they cost is seconds
        trials *= 2
    looking = Search(
        choosing, trial_settings(settings, judged), progress, trials, failing_codes(judged)
    )
    remedies: tuple[Remedy, ...] = ()
    proof = None
    proved: set[int] = set()
    for tried in cures(looking, judged, settings):
        if id(tried) in proved:
            continue
        proved.add(id(tried))
        progress("proving the changes")
        after = judge_changed(
            proving, tried.remedies, replace(settings, state=judged.measurements.state.state)
        )
        if _holds(tried, after, judged):
            remedies = completed(tried.remedies, opened, after)
            proof = Proof(side(judged), side(after), _steps(after), batches)
            break
        looking.refuse(tried, after)
    shown = () if called_for is None else shown_only(called_for.remedies)
    if not (remedies or shown or looking.attempts):
        return None, findings
    recipe = recipe_of(remedies) if remedies else None
    prescription = Prescription((*remedies, *shown), recipe, proof, tuple(looking.attempts))
    return prescription, answered(findings, prescription.remedies)


def _split(opened: Opened) -> tuple[Opened, Opened, str]:
    """Every other batch to choose with, the rest to prove with; one batch has to do for both."""
    if len(opened.batches) < 2:
        return opened, opened, _SAME
    choosing = replace(opened, batches=opened.batches[::2])
    return choosing, replace(opened, batches=opened.batches[1::2]), _BACK


def _holds(tried: Tried, after: Judged, before: Judged) -> bool:
    if not Tried(tried.remedies, after).passed:
        return False
    return before.ill or not worse(after, before)


def _steps(after: Judged) -> int:
    outlook, rehearsal = after.measurements.outlook, after.measurements.rehearsal
    if outlook is not None:
        return outlook.own.steps
    return rehearsal.steps if rehearsal is not None else 0


def side(judged: Judged) -> Side:
    """What of an audit stands in the comparison."""
    seen = judged.measurements
    losses: tuple[float, ...] = ()
    if seen.outlook is not None and seen.outlook.own.losses:
        losses = seen.outlook.own.losses
    elif seen.rehearsal is not None:
        losses = seen.rehearsal.losses
    norms = [
        (stage.name, stage.jacobian_norm_log10.value)
        for stage in seen.stages
        if stage.jacobian_norm_log10 is not None
    ]
    return Side(
        judged.verdict,
        judged.forecast,
        tuple(dict.fromkeys(f.code for f in judged.findings if f.severity == "fail")),
        seen.trunk.total_growth_log10,
        tuple(norms),
        seen.gradient_norm.median if seen.gradient_norm is not None else None,
        losses,
        _steps(judged),
        losses[0] if losses else None,
        last_loss(judged),
    )
