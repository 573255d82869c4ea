"""Proof: the changed model measured again with the audit's own probes, before beside after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gradaudit.judging import Judged
from gradaudit.mending.attempts import last_loss, worse
from gradaudit.mending.completed import completed
from gradaudit.mending.search import (
    TRIAL_STEPS,
    Search,
    Tried,
    called_for,
    cures,
    failing_codes,
    judge_changed,
    trial_settings,
)
from gradaudit.pacing import Progress
from gradaudit.plan import PROVING, SEARCHING, searching
from gradaudit.records import SEVERITIES, Estimate, Finding, Prescription, Proof, Remedy, Side
from gradaudit.remedies import answered, prescribe, recipe_of, shown_only
from gradaudit.rules._judge import made_up
from gradaudit.settings import Settings
from gradaudit.subject import Opened

_BACK = "held back from the search"
_SAME = "the same as in the search: the sample is one batch"
_MANY = 80  # steps within the allowance: about 12 milliseconds each
PROOF_STEPS = 60  # training steps that a proof takes: an audit's


def mend(
    opened: Opened, judged: Judged, settings: Settings, progress: Progress
) -> tuple[Prescription | None, tuple[Finding, ...]]:
    """What to change, shown to work where the effort affords it; and the findings it answers.

    For an ill subject a cure is searched. What a warning calls for, or a recipe that lacks a part,
    is held against the subject as it is, and dropped where it does not pass. Without real data,
    without a model or at quick effort the remedies are prescribed without proof.
    """
    wanted, findings = prescribe(judged.findings, judged.measurements, settings)
    if settings.budget.search_steps == 0 or opened.model is None or not opened.batches:
        return wanted, findings
    if made_up(judged.measurements) or (wanted is None and not judged.ill):
        return wanted, findings
    choosing, proving, batches = _split(opened)
    trials = _trials(judged, settings)
    progress.plan(SEARCHING, searching(progress.spent, trials if judged.ill else 1))
    looking = Search(
        choosing if judged.ill else proving,
        trial_settings(settings, judged),
        progress,
        trials,
        failing_codes(judged),
    )
    cure = _proven(looking, judged, settings, proving)
    remedies: tuple[Remedy, ...] = ()
    proof = None
    if cure is not None:
        remedies = completed(cure.remedies, opened, cure.judged)
        proof = Proof(side(judged), side(cure.judged), _steps(cure.judged), batches)
    elif not judged.ill:  # what the recipe lacks is stated as the audit trained with it
        remedies = completed((), opened, judged)
    shown = () if wanted is None else shown_only(wanted.remedies)
    if not (remedies or shown or looking.attempts):
        return None, findings
    recipe = recipe_of(remedies) if remedies else None
    prescription = Prescription((*remedies, *shown), recipe, proof, tuple(looking.attempts))
    return prescription, _led_by_cause(answered(findings, prescription.remedies), remedies)


def _led_by_cause(findings: Sequence[Finding], remedies: Sequence[Remedy]) -> tuple[Finding, ...]:
    """Where one change alone makes it train, what fails for it comes first: it is the cause."""
    if len(remedies) != 1:
        return tuple(findings)
    codes = remedies[0].for_codes
    return tuple(
        sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.code not in codes))
    )


def _trials(judged: Judged, settings: Settings) -> int:
    """How many sets may be tried, so that they and a proof stay within the effort's steps."""
    outlook = judged.measurements.outlook
    left = settings.budget.search_steps - PROOF_STEPS
    if outlook is None:
        return max(1, left // TRIAL_STEPS)
    if outlook.affordable >= _MANY:  # steps are small: what they cost is seconds
        return max(1, 2 * left // TRIAL_STEPS)
    return max(1, left // (TRIAL_STEPS + outlook.affordable * 3 // 2))


def _proven(looking: Search, judged: Judged, settings: Settings, proving: Opened) -> Tried | None:
    """The first set that holds on the batches held back, as it was judged there."""
    if not judged.ill:  # a single trial, on the batches to prove with, is its own proof
        found = looking.attempt(called_for(judged, settings))
        held = found is not None and found.passed and not worse(found.judged, judged)
        return found if held else None
    known = replace(settings, state=judged.measurements.state.state)
    proved: set[int] = set()
    for tried in cures(looking, judged, settings):
        if id(tried) in proved:
            continue
        proved.add(id(tried))
        looking.progress(PROVING)
        after = Tried(tried.remedies, judge_changed(proving, tried.remedies, known))
        if after.passed:
            return after
        looking.refuse(tried, after.judged)
    return None


def _split(opened: Opened) -> tuple[Opened, Opened, str]:
    """Every other batch to choose with, the rest to prove with; one batch has to do for both."""
    if len(opened.batches) < 2:
        return opened, opened, _SAME
    choosing = replace(opened, batches=opened.batches[::2])
    return choosing, replace(opened, batches=opened.batches[1::2]), _BACK


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
    norms = [(s.name, n) for s in seen.stages if (n := s.jacobian_norm_log10) is not None]
    return Side(
        judged.verdict,
        judged.forecast,
        tuple(dict.fromkeys(f.code for f in judged.findings if f.severity == "fail")),
        seen.trunk.total_growth_log10,
        tuple((name, norm.value) for name, norm in norms),
        seen.gradient_norm.median if seen.gradient_norm is not None else None,
        losses,
        _steps(judged),
        losses[0] if losses else None,
        last_loss(judged),
        tuple(_bounds(norm) for _, norm in norms),
    )


def _bounds(measured: Estimate) -> tuple[float, float]:
    """Both ends of an interval; an end that is unknown is where the value is."""
    low, high = measured.low, measured.high
    return (
        measured.value if low is None else low,
        measured.value if high is None else high,
    )
