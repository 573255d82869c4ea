"""What the tests in a browser share: the pages by name, sizes, and how far a page overflows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from playwright.sync_api import Page

from gradaudit.records import (
    Audited,
    Comparison,
    Estimate,
    FindingChange,
    Known,
    MetricChange,
    Report,
    Run,
)
from gradaudit.reports import html
from tests import shared_report

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
NAMES = (*shared_report.every(), "deep", "compared", "index")
Open = Callable[..., Page]


def page(name: str) -> str:
    """The page of that name as text."""
    if name == "compared":
        return html.render(compared(), ())
    if name == "index":
        return html.render_run(several(), {"mlp": "exploding.html", shared_report.HOSTILE: "#"})
    return shared_report.page(name)


def compared() -> Report:
    """A report held against a baseline, with something of every kind of change."""
    gain = "log10 of total gain (sum of squares)"
    old = Known("GA101", "exploding-jacobian", "layers.12", "fail", Estimate(2.1, 2.0, 2.2, gain))
    now = dataclasses.replace(old, measured=Estimate(3.5, 3.4, 3.6, gain))
    loss = [Estimate.exact(value, "nats") for value in (2.5, 0.7)]
    return dataclasses.replace(
        shared_report.exploding(),
        comparison=Comparison(
            "baseline.json",
            (
                FindingChange("worse", old, now, "Its gain rose 25-fold, beyond its interval."),
                FindingChange("new", None, now, f"It was not there: {shared_report.HOSTILE}"),
                FindingChange("fixed", old, None, "It is gone."),
                FindingChange("unchanged", old, old, "Within its interval."),
            ),
            (MetricChange("better", "loss", "the model", *loss, "10%", "It fell by 72%."),),
            ("It was made by version 0.0.9.",),
        ),
    )


def several() -> Run:
    """A run of four models, one of which could not be audited."""
    return Run(
        "0.1.0",
        (
            Audited("mlp", compared(), 1),
            Audited(shared_report.HOSTILE, shared_report.sound(), 0),
            Audited("weights", shared_report.weights_only(), 3),
            Audited(shared_report.LONG, None, 2, f"cannot read it: {shared_report.HOSTILE}"),
        ),
    )


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def unfold(page: Page) -> None:
    """Open everything that is folded."""
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
