"""The proof in one line, and text by others as comments that stay comments."""

from __future__ import annotations

import textwrap

from gradaudit.records import Prescription, Side
from gradaudit.reports.change import target_scaled
from gradaudit.reports.numbers import TERMINAL, number
from gradaudit.reports.text import one_line, plural

_WIDTH = 88


def comment(text: str, indent: str = "") -> list[str]:
    """``text`` as comment lines, whatever it holds: names of layers are written by others."""
    lines = textwrap.wrap(
        one_line(text),
        _WIDTH - len(indent),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [f"# {line}" for line in lines]


def proof_line(prescription: Prescription) -> str:
    """``stalls -> trains; loss 2.31 -> 0.0218 in 143 steps (unchanged: ...)``; empty without."""
    proof = prescription.proof
    if proof is None:
        return ""
    before, after = proof.before, proof.after
    line = f"{before.forecast.outcome} -> {after.forecast.outcome}"
    if _losses(after):
        line += f"; loss {_losses(after)}"
    if _losses(before):
        units = ", on the target as it was" if target_scaled(prescription) else ""
        line += f" (unchanged: {_losses(before)}{units})"
    return line


def _losses(side: Side) -> str:
    if side.first_loss is None:
        return ""
    last = "not finite" if side.last_loss is None else number(side.last_loss, TERMINAL)
    return f"{number(side.first_loss, TERMINAL)} -> {last} in {plural(side.steps, 'step')}"
