"""The remedies: one change per file, with its numbers and the code that makes it."""

from gradaudit.remedies.catalogue import (
    Prescriber,
    all_remedies,
    answered,
    prescribe,
    recipe_of,
    shown_only,
)

__all__ = ["Prescriber", "all_remedies", "answered", "prescribe", "recipe_of", "shown_only"]
