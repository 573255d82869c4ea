"""The map of the model: which layers are ill, at two stages and at two thousand."""

from __future__ import annotations

from dataclasses import replace

from gradaudit.records import Estimate, Finding, Limit, Report, Where
from gradaudit.reports import html, model_map
from gradaudit.reports.anchors import anchor
from gradaudit.reports.model_map import MOST, Box, ModelMap
from tests import shared_report


def drawn(report: Report) -> ModelMap:
    found = model_map.draw(report)
    assert found
    return found


def box(found: ModelMap, name: str) -> Box:
    return next(each for each in found.boxes if each.first == name)


def found_at(place: Where, severity: str = "fail", code: str = "GA401") -> Finding:
    measured, limit = Estimate.exact(1.0, "share"), Limit(0.5, "share", "somewhere")
    return Finding(code, "dead-units", severity, place, measured, limit, "It is.")  # type: ignore[arg-type]


def plain(count: int, *findings: Finding) -> Report:
    """A sound chain of that many stages, and these findings."""
    base = shared_report.sound()
    rows = shared_report.stages(count, 1.0)
    measurements = replace(base.measurements, stages=rows, weights=())
    return replace(base, measurements=measurements, findings=findings)


def test_each_stage_is_as_well_as_its_worst_finding() -> None:
    found = drawn(shared_report.exploding())
    ill = box(found, "layers.12")
    assert (ill.state, ill.word, ill.codes[0][0]) == ("fail", "fails", "GA101")
    assert ill.gain == "1.55"
    assert ill.address == anchor("layer", "layers.12")
    noted = box(found, "layers.14")
    assert [code for code, _ in noted.codes] == ["GA105", "GA107"]
    assert noted.state == "warn"
    assert [name for _, _, name, _ in found.elsewhere] == ["clip-missing"]


def test_stages_that_would_pass_the_limit_alone_are_marked() -> None:
    found = drawn(shared_report.exploding())
    assert box(found, "layers.2").word == "grows too much"
    assert box(found, "layers.0").word == "fine"
    assert found.adding == (21, "grows")
    assert drawn(shared_report.sound()).adding == (0, "")


def test_a_note_is_not_called_a_warning_where_a_stage_grows_too_much() -> None:
    base = shared_report.exploding()
    note = found_at(Where(module="layers.2", stage=1), "note")
    noted = box(drawn(replace(base, findings=(*base.findings, note))), "layers.2")
    assert (noted.state, noted.word) == ("warn", "grows too much")
    assert [code for code, _ in noted.codes] == ["GA401"]


def test_neighbours_that_are_fine_share_a_box() -> None:
    found = drawn(plain(30, found_at(Where(module="layers.12", stage=6))))
    assert [each.title for each in found.boxes] == [
        "layers.0 … layers.10",
        "layers.12",
        "layers.14 … layers.58",
    ]
    assert found.boxes[0].word == "6 in a row, all fine"
    assert found.summary == "30 stages from input to output: 1 ill, 29 fine."
    low, high = (float(end) for end in found.boxes[2].gain.split(" – "))
    assert low < 1 < high


def test_two_stages_make_two_boxes_and_one_makes_no_map() -> None:
    assert [each.size for each in drawn(plain(2)).boxes] == [1, 1]
    assert model_map.draw(plain(1)) is None


def test_two_thousand_stages_make_a_few_dozen_boxes_with_none_lost() -> None:
    every_other = [
        found_at(Where(module=f"layers.{4 * i}", stage=2 * i), "warn") for i in range(1000)
    ]
    report = plain(2000, *every_other, found_at(Where(module="layers.2222", stage=1111)))
    found = drawn(report)
    assert len(found.boxes) <= MOST
    assert sum(each.size for each in found.boxes) == 2000
    (worst,) = (each for each in found.boxes if each.state == "fail")
    assert worst.word.endswith("1 ill, 21 suspect, 20 fine")
    assert worst.address == anchor("layer", "layers.2222")


def test_a_finding_is_placed_by_parameter_or_by_the_module_around_it() -> None:
    base = plain(3)
    stages = tuple(
        replace(row, modules=(f"block{i}", f"block{i}.fc"), parameters=(f"block{i}.fc.weight",))
        for i, row in enumerate(base.measurements.stages)
    )
    findings = (
        found_at(Where(parameter="block0.fc.weight")),
        found_at(Where(module="block2.fc.inner.deep"), "warn"),
        found_at(Where(module="elsewhere"), "warn", "GA404"),
    )
    report = replace(
        base, findings=findings, measurements=replace(base.measurements, stages=stages)
    )
    found = drawn(report)
    assert [each.state for each in found.boxes] == ["fail", "pass", "warn"]
    assert [code for _, code, _, _ in found.elsewhere] == ["GA404"]


def test_without_stages_the_layers_with_weights_are_drawn() -> None:
    found = drawn(shared_report.weights_only())
    assert (found.what, found.layers) == ("layer", 31)
    assert all(each.bar is None for each in found.boxes)


def test_the_map_says_all_in_words_and_symbols_too() -> None:
    text = html.render(shared_report.exploding(), ())
    section = text[text.index('<section id="map">') : text.index('<section id="growth">')]
    assert '<ol class="map" aria-label="Stages from input to output">' in section
    assert section.count("<li ") == len(drawn(shared_report.exploding()).boxes)
    item = section[section.index('<li class="fail') :].partition("</li>")[0]
    assert 'href="#icon-fail"' in item
    assert ">fails" in item
    assert 'class="spoken">gain' in item
    assert "style=" not in section


def test_long_names_are_shortened_and_lead_to_the_whole_one() -> None:
    base = plain(2)
    name = "encoder." + ".".join(f"block_{i}" for i in range(30))
    stages = tuple(replace(row, name=name) for row in base.measurements.stages[:1])
    stages += base.measurements.stages[1:]
    found = drawn(replace(base, measurements=replace(base.measurements, stages=stages)))
    assert len(found.boxes[0].first) <= 40
    assert found.boxes[0].address == anchor("layer", name)
