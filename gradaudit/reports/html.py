"""The report as one self-contained page: no network, complete without JavaScript.

The page carries a Content-Security-Policy that allows exactly its own style sheet and script, by
hash, and nothing else: a hostile layer name that got past the escaping still could not run.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from gradaudit.records import Report
from gradaudit.reports import charts, curves, page, tables
from gradaudit.reports.numbers import count, interval, number, percent
from gradaudit.reports.text import clean, plural
from gradaudit.resources import resource

WIDE, NARROW, HALF = 880, 350, 430  # pixels: a desktop column, a phone, half a column
_RECURRENT_SHOWN = 6


@dataclass(frozen=True)
class Chart:
    """One chart drawn for wide and for narrow screens; the style sheet shows one of them."""

    wide: Markup
    narrow: Markup


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
        verdict=page.VERDICTS[report.verdict],
        outcome=page.OUTCOMES[report.forecast.outcome],
        confidence=page.confidence(report),
        subject=page.subject(report),
        facts=page.facts(report),
        groups=page.groups(report),
        remedies=report.prescription.remedies if report.prescription else (),
        command=page.command(report),
        charts=_charts(report),
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
        "say": page.say,
        "flat": page.flat,
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


def _charts(report: Report) -> dict[str, Any]:
    m = report.measurements
    drawn: dict[str, Any] = {
        "growth": None,
        "spectral": None,
        "spectral_shown": 0,
        "profiles": [],
        "loss": None,
        "norms": None,
        "rates": None,
    }
    if charts.gains(m.stages):
        limits = page.growth_limits(report)
        drawn["growth"] = _pair(
            lambda width, prefix: charts.growth(
                m.stages, m.trunk.worst_stage, limits, width=width, prefix=prefix
            ),
            "growth",
        )
    some = charts.furthest(m.weights)
    if some:
        drawn["spectral_shown"] = len(some)
        drawn["spectral"] = _pair(
            lambda width, prefix: charts.spectral(some, width=width, prefix=prefix), "spectral"
        )
    drawn["profiles"] = [
        (row, Markup(curves.profile(row, width=HALF, prefix=f"time{i}")))
        for i, row in enumerate(m.recurrent[:_RECURRENT_SHOWN])
        if row.profile
    ]
    return drawn | _curves(report)


def _curves(report: Report) -> dict[str, Markup]:
    m = report.measurements
    drawn: dict[str, Markup] = {}
    if m.rehearsal and m.rehearsal.losses:
        constant = m.loss.constant if m.loss else None
        levels = [(constant, "best constant guess")] if constant is not None else []
        broken = "then not finite" if m.rehearsal.first_nonfinite else ""
        drawn["loss"] = Markup(
            curves.curve(
                m.rehearsal.losses,
                heading="Loss at each rehearsal step",
                levels=levels,
                broken=broken,
                width=HALF,
                prefix="loss",
            )
        )
    if m.rehearsal and m.rehearsal.gradient_norms:
        clip = report.recipe.clip_norm
        levels = [(clip, f"clipped at {number(clip)}")] if clip else []
        drawn["norms"] = Markup(
            curves.curve(
                m.rehearsal.gradient_norms,
                heading="Gradient norm at each rehearsal step",
                levels=levels,
                width=HALF,
                prefix="norms",
            )
        )
    if m.rate_range and m.rate_range.losses:
        drawn["rates"] = Markup(curves.rates(m.rate_range, width=HALF, prefix="rates"))
    return drawn


def _pair(draw: Any, prefix: str) -> Chart:
    return Chart(Markup(draw(WIDE, prefix)), Markup(draw(NARROW, prefix + "-narrow")))


def _tables(report: Report) -> dict[str, tables.Table | None]:
    m = report.measurements
    return {
        "stages": tables.stages(m.stages, m.trunk.worst_stage) if m.stages else None,
        "weights": tables.weights(m.weights) if m.weights else None,
        "modules": tables.modules(m.modules) if m.modules else None,
        "parameters": tables.parameters(m.parameters) if m.parameters else None,
        "data": tables.data(m.data) if m.data else None,
    }
