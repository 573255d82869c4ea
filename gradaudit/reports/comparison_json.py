"""Two runs side by side as JSON (``gradaudit.diff/1``, ``diff.schema.json``)."""

from __future__ import annotations

import json
from typing import Any

from gradaudit.records import Compared, Difference, plain

SCHEMA = "gradaudit.diff/1"


def render(difference: Difference) -> str:
    """Keys sorted, ASCII only, one newline at the end; equal differences give equal text."""
    whole = {
        "schema": SCHEMA,
        "tool": {"name": "gradaudit", "version": difference.version},
        "old": difference.old,
        "new": difference.new,
        "exit_code": difference.exit_code,
        "models": [_model(each) for each in difference.models],
        "notes": list(difference.notes),
    }
    return json.dumps(whole, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _model(compared: Compared) -> dict[str, Any]:
    comparison = compared.comparison
    return {
        "name": compared.name,
        "verdict": compared.verdict,
        "verdict_before": comparison.verdict_before if comparison else None,
        "exit_code": compared.exit_code,
        "error": compared.error,
        "findings": plain(comparison.findings) if comparison else [],
        "metrics": plain(comparison.metrics) if comparison else [],
        "stale": list(comparison.stale) if comparison else [],
    }
