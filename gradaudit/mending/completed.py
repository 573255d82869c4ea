"""The optimizer and the rate that a proof trained with, where nobody had said them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gradaudit.judging import Judged
from gradaudit.mending.further import rate_remedy, trained_with
from gradaudit.records import Recipe, Remedy
from gradaudit.remedies import recipe_of
from gradaudit.remedies.learning_rate import CLASSES
from gradaudit.subject import Opened


def completed(remedies: Sequence[Remedy], opened: Opened, after: Judged) -> tuple[Remedy, ...]:
    """The remedies, and one that states what they were proven with where the recipe leaves it open.

    ``after`` is the proof. A rate found on the faulty start would not do: this one trained.
    """
    written, given = recipe_of(remedies), opened.recipe
    stated = {name: written[name] or getattr(given, name) for name in ("optimizer", "lr")}
    if opened.make_optimizer is not None or all(stated.values()):
        return tuple(remedies)
    used = trained_with(after.measurements)
    if used is None:
        return tuple(remedies)
    name, rate = used
    kept = tuple(each for each in remedies if each.id != "learning-rate")
    return (*kept, _remedy(after, given, name, rate))


def _remedy(after: Judged, given: Recipe, name: str, rate: float) -> Remedy:
    found = rate_remedy(after.measurements, rate)
    if given.optimizer is not None:
        return found
    kind = CLASSES.get(name, name)
    title = found.title.replace("Train at", f"Train with {kind} at")
    return replace(found, title=title, parameters={**found.parameters, "optimizer": name})
