"""What is in force as plain data (``gradaudit.config/1``); each value with the place it is from.

A place is ``default``, ``command line``, or file and line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gradaudit import __version__
from gradaudit.config import OPTIONS, RUN_WIDE, Config, Model, Part
from gradaudit.config.document import near
from gradaudit.formats import DEFAULT_REPORT
from gradaudit.given import Given, Level
from gradaudit.limits import LIMITS
from gradaudit.records import Limit, Recipe
from gradaudit.rules import Rule, all_rules, chosen_rules, demand_on, means
from gradaudit.settings import LayerSettings, Settings
from gradaudit.targets import Chosen
from gradaudit.tolerances import TOLERANCES

SCHEMA = "gradaudit.config/1"
_DEFAULT, _STATED = "default", "command line"
_RENAMED = {"json": "json_file", "recipe": "recipe_file"}
_RECIPE = tuple(field.name for field in dataclasses.fields(Recipe))


def in_force(config: Config, general: Given, chosen: Chosen | None) -> dict[str, Any]:
    """What holds for the ``chosen`` model, else for all (``general``), in a stable order.

    Raises ``UsageError`` for a recipe that is none, and a rule that is unknown.
    """
    asked = chosen.given if chosen else general
    settings = asked.settings()
    models = [] if chosen else [_model(model) for model in config.models]
    return {
        "schema": SCHEMA,
        "tool": {"name": "gradaudit", "version": __version__},
        "file": near(config.path) if config.path else None,
        "model": _named(chosen) if chosen else None,
        "options": dict(_options(asked, general, settings)),
        "exclude": list(config.exclude),
        "rules": {rule.code: _rule(rule, asked, settings) for rule in all_rules()},
        "layers": [_layer(layer) for layer in settings.layers],
        "tolerances": {
            name.replace("_", "-"): _number(
                limit, TOLERANCES[name], _place(asked, "tolerance", name)
            )
            for name, limit in sorted(settings.all_tolerances.items())
        },
        "models": models,
    }


def _named(chosen: Chosen) -> dict[str, Any]:
    return {"name": chosen.name, "model": chosen.model, "from": chosen.origin or _STATED}


def _options(asked: Given, general: Given, settings: Settings) -> Iterator[tuple[str, Any]]:
    """Every option; of the recipe what it comes to with the recipe file."""
    for key in sorted((*OPTIONS, "eps", "schedule", "trust")):
        name = key.replace("-", "_")
        source = general if key in RUN_WIDE else asked
        option = _RENAMED.get(key, name)
        value, place = source.options.get(option), _origin(source, option, name)
        if option == "json_file" and source.level(option) is Level.STATED:  # where this goes
            value = source.part.options.get(name)
            place = source.part.origins.get(name, _DEFAULT)
        if name in _RECIPE:
            value, place = _of_recipe(name, value, place, asked, settings)
        elif place == _DEFAULT or value is None:
            value = _default(name, value)
        if key in OPTIONS or value:
            yield key, {"value": _seen(value), "from": place}


def _seen(value: Any) -> Any:
    """A path of the file's as it is from the working folder; anything else as it is."""
    if not isinstance(value, str) or not Path(value).is_absolute():
        return value
    home, colon, name = value.rpartition(":")
    return f"{near(Path(home))}:{name}" if colon else near(Path(value))


def _of_recipe(
    name: str, option: Any, place: str, asked: Given, settings: Settings
) -> tuple[Any, str]:
    """A field of the recipe; from its file where no option says it, or goes before it."""
    value = getattr(settings.recipe, name)
    if option is not None and option == value:
        return value, place
    file = asked.options["recipe_file"]
    stated = file is not None and value != getattr(Recipe(), name)
    return value, near(Path(file)) if stated else _DEFAULT


def _default(name: str, value: Any) -> Any:
    told = {"fail_on": "fail", "output": DEFAULT_REPORT, "recipe": None}
    return value or told.get(name, getattr(Settings(), name, value))


def _origin(asked: Given, option: str, name: str) -> str:
    level = asked.level(option)
    if level is Level.STATED:
        return _STATED
    return asked.part.origins.get(name, _DEFAULT) if level else _DEFAULT


def _place(asked: Given, kind: str, name: str) -> str:
    return asked.part.origins.get(f"{kind} {name}", _DEFAULT)


def _rule(rule: Rule, asked: Given, settings: Settings) -> dict[str, Any]:
    """Whether a rule is judged, as what, for which reason, and by which limits."""
    ignored = next((code for code in settings.ignore if means(code, rule)), None)
    selected = next((code for code in settings.select if means(code, rule)), None)
    demand = demand_on(rule, settings.severities)
    place, reason = _DEFAULT, ""
    if ignored is not None:
        place, reason = _origin(asked, "ignore", "ignore"), settings.reasons.get(ignored, "")
    elif settings.select:
        place = _origin(asked, "select", "select")
        reason = settings.reasons.get(selected or "", "")
    if demand is not None and rule in chosen_rules(settings):
        reason = ""
        place = next(
            asked.part.origins.get(f"severity {code}", _DEFAULT)
            for code, set_to in settings.severities.items()
            if set_to == demand and means(code, rule)
        )
    return {
        "name": rule.name,
        "severity": "off" if rule not in chosen_rules(settings) else demand,
        "reason": reason,
        "from": place,
        "limits": {
            name.replace("_", "-"): _number(
                settings.limit(name), LIMITS[name], _place(asked, "limit", name)
            )
            for name in sorted(rule.limits)
        },
    }


def _number(limit: Limit, default: Limit, place: str) -> dict[str, Any]:
    return {
        "value": limit.value,
        "unit": limit.unit,
        "source": limit.source,
        "default": default.value,
        "from": place,
    }


def _layer(layer: LayerSettings) -> dict[str, Any]:
    return {
        "match": list(layer.match),
        "ignore": list(layer.ignore),
        "severities": dict(layer.severities),
        "limits": {
            name.replace("_", "-"): value.value if isinstance(value, Limit) else value
            for name, value in layer.limits.items()
        },
        "reason": layer.reason,
        "from": layer.place,
    }


def _model(model: Model) -> dict[str, Any]:
    """A configured model, with what its own table says."""
    part = model.part
    return {
        "name": model.name,
        "model": model.model,
        "from": model.origin,
        "options": {
            key.replace("_", "-"): {"value": _seen(value), "from": part.origins[key]}
            for key, value in sorted(part.options.items())
        },
        "severities": _own(part, "severity", part.severities),
        "limits": _own(part, "limit", part.limits),
        "tolerances": _own(part, "tolerance", part.tolerances),
        "layers": [_layer(layer) for layer in part.layers],
    }


def _own(part: Part, kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.replace("_", "-") if kind != "severity" else name: {
            "value": value.value if isinstance(value, Limit) else value,
            "from": part.origins[f"{kind} {name}"],
        }
        for name, value in sorted(values.items())
    }
