from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET

import matplotlib
import pytest

from gradaudit.records import Estimate, RateRange
from gradaudit.reports import svg
from gradaudit.reports.charts import curves, depth, growth, halves, norms, rates, spectral
from gradaudit.reports.drawings import draw
from gradaudit.reports.plotting import Span, linear_ticks, log_ticks
from tests import shared_report

LIMITS = ((1e3, "limit 1000"), (1e-6, "limit 10⁻⁶"))


def grown(report_stages: tuple, width: float = 880, worst: int | None = 6) -> str:  # type: ignore[type-arg]
    return growth.draw(report_stages, worst, LIMITS, width=width, prefix="g")


def words(drawing: str) -> list[str]:
    return [e.text or "" for e in ET.fromstring(drawing).iter("text")]


def test_growth_names_the_total_the_limits_and_the_worst_stage() -> None:
    text = words(grown(shared_report.exploding().measurements.stages))
    assert {"in all 3639", "limit 1000", "limit 10⁻⁶", "layers.12: 1.55"} <= set(text)


def test_the_inlets_gain_is_no_growth_in_all() -> None:
    inlet, *_, head = shared_report.stages(3, 1.2)
    inlet = dataclasses.replace(
        inlet, backward_gain=Estimate.exact(1e-15, "gain"), jacobian_norm_log10=None
    )
    said = words(grown((inlet, dataclasses.replace(head, index=1)), worst=1))
    assert "in all 0.9" in said


def test_accumulated_gain_agrees_between_norms_and_gains() -> None:
    stages = shared_report.exploding().measurements.stages
    without = tuple(dataclasses.replace(row, jacobian_norm_log10=None) for row in stages)
    by_norm, by_gain = growth.accumulated(stages), growth.accumulated(without)
    assert len(by_norm) == len(by_gain) == len(stages)
    for one, other in zip(by_norm, by_gain, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-9)
        assert one.low <= one.value <= one.high
    assert by_norm[1].value == pytest.approx(shared_report.total_growth(stages))


def test_a_missing_gain_ends_the_accumulated_line() -> None:
    stages = list(shared_report.stages(10, 1.0))
    for i, row in enumerate(stages):
        stages[i] = dataclasses.replace(row, jacobian_norm_log10=None)
    stages[4] = dataclasses.replace(stages[4], backward_gain=None)
    assert [p.x for p in growth.accumulated(stages)] == [5, 6, 7, 8, 9]
    grown(tuple(stages))


def test_gains_of_zero_and_beyond_a_floats_square_are_drawn() -> None:
    tiny = Estimate(5e-324, 0.0, 1e-300, "gain")
    stages = tuple(
        dataclasses.replace(row, backward_gain=Estimate.exact(0.0, "gain") if i == 2 else tiny)
        for i, row in enumerate(shared_report.stages(30, 1.0))
    )
    assert len(growth.gains(stages)) == 29
    grown(stages)
    assert growth.gains(stages[2:3]) == []
    grown(stages[2:3])


def test_long_nets_are_drawn_in_bins() -> None:
    drawing = grown(shared_report.stages(2000, 1.001))
    assert len(drawing) < 60_000
    assert "f-band" in drawing


def test_drawings_carry_classes_and_no_style_of_their_own(drawings: list[str]) -> None:
    for drawing in drawings:
        root = ET.fromstring(drawing)
        assert root.get("role") == "img"
        labelled = {e.get("id") for e in root.iter() if e.tag in ("title", "desc")}
        assert {root.get("aria-labelledby"), root.get("aria-describedby")} == labelled
        for element in root.iter():
            assert element.tag not in ("style", "metadata", "script")
            assert element.get("style") is None
            for paint in (element.get("fill"), element.get("stroke")):
                assert paint in (None, "none")
        ids = [e.get("id") for e in root.iter() if e.get("id")]
        assert len(ids) == len(set(ids))
        for target in re.findall(r'(?:url\(|href=")#([^)"]+)', drawing):
            assert target in ids


@pytest.fixture
def drawings() -> list[str]:
    m = shared_report.recurrent().measurements
    e = shared_report.exploding().measurements
    assert e.rate_range
    t = shared_report.transformer().measurements
    assert t.gradient_norm
    assert t.precision
    return [
        rates.draw(rates.known(t), width=880, prefix="r"),
        norms.draw(t, t.gradient_norm, width=350, prefix="n"),
        depth.activations(t.modules, width=880, prefix="d"),
        depth.attention(t.attention, width=350, prefix="a"),
        halves.draw(halves.sizes(t.precision), ["fp16", "bf16"], width=880, prefix="h"),
        grown(e.stages),
        grown(e.stages, 350),
        spectral.draw(spectral.furthest(e.weights), width=880, prefix="s"),
        *(curves.profile(row, width=430, prefix="t") for row in m.recurrent),
        curves.curve([3.0, 2.0], heading="Loss", levels=[(1.0, "a")], width=430, prefix="c"),
        curves.curve([3.0], heading="Loss", broken="then not finite", width=430, prefix="c"),
        curves.curve([0.0, 0.0, -1.0], heading="Loss", width=430, prefix="c"),
        curves.rates(e.rate_range, width=430, prefix="r"),
    ]


