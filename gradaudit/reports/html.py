"""The report as one self-contained page: no network, complete without JavaScript.

The page carries a Content-Security-Policy that allows exactly its own style sheet and script, by
hash, and nothing else: a hostile layer name that got past the escaping still could not run.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from gradaudit.records import Report
from gradaudit.reports import change, drawings, further, model_map, page, sections, views, wording
from gradaudit.reports.numbers import count, interval, number, percent
from gradaudit.reports.tables import attention, halves, trunk, units, weights
from gradaudit.reports.tables.cells import Table
from gradaudit.reports.text import clean, plural
from gradaudit.resources import resource


def render(report: Report) -> str:
    """The page as text, to be written as UTF-8. Equal reports give equal text."""
    folder = resource("templates")
    style = (folder / "report.css").read_text(encoding="utf-8")
    script = (folder / "report.js").read_text(encoding="utf-8")
    environment = _environment(str(folder))
    return environment.get_template("report.html.j2").render(
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        report=report,
        m=report.measurements,
        sections=sections,
        change=change,
        further=further,
        verdict=page.VERDICTS[report.verdict],
        outcome=page.OUTCOMES[report.forecast.outcome],
        confidence=page.confidence(report),
        subject=page.subject(report),
        facts=page.facts(report),
        groups=views.groups(report),
        remedies=report.prescription.remedies if report.prescription else (),
        command=wording.command(report),
        charts=drawings.draw(report),
        map=model_map.draw(report),
        tables=_tables(report),
    )


def policy(style: str, script: str) -> str:
    """A Content-Security-Policy that allows this style sheet and this script only."""
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _environment(folder: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "percent": percent,
        "count": count,
        "say": wording.say,
        "flat": wording.flat,
        "plural": plural,
        "ticked": ticked,
    }
    return environment


def _visible(value: Any) -> Any:
    """Every text that reaches the page, with control characters written out."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def ticked(text: str) -> Markup:
    """Text with what stands between backticks set as code."""
    parts = clean(text).split("`")
    if len(parts) % 2 == 0:  # a backtick too many: which ones belong together is unknown
        return escape(clean(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part)
        for i, part in enumerate(parts)
    )


def _tables(report: Report) -> dict[str, Table | None]:
    m = report.measurements
    return {
        "stages": trunk.table(m.stages, m.trunk.worst_stage) if m.stages else None,
        "weights": weights.table(m.weights) if m.weights else None,
        "modules": units.modules(m.modules) if m.modules else None,
        "parameters": units.parameters(m.parameters) if m.parameters else None,
        "data": units.data(m.data) if m.data else None,
        "attention": attention.calls(m.attention) if m.attention else None,
        "qk": attention.qk(m.attention_heads),
        "ov": attention.ov(m.attention_heads),
        "halves": halves.table(m.precision) if m.precision and m.precision.formats else None,
    }
