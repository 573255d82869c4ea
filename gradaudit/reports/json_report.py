"""The report as JSON, by the contract of ``gradaudit.report/1`` (``report.schema.json``)."""

from __future__ import annotations

import json

from gradaudit.records import Report


def render(report: Report) -> str:
    """Keys sorted, ASCII only, one newline at the end; equal reports give equal text.

    Raises ``ValueError`` on NaN or infinity, ``TypeError`` on what JSON has no form for.
    """
    return json.dumps(report.to_dict(), indent=2, sort_keys=True, allow_nan=False) + "\n"
