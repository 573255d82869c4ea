"""Which models a command is about, and what holds for each: nothing is audited here."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from gradaudit.cli import cli
from gradaudit.errors import UsageError
from gradaudit.settings import Settings
from gradaudit.targets import Chosen, choose, configuration
from tests.command import run

TABLES = """
[tool.gradaudit]
lr = 0.1
optimizer = "sgd"
momentum = 0.9
input = "float32[8,3]"
ignore = [{code = "GA606", reason = "tiny batches"}]
exclude = ["old/*"]
[tool.gradaudit.rules]
GA101 = {growth-max = 1e4, severity = "warn"}
GA401 = "note"

[[tool.gradaudit.model]]
name = "encoder"
model = "code/train.py:encoder"
lr = 0.2
data = "package.data:batches"
fail-on = "warn"
ignore = ["GA104"]
rules.GA101 = {growth-max = 1e3}
rules.GA402 = "off"
tolerances.gsc = 0.1

[[tool.gradaudit.model]]
name = "weights.pt"
model = "models/weights.pt"
optimizer = "adam"

[[tool.gradaudit.model.layers]]
match = "head"
ignore = ["GA301"]
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text(TABLES)
    for folder in ("code", "models", "old"):
        (tmp_path / folder).mkdir()
    for file in ("code/train.py", "models/weights.pt", "old/a.pt", "plain.pt"):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def chosen(*arguments: str, command: str = "audit") -> tuple[Chosen, ...]:
    ctx = cli.commands[command].make_context(command, list(arguments))
    config = configuration(ctx.params["config_file"], isolated=ctx.params["isolated"])
    named = ctx.params["model"]
    return choose(ctx, config, [named] if isinstance(named, str) else named)


def settings(*arguments: str) -> Settings:
    (found,) = chosen(*arguments)
    return found.target.settings


