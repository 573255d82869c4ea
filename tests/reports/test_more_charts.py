"""Charts of rates, gradient norms, depth and half precision: what they say and what they bear."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET

import pytest

from gradaudit.records import Estimate, Measurements, ModuleRow, Precision
from gradaudit.reports import drawings
from gradaudit.reports.charts import depth, halves, norms, rates
from tests import shared_report


@pytest.fixture
def m() -> Measurements:
    return shared_report.transformer().measurements


def words(drawing: str) -> list[str]:
    return [e.text or "" for e in ET.fromstring(drawing).iter("text")]


def spoken(drawing: str) -> str:
    """What a screen reader says of it."""
    return " ".join(e.text or "" for e in ET.fromstring(drawing) if e.tag in ("title", "desc"))


def test_all_rates_stand_on_one_axis_with_the_recipes_drawn_through(m: Measurements) -> None:
    drawing = rates.draw(rates.known(m), width=880, prefix="r")
    text = words(drawing)
    assert {"loss falls fastest", "loss leaves course", "curvature bears"} <= set(text)
    assert {"your recipe: 3×10⁻⁴", "9×10⁻⁴", "0.0042", "0.0073"} <= set(text)
    assert "curvature bears: 0.0073" in spoken(drawing)


def test_rates_nobody_measured_are_left_out(m: Measurements) -> None:
    assert m.rate_range
    nothing = dataclasses.replace(m.rate_range, ceiling=None, steepest=None)
    bare = dataclasses.replace(
        m, recipe=dataclasses.replace(m.recipe, lr=None), rate_range=nothing, curvature=None
    )
    assert [name for name, _ in rates.known(bare)] == ["in the rehearsal"]
    assert rates.known(dataclasses.replace(bare, rehearsal=None)) == ()
    report = dataclasses.replace(shared_report.transformer(), measurements=bare)
    assert drawings.draw(report).rates is None


def test_a_rate_of_zero_has_no_place_on_a_logarithmic_axis(m: Measurements) -> None:
    assert m.curvature
    flat = dataclasses.replace(m.curvature, rate_ceiling=Estimate.exact(0.0, "rate"))
    assert "curvature bears" not in dict(rates.known(dataclasses.replace(m, curvature=flat)))


def test_both_clips_are_drawn_through_the_histograms(m: Measurements) -> None:
    assert m.gradient_norm
    drawing = norms.draw(m, m.gradient_norm, width=880, prefix="n")
    headings = {"Batches at the start weights (60)", "Steps of the rehearsal (20)"}
    assert headings | {"your clip 1", "measured clip 3.3"} <= set(words(drawing))
    assert "Median over 60 batches 1.92" in spoken(drawing)
    assert "your clip 1, passed by 60 of 60 and 20 of 20" in spoken(drawing)
    assert "measured clip 3.3, passed by 1 of 60 and 7 of 20" in spoken(drawing)


def bars(drawing: str, paint: str) -> int:
    return sum(e.get("class") == f"f-{paint}" for e in ET.fromstring(drawing).iter("path"))


def test_what_is_beyond_the_clip_has_bars_of_its_own(m: Measurements) -> None:
    assert m.gradient_norm
    loose = dataclasses.replace(m, recipe=dataclasses.replace(m.recipe, clip_norm=None))
    drawing = norms.draw(loose, m.gradient_norm, width=880, prefix="n")
    assert bars(drawing, "bad") == 1 + 2  # the batch at 9.1, and two bins of rehearsal steps
    assert bars(drawing, "series") > 10
    tight = norms.draw(m, m.gradient_norm, width=880, prefix="n")
    assert bars(tight, "series") == 0  # all of it is beyond a clip at 1


def test_the_norms_axis_is_logarithmic_where_the_tail_is_heavy(m: Measurements) -> None:
    assert m.gradient_norm
    alone = dataclasses.replace(
        m, rehearsal=None, recipe=dataclasses.replace(m.recipe, clip_norm=None)
    )
    heavy = dataclasses.replace(m.gradient_norm, norms=(1.0, 1.1, 0.9, 4e5), clip_threshold=2.0)
    assert {"1", "10³"} <= set(words(norms.draw(alone, heavy, width=880, prefix="n")))
    light = dataclasses.replace(heavy, norms=(10.0, 11.0, 13.0), clip_threshold=None)
    assert {"10", "11", "12"} <= set(words(norms.draw(alone, light, width=880, prefix="n")))


def test_gradients_of_zero_make_no_chart(m: Measurements) -> None:
    assert m.gradient_norm
    zero = dataclasses.replace(m.gradient_norm, norms=(0.0, 0.0))
    assert m.rehearsal
    still = dataclasses.replace(m.rehearsal, gradient_norms=())
    report = dataclasses.replace(
        shared_report.transformer(),
        measurements=dataclasses.replace(m, gradient_norm=zero, rehearsal=still),
    )
    assert drawings.draw(report).norms is None


def test_rank_and_correlation_are_drawn_by_depth(m: Measurements) -> None:
    drawing = depth.activations(m.modules, width=880, prefix="d")
    headings = [t for t in words(drawing) if t.startswith(("Effective", "Mean"))]
    assert len(headings) == 2
    assert "Effective rank share from 0.953 to 0.688." in spoken(drawing)


def test_one_of_the_two_alone_makes_one_panel() -> None:
    rows = [ModuleRow(f"m{i}", 0, "Linear", 1.0, None, sample_correlation=-0.4) for i in range(3)]
    drawing = depth.activations(rows, width=880, prefix="d")
    text = words(drawing)
    assert not [t for t in text if t.startswith("Effective")]
    assert "−1" in text
    assert not depth.has_depth([ModuleRow("m", 0, "Linear", 1.0, None, effective_rank=3.0)])


def test_a_thousand_calls_are_drawn_in_bins() -> None:
    rows = [
        ModuleRow(f"m{i}", 0, "Linear", 1.0, None, effective_rank=5.0, rank_limit=8)
        for i in range(1000)
    ]
    drawing = depth.activations(rows, width=880, prefix="d")
    assert "f-band" in drawing
    assert len(drawing) < 30_000


def test_the_narrowest_head_is_drawn_below_the_mean(m: Measurements) -> None:
    drawing = depth.attention(m.attention, width=880, prefix="a")
    assert "Between 91% and 97% of the largest possible." in spoken(drawing)
    assert drawing.count("f-surface") >= 1
    alone = depth.attention(m.attention[:1], width=350, prefix="a")
    assert words(alone)


def test_what_overflows_fp16_is_marked(m: Measurements) -> None:
    assert m.precision
    sizes = halves.sizes(m.precision)
    drawing = halves.draw(sizes, ["fp16", "bf16"], width=880, prefix="h")
    assert {"fp16 holds", "bf16 holds", "81,300", "fp16 overflows at 65,504"} <= set(words(drawing))
    assert "f-bad" in drawing
    tame = [(name, value) for name, value in sizes if value < 60_000]
    assert "f-bad" not in halves.draw(tame, ["fp16"], width=880, prefix="h")


def test_the_scaled_gradient_stands_below_the_plain_one(m: Measurements) -> None:
    assert m.precision
    sizes = dict(halves.sizes(m.precision))
    assert sizes["× loss scale"] == pytest.approx(32_768 * sizes["largest gradient"])
    unscaled = dataclasses.replace(m.precision, loss_scale=None)
    assert "× loss scale" not in dict(halves.sizes(unscaled))
    assert halves.sizes(Precision(None, None, ())) == ()
