"""Finds the remedies by walking this package, and writes the prescription.

A remedy is a module here without a leading underscore that holds ``ORDER`` (the order to apply them
in: data, start values, recipe, then what is only shown) and ``prescribe(findings, measurements,
settings)``. Parameters of an applied remedy that are named like a key of ``recipe.json`` go there.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module

from gradaudit.records import Finding, Measurements, Prescription, Remedy
from gradaudit.settings import Settings

Prescribe = Callable[[Sequence[Finding], Measurements, Settings], Iterable[Remedy]]

_PLAIN_KEYS = (
    "optimizer",
    "lr",
    "momentum",
    "betas",
    "eps",
    "weight_decay",
    "clip_norm",
    "warmup_steps",
    "schedule",
    "loss_scale",
)
_SCALED = ("input", "target")
SHOWN = "changes architecture: shown, not applied"


@dataclass(frozen=True)
class Prescriber:
    """One entry of the catalogue."""

    name: str
    doc: str
    order: int
    prescribe: Prescribe


@cache
def all_remedies() -> tuple[Prescriber, ...]:
    """Every remedy, in the order to apply them in."""
    package = __name__.rpartition(".")[0]
    found = []
    for item in pkgutil.iter_modules(import_module(package).__path__):
        if item.name.startswith("_") or item.name == "catalogue":
            continue
        home = import_module(f"{package}.{item.name}")
        found.append(Prescriber(item.name, home.__doc__ or "", home.ORDER, home.prescribe))
    return tuple(sorted(found, key=lambda each: (each.order, each.name)))


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> tuple[Prescription | None, tuple[Finding, ...]]:
    """What to change, and the findings with the ids of the remedies that answer them.

    Notes are not treated. The prescription is ``None`` where nothing is found and the recipe lacks
    nothing; its ``proof`` is left to re-measurement.
    """
    pressing = tuple(f for f in findings if f.severity != "note")
    graph = any(row.elsewhere for row in measurements.weights)
    remedies = tuple(
        _in_its_code(remedy) if graph and remedy.safety == SHOWN else remedy
        for each in all_remedies()
        for remedy in each.prescribe(pressing, measurements, settings)
    )
    told = answered(findings, remedies)
    if not remedies:
        return None, told
    return Prescription(remedies, recipe_of(remedies)), told


def _in_its_code(remedy: Remedy) -> Remedy:
    """The same for a graph, whose nodes cannot be exchanged once it is loaded."""
    return replace(remedy, code=f"# In the code that the graph was exported from.\n{remedy.code}")


def answered(findings: Sequence[Finding], remedies: Sequence[Remedy]) -> tuple[Finding, ...]:
    """The findings with the ids of the remedies that answer them; notes are not treated."""
    return tuple(
        replace(finding, remedies=tuple(r.id for r in remedies if finding.code in r.for_codes))
        if finding.severity != "note"
        else finding
        for finding in findings
    )


def shown_only(remedies: Sequence[Remedy]) -> tuple[Remedy, ...]:
    """Those that change the architecture: never applied."""
    return tuple(remedy for remedy in remedies if remedy.safety == SHOWN)


def recipe_of(remedies: Sequence[Remedy]) -> Mapping[str, object]:
    """The dict of ``recipe.json``: ``None`` wherever no applied remedy prescribes anything."""
    recipe: dict[str, object] = dict.fromkeys(_PLAIN_KEYS)
    recipe.update({key: {"shift": None, "scale": None} for key in _SCALED})
    for remedy in remedies:
        if remedy.safety == SHOWN:
            continue
        for key in recipe:
            if key in remedy.parameters:
                recipe[key] = remedy.parameters[key]
        if "precision" in remedy.parameters:  # beside the contract's keys, where it is prescribed
            recipe["precision"] = remedy.parameters["precision"]
    return recipe
