"""``gradaudit config``: what is in force, and where each value came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradaudit.config import OPTIONS
from gradaudit.limits import LIMITS, told_value
from gradaudit.rules import all_rules
from gradaudit.tolerances import TOLERANCES
from tests.command import python, run

CONFIG = """[tool.gradaudit]
effort = "quick"
lr = 3e-4
betas = [0.9, 0.95]
select = ["GA1", {code = "GA6", reason = "the recipe counts"}]
ignore = [{code = "GA606", reason = "tiny batches"}]
exclude = ["old/*"]
json = "run.json"

[tool.gradaudit.rules.GA101]
growth-max = 1e4
severity = "warn"

[[tool.gradaudit.layers]]
match = ["encoder.*", "head"]
ignore = ["GA301"]
rules.GA401 = {severity = "note", dead-fraction-warn = 0.7}
reason = "frozen on purpose"

[tool.gradaudit.tolerances]
gsc = 0.7

[[tool.gradaudit.model]]
name = "encoder"
model = "train.py:encoder"
lr = 0.1
recipe = "recipe.json"
rules.GA101 = {growth-max = 1e3, severity = "fail"}
rules.GA602 = "off"
tolerances.gsc = 0.9

[[tool.gradaudit.model.layers]]
match = "tail"
ignore = ["GA1"]
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(CONFIG)
    (tmp_path / "recipe.json").write_text('{"weight_decay": 0.3, "lr": 9.0, "eps": 1e-5}')
    return tmp_path


def _sections(text: str) -> dict[str, list[str]]:
    head, *sections = text.split("\n\n")
    found = {"": head.splitlines()}
    for section in sections:
        title, *lines = section.splitlines()
        found[title] = lines
    return found


def _shown(*arguments: str, cwd: Path) -> dict[str, list[str]]:
    ran = run("config", *arguments, cwd=cwd)
    assert (ran.code, ran.err) == (0, "")
    return _sections(ran.out)


def test_all_of_it(home: Path) -> None:
    shown = _shown("--seed", "7", "--weight-decay", "0.2", cwd=home)
    assert list(shown) == ["", "options", "exclude", "rules", "layers", "tolerances", "models"]
    assert shown[""] == ["configuration: pyproject.toml"]
    assert [line.split()[0] for line in shown["options"]] == sorted(OPTIONS)
    assert [line for line in shown["options"] if not line.endswith("  default")] == [
        "  betas           [0.9, 0.95]              pyproject.toml:4",
        '  effort          "quick"                  pyproject.toml:2',
        '  ignore          ["GA606"]                pyproject.toml:6',
        '  json            "run.json"               pyproject.toml:8',
        "  lr              3e-4                     pyproject.toml:3",
        "  seed            7                        command line",
        '  select          ["GA1", "GA6"]           pyproject.toml:5',
        "  weight-decay    0.2                      command line",
    ]
    for line in (
        "  data            -                        default",
        '  fail-on         "fail"                   default',
        '  output          "gradaudit-report.html"  default',
        "  quiet           false                    default",
        "  steps           1000                     default",
    ):
        assert line in shown["options"]
    assert shown["exclude"] == ["  old/*    pyproject.toml"]
    assert shown["layers"] == [
        "  encoder.*, head             pyproject.toml:14: frozen on purpose",
        "    GA301               off",
        "    GA401               note",
        "    dead-fraction-warn  0.7",
    ]
    assert shown["models"] == [
        "  encoder       train.py:encoder  pyproject.toml:23",
        "    lr          0.1               pyproject.toml:26",
        '    recipe      "recipe.json"     pyproject.toml:27',
        "    GA101       fail              pyproject.toml:28",
        "    GA602       off               pyproject.toml:29",
        "    growth-max  1e3               pyproject.toml:28",
        "    gsc         0.9               pyproject.toml:30",
        "    tail                          pyproject.toml:32",
        "      GA1       off",
    ]


