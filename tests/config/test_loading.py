"""Options from ``[tool.gradaudit]``: which file counts, what its values are, what is a mistake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradaudit.config import OPTIONS, Config, load_config
from gradaudit.errors import UsageError
from tests.command import CHECKOUT


def _write(folder: Path, text: str, name: str = "pyproject.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


def _options(folder: Path, text: str) -> dict[str, object]:
    _write(folder, text)
    return dict(load_config(folder).part.options)


def test_nearest_file_with_the_table_counts(tmp_path: Path) -> None:
    top = _write(tmp_path, "[tool.gradaudit]\nseed = 3\n")
    _write(tmp_path / "a", "[project]\nname = 'x'\n")
    below = tmp_path / "a" / "b"
    below.mkdir()
    found = load_config(below)
    assert (found.part.options, found.path) == ({"seed": 3}, top)
    near = _write(below, "[tool.gradaudit]\nseed = 4\n")
    found = load_config(below)
    assert (found.part.options, found.path) == ({"seed": 4}, near)


def test_no_file(tmp_path: Path) -> None:
    _write(tmp_path, "[project]\nname = 'x'\n[tool.other]\na = 1\n")
    found = load_config(tmp_path)
    if found.path is None:  # a folder above may have one of its own
        assert found == Config()
    assert found.path != tmp_path / "pyproject.toml"


def test_a_file_of_its_own_goes_before_pyproject(tmp_path: Path) -> None:
    _write(tmp_path, "[tool.gradaudit]\nseed = 1\n")
    for name, seed in (("gradaudit.toml", 2), (".gradaudit.toml", 3)):
        path = _write(tmp_path, f"seed = {seed}\n", name)
        found = load_config(tmp_path)
        assert (found.part.options, found.path) == ({"seed": seed}, path)


def test_a_file_that_is_named_is_the_one(tmp_path: Path) -> None:
    _write(tmp_path, "[tool.gradaudit]\nseed = 1\n")
    own = _write(tmp_path, "seed = 2\n", "strict.toml")
    other = _write(tmp_path / "a", "[tool.gradaudit]\nseed = 3\n", "any.toml")
    empty = _write(tmp_path / "b", "[tool.other]\n")
    for file, seed in ((own, 2), (other, 3)):
        assert load_config(tmp_path, file).part.options == {"seed": seed}
    for file, message in (
        (empty, r"has no \[tool.gradaudit\]"),
        (tmp_path / "none.toml", "none.toml cannot be read; found no such file"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(UsageError, match=message):
            load_config(tmp_path, file)


def test_values_and_paths(tmp_path: Path) -> None:
    (tmp_path / "train.npz").touch()
    found = _options(
        tmp_path,
        """[tool.gradaudit]
data = "train.npz"
build = "net.py:make"
loss = "cross_entropy"
batch-size = 16
lr = 1
betas = [0.9, 0.95]
select = ["GA101", "GA102"]
ignore = "GA103, GA104"
fail-on = "warn"
no-html = true
json = "-"
output = "out/report.html"
recipe = "recipe.toml"
""".replace("GA103", "GA105"),
    )
    assert found == {
        "data": str(tmp_path / "train.npz"),
        "build": f"{tmp_path / 'net.py'}:make",
        "loss": "cross_entropy",
        "batch_size": 16,
        "lr": 1.0,
        "betas": (0.9, 0.95),
        "select": ("GA101", "GA102"),
        "ignore": ("GA105", "GA104"),
        "fail_on": "warn",
        "no_html": True,
        "json": "-",
        "output": str(tmp_path / "out" / "report.html"),
        "recipe": str(tmp_path / "recipe.toml"),
    }
    assert type(found["lr"]) is float


def test_module_specs_and_code_losses(tmp_path: Path) -> None:
    found = _options(
        tmp_path, '[tool.gradaudit]\ndata = "package.data:batch"\nloss = "loss.py:f"\n'
    )
    assert found == {"data": "package.data:batch", "loss": f"{tmp_path / 'loss.py'}:f"}


def test_names_with_reasons(tmp_path: Path) -> None:
    _write(
        tmp_path,
        """[tool.gradaudit]
