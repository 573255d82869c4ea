"""Several models in one run: each as if it were alone, one summary, all files or none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from gradaudit.errors import UsageError
from gradaudit.formats import pages
from gradaudit.resources import resource
from tests.command import FAST, Ran, files_in, gradaudit, run

CONFIG = """
[tool.gradaudit]
effort = "quick"
threads = 1
json = "run.json"
optimizer = "sgd"
lr = 0.1
ignore = [{code = "GA606", reason = "tiny batches"}]

[[tool.gradaudit.model]]
name = "first one"
model = "one/train.py:subject"
fail-on = "never"

[[tool.gradaudit.model]]
name = "leaves"
model = "one/train.py:leaves"

[[tool.gradaudit.model]]
name = "second"
model = "two/train.py:subject"
seed = 3
rules.GA609 = "note"
rules.GA101.growth-max = 1e4

[[tool.gradaudit.model.layers]]
match = ["0", "nowhere.*"]
ignore = ["GA301"]
reason = "drawn by hand"

[[tool.gradaudit.model]]
name = "imported"
model = "package.models:make"
input = "float32[16,4]"

[[tool.gradaudit.model]]
name = "gone"
model = "gone.pt"
"""
# Leaves behind what a careless script does.
ONE = """
import os, sys, random, warnings
import numpy, torch
from torch import nn
import gradaudit, net
import package.models

torch.set_default_dtype(torch.float64)
torch.use_deterministic_algorithms(True)
torch.set_num_threads(3)
os.environ["WIDTH"] = "40"
os.chdir(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.getcwd())
sys.argv[:] = ["other"]
numpy.random.rand(3); random.random(); torch.rand(3)
package.models.CALLS += 1

def subject():
    x = torch.randn(32, 4)
    return gradaudit.Subject(net.make(), sample=(x, x[:, :1]), loss="mse")

class Leaves(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x):
        raise SystemExit(7)

def leaves():
    x = torch.randn(32, 4)
    return gradaudit.Subject(Leaves(), sample=(x, x[:, :1]), loss="mse")
"""
TWO = """
import os, sys
import torch
import gradaudit, net
from torch import nn

def subject():
    assert sys.argv[0] != "other"
    assert torch.get_default_dtype() == torch.float32
    x = torch.randn(32, 4)
    return gradaudit.Subject(net.make(int(os.environ.get("WIDTH", "8"))), sample=(x, x[:, :1]))
"""
NET = """
import torch
from torch import nn

START = torch.randn(4, {width})  # drawn as it is imported

def make(width={width}):
    start, wide = nn.Linear(4, {width}), nn.Linear({width}, width)
    model = nn.Sequential(start, nn.Tanh(), wide, nn.Linear(width, 1))
    with torch.no_grad():
        model[0].weight.copy_(START.T)
    return model
"""
PACKAGE = """
import torch
from torch import nn

CALLS = 0
START = torch.randn(4, 4)

def make():
    assert CALLS == 0
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.copy_(START)
    return model