@pytest.mark.usefixtures("home")
class TestWhichModels:
    def test_all_that_are_configured_in_order(self) -> None:
        assert [(each.name, each.model) for each in chosen()] == [
            ("encoder", "code/train.py:encoder"),
            ("weights.pt", "models/weights.pt"),
        ]
        assert [each.origin for each in chosen()] == ["pyproject.toml:13", "pyproject.toml:24"]

    @pytest.mark.parametrize(
        "named",
        ["encoder", "code/train.py:encoder", "./code/../code/train.py:encoder"],
    )
    def test_by_name_or_by_what_the_table_is_about(self, named: str) -> None:
        (found,) = chosen(named)
        assert (found.name, found.target.settings.recipe.lr) == ("encoder", 0.2)

    def test_a_file_of_code_stands_for_all_that_is_configured_in_it(self, home: Path) -> None:
        more = (
            '[[tool.gradaudit.model]]\nname = "both"\nmodel = "code/train.py:encoder"\nseed = 5\n'
        )
        (home / "pyproject.toml").write_text(TABLES + more)
        for named in ("code/train.py", "code/train.py:encoder"):
            assert [each.name for each in chosen(named)] == ["encoder", "both"]
        (home / "code" / "other.py").touch()
        assert [(each.name, each.origin) for each in chosen("code/other.py")] == [
            ("code/other.py", "")
        ]

    def test_a_name_goes_before_a_file_that_is_called_so(self, home: Path) -> None:
        (home / "encoder").mkdir()
        assert chosen("encoder")[0].model == "code/train.py:encoder"
        (plain,) = chosen("./encoder")
        assert (plain.model, plain.target.settings.recipe.lr) == ("./encoder", 0.1)

    def test_several_each_once(self) -> None:
        found = chosen("plain.pt", "encoder", "plain.pt", "code/train.py:encoder", "a.b:c")
        assert [each.name for each in found] == ["plain.pt", "encoder", "a.b:c"]

    @pytest.mark.parametrize(
        ("named", "message"),
        [
            ("encodr", "no file and no configured model 'encodr'; did you mean 'encoder'"),
            ("zzz", "'zzz'; configured are encoder, weights.pt"),
        ],
    )
    def test_what_is_neither(self, named: str, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            chosen("plain.pt", named)

    def test_without_configured_models_a_missing_file_is_opened_and_told(self, home: Path) -> None:
        (home / "pyproject.toml").write_text("[tool.gradaudit]\nlr = 0.1\n")
        assert [each.name for each in chosen("none.pt")] == ["none.pt"]
        with pytest.raises(click.MissingParameter, match="model"):
            chosen()

    def test_excluded_files_are_left_out_and_names_are_not(self, home: Path) -> None:
        assert [each.name for each in chosen("old/a.pt", "plain.pt")] == ["plain.pt"]
        assert chosen("old/a.pt") == ()
        text = TABLES.replace('exclude = ["old/*"]', 'exclude = ["code", "*.pt"]')
        (home / "pyproject.toml").write_text(text)
        assert [each.name for each in chosen("encoder", "weights.pt", "plain.pt")] == [
            "encoder",
            "weights.pt",
        ]

    def test_from_a_folder_below(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(home / "code")
        assert [each.model for each in chosen()] == ["train.py:encoder", "../models/weights.pt"]

    def test_isolated_and_another_file(self, home: Path) -> None:
        (home / "other.toml").write_text('[[model]]\nname = "one"\nmodel = "a.py:b"\n')
        assert [each.name for each in chosen("--config", "other.toml")] == ["one"]
        assert settings("plain.pt", "--isolated").recipe.lr is None
        with pytest.raises(UsageError, match="--isolated and --config contradict"):
            chosen("plain.pt", "--isolated", "--config", "other.toml")


@pytest.mark.usefixtures("home")
class TestPrecedence:
    def test_command_line_over_model_over_file_over_default(self) -> None:
        assert settings("plain.pt").recipe.lr == 0.1
        assert settings("encoder").recipe.lr == 0.2
        assert settings("encoder", "--lr", "0.3").recipe.lr == 0.3
        assert settings("encoder").seed == Settings().seed

    def test_what_contradicts_a_higher_level_is_dropped(self) -> None:
        assert (settings("encoder").data, settings("encoder").input) == (
            "package.data:batches",
            None,
        )
        assert settings("plain.pt").input == "float32[8,3]"
        stated = settings("encoder", "--input", "float32[2,3]")
        assert (stated.data, stated.input) == (None, "float32[2,3]")

    def test_another_optimizer_loses_the_momentum_of_the_lower_level(self) -> None:
        assert settings("encoder").recipe.momentum == 0.9
        assert settings("weights.pt").recipe.momentum is None
        assert settings("weights.pt", "--momentum", "0.5").recipe.momentum == 0.5

    def test_a_recipe_file_lies_over_lower_levels_and_under_higher(self, home: Path) -> None:
        (home / "recipe.json").write_text('{"lr": 7.0, "weight_decay": 0.3}')
        found = settings("encoder", "--recipe", "recipe.json").recipe
        assert (found.lr, found.weight_decay, found.optimizer) == (7.0, 0.3, "sgd")
        text = TABLES.replace("lr = 0.2", 'recipe = "recipe.json"')
        (home / "pyproject.toml").write_text(text)
        assert settings("encoder").recipe.lr == 7.0
        assert settings("encoder", "--lr", "8").recipe.lr == 8.0

    def test_limits_severities_layers_and_reasons(self) -> None:
        plain, encoder, weights = settings("plain.pt"), settings("encoder"), settings("weights.pt")
        assert plain.limit("growth_max").value == 1e4
        assert encoder.limit("growth_max").value == 1e3
        assert encoder.limit("growth_max").source.startswith("pyproject.toml, instead of 1e4 from ")
        assert plain.severities == {"GA101": "warn", "GA401": "note"}
        assert encoder.severities == {"GA101": "warn", "GA401": "note", "GA402": "off"}
        assert encoder.all_tolerances["gsc"].value == 0.1
        assert [layer.match for layer in weights.layers] == [("head",)]
        assert (plain.ignore, plain.reasons) == (("GA606",), {"GA606": "tiny batches"})
        assert (encoder.ignore, encoder.reasons) == (("GA104",), {})
        assert settings("plain.pt", "--ignore", "GA1").reasons == {}

    def test_fail_on_is_each_models_own(self) -> None:
        assert [each.target.fail_on for each in chosen()] == ["warn", "fail"]
        assert {each.target.fail_on for each in chosen("--fail-on", "never")} == {"never"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr = -1", ":2: lr: -1.0 is not in the range x>0"),
        ("threads = 0", ":2: threads: 0 is not in the range x>=1"),
        ("[[tool.gradaudit.model]]\nname = 'a'\nmodel = 'b'\nseed = -1", ":5: seed: -1 is not in"),
        ("[[tool.gradaudit.model]]\nname = 'a'", r":2: \[\[tool.gradaudit.model\]\] has no model"),
        ("[[tool.gradaudit.model]]\nmodel = 'a'", "has no name; expected name ="),
        ("[[tool.gradaudit.model]]\nname = ''\nmodel = 'a'", ":3: name in .* has a wrong value"),
        ("[[tool.gradaudit.model]]\nname = '-x'\nmodel = 'a'", "does not start with -"),
        (
            "[[tool.gradaudit.model]]\nname = 'x'\nmodel = 3",
            "expected text: a file, or file.py:name",
        ),
        ("[tool.gradaudit.model]\nname = 'x'", r"expected tables \[\[tool.gradaudit.model\]\]"),
        (
            "[[tool.gradaudit.model]]\nname = 'x'\nmodel = 'a'\noutput = 'x.html'",
            ":5: output holds for the whole run, not for one model; set it in .tool.gradaudit.",
        ),
        ("[[tool.gradaudit.model]]\nname = 'x'\nmodel = 'a'\ntrust = true", "trust cannot be set"),
        ("[[tool.gradaudit.model]]\nname = 'x'\nmodel = 'a'\nlrr = 1", ":5: .*did you mean 'lr'"),
        ("[[tool.gradaudit.model]]\nname = 'x'\nmodel = 'a'\nmodels = 1", "unknown key 'models'"),
        (
            "[[tool.gradaudit.model]]\nname = 'x'\nmodel = 'a'\n"
            "[[tool.gradaudit.model]]\nname = 'x'\nmodel = 'b'",
            "two models are called 'x'; expected a name for each; found .*:2 and .*:5",
        ),
    ],
)
def test_mistakes_are_told_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.gradaudit]\n{text}\n")
    (tmp_path / "b").touch()
    ran = run(*([] if "model" in text else ["b"]), cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.said
    assert line.startswith("gradaudit: error: ")
    assert "pyproject.toml" in line
    assert re.search(message, line), line


def test_a_wrong_value_that_the_command_line_replaces_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.gradaudit]\nlr = -1\n")
    ran = run("none.pt", "--lr", "0.1", cwd=tmp_path)
    assert ran.said == [line for line in ran.said if "none.pt" in line and "lr" not in line]


def test_all_excluded_is_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.gradaudit]\nexclude = '*.pt'\n")
    (tmp_path / "a.pt").touch()
    ran = run("a.pt", cwd=tmp_path)
    assert (ran.code, ran.out) == (0, "")
    assert ran.said == ["gradaudit: nothing to audit: the configuration excludes it"]
    assert run("a.pt", "--quiet", cwd=tmp_path).said == []


def test_bare_without_configured_models_prints_help(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.gradaudit]\nlr = 0.1\n")
    ran = run(cwd=tmp_path)
    assert ran.code == 2
    assert ran.err.startswith("Usage: gradaudit ")
