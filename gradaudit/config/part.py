"""What one table configures: options, limits, severities, layers, and where each of them stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gradaudit.config.document import Table, near
from gradaudit.config.keys import OPTIONS, entries, texts, value_of
from gradaudit.errors import UsageError
from gradaudit.limits import LIMITS, changed_limit, check_order
from gradaudit.records import Limit
from gradaudit.settings import DEMANDS, Demand, LayerSettings
from gradaudit.tolerances import TOLERANCES, with_tolerances

if TYPE_CHECKING:
    from gradaudit.rules import Rule

JUDGING = ("rules", "layers", "tolerances")
_LAYER = ("match", "ignore", "rules", "reason")
_OTHERWISE = "the keys are the long option names, rules, layers, tolerances and model"


@dataclass(frozen=True)
class Part:
    """What is configured at one level. Option names have ``_`` for ``-``.

    ``origins`` says where each thing stands: by option (``lr``), ``limit growth_max``,
    ``severity GA301``, ``tolerance NAME``.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)  # those that are changed
    severities: Mapping[str, Demand] = field(default_factory=dict)
    layers: tuple[LayerSettings, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)  # by entry of select or ignore
    tolerances: Mapping[str, Limit] = field(default_factory=dict)  # those that are changed
    origins: Mapping[str, str] = field(default_factory=dict)

    def over(self, lower: Part) -> Part:
        """Both, where this one wins; layers of both hold, these after those."""
        return Part(
            {**lower.options, **self.options},
            {**lower.limits, **self.limits},
            {**lower.severities, **self.severities},
            (*lower.layers, *self.layers),
            {**lower.reasons, **self.reasons},
            {**lower.tolerances, **self.tolerances},
            {**lower.origins, **self.origins},
        )


_NOTHING = Part()


def read_part(
    table: Table, allowed: Iterable[str], otherwise: str = _OTHERWISE, lower: Part = _NOTHING
) -> Part:
    """What ``table`` configures over ``lower``; ``allowed`` are its keys.

    Raises ``UsageError`` for an unknown key (with the nearest known one) and a wrong value.
    """
    for key in table.values:
        table.known(key, allowed, otherwise)
    given = [key for key in table.values if key in OPTIONS]
    part = Part(
        options={key.replace("-", "_"): value_of(key, table) for key in given},
        reasons={
            code: reason
            for key in ("select", "ignore")
            if key in given
            for code, reason in entries(key, table)
            if reason
        },
        origins={key.replace("-", "_"): table.origin(key) for key in given},
    )
    for key in ("select", "ignore"):
        if key in given:
            _known_rules(part.options[key], table, key)
    if "rules" in table.values:
        part = _judging(table.below("rules"), lower).over(part)
    if "layers" in table.values:
        whole = part.over(lower)
        layers = tuple(_layer(each, whole) for each in _array(table, "layers"))
        part = replace(part, layers=layers)
    if "tolerances" in table.values:
        part = _tolerances(table.below("tolerances")).over(part)
    return part


def _array(table: Table, key: str) -> Iterator[Table]:
    """The tables of an array of tables."""
    found = table.values[key]
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        header = f"{table.label.strip('[]')}.{key}".lstrip(".")
        raise table.wrong(key, f"tables [[{header}]]", found)
    yield from (table.below(key, number) for number in range(len(found)))


def _judging(table: Table, lower: Part) -> Part:
    """``[rules.GA101]``: limits of the rule, and its severity; ``GA101 = "warn"`` for short."""
    limits: dict[str, Limit] = {}
    severities: dict[str, Demand] = {}
    origins: dict[str, str] = {}
    for code, value in table.values.items():
        rules = _known_rules([code], table, code)
        if isinstance(value, str):
            severities[code] = _demand(table, code)
            origins[f"severity {code}"] = table.origin(code)
            continue
        inner = table.below(code)
        names = {n.replace("_", "-"): n for rule in rules for n in rule.limits}
        hint = f"its limits are {', '.join(sorted(names))}" if names else "it has no limits"
        for key in inner.values:
            if inner.known(key, ["severity", *names], hint) == "severity":
                severities[code] = _demand(inner, key)
                origins[f"severity {code}"] = inner.origin(key)
                continue
            limit = _limit(inner, key, names[key], lower)
            if limits.setdefault(names[key], limit) != limit:
                raise UsageError(
                    f"{inner.place(key)}: {key} is set to two numbers",
                    expected="one, for all rules that share the limit",
                    found=f"{limits[names[key]].value:g} and {limit.value:g}",
                )
            origins[f"limit {names[key]}"] = inner.origin(key)
    try:
        check_order({**LIMITS, **lower.limits, **limits})
    except UsageError as error:
        raise UsageError(f"{table.place()}: {error}") from None
    return Part(limits=limits, severities=severities, origins=origins)


def _limit(table: Table, key: str, name: str, lower: Part) -> Limit:
    try:
        return changed_limit(name, table.values[key], near(table.path), lower.limits.get(name))
    except UsageError as error:
        raise UsageError(f"{table.place(key)}: {error}") from None


def _demand(table: Table, key: str) -> Demand:
    value = table.values[key]
    if value not in DEMANDS:
        raise table.wrong(key, "fail, warn, note or off", value)
    return value


def _known_rules(codes: Iterable[str], table: Table, key: str) -> set[Rule]:
    """The rules that are meant; raises ``UsageError`` at ``key`` for one that is unknown."""
    from gradaudit.rules import matching

    try:
        return matching(codes)
    except UsageError as error:
        raise UsageError(f"{table.place(key)}: {error}") from None


def _layer(table: Table, whole: Part) -> LayerSettings:
    """``[[layers]]``: globs, and what holds for the layers they match."""
    for key in table.values:
        table.known(key, _LAYER, f"the keys are {', '.join(_LAYER)}")
    if "match" not in table.values:
        raise UsageError(
            f"{table.place()}: {table.label} has no match",
            expected='match = ["encoder.*"], which layers it is about',
        )
    ignored = entries("ignore", table) if "ignore" in table.values else ()
    _known_rules([code for code, _ in ignored], table, "ignore")
    reasons = [f"{code}: {reason}" for code, reason in ignored if reason]
    if "reason" in table.values:
        reasons.insert(0, ", ".join(texts("reason", table, "text")))
    rules = _judging(table.below("rules"), whole) if "rules" in table.values else Part()
    return LayerSettings(
        match=texts("match", table, "a glob or a list of globs"),
        ignore=tuple(code for code, _ in ignored),
        severities=rules.severities,
        limits={name: limit.value for name, limit in rules.limits.items()},
        reason="; ".join(reasons),
        source=f"layers of {near(table.path)}",
        place=table.origin(),
    )


def _tolerances(table: Table) -> Part:
    """``[tolerances]``: how far each number may move from its baseline."""
    known = {name.replace("_", "-"): name for name in TOLERANCES}
    tolerances: dict[str, Limit] = {}
    for key, value in table.values.items():
        name = known[table.known(key, known, f"they are {', '.join(known)}")]
        try:
            tolerances[name] = with_tolerances({name: value}, near(table.path))[name]
        except UsageError as error:
            raise UsageError(f"{table.place(key)}: {error}") from None
    origins = {f"tolerance {known[key]}": table.origin(key) for key in table.values}
    return Part(tolerances=tolerances, origins=origins)
