"""Settings in Python: what they take, and what an audit makes of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gradaudit
from gradaudit.errors import UsageError
from gradaudit.records import Report
from gradaudit.settings import LayerSettings, Settings


def _audit(**settings: object) -> Report:
    torch.manual_seed(0)
    layers = [layer for _ in range(14) for layer in (nn.Linear(16, 16), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(16, 1))
    x = torch.randn(64, 16)
    sample = (x, x[:, :1] * x[:, 1:2])
    return gradaudit.audit(
        model,
        sample,
        loss="mse",
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        settings=Settings(effort="quick", threads=1, **settings),  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def plain() -> Report:
    return _audit()


def test_severities_change_the_gate_and_not_the_forecast(plain: Report) -> None:
    failing = {finding.code for finding in plain.findings if finding.severity == "fail"}
    assert plain.verdict == "fail"
    mild = _audit(severities=dict.fromkeys(failing, "note"))
    assert mild.verdict != "fail"
    assert not any(finding.severity == "fail" for finding in mild.findings)
    assert mild.forecast == plain.forecast
    assert {f.code for f in mild.findings} == {f.code for f in plain.findings}
    assert any("reported as 'note', as was set" in note for note in mild.notes)


def test_what_is_ignored_is_in_the_report_with_its_reason(plain: Report) -> None:
    codes = {finding.code for finding in plain.findings}
    layers = (LayerSettings(("*",), ("GA302", "GA401"), reason="drawn so on purpose"),)
    report = _audit(ignore=("GA102",), reasons={"GA102": "known"}, layers=layers)
    assert {"GA102", "GA302"} <= codes
    assert not {"GA102", "GA302", "GA401"} & {finding.code for finding in report.findings}
    assert "GA102 is ignored: known" in report.notes
    assert "layers *: GA302, GA401 ignored: drawn so on purpose" in report.notes
    settings = report.to_dict()["settings"]
    assert settings["reasons"] == {"GA102": "known"}
    assert settings["layers"] == [
        {
            "match": ["*"],
            "ignore": ["GA302", "GA401"],
            "severities": {},
            "limits": {},
            "reason": "drawn so on purpose",
            "source": "",
        }
    ]


def test_tolerances_in_part_and_as_numbers() -> None:
    settings = Settings(tolerances={"growth-per-stage": 0.3})
    assert settings.all_tolerances["growth_per_stage"].value == 0.3
    assert settings.all_tolerances["growth_per_stage"].source.startswith("set by the user, instead")
    assert settings.all_tolerances["gsc"] == Settings().all_tolerances["gsc"]
    with pytest.raises(UsageError, match="no tolerance is called 'growth'; did you mean 'growth-"):
        Settings(tolerances={"growth": 0.3})
    with pytest.raises(UsageError, match="tolerance gsc cannot be that; expected a number, 0 or"):
        Settings(tolerances={"gsc": -0.3})


def test_layer_settings_are_public() -> None:
    assert gradaudit.LayerSettings is LayerSettings
