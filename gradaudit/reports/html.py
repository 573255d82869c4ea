"""The report as one self-contained page: no network, complete without JavaScript.

The page carries a Content-Security-Policy that allows exactly its own style sheet and script, by
hash, and nothing else: a hostile layer name that got past the escaping still could not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradaudit.records import Report, RuleDoc, Run
from gradaudit.reports import (
    change,
    drawings,
    drilldown,
    further,
    model_map,
    overview,
    page,
    rule_help,
    sections,
    templating,
    views,
    wording,
)
from gradaudit.reports.gate_words import gate
from gradaudit.reports.tables import attention, halves, trunk, units, weights
from gradaudit.reports.tables.cells import Table, addressed
from gradaudit.reports.text import short_path


def render(report: Report, rules: Sequence[RuleDoc], fail_on: str = "fail") -> str:
    """The page as text, to be written as UTF-8. Equal reports give equal text.

    ``rules`` are what the catalogue says of each rule: findings are explained with it.
    ``fail_on`` is from where on the gate counts findings.
    """
    layers = drilldown.drill(report)
    groups = views.groups(report, layers.homes)
    return templating.page(
        "report.html.j2",
        report=report,
        version=report.version,
        m=report.measurements,
        sections=sections,
        change=change,
        further=further,
        verdict=page.VERDICTS[report.verdict],
        outcome=page.OUTCOMES[report.forecast.outcome],
        confidence=page.confidence(report),
        source=short_path(report.subject.source),
        subject=page.subject(report),
        facts=page.facts(report),
        groups=groups,
        reasons={group.code: group.shown[0].id for group in reversed(groups)},
        help=rule_help.of(report, rules),
        remedies=report.prescription.remedies if report.prescription else (),
        command=wording.command(report),
        charts=drawings.draw(report),
        map=model_map.draw(report),
        layers=layers,
        columns=drilldown.COLUMNS,
        compared=overview.compared(report.comparison),
        gate=gate(report, fail_on),
        tables=_tables(report),
    )


def render_run(run: Run, links: Mapping[str, str]) -> str:
    """The page that lists several models; ``links`` are relative addresses of theirs by name."""
    return templating.page(
        "index.html.j2",
        version=run.version,
        rows=overview.rows(run, links),
        summary=overview.summary(run),
        state=overview.state(run),
    )


def assets() -> dict[str, str]:
    """Style sheet and script by the names under which :func:`linked` pages look for them."""
    return templating.asset_files()


def linked(text: str, folder: str) -> str:
    """The page with style and script linked to, for servers whose policy forbids them within.

    ``folder`` is the relative address of the folder they lie in: empty, or ending in a slash.
    Raises ``ValueError`` where ``text`` is no page of this version.
    """
    return templating.linked(text, folder)


def is_page(text: str) -> bool:
    """Whether ``text`` is a page, and no other format."""
    return text.startswith("<!doctype html>")


def _tables(report: Report) -> dict[str, Table | None]:
    m = report.measurements
    failing = [f.where for f in report.findings if f.severity in ("fail", "warn")]
    marked = {where.stage for where in failing if where.stage is not None}
    names = {name for where in failing for name in (where.module, where.parameter) if name}
    marked |= {row.index for row in m.stages if row.name in names} | model_map.adds(report).keys()
    tables = {
        "stages": trunk.table(m.stages, marked) if m.stages else None,
        "weights": weights.table(m.weights) if m.weights else None,
        "modules": units.modules(m.modules) if m.modules else None,
        "parameters": units.parameters(m.parameters) if m.parameters else None,
        "data": units.data(m.data) if m.data else None,
        "attention": attention.calls(m.attention) if m.attention else None,
        "qk": attention.qk(m.attention_heads),
        "ov": attention.ov(m.attention_heads),
        "halves": halves.table(m.precision) if m.precision and m.precision.formats else None,
    }
    return {key: t and addressed(t, f"table-{key}", names) for key, t in tables.items()}
