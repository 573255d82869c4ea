"""The report as JSON, by the contract of ``gradaudit.report/1`` (``report.schema.json``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gradaudit.records import Report, Run, Verdict

RUN_SCHEMA = "gradaudit.run/1"
_WORST_FIRST: tuple[Verdict, ...] = ("fail", "inconclusive", "warn", "pass")


def render(report: Report) -> str:
    """Keys sorted, ASCII only, one newline at the end; equal reports give equal text.

    Raises ``ValueError`` on NaN or infinity, ``TypeError`` on what JSON has no form for.
    """
    return _text(report.to_dict())


def render_run(run: Run) -> str:
    """Several models by the contract of ``gradaudit.run/1`` (``run.schema.json``), likewise."""
    verdicts = {each.verdict for each in run.audits}
    return _text(
        {
            "schema": RUN_SCHEMA,
            "tool": {"name": "gradaudit", "version": run.version},
            # null where a model could not be audited, so that no verdict is on all of them
            "verdict": None if None in verdicts else next(v for v in _WORST_FIRST if v in verdicts),
            "exit_code": run.exit_code,
            "models": [
                {
                    "name": each.name,
                    "exit_code": each.exit_code,
                    "error": each.error or None,
                    "report": None if each.report is None else each.report.to_dict(),
                }
                for each in run.audits
            ],
        }
    )


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
