from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gradaudit import records
from gradaudit.records import Report
from gradaudit.reports import json_report
from gradaudit.resources import resource
from tests import shared_report

SCHEMA = json.loads(resource("report.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_reports_satisfy_the_schema(report: Report) -> None:
    data = json.loads(json_report.render(report))
    assert [error.message for error in VALIDATOR.iter_errors(data)] == []


def test_a_report_without_measurements_satisfies_it() -> None:
    VALIDATOR.validate(json.loads(json_report.render(shared_report.weights_only())))


def test_same_report_same_text_whatever_the_order_of_its_settings(report: Report) -> None:
    turned = dataclasses.replace(report, settings=dict(reversed(list(report.settings.items()))))
    text = json_report.render(report)
    assert json_report.render(turned) == text
    assert text.endswith("}\n")
    assert text.isascii()


def test_nothing_is_lost_on_the_way(report: Report) -> None:
    assert json.loads(json_report.render(report)) == json.loads(json.dumps(report.to_dict()))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_no_form_for_are_refused(bad: float) -> None:
    broken = dataclasses.replace(shared_report.sound(), environment={"load": bad})
    with pytest.raises(ValueError, match="finite"):
        json_report.render(broken)


def _set(*path: str | int, value: object) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


def _drop(*path: str | int) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


STAGE = ("measurements", "stages", 3)


@pytest.mark.parametrize(
    "break_it",
    [
        _set("schema", value="gradaudit.report/2"),
        _set("verdict", value="ok"),
        _set("seed", value="0"),
        _set("forecast", "confidence", value=1.2),
        _set("forecast", "outcome", value="explodes"),
        _set("findings", 0, "severity", value="error"),
        _set("subject", "line", value=0),
        _set("subject", "file", value=None),
        _set("findings", 0, "measured", value=3.0),
        _set("findings", 0, "limit", value={"value": 1.0, "unit": "gain"}),
        _set(*STAGE, "backward_gain", "low", value="0.9"),
        _set(*STAGE, "backward_gain", "note", value="an estimate has four fields"),
        _set(*STAGE, "index", value=-1),
        _set("measurements", "modules", 1, "saturated_fraction", value=1.5),
        _set("measurements", "recurrent", value=[{"module": "rnn"}]),
        _set("prescription", "remedies", 0, "safety", value="harmless"),
        _set("not_measured", value=[{"what": "curvature"}]),
        _set("measurements", "curvature", value={"sharpness": None, "ceiling": None}),
        _set("measurements", "precision", value={"asked": "fp16"}),
        _set("measurements", "attention", value=[{"module": "attn"}]),
        _set("measurements", "gradient_norm", "tail_index", value=2.5),
        _set("measurements", "weights", 0, "parts", value=[{"name": "forget"}]),
        _set("measurements", "trunk", "top_singular_values", value=[3.0]),
        _set("prescription", "proof", "before", value={}),
        _set("prescription", "proof", "after", "stages", value=[["layers.0"]]),
        _set("prescription", "proof", "after", "forecast", "outcome", value="works"),
        _set("prescription", "proof", "batches", value=None),
        _set("prescription", "tried", 0, "passed", value="no"),
        _set("prescription", "tried", 0, "outcome", value="broke"),
        _set("prescription", "recipe", value=[]),
        _set("measurements", "outlook", "own", "losses", value=["2.3"]),
        _set("measurements", "outlook", "reference", value={}),
        _set("recipe", "schedule", value="triangle"),
        _drop("prescription", "proof", "steps"),
        _drop("prescription", "tried", 0, "why"),
        _drop("measurements", "outlook", "constant"),
        _drop("verdict"),
        _drop("not_measured"),
        _drop("tool", "version"),
        _drop("subject", "digest"),
        _drop("measurements", "trunk", "worst_stage"),
        _drop(*STAGE, "from"),
        _drop(*STAGE, "backward_gain", "unit"),
        _drop("findings", 0, "where"),
        _drop("measurements", "weights", 0, "spectral_norm"),
    ],
)
def test_the_schema_refuses_broken_reports(break_it: Callable[[Any], None]) -> None:
    data = copy.deepcopy(json.loads(json_report.render(shared_report.exploding())))
    VALIDATOR.validate(data)
    break_it(data)
    assert not VALIDATOR.is_valid(data)


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (records.Measurements, "measurements"),
        (records.WeightRow, "weight"),
        (records.WeightPart, "weight_part"),
        (records.StageRow, "stage"),
        (records.TrunkRow, "trunk"),
        (records.ModuleRow, "module"),
        (records.ParameterRow, "parameter"),
        (records.RecurrentRow, "recurrent"),
        (records.Curvature, "curvature"),
        (records.GradientNorm, "gradient_norm"),
        (records.NonFinite, "nonfinite"),
        (records.Rehearsal, "rehearsal"),
        (records.AttentionRow, "attention"),
        (records.HeadRow, "attention_head"),
        (records.Precision, "precision"),
        (records.HalfRow, "half"),
        (records.RateRange, "rate_range"),
        (records.LossRow, "loss"),
        (records.DataRow, "data"),
        (records.SampleRow, "sample"),
        (records.StateRow, "state"),
        (records.Prescription, "prescription"),
        (records.Proof, "proof"),
        (records.Side, "side"),
        (records.Attempt, "attempt"),
        (records.Outlook, "outlook"),
        (records.Trial, "trial"),
    ],
)
def test_every_field_has_its_type_in_the_schema(record: Any, name: str) -> None:
    fields = {f.name for f in dataclasses.fields(record)}
    if record is records.StageRow:
        fields = fields - {"start"} | {"from"}
    if record is records.Measurements:
        fields -= {"recipe"}
    assert fields == set(SCHEMA["$defs"][name]["properties"])


def test_a_prescribed_precision_stands_beside_the_recipes_other_keys() -> None:
    base = shared_report.exploding()
    assert base.prescription
    recipe = {**(base.prescription.recipe or {}), "precision": "bf16"}
    prescription = dataclasses.replace(base.prescription, recipe=recipe)
    VALIDATOR.validate(
        json.loads(json_report.render(dataclasses.replace(base, prescription=prescription)))
    )


def test_fields_beyond_the_contract_are_free() -> None:
    data = json.loads(json_report.render(shared_report.exploding()))
    for place in (
        data,
        data["measurements"],
        data["measurements"]["stages"][0],
        data["findings"][0],
    ):
        place["extra"] = {"anything": [1, 2]}
    VALIDATOR.validate(data)
