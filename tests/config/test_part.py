"""Limits, severities, layers and tolerances from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradaudit.config import Part, load_config
from gradaudit.errors import UsageError
from gradaudit.limits import LIMITS
from gradaudit.settings import LayerSettings, Settings
from gradaudit.tolerances import TOLERANCES

EXAMPLE = """[tool.gradaudit]
ignore = ["GA104"]

[tool.gradaudit.rules]
GA606 = "off"
unscaled-input = {severity = "warn"}

[tool.gradaudit.rules.GA101]
growth-max = 1e4
severity = "note"

[tool.gradaudit.rules.GA3]
spectral-excess-warn = 20

[[tool.gradaudit.layers]]
match = ["encoder.*", "head"]
ignore = ["GA302", {code = "GA303", reason = "pruned"}]
reason = "frozen on purpose"
rules.GA301 = {severity = "fail", spectral-excess-fail = 50}

[[tool.gradaudit.layers]]
match = "tail"
rules = {GA4 = "off"}

[tool.gradaudit.tolerances]
growth-per-stage = 0.2
"""


def _part(folder: Path, text: str) -> Part:
    (folder / "pyproject.toml").write_text(text)
    return load_config(folder).part


def test_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    part = _part(tmp_path, EXAMPLE)
    assert part.severities == {"GA606": "off", "unscaled-input": "warn", "GA101": "note"}
    assert {name: limit.value for name, limit in part.limits.items()} == {
        "growth_max": 1e4,
        "spectral_excess_warn": 20.0,
    }
    assert part.limits["growth_max"].source == (
        f"pyproject.toml, instead of 1e5 from {LIMITS['growth_max'].source}"
    )
    assert part.limits["growth_max"].unit == LIMITS["growth_max"].unit
    first, second = part.layers
    assert first == LayerSettings(
        ("encoder.*", "head"),
        ("GA302", "GA303"),
        {"GA301": "fail"},
        {"spectral_excess_fail": 50.0},
        "frozen on purpose; GA303: pruned",
        "layers of pyproject.toml",
    )
    assert second == LayerSettings(
        ("tail",), severities={"GA4": "off"}, source="layers of pyproject.toml"
    )
    assert {name: each.value for name, each in part.tolerances.items()} == {"growth_per_stage": 0.2}
    assert part.origins == {
        "ignore": "pyproject.toml:2",
        "severity GA606": "pyproject.toml:5",
        "severity unscaled-input": "pyproject.toml:6",
        "limit growth_max": "pyproject.toml:9",
        "severity GA101": "pyproject.toml:10",
        "limit spectral_excess_warn": "pyproject.toml:13",
        "tolerance growth_per_stage": "pyproject.toml:26",
    }
    assert [layer.place for layer in part.layers] == ["pyproject.toml:15", "pyproject.toml:21"]


def test_it_makes_settings(tmp_path: Path) -> None:
    part = _part(tmp_path, EXAMPLE)
    settings = Settings(
        limits=dict(part.limits), tolerances=dict(part.tolerances), layers=part.layers
    )
    assert settings.limit("growth_max") == part.limits["growth_max"]
    assert settings.limit("gsc_max") == LIMITS["gsc_max"]
    assert settings.all_tolerances["growth_per_stage"].source.startswith(
        f"pyproject.toml, instead of {TOLERANCES['growth_per_stage'].value:g}: "
    )
    assert settings.all_tolerances["gsc"] == TOLERANCES["gsc"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[@rules.GA111]\na = 1", ": no rule is called 'GA111'; .*nearest: GA"),
        (
            "[@rules.GA101]\ngrowth-mx = 1",
            r":2: unknown key 'growth-mx' in .*did you mean 'growth-max'",
        ),
        ("[@rules.GA101]\ngrowth_max = 1", "did you mean 'growth-max'"),
        ("[@rules.GA101]\nqqqq = 1", "its limits are growth-max, gsc-max"),
        ("[@rules.GA001]\nqqqq = 1", "it has no limits"),
        ("[@rules.GA101]\nspectral-excess-fail = 1", "unknown key 'spectral-excess-fail' in"),
        ("[@rules.GA101]\ngrowth-max = '1'", ":2: the limit growth-max cannot be that; .*number"),
        ("[@rules.GA101]\ngrowth-max = inf", "expected a finite number; found inf"),
        ("[@rules.GA101]\ngrowth-max = -1", "expected a number above 0; found -1"),
        (
            "[@rules.GA101]\ngrowth-max = 1e-7",
            "the limits growth-min and growth-max exclude each other",
        ),
        ("[@rules.GA101]\nseverity = 'error'", "expected fail, warn, note or off; found 'error'"),
        ("[@rules]\nGA101 = 'error'", ":2: GA101 in .*expected fail, warn, note or off"),
        ("[@rules]\nGA101 = 3", ":2: .*GA101 is not a table; expected .*GA101.; found 3"),
        ("@rules = 3", "rules is not a table"),
        (
            "[@rules]\nGA701.underflow-max = 0.1\nGA702.underflow-max = 0.2",
            ":3: underflow-max is set to two numbers; expected one, for all rules that share",
        ),
        ("[[@layers]]\nignore = ['GA1']", r":1: \[\[.*layers\]\] has no match; expected match ="),
        ("[[@layers]]\nmatch = []", "match .*expected a glob or a list of globs"),
        ("[[@layers]]\nmatch = 'a'\nignored = ['GA1']", "did you mean 'ignore'"),
        ("[[@layers]]\nmatch = 'a'\nignore = ['GA111']", ":3: no rule is called 'GA111'"),
        ("[[@layers]]\nmatch = 'a'\nrules.GA101 = 'x'", "expected fail, warn, note or off"),
        ("[[@layers]]\nmatch = 'a'\nreason = 3", "reason .*expected text"),
        (
            "[[@layers]]\nmatch = 'a'\nrules.GA301.spectral-excess-fail = 5",
            "spectral-excess-warn and spectral-excess-fail exclude",
        ),
        ("[@layers]\nmatch = 'a'", r"layers.*expected tables \[\[.*layers\]\]"),
        ("@layers = [3]", r"expected tables \[\[.*layers\]\]"),
        (
            "[@tolerances]\ngrowth = 0.1",
            "unknown key 'growth' in .*did you mean 'growth-per-stage'",
        ),
        ("[@tolerances]\ngsc = -1", ":2: the tolerance gsc cannot be that; .*0 or more; found -1"),
        ("[@tolerances]\ngsc = true", "expected a number, 0 or more; found True"),
        ("@tolerances = 3", "tolerances is not a table"),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_mistakes(tmp_path: Path, text: str, message: str, own: bool) -> None:
    path = tmp_path / ("gradaudit.toml" if own else "pyproject.toml")
    text = text.replace("@", "" if own else "tool.gradaudit.")
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_config(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_one_number_for_a_shared_limit_may_stand_twice(tmp_path: Path) -> None:
    text = "[tool.gradaudit.rules]\nGA701.underflow-max = 0.1\nGA702.underflow-max = 0.1\n"
    assert _part(tmp_path, text).limits["underflow_max"].value == 0.1


def test_both_ends_may_move_together(tmp_path: Path) -> None:
    text = "[tool.gradaudit.rules.GA401]\ndead-fraction-warn = 0.95\ndead-fraction-fail = 0.99\n"
    limits = _part(tmp_path, text).limits
    assert [limit.value for limit in limits.values()] == [0.95, 0.99]


def test_over_keeps_what_only_the_lower_says() -> None:
    lower = Part(
        {"lr": 1.0, "seed": 1}, severities={"GA1": "warn"}, layers=(LayerSettings(("a",)),)
    )
    upper = Part({"lr": 2.0}, severities={"GA2": "fail"}, layers=(LayerSettings(("b",)),))
    both = upper.over(lower)
    assert both.options == {"lr": 2.0, "seed": 1}
    assert both.severities == {"GA1": "warn", "GA2": "fail"}
    assert [layer.match for layer in both.layers] == [("a",), ("b",)]