def test_ids_of_two_drawings_do_not_clash() -> None:
    stages = shared_report.exploding().measurements.stages
    one = growth.draw(stages, 6, LIMITS, width=880, prefix="one")
    two = growth.draw(stages, 6, LIMITS, width=880, prefix="two")
    ids = [set(re.findall(r'id="([^"]+)"', drawing)) for drawing in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_drawing_twice_gives_the_same_text_and_leaves_matplotlib_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    stages = shared_report.exploding().measurements.stages
    assert grown(stages) == grown(stages)
    assert dict(matplotlib.rcParams) == before


def test_names_stay_names() -> None:
    m = shared_report.hostile().measurements
    text = words(spectral.draw(spectral.furthest(m.weights), width=880, prefix="s"))
    assert any("\\frac" in t or "$" in t for t in text)
    assert any("<script>" in t for t in text)
    assert any("块" in t for t in text)
    grown(m.stages)


def test_the_weights_furthest_from_random_are_drawn_in_the_models_order() -> None:
    weights = list(shared_report.weights(60, 1.0))
    odd = dataclasses.replace(weights[33], spectral_norm=Estimate.exact(900.0, "norm"))
    weights[33] = odd
    kept = spectral.furthest(weights, 5)
    assert odd in kept
    assert [weights.index(row) for row in kept] == sorted(weights.index(row) for row in kept)
    assert spectral.furthest([dataclasses.replace(odd, spectral_norm=None)]) == ()


def test_a_profile_says_where_nothing_arrives() -> None:
    lost, kept = shared_report.recurrent().measurements.recurrent
    assert "exactly 0 at 6 of 40 steps" in words(curves.profile(lost, width=430, prefix="t"))
    assert "below 1%, 36 steps back" in words(curves.profile(kept, width=430, prefix="t"))
    nothing = dataclasses.replace(lost, profile=tuple((t, 0.0) for t in range(40)))
    assert "exactly 0 at 40 of 40 steps" in words(curves.profile(nothing, width=430, prefix="t"))


def test_the_ceiling_is_named() -> None:
    row = RateRange("sgd", (1e-4, 1e-3, 1e-2), (2.0, 1.5, 90.0), 0.003, None)
    assert "ceiling 0.003" in words(curves.rates(row, width=430, prefix="r"))


@pytest.mark.parametrize("most", [4, 5, 8])
@pytest.mark.parametrize(
    "span",
    [Span(0, 30), Span(-0.3, 0.4), Span(2.1, 2.2), Span(-7, 4), Span(-320, 12), Span(0, 2000)],
)
def test_ticks_are_few_and_inside(span: Span, most: int) -> None:
    for ticks in (log_ticks, linear_ticks):
        places, labels = ticks(span, most)
        assert len(places) == len(labels) == len(set(labels))
        assert len(places) <= most + 1
        assert all(span.low - 1e-9 <= p <= span.high + 1e-9 for p in places)
        assert places == sorted(places)


def test_whole_ticks_are_whole() -> None:
    places, _ = linear_ticks(Span(0, 3), 8, whole=True)
    assert places == [0, 1, 2, 3]


def test_only_svg_is_taken() -> None:
    with pytest.raises(ValueError, match="not an SVG document"):
        svg.inline("<svg>", prefix="p", title="", description="")


def test_a_span_is_never_empty() -> None:
    span = Span.around([1.0, 1.0], least=2)
    assert span.low < 0
    assert span.high > 2


def test_growth_after_the_changes_stands_beside_growth_before() -> None:
    report = shared_report.exploding()
    assert report.prescription
    assert report.prescription.proof
    after, stages = report.prescription.proof.after, report.measurements.stages
    points = growth.accumulated_after(stages, after)
    assert len(points) == len(stages)
    assert points[3].low < points[3].value < points[3].high
    # both set out from the same norm at the output
    last = stages[-1].jacobian_norm_log10
    before = growth.accumulated(stages)
    assert last
    gap = 2 * (after.stages[-1][1] - last.value)
    assert points[-1].value - before[-1].value == pytest.approx(gap)
    drawing = growth.draw(stages, 6, LIMITS, width=880, prefix="g", after=after)
    assert "s-after" in drawing
    assert "After the changes: " in drawing
    others = dataclasses.replace(after, stages=after.stages[1:], bounds=after.bounds[1:])
    assert growth.accumulated_after(stages, others) == []
    assert "s-after" not in growth.draw(stages, 6, LIMITS, width=880, prefix="g", after=others)


def test_every_weight_is_seen_against_its_own_edge() -> None:
    rows = shared_report.weights(14, 1.0)
    drawing = spectral.draw(rows, width=880, prefix="s")
    ratios = [10**p.value for p in spectral.ratios(rows)]
    for row, ratio in zip(rows, ratios, strict=True):
        assert row.spectral_norm
        assert row.random_edge
        assert ratio == pytest.approx(row.spectral_norm.value / row.random_edge)
    text = words(drawing)
    assert "× random" in text
    assert {f"{ratio:.2f}" for ratio in ratios if ratio >= 1} <= set(text)


def test_many_weights_are_drawn_in_the_models_order_and_named_where_far() -> None:
    rows = list(shared_report.weights(60, 1.0))
    norm = Estimate.exact(60.0, "norm")
    rows[33] = dataclasses.replace(rows[33], spectral_norm=norm)
    drawing = spectral.draw_along(rows, width=880, prefix="s")
    assert rows[33].parameter in words(drawing)
    assert "60 weights have 0.8" in drawing
    assert " to 30" in drawing


def test_no_chart_of_two_thousand_stages_takes_more_than_60_kb() -> None:
    report = shared_report.deep(2000)
    charts = dataclasses.asdict(draw(report))
    sizes = {
        f"{name} {side}": len(drawing)
        for name, chart in charts.items()
        if isinstance(chart, dict)
        for side, drawing in chart.items()
    }
    assert len(sizes) >= 8
    assert {name: size for name, size in sizes.items() if size > 60_000} == {}