def test_every_rule_and_limit_with_its_source(home: Path) -> None:
    lines = [" ".join(line.split()) for line in _shown(cwd=home)["rules"]]
    expected = []
    for rule in all_rules():
        on, of_file = "as judged", "pyproject.toml:5"
        if rule.code.startswith("GA6"):
            of_file += ": the recipe counts"
        elif not rule.code.startswith("GA1"):
            on = "off"
        if rule.code == "GA606":
            on, of_file = "off", "pyproject.toml:6: tiny batches"
        if rule.code == "GA101":
            on, of_file = "warn", "pyproject.toml:12"
        expected.append(f"{rule.code} {rule.name} {on} {of_file}")
        for name in sorted(rule.limits):
            value, source = told_value(LIMITS[name].value), f"default: {LIMITS[name].source}"
            if name == "growth_max":
                value, source = "1e4", "pyproject.toml:11, instead of 1e5"
            expected.append(f"{name.replace('_', '-')} {value} {source}")
    assert lines == expected


def test_every_tolerance(home: Path) -> None:
    lines = [" ".join(line.split()) for line in _shown(cwd=home)["tolerances"]]
    assert lines == [
        f"gsc 0.7 pyproject.toml:21, instead of {told_value(TOLERANCES['gsc'].value)}"
        if name == "gsc"
        else f"{name.replace('_', '-')} {told_value(limit.value)} default: {limit.source}"
        for name, limit in sorted(TOLERANCES.items())
    ]


def test_of_one_model_everything_that_holds_for_it(home: Path) -> None:
    shown = _shown("encoder", cwd=home)
    assert shown[""][1] == "model: encoder (train.py:encoder), from pyproject.toml:23"
    assert "models" not in shown
    options = {line.split()[0]: line.split()[1:] for line in shown["options"]}
    assert options["lr"] == ["0.1", "pyproject.toml:26"]
    assert options["weight-decay"] == ["0.3", "recipe.json"]
    assert options["eps"] == ["1e-5", "recipe.json"]
    assert options["effort"] == ['"quick"', "pyproject.toml:2"]
    rules = [" ".join(line.split()) for line in shown["rules"]]
    assert "GA101 exploding-jacobian fail pyproject.toml:28" in rules
    assert "growth-max 1e3 pyproject.toml:28, instead of 1e5" in rules
    assert "GA602 learning-rate-below-floor off pyproject.toml:29" in rules
    assert [line.strip().split("  ")[0] for line in shown["layers"]] == [
        *("encoder.*, head", "GA301", "GA401", "dead-fraction-warn", "tail", "GA1")
    ]
    assert any("pyproject.toml:30, instead of " in line for line in shown["tolerances"])


def test_as_json_it_is_the_same(home: Path) -> None:
    ran = run("config", "encoder", "--json", "-", cwd=home)
    content = json.loads(ran.out)
    assert content["schema"] == "gradaudit.config/1"
    assert content["options"]["json"] == {"value": "run.json", "from": "pyproject.toml:8"}
    assert "trust" not in content["options"]
    assert content["rules"]["GA101"]["severity"] == "fail"
    assert content["rules"]["GA101"]["limits"]["growth-max"] == {
        "value": 1e3,
        "unit": LIMITS["growth_max"].unit,
        "default": 1e5,
        "from": "pyproject.toml:28",
        "source": "pyproject.toml, instead of 1e4 from pyproject.toml, instead of 1e5 from "
        + LIMITS["growth_max"].source,
    }
    assert run("config", "encoder", "--json", "out.json", cwd=home).code == 0
    assert (home / "out.json").read_text() == ran.out
    assert run("config", "encoder", "--json", "out.json", cwd=home).code == 0  # its own is replaced
    (home / "mine.json").write_text("{}")
    assert run("config", "--json", "mine.json", cwd=home).code == 2


def test_without_configuration_all_is_by_default(tmp_path: Path) -> None:
    shown = _shown("--isolated", cwd=tmp_path)
    assert shown[""] == ["configuration: none found, all by default"]
    assert list(shown) == ["", "options", "rules", "tolerances"]
    places = {line.split()[-1] for line in shown["options"]}
    assert places == {"default"}


def test_a_model_that_is_not_configured(home: Path) -> None:
    (home / "a.pt").touch()
    shown = _shown("a.pt", "--lr", "0.5", cwd=home)
    assert shown[""][1] == "model: a.pt (a.pt), from command line"
    assert "  lr              0.5                      command line" in shown["options"]
    assert run("config", "encodr", cwd=home).code == 2


def test_it_starts_without_torch(home: Path) -> None:
    code = (
        "import sys; from gradaudit.cli import cli; cli.main(['config', 'encoder'], "
        "standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    assert python("-c", code, cwd=home).code == 0
