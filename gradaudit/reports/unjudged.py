"""Why a rule could say nothing of a model: what it reads was not measured, or not asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from gradaudit.records import Measurements, Report, RuleDoc
from gradaudit.reports.text import shorten

_LETTERS = 400


class _Need(NamedTuple):
    """What some rules read."""

    codes: tuple[str, ...]  # codes, or how they start
    there: Callable[[Measurements], object]
    otherwise: str  # the reason where none is on record
    words: tuple[str, ...] = ()  # of what stands on record


def _real(m: Measurements) -> bool:
    return m.sample.source in ("given", "carried")


def _any(rows: Iterable[object], name: str) -> bool:
    return any(getattr(row, name) is not None for row in rows)


_NEEDS = (
    _Need(
        ("GA101", "GA102"),
        lambda m: m.trunk.found and m.trunk.total_growth_log10,
        "growth along the trunk was not measured",
        ("growth",),
    ),
    _Need(
        ("GA104", "GA105"), lambda m: m.parameters, "there are no gradients", ("gradients", "loss")
    ),
    _Need(("GA2",), lambda m: m.recurrent, "nothing recurrent was measured", ("over time",)),
    _Need(("GA3",), lambda m: m.weights, "no weights were measured", ("spectral norm",)),
    _Need(
        ("GA401",),
        lambda m: _any(m.modules, "dead_fraction"),
        "there is no activation that can die",
        ("activations",),
    ),
    _Need(
        ("GA402",),
        lambda m: _any(m.modules, "saturated_fraction"),
        "there is no activation that saturates",
        ("activations",),
    ),
    _Need(("GA403",), lambda m: m.attention, "no attention was measured", ("attention",)),
    _Need(
        ("GA404",),
        lambda m: _any(m.modules, "effective_rank"),
        "no representation was measured",
        ("rank", "representation", "correlation"),
    ),
    _Need(("GA501", "GA502"), _real, "the data are made up, or there are none"),
    _Need(("GA503",), lambda m: m.loss and m.loss.initial, "there is no loss", ("loss",)),
    _Need(
        ("GA601", "GA602"),
        lambda m: m.recipe.lr is not None,
        "no learning rate was given",
    ),
    _Need(
        ("GA603", "GA609"), lambda m: m.rehearsal, "the recipe was not rehearsed", ("rehearsal",)
    ),
    _Need(
        ("GA604",),
        lambda m: m.curvature,
        "curvature was not measured",
        ("sharpness", "curvature"),
    ),
    _Need(
        ("GA605",),
        lambda m: _any(m.parameters, "update_ratio"),
        "no update was measured",
        ("update ratio", "rehearsal"),
    ),
    _Need(("GA606",), lambda m: m.noise_scale, "gradient noise was not measured", ("noise",)),
    _Need(("GA607",), lambda m: m.recipe.weight_decay is not None, "no weight decay was given"),
    _Need(
        ("GA611",),
        lambda m: m.recipe.lr is not None or m.recipe.optimizer is not None,
        "no recipe was given",
    ),
    _Need(("GA612",), lambda m: m.recipe.clip_norm is not None, "the recipe does not clip"),
    _Need(("GA701", "GA702", "GA703"), lambda m: m.precision, "not measured", ("precision",)),
    _Need(("GA704",), lambda m: m.parameters, "there are no gradients", ("gradients", "loss")),
)


def why_not(report: Report, rule: RuleDoc) -> str:
    """Why a rule that is silent was not judged; empty where it was, and found nothing."""
    unasked = _unasked(report, rule)
    if unasked:
        return unasked
    need = next((each for each in _NEEDS if rule.code.startswith(each.codes)), None)
    if need is None or need.there(report.measurements):
        return ""
    for item in report.not_measured:
        if any(word in item.what.lower() for word in need.words):
            return shorten(f"{item.what}: {item.why}", _LETTERS)
    return need.otherwise


def _unasked(report: Report, rule: RuleDoc) -> str:
    """That the rule is not among those asked for, with the reason the user gave."""
    settings = report.settings
    select, ignore = _patterns(settings.get("select")), _patterns(settings.get("ignore"))
    severities = settings.get("severities")
    off = severities.items() if isinstance(severities, Mapping) else ()
    for pattern in (*ignore, *(str(code) for code, demand in off if demand == "off")):
        if _covers(pattern, rule):
            reasons = settings.get("reasons")
            why = reasons.get(pattern) if isinstance(reasons, Mapping) else None
            return shorten(f"ignored: {why}" if why else "ignored", _LETTERS)
    return "" if not select or any(_covers(each, rule) for each in select) else "not selected"


def _patterns(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, (tuple, list)) else ()


def _covers(pattern: str, rule: RuleDoc) -> bool:
    """Whether a code, the start of one, or a name means the rule."""
    wanted = pattern.strip().lower()
    return bool(wanted) and (rule.code.lower().startswith(wanted) or rule.name == wanted)