select = ["GA1", {code = "GA6", reason = "the recipe counts"}]
ignore = [
  "GA104",
  {code = "noisy-gradient", reason = "tiny batches on purpose"},
  {code = "GA611"},
]
""",
    )
    part = load_config(tmp_path).part
    assert part.options == {
        "select": ("GA1", "GA6"),
        "ignore": ("GA104", "noisy-gradient", "GA611"),
    }
    assert part.reasons == {
        "GA6": "the recipe counts",
        "noisy-gradient": "tiny batches on purpose",
    }


MISTAKES = [
    ("[tool.gradaudit]\nbatchsize = 3", "unknown key 'batchsize'.*did you mean 'batch-size'"),
    ("[tool.gradaudit]\nbatch_size = 3", "did you mean 'batch-size'"),
    ("[tool.gradaudit]\nqqqqqqqq = 3", "the keys are the long option names"),
    ("[tool.gradaudit]\ntrust = true", "trust cannot be set"),
    ("[tool.gradaudit]\nseed = 'three'", "seed .* expected a whole number; found 'three'"),
    ("[tool.gradaudit]\nseed = true", "expected a whole number; found True"),
    ("[tool.gradaudit]\nlr = '0.1'", "expected a number"),
    ("[tool.gradaudit]\ndata = 3", "expected text"),
    ("[tool.gradaudit]\nno-html = 1", "expected true or false"),
    ("[tool.gradaudit]\nbetas = [1]", "expected two numbers"),
    ("[tool.gradaudit]\nselect = [1]", "expected a list of names"),
    ("[tool.gradaudit]\nselect = 3", "expected a list of names; found 3"),
    ("[tool.gradaudit]\nignore = [{name = 'GA1'}]", "ignore .* expected {code = .* found {'name'"),
    ("[tool.gradaudit]\nignore = [{code = 1}]", "expected {code = "),
    ("[tool.gradaudit]\nignore = ['GA999']", ":2: no rule is called 'GA999'.*nearest: GA"),
    ("[tool.gradaudit]\neffort = 'slow'", "expected quick, standard or thorough; found 'slow'"),
    ("[tool.gradaudit]\nprecision = 'fp8'", "expected fp32, fp16 or bf16"),
    ("[tool.gradaudit\n", "cannot be read; expected TOML"),
    ("[tool]\ngradaudit = 3\n", "not a table"),
    ("[tool.gradaudit]\nexclude = [3]", "exclude .* expected a glob or a list of globs"),
    ("[tool.gradaudit]\nexclude = []", "expected a glob or a list of globs"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(UsageError, match=message) as caught:
        load_config(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    path = _write(tmp_path, "[project]\nname = 'x'\n\n[tool.gradaudit]\nlr = 1e-3\nseed = 'x'\n")
    with pytest.raises(UsageError) as caught:
        load_config(tmp_path)
    assert str(caught.value) == (
        f"{path}:6: seed in [tool.gradaudit] has a wrong value; expected a whole number; found 'x'"
    )
    own = _write(tmp_path, "sede = 3\n", "gradaudit.toml")
    with pytest.raises(UsageError) as caught:
        load_config(tmp_path)
    assert str(caught.value) == f"{own}:1: unknown key 'sede'; did you mean 'seed'?"


def test_options_are_long_option_names() -> None:
    from gradaudit.cli import cli

    assert "trust" not in OPTIONS
    assert all(name == name.lower() and "_" not in name for name in OPTIONS)
    long = {
        name.removeprefix("--")
        for parameter in cli.commands["audit"].params
        for name in parameter.opts
        if name.startswith("--")
    }
    assert set(OPTIONS) == long - {"trust", "config", "isolated"}


@pytest.mark.parametrize(
    ("globs", "path", "expected"),
    [
        ("*.onnx", "a.onnx", True),
        ("*.onnx", "deep/in/a.onnx", True),
        ("old", "old/in/a.pt", True),
        ("old/", "old/a.pt", True),
        ("models/old", "models/old/a.pt", True),
        ("models/old", "other/models/old/a.pt", False),
        ("old", "older/a.pt", False),
        ("a.pt", "../a.pt", False),
    ],
)
def test_exclude_goes_by_paths_from_the_files_folder(
    tmp_path: Path, globs: str, path: str, expected: bool
) -> None:
    home = tmp_path / "home"
    _write(home, f'[tool.gradaudit]\nexclude = "{globs}"\n')
    assert load_config(home).excludes(home / path) is expected


README = (CHECKOUT / "README.md").read_text()
BLOCKS = [b for b in re.findall(r"```toml\n(.*?)```", README, re.DOTALL) if "gradaudit" in b]


@pytest.mark.parametrize("block", BLOCKS)
def test_what_the_readme_configures_is_understood(tmp_path: Path, block: str) -> None:
    path = _write(tmp_path, block)
    found = load_config(tmp_path)
    assert found.path == path
    assert found.part != Config().part or found.models


def test_the_readme_configures_something() -> None:
    assert BLOCKS
