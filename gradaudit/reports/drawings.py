"""Which charts the page has, each drawn for the room it gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from gradaudit.records import Measurements, RecurrentRow, Report
from gradaudit.reports import page
from gradaudit.reports.charts import compared, curves, depth, growth, halves, norms, rates, spectral
from gradaudit.reports.numbers import number

WIDE, NARROW, HALF = 880, 350, 430  # pixels: a desktop column, a phone, half a column
_RECURRENT_SHOWN = 6
_Draw = Callable[[float, str], str]  # width and prefix -> SVG


@dataclass(frozen=True)
class Chart:
    """One chart drawn for wide and for narrow screens; the style sheet shows one of them."""

    wide: Markup
    narrow: Markup


@dataclass(frozen=True)
class Drawings:
    """All charts of a page; ``None`` where there is nothing to draw."""

    growth: Chart | None
    spectral: Chart | None
    spectral_shown: int
    spectral_along: Chart | None
    profiles: tuple[tuple[RecurrentRow, Markup | None], ...]
    rates: Chart | None
    range: Markup | None
    loss: Markup | None
    steps: Markup | None
    norms: Chart | None
    attention: Chart | None
    depth: Chart | None
    halves: Chart | None
    outlook: Markup | None
    proof_depth: Markup | None
    proof_loss: Markup | None


def draw(report: Report) -> Drawings:
    """Every chart that the report has numbers for."""
    m = report.measurements
    many = len(spectral.ratios(m.weights)) > spectral.SHOWN
    some = spectral.furthest(m.weights, spectral.FEW if many else spectral.SHOWN)
    return Drawings(
        growth=_growth(report),
        spectral=_pair("spectral", lambda w, p: spectral.draw(some, width=w, prefix=p), some),
        spectral_shown=len(some),
        spectral_along=_pair(
            "spectral-along",
            lambda w, p: spectral.draw_along(m.weights, width=w, prefix=p),
            many,
        ),
        profiles=tuple(
            (
                row,
                Markup(curves.profile(row, width=HALF, prefix=f"time{i}")) if row.profile else None,
            )
            for i, row in enumerate(m.recurrent[:_RECURRENT_SHOWN])
        ),
        rates=_rates(m),
        range=Markup(curves.rates(m.rate_range, width=HALF, prefix="range"))
        if m.rate_range and m.rate_range.losses
        else None,
        loss=_loss(m),
        steps=_steps(report),
        norms=_norms(m),
        attention=_pair(
            "attention",
            lambda w, p: depth.attention(m.attention, width=w, prefix=p),
            any(row.entropy for row in m.attention),
        ),
        depth=_pair(
            "depth",
            lambda w, p: depth.activations(m.modules, width=w, prefix=p),
            depth.has_depth(m.modules),
        ),
        halves=_halves(m),
        outlook=_outlook(m),
        proof_depth=_proof_depth(report),
        proof_loss=_proof_loss(report),
    )


def _growth(report: Report) -> Chart | None:
    m = report.measurements
    limits, worst = page.growth_limits(report), m.trunk.worst_stage
    proof = report.prescription.proof if report.prescription else None
    after = proof.after if proof else None
    return _pair(
        "growth",
        lambda w, p: growth.draw(m.stages, worst, limits, width=w, prefix=p, after=after),
        growth.gains(m.stages),
    )


def _rates(m: Measurements) -> Chart | None:
    known = rates.known(m)
    return _pair("rates", lambda w, p: rates.draw(known, width=w, prefix=p), len(known) > 1)


def _loss(m: Measurements) -> Markup | None:
    if not (m.rehearsal and m.rehearsal.losses):
        return None
    constant = m.loss.constant if m.loss else None
    return Markup(
        curves.curve(
            m.rehearsal.losses,
            heading="Loss at each rehearsal step",
            levels=[(constant, "best constant guess")] if constant is not None else [],
            broken="then not finite" if m.rehearsal.first_nonfinite else "",
            width=HALF,
            prefix="loss",
        )
    )


def _steps(report: Report) -> Markup | None:
    row, clip = report.measurements.rehearsal, report.recipe.clip_norm
    if not (row and row.gradient_norms):
        return None
    return Markup(
        curves.curve(
            row.gradient_norms,
            heading="Gradient norm at each rehearsal step",
            levels=[(clip, f"clipped at {number(clip)}")] if clip else [],
            width=HALF,
            prefix="steps",
        )
    )


def _outlook(m: Measurements) -> Markup | None:
    if m.outlook is None or not m.outlook.own.losses:
        return None
    return Markup(compared.outlook(m.outlook, width=HALF, prefix="outlook"))


def _proof_depth(report: Report) -> Markup | None:
    proof = report.prescription.proof if report.prescription else None
    if proof is None or not (proof.before.stages and proof.after.stages):
        return None
    return Markup(compared.depth(proof.before, proof.after, width=HALF, prefix="proof-depth"))


def _proof_loss(report: Report) -> Markup | None:
    proof = report.prescription.proof if report.prescription else None
    if proof is None or not (proof.before.losses or proof.after.losses):
        return None
    return Markup(compared.losses(proof.before, proof.after, width=HALF, prefix="proof-loss"))


def _norms(m: Measurements) -> Chart | None:
    norm = m.gradient_norm
    if norm is None:
        return None
    return _pair(
        "norms", lambda w, p: norms.draw(m, norm, width=w, prefix=p), norms.groups(m, norm)
    )


def _halves(m: Measurements) -> Chart | None:
    if m.precision is None:
        return None
    sizes = halves.sizes(m.precision)
    formats = [row.format for row in m.precision.formats]
    return _pair("halves", lambda w, p: halves.draw(sizes, formats, width=w, prefix=p), sizes)


def _pair(prefix: str, draw: _Draw, there_is: object) -> Chart | None:
    if not there_is:
        return None
    return Chart(Markup(draw(WIDE, prefix)), Markup(draw(NARROW, prefix + "-narrow")))
