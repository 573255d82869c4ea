"""All that is known about a layer, in one place; gathered where there are too many."""

from __future__ import annotations

import dataclasses

import pytest

from gradaudit.records import Estimate, Finding, Limit, Report, Where
from gradaudit.reports import drilldown, layer_facts
from gradaudit.reports.layers import Layer, layers
from tests import shared_report, shared_rows


def named(report: Report) -> dict[str, Layer]:
    return {layer.name: layer for layer in layers(report)}


def facts(layer: Layer, heading: str) -> dict[str, tuple[str, str]]:
    found = dict(layer_facts.groups(layer))[heading]
    return {fact.label: (fact.value, fact.aside) for fact in found}


def at(where: Where, severity: str = "fail", name: str = "dead-units") -> Finding:
    return Finding(
        "GA201", name, severity, where, Estimate.exact(1, "x"), Limit(0.5, "x", "here"), "Why."
    )


def test_a_layer_gathers_stage_output_weight_update_and_findings() -> None:
    layer = named(shared_report.exploding())["layers.12"]
    assert layer.type == "Linear"
    assert facts(layer, "Stage 6")["Gain"] == ("1.55", "1.49 – 1.61")
    assert facts(layer, "Output").keys() >= {"Output rms", "Gradient rms", "Effective rank"}
    weight = facts(layer, "layers.12.weight")
    assert weight["Spectral norm"] == ("3.99", "3.99 – 4.00")
    assert {"Random entries'", "Stable rank", "Gradient norm", "Update / weight"} <= weight.keys()
    assert "Weight norm" in facts(layer, "layers.12.bias")
    assert [f.code for _, f in layer.findings] == ["GA101"]
    assert layer.severity == "fail"


def test_attention_gates_and_time_stand_with_their_module() -> None:
    attention = named(shared_report.transformer())["transformer.h.3.attn"]
    assert {"Entropy", "Lowest head", "QK norm", "OV norm"} <= facts(attention, "Attention").keys()
    fused = named(shared_report.transformer())["transformer.h.3.attn.c_attn"]
    assert "Norm of its query" in facts(fused, "transformer.h.3.attn.c_attn.weight")
    recurrent = shared_report.recurrent()
    module = recurrent.measurements.recurrent[0].module
    assert "Through time, forward" in dict(layer_facts.groups(named(recurrent)[module]))


def test_layers_come_in_the_order_they_run_a_stage_before_its_parts() -> None:
    base = shared_report.transformer()
    stage = shared_rows.stages(3, 1.0, names="transformer.h.{}")[1]
    stage = dataclasses.replace(stage, name="block", modules=("transformer.h.1.ln_1",))
    measurements = dataclasses.replace(base.measurements, stages=(stage,))
    names = [layer.name for layer in layers(dataclasses.replace(base, measurements=measurements))]
    assert names.index("block") == names.index("transformer.h.1.ln_1") - 1
    assert names.index("transformer.h.0.ln_1") < names.index("transformer.h.0.attn")


def test_a_part_of_a_stage_names_it() -> None:
    layer = named(shared_report.exploding())["layers.13"]
    assert layer.within
    assert layer.within.name == "layers.12"
    (view,) = [
        view
        for view in drilldown.drill(shared_report.exploding()).singly
        if view.name == "layers.13"
    ]
    assert view.within == ("layer-layers.12", "layers.12")


@pytest.mark.parametrize(
    ("where", "home"),
    [
        (Where(module="layers.3"), "layers.3"),
        (Where(parameter="layers.4.bias"), "layers.4"),
        (Where(stage=5), "layers.10"),
        (Where(), None),
        (Where(module="elsewhere"), None),
    ],
)
def test_findings_are_brought_home(where: Where, home: str | None) -> None:
    report = dataclasses.replace(shared_report.exploding(), findings=(at(where),))
    homes = [layer.name for layer in layers(report) if layer.findings]
    assert homes == ([home] if home else [])


def test_a_stage_that_adds_to_the_growth_is_suspect() -> None:
    found = named(shared_report.exploding())
    assert found["layers.20"].adds == "grows"
    assert found["layers.20"].severity == "warn"
    assert named(shared_report.sound())["layers.20"].severity == "pass"


def test_many_parts_of_one_layer_are_counted_not_dropped() -> None:
    base = shared_report.exploding()
    call = base.measurements.modules[0]
    calls = tuple(dataclasses.replace(call, call=i) for i in range(20))
    measurements = dataclasses.replace(base.measurements, modules=calls)
    layer = named(dataclasses.replace(base, measurements=measurements))["layers.0"]
    assert "14 more calls" in facts(layer, "And more")["In the JSON report"][0]


def test_long_nets_are_gathered_by_consecutive_stages_and_every_layer_has_a_row() -> None:
    found = drilldown.drill(shared_report.deep())
    assert not found.singly
    assert len(found.blocks) == drilldown.BLOCKS
    rows = [row for block in found.blocks for row in block.rows]
    assert len(rows) == found.count == 4000
    first = found.blocks[0]
    assert (first.title, len(first.rows)) == ("layers.0 … layers.39", 40)
    assert first.gist.startswith("40 layers, gain 1.02 (0.826 – 1.16)")
    assert first.severity == "warn"
    assert rows[0].findings == (("GA105-layers.0.weight", "GA105"),)
    assert rows[0].figures[0] == "1.10"
    assert "4,000 layers are gathered into 100 groups" in found.note
    assert "JSON" in found.note


def test_past_the_most_rows_what_stands_out_stays_and_the_rest_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drilldown, "ROWS", 800)
    base = shared_report.deep(1000)
    report = dataclasses.replace(base, findings=(at(Where(module="layers.1500")),))
    found = drilldown.drill(report)
    rows = {row.name for block in found.blocks for row in block.rows}
    assert len(rows) == 800
    assert "layers.1500" in rows
    block = found.blocks[0]
    assert block.note.startswith("The 8 of 20 layers that stand out most")
    kept = {row.id for row in block.rows} | set(block.bare)
    assert {f"layer-layers.{2 * i}" for i in range(10)} <= kept  # stages keep their addresses
    assert found.homes == {"GA201-layers.1500": "layer-layers.1500"}


def test_without_a_trunk_layers_are_gathered_by_their_place() -> None:
    base = shared_report.deep(400)
    measurements = dataclasses.replace(base.measurements, stages=())
    found = drilldown.drill(dataclasses.replace(base, measurements=measurements))
    assert sum(len(block.rows) for block in found.blocks) == 800
    assert len(found.blocks) == drilldown.BLOCKS