"""


@dataclass(frozen=True)
class Several:
    """What one run over all configured models left."""

    folder: Path
    ran: Ran

    @property
    def content(self) -> dict[str, Any]:
        return json.loads((self.folder / "run.json").read_text())

    @property
    def models(self) -> Mapping[str, dict[str, Any]]:
        return {model["name"]: model for model in self.content["models"]}


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Several:
    folder = tmp_path_factory.mktemp("several")
    files = {
        "pyproject.toml": CONFIG,
        "one/train.py": ONE,
        "two/train.py": TWO,
        "one/net.py": NET.format(width=12),
        "two/net.py": NET.format(width=16),
        "package/__init__.py": "",
        "package/models.py": PACKAGE,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return Several(folder, gradaudit(cwd=folder))


def _timeless(report: dict[str, Any]) -> dict[str, Any]:
    environment = {k: v for k, v in report["environment"].items() if k != "times"}
    return {**report, "environment": environment}


def test_all_are_audited_and_the_worst_exit_code_counts(several: Several) -> None:
    codes = {name: model["exit_code"] for name, model in several.models.items()}
    assert list(codes) == ["first one", "leaves", "second", "imported", "gone"]
    assert (codes["leaves"], codes["gone"]) == (2, 2)
    assert codes["first one"] == 0
    assert codes["second"] in (0, 3)
    assert (several.ran.code, several.ran.out) == (2, "")
    assert several.content["exit_code"] == 2
    assert several.content["verdict"] is None


def test_what_cannot_be_audited_is_one_line_and_stops_no_other(several: Several) -> None:
    gone, leaves = several.models["gone"], several.models["leaves"]
    assert gone["error"].startswith("no such file: gone.pt")
    assert "SystemExit" in leaves["error"]
    assert gone["report"] is leaves["report"] is None
    audited = [model for model in several.models.values() if model["report"]]
    assert [model["error"] for model in audited] == [None] * 3


def test_the_json_is_by_its_schema(several: Several) -> None:
    schemas = {
        name: json.loads(resource(f"{name}.schema.json").read_text(encoding="utf-8"))
        for name in ("run", "report")
    }
    registry = Registry().with_resources(
        [(schema["$id"], Resource.from_contents(schema)) for schema in schemas.values()]
    )
    jsonschema.Draft202012Validator.check_schema(schemas["run"])
    validator = jsonschema.Draft202012Validator(schemas["run"], registry=registry)
    validator.validate(several.content)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**several.content, "models": several.content["models"][:1]})


@pytest.mark.parametrize(("name", "command"), [("second", gradaudit), ("imported", run)])
def test_a_model_behind_another_is_audited_as_if_alone(
    several: Several, name: str, command: Callable[..., Ran]
) -> None:
    alone = command(name, "--json", "-", "--no-html", cwd=several.folder)
    model = several.models[name]
    assert alone.code == model["exit_code"], alone.err
    assert _timeless(json.loads(alone.out)) == _timeless(model["report"])


def test_options_are_each_models_own(several: Several) -> None:
    seeds = {
        name: model["report"]["seed"] for name, model in several.models.items() if model["report"]
    }
    assert seeds == {"first one": 0, "second": 3, "imported": 0}
    settings = several.models["second"]["report"]["settings"]
    assert settings["severities"] == {"GA609": "note"}
    assert settings["limits"]["growth_max"]["value"] == 1e4
    assert [layer["match"] for layer in settings["layers"]] == [["0", "nowhere.*"]]
    assert several.models["second"]["report"]["subject"]["source"] == "two/train.py:subject"


def test_notes_say_what_the_configuration_changes(several: Several) -> None:
    notes = several.models["second"]["report"]["notes"]
    for note in (
        "GA606 is ignored: tiny batches",
        "GA609: what fails or warns is reported as 'note', as was set",
        "layers 0, nowhere.*: GA301 ignored: drawn by hand",
        "no layer of the model is called 'nowhere.*', as the settings of layers 0, nowhere.* "
        "have it",
    ):
        assert note in notes


def test_an_index_and_a_page_for_each(several: Several) -> None:
    html = [name for name in files_in(several.folder) if name.endswith(".html")]
    assert html == [
        "gradaudit-report-first-one.html",
        "gradaudit-report-imported.html",
        "gradaudit-report-second.html",
        "gradaudit-report.html",
    ]
    index = (several.folder / "gradaudit-report.html").read_text()
    links = {link for link in re.findall(r'href="([^"#]+)"', index) if link.endswith(".html")}
    assert links == set(html) - {"gradaudit-report.html"}
    for name in several.models:
        assert name in index
    page = (several.folder / "gradaudit-report-second.html").read_text()
    assert "two/train.py:subject" in page


def test_one_summary_names_each(several: Several) -> None:
    for name in several.models:
        assert name in several.ran.err
    assert "5 models" in several.ran.err
    assert "gradaudit-report.html" in several.ran.err


def test_several_named_on_the_command_line(several: Several) -> None:
    ran = run("imported", "gone.pt", "--json", "-", "--no-html", *FAST, cwd=several.folder)
    content = json.loads(ran.out)
    assert [model["name"] for model in content["models"]] == ["imported", "gone"]
    assert ran.code == 2


def test_several_pages_do_not_go_to_standard_output(several: Several) -> None:
    before = files_in(several.folder)
    ran = run("second", "imported", "-o", "-", cwd=several.folder)
    assert (ran.code, ran.out) == (2, "")
    assert ran.said == [
        "gradaudit: error: 2 models are a page each, which standard output has no place for; "
        "name a file with -o, or audit one model"
    ]
    assert files_in(several.folder) == before


def test_a_page_that_could_not_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "report-b.html").write_text("mine")
    ran = run("a.pt", "b", "-o", "report.html", cwd=tmp_path)
    assert ran.code == 2
    assert "report-b.html exists and is not a gradaudit report" in ran.err
    assert files_in(tmp_path) == ["report-b.html"]
    clash = run("a.pt", "b", "-o", "x.html", "--json", "x-b.html", cwd=tmp_path)
    assert "two reports would be written to x-b.html" in clash.err


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ["r-a.html", "r-b.html"]),
        (["train.py:a", "./x/y.pt"], ["r-train.py-a.html", "r-x-y.pt.html"]),
        (["A b", "a/b", "A-b-2"], ["r-A-b.html", "r-a-b-2.html", "r-A-b-2-2.html"]),
        (["…", "../.."], ["r-model.html", "r-model-2.html"]),
        (["n" * 300, "x"], [f"r-{'n' * 80}.html", "r-x.html"]),
    ],
)
def test_pages_have_safe_names_of_their_own(names: list[str], expected: list[str]) -> None:
    found = pages("out/r.html", names)
    assert [str(path) for path in found.values()] == [f"out/{name}" for name in expected]
    assert list(found) == names
    with pytest.raises(UsageError, match="standard output"):
        pages("-", names)


def test_fix_by_name(several: Several, tmp_path: Path) -> None:
    ran = run("fix", "second", "-o", str(tmp_path / "out"), "--threads", "1", cwd=several.folder)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert ran.code in (0, 1, 3), ran.err
    assert (report["seed"], report["subject"]["source"]) == (3, "two/train.py:subject")
    assert report["settings"]["severities"] == {"GA609": "note"}
