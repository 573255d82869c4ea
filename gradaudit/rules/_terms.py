"""What the user's settings change about a rule: for the whole model, or for layers by name.

Rules know nothing of this. Where a rule's terms differ from layer to layer, it is run once for each
set of terms, on the rows of the layers that these hold for; what it then says about other layers is
left to the run that is theirs. What is about the model as a whole goes by the model's terms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gradaudit.limits import LIMITS, told_value, with_limits
from gradaudit.records import Finding, Limit, Measurements
from gradaudit.settings import Demand, LayerSettings, Settings

_ROWS = ("weights", "modules", "parameters", "attention")
# To all other rules a loop over time is what stands around their own numbers, and stays in sight.
_BY_LOOP = ("GA201", "GA202", "GA203", "GA611")


class RuleLike(Protocol):
    """What is needed of a rule here."""

    @property
    def code(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def limits(self) -> tuple[str, ...]: ...
    def check(self, measurements: Measurements, settings: Settings, /) -> Iterable[Finding]: ...


@dataclass(frozen=True)
class Terms:
    """What holds for one rule at one place."""

    demand: Demand | None = None
    limits: tuple[tuple[str, Limit], ...] = ()  # other than the model's


def means(pattern: str, rule: RuleLike) -> bool:
    """Whether a code, the start of one (any case), or a name means this rule."""
    wanted = pattern.strip().lower()
    return bool(wanted) and (rule.code.lower().startswith(wanted) or rule.name == wanted)


def demand_on(rule: RuleLike, severities: Mapping[str, Demand]) -> Demand | None:
    """The severity set for the rule; of several that cover it the closest, then the last."""
    best: tuple[int, Demand] | None = None
    for pattern, demand in severities.items():
        wanted = pattern.strip()
        closeness = len(rule.code) if wanted.lower() == rule.name else len(wanted)
        if means(pattern, rule) and (best is None or closeness >= best[0]):
            best = (closeness, demand)
    return best[1] if best else None


class Places:
    """The places of a model that findings may be about, and which layers' settings cover each."""

    def __init__(self, measurements: Measurements, layers: Sequence[LayerSettings]) -> None:
        self._layers = layers
        self._known: dict[tuple[str, ...], tuple[int, ...]] = {}
        rows = _places(measurements) if layers else ()
        self.covers = tuple(dict.fromkeys(self.over(*names) for names in rows))

    def over(self, *names: str) -> tuple[int, ...]:
        """The numbers of the settings that cover the place with these names."""
        if names not in self._known:
            self._known[names] = tuple(
                number
                for number, layer in enumerate(self._layers)
                if any(layer.covers(name) for name in names)
            )
        return self._known[names]


class RuleTerms:
    """What holds for one rule, at each place and for the model as a whole."""

    def __init__(self, rule: RuleLike, settings: Settings, places: Places) -> None:
        self._rule, self._settings, self._places = rule, settings, places
        self._changes = [_change(layer, rule, settings) for layer in settings.layers]
        self._general = Terms(demand_on(rule, settings.severities))
        self._known: dict[tuple[int, ...], Terms] = {(): self._general}

    def _at(self, *names: str) -> Terms:
        """What holds at the place with these names; without one, for the model."""
        return self._under(self._places.over(*names))

    def _under(self, numbers: tuple[int, ...]) -> Terms:
        if numbers not in self._known:
            demand, limits = self._general.demand, dict[str, Limit]()
            for number in numbers:
                demand = self._changes[number].demand or demand
                limits.update(self._changes[number].limits)
            self._known[numbers] = Terms(demand, tuple(sorted(limits.items())))
        return self._known[numbers]

    def spared(self, *names: str) -> bool:
        """Whether the place with these names is left out of what holds for the model."""
        terms = self._at(*names)
        return terms.demand == "off" and terms != self._general

    def found(self, measurements: Measurements) -> Iterator[Finding]:
        """What the rule finds under the terms of each layer; severities are the rule's own."""
        differing = dict.fromkeys(self._under(numbers) for numbers in self._places.covers)
        differing.pop(self._general, None)
        if not differing:
            if self._general.demand != "off":
                yield from self._rule.check(measurements, self._settings)
            return
        for terms in (self._general, *differing):
            if terms.demand != "off":
                yield from self._found_under(terms, measurements)

    def _found_under(self, terms: Terms, measurements: Measurements) -> Iterator[Finding]:
        kinds = (*_ROWS, "recurrent") if self._rule.code in _BY_LOOP else _ROWS
        own: dict[str, Any] = {
            kind: tuple(
                row for row in getattr(measurements, kind) if self._at(*_names(row)) == terms
            )
            for kind in kinds
        }
        limits = {**self._settings.limits, **dict(terms.limits)}
        settings = replace(self._settings, limits=limits)
        for finding in self._rule.check(replace(measurements, **own), settings):
            if self._of(finding) == terms:
                yield finding

    def demanded(self, finding: Finding) -> Finding:
        """The finding with the severity the user set; one that is a note stays a note."""
        demand = self._of(finding).demand
        if demand is None or demand == "off" or finding.severity == "note":
            return finding
        return replace(finding, severity=demand)

    def _of(self, finding: Finding) -> Terms:
        return self._at(finding.where.parameter, finding.where.module)


def _change(layer: LayerSettings, rule: RuleLike, settings: Settings) -> Terms:
    """What a layer's settings say of the rule; nothing where they are about others."""
    demand = demand_on(rule, layer.severities)
    if any(means(pattern, rule) for pattern in layer.ignore):
        demand = "off"
    names = {name.replace("-", "_") for name in layer.limits} & set(rule.limits)
    if not names:
        return Terms(demand)
    changed = with_limits(layer.limits, layer.source or "set for layers", settings.all_limits)
    return Terms(demand, tuple(sorted((name, changed[name]) for name in names)))


def _places(measurements: Measurements) -> Iterator[tuple[str, ...]]:
    """The names of every row that a finding may be about."""
    for kind in (*_ROWS, "recurrent", "stages"):
        for row in getattr(measurements, kind):
            yield _names(row)
    for event in measurements.nonfinite:
        yield _names(event)


def _names(row: Any) -> tuple[str, ...]:
    names = (getattr(row, name, "") for name in ("parameter", "module", "name"))
    return tuple(name for name in names if name)


def notes_on(measurements: Measurements, settings: Settings) -> tuple[str, ...]:
    """What the settings leave out or change, said aloud, and globs that match no layer."""
    notes = []
    for pattern in settings.ignore:
        reason = settings.reasons.get(pattern, "")
        if reason:
            notes.append(f"{pattern} is ignored{_because(reason)}")
    notes.extend(
        f"{pattern} is not judged: its severity is set to off"
        if demand == "off"
        else f"{pattern}: what fails or warns is reported as {demand!r}, as was set"
        for pattern, demand in settings.severities.items()
    )
    notes.extend(
        f"the limit {name.replace('_', '-')} is {told_value(limit.value)}, set in the place of "
        f"{told_value(LIMITS[name].value)} ({limit.source.partition(', instead of')[0]})"
        for name, limit in sorted(settings.all_limits.items())
        if limit.value != LIMITS[name].value
    )
    seen = {name for names in _places(measurements) for name in names}
    for layer in settings.layers:
        covered = f"layers {', '.join(layer.match)}"
        notes.append(f"{covered}: {layer.told or 'nothing is changed'}{_because(layer.reason)}")
        notes.extend(
            f"no layer of the model is called {pattern!r}, as the settings of {covered} have it"
            for pattern in layer.match
            if not any(replace(layer, match=(pattern,)).covers(name) for name in seen)
        )
    return tuple(notes)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
