"""The search for a cure: sets of remedies, least invasive first, until one is shown to work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from gradaudit.errors import GradauditError
from gradaudit.judging import Judged, judge
from gradaudit.mending.attempts import attempt_of, broken_attempt, worse
from gradaudit.mending.change import START, applicable, changed
from gradaudit.mending.further import further, rate_in_use, with_rate
from gradaudit.pacing import QUIET, Progress
from gradaudit.plan import trial
from gradaudit.records import Attempt, Remedy
from gradaudit.remedies import prescribe
from gradaudit.rules._outlook import held_out, learns_beyond, pace, reading
from gradaudit.settings import Budget, Settings
from gradaudit.subject import Opened
from gradaudit.telling import told

_ROOM = 0.4  # of the way from a perfect prediction to the constant: halfway with a margin
_MEMORY = {"GA201", "GA202", "GA203"}  # few sequences are easily told apart by heart
_TOO_HIGH = {"GA601", "GA603"}
_RATES = 2  # to try each way
_GAIN, _SPARED = 0.1, 0.1  # what a higher rate must bring, and what a safer one may cost
_ALLOWANCE = 1.5  # seconds of one core for longer training in a trial
TRIAL_STEPS = 25  # training steps that one trial takes: tests/benchmarks/cost.py


@dataclass(frozen=True)
class Tried:
    """One set of remedies, and the model judged with them."""

    remedies: tuple[Remedy, ...]
    judged: Judged
    silent: bool = True  # none of the findings that failed before is there any more
    strict: bool = False  # learning the sample by heart does not count
    place: int = -1  # among the attempts

    @property
    def passed(self) -> bool:
        """Whether nothing fails any more and training is foreseen to train."""
        return self.judged.verdict in ("pass", "warn") and self.judged.forecast.outcome == "trains"

    @property
    def well(self) -> bool:
        """Whether the rules fall silent and it passes with room to spare, not by heart alone."""
        read = reading(self.judged.measurements)
        if not self.passed or not self.silent:
            return False
        if read is None or read.level is None:
            return True
        return read.level <= _ROOM and self.beyond

    @property
    def beyond(self) -> bool:
        """Whether what is learned goes beyond the sample."""
        return learns_beyond(self.judged.measurements, surely=self.strict)

    @property
    def level(self) -> float:
        """Where the loss is expected to end: 1 the best constant prediction, 0 a perfect one."""
        read = reading(self.judged.measurements)
        return 1.0 if read is None or read.level is None else read.level


@dataclass
class Search:
    """What was tried on one subject, within a number of trials."""

    opened: Opened
    settings: Settings
    progress: Progress
    left: int
    failing: frozenset[str] = frozenset()  # codes that failed before anything was changed
    attempts: list[Attempt] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    _seen: set[tuple[str, ...]] = field(default_factory=set)

    def attempt(self, remedies: Sequence[Remedy]) -> Tried | None:
        """Judge the subject with the remedies applied; ``None`` where that was done before."""
        remedies = tuple(remedies)
        key = tuple(f"{each.id} {each.code} {each.parameters}" for each in remedies)
        if not remedies or key in self._seen or self.left < 1:
            return None
        self._seen.add(key)
        self.left -= 1
        count = len(self.attempts) + 1
        names = " + ".join(each.id for each in remedies)
        self.progress(f"try {count} of at most {count + self.left}: {names}", trial(count))
        try:
            judged = judge_changed(self.opened, remedies, self.settings)
        except GradauditError as error:
            self.attempts.append(broken_attempt(remedies, told(error)))
            return None
        found = Tried(
            remedies,
            judged,
            silent=not self.failing & _said(judged),
            strict=bool(self.failing & _MEMORY),
            place=len(self.attempts),
        )
        self.tried.append(found)
        self.attempts.append(attempt_of(found.remedies, found.judged, passed=found.passed))
        return found

    def refuse(self, tried: Tried, after: Judged) -> None:
        """Take back a pass that the proof did not bear out."""
        passed = Tried(tried.remedies, after).passed
        failed = attempt_of(tried.remedies, after, passed=passed)
        why = f"in its proof: {failed.why}"
        self.attempts[tried.place] = replace(failed, passed=False, why=why)
        self.tried = [each for each in self.tried if each is not tried]


def failing_codes(judged: Judged) -> frozenset[str]:
    """Codes of the findings that fail."""
    return frozenset(f.code for f in judged.findings if f.severity == "fail")


def _said(judged: Judged) -> frozenset[str]:
    return frozenset(f.code for f in judged.findings if f.severity != "note")


def judge_changed(opened: Opened, remedies: Sequence[Remedy], settings: Settings) -> Judged:
    """The subject judged with the remedies applied to a loan of it."""
    with changed(opened, remedies, settings.seed) as subject:
        return judge(subject, settings, QUIET)


def trial_settings(settings: Settings, judged: Judged) -> Settings:
    """A trial's effort: few probes, the rehearsal, and longer training where it is affordable.

    Whether the weights are a start or learned is taken from the audit, not asked again.
    """
    full = settings.budget
    budget = Budget(
        probes=8,
        tangents=0,
        gradient_batches=1,
        rehearsal_steps=min(full.rehearsal_steps, 16),
        range_steps=0,
        lanczos_steps=min(full.lanczos_steps, 40),
        curvature_products=0,
        singular_steps=0,
        singular_cost=0,
        allowance=min(full.allowance, _ALLOWANCE),
        search_steps=0,
    )
    return replace(settings, spent=budget, state=judged.measurements.state.state)


def cures(looking: Search, judged: Judged, settings: Settings) -> Iterator[Tried]:
    """Sets that pass their trial: those with room to spare as they come, then the rest, best first.

    The least invasive come first, each pruned of what it does not need, and once more as it was.
    """
    barely = []
    for remedies in _candidates(looking, judged, settings):
        found = looking.attempt(remedies)
        if found is not None and found.well:
            pruned = _pruned(found, looking)
            yield tuned(pruned, looking, lower=bool(looking.failing & _TOO_HIGH))
            yield pruned
            yield found
        elif found is not None and found.passed and found.beyond:
            barely.append(found)
        if looking.left < 1:
            break
    yield from sorted(barely, key=_cost)


def _candidates(
    looking: Search, judged: Judged, settings: Settings
) -> Iterator[tuple[Remedy, ...]]:
    """Sets to try: what the findings call for, what is left after it, and what else may help."""
    found = called_for(judged, settings)
    milder = tuple(each for each in found if each.safety != START)
    if milder != found:
        yield milder
    yield found
    base = found
    for _ in range(2):  # what shows only once the first fault is out of the way
        last = _last(looking, base)
        if last is None:
            break
        more = together(base, called_for(last.judged, looking.settings))
        if more == base:
            break
        base = more
        yield base
    yield from further(looking.opened, base, judged, _last(looking, base), settings)


def _last(looking: Search, remedies: Sequence[Remedy]) -> Tried | None:
    return next((each for each in looking.tried if each.remedies == tuple(remedies)), None)


def called_for(judged: Judged, settings: Settings) -> tuple[Remedy, ...]:
    """What the findings prescribe, of what can be applied."""
    prescription, _ = prescribe(judged.findings, judged.measurements, settings)
    return applicable(prescription.remedies) if prescription is not None else ()


def together(first: Sequence[Remedy], second: Sequence[Remedy]) -> tuple[Remedy, ...]:
    """Both sets in order: of two remedies for the same thing the later one counts.

    Start values that were measured after the first set was applied are changed after it.
    """
    old = {each.id: each for each in first if each.safety != START}
    new = {each.id: each for each in second if each.safety != START}
    # what the data were scaled with was measured on the user's own: it stays
    recipe = {**old, **{i: r for i, r in new.items() if r.kind != "data" or i not in old}}
    starts = [each for each in first if each.safety == START]
    done = {each.code for each in starts}
    for each in (r for r in second if r.safety == START and r.code not in done):
        # drawn once more, what was drawn before is gone
        gone = {r.id for r in starts if r.sets and set(r.sets) <= set(each.sets)} & {each.id}
        starts = [r for r in starts if r.id not in gone]
        starts.append(each)
    data = [each for each in recipe.values() if each.kind == "data"]
    rest = [each for each in recipe.values() if each.kind != "data"]
    return (*data, *starts, *rest)


def _pruned(found: Tried, looking: Search) -> Tried:
    """The same without whatever it passes without, the most invasive first."""
    best = found
    if len(found.remedies) < 2:
        return best
    for each in sorted(found.remedies, key=lambda remedy: remedy.safety != START):
        fewer = tuple(other for other in best.remedies if other is not each)
        if not fewer or looking.left < 1:
            break
        less = looking.attempt(fewer)
        if less is not None and less.well and not worse(less.judged, best.judged, 1.2):
            best = less
    return best


def tuned(found: Tried, looking: Search, *, lower: bool) -> Tried:
    """The same at the rate, three times higher or lower, at which training goes best.

    A rate at which a few batches are just learned is near an edge: what rises again on its way
    counts against it, and what is slow does too. Where the rate was too high, ``lower`` ones are
    taken for as long as they cost little.
    """
    best, start = found, rate_in_use(found.judged.measurements)
    if start is None:
        return best
    for factor in (1 / 3, 3.0) if lower else (3.0, 1 / 3):
        must = -_SPARED if lower and factor < 1 else _GAIN
        for step in range(1, _RATES + 1):
            rate = start * factor**step
            other = looking.attempt(with_rate(best.remedies, found.judged.measurements, rate))
            if other is None or not other.well or _cost(other) > _cost(best) - must:
                break
            best = other
        if best is not found:
            break
    return best


def _cost(tried: Tried) -> float:
    """Low where training is fast and smooth, and where it helps on what was not trained on."""
    seen, held = pace(tried.judged.measurements), held_out(tried.judged.measurements)
    if seen is None:
        return 3.0
    beyond = 1.0 if held is None else min(held, 2.0)
    return max(seen.half, 0.0) + max(tried.level, 0.0) + 2 * seen.rise + beyond
