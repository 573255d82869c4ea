"""Options from ``[tool.gradaudit]``."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradaudit.config import OPTIONS, load_config
from gradaudit.errors import UsageError


def _write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pyproject.toml"
    path.write_text(text)
    return path


def test_nearest_file_with_the_table_counts(tmp_path: Path) -> None:
    top = _write(tmp_path, "[tool.gradaudit]\nseed = 3\n")
    _write(tmp_path / "a", "[project]\nname = 'x'\n")
    below = tmp_path / "a" / "b"
    below.mkdir()
    assert load_config(below) == ({"seed": 3}, top)
    near = _write(below, "[tool.gradaudit]\nseed = 4\n")
    assert load_config(below) == ({"seed": 4}, near)


def test_no_file(tmp_path: Path) -> None:
    _write(tmp_path, "[project]\nname = 'x'\n[tool.other]\na = 1\n")
    found, path = load_config(tmp_path)
    if path is None:  # a folder above may have one of its own
        assert found == {}
    assert path != tmp_path / "pyproject.toml"


def test_values_and_paths(tmp_path: Path) -> None:
    (tmp_path / "train.npz").touch()
    _write(
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
""",
    )
    found, _ = load_config(tmp_path)
    assert found == {
        "data": str(tmp_path / "train.npz"),
        "build": f"{tmp_path / 'net.py'}:make",
        "loss": "cross_entropy",
        "batch_size": 16,
        "lr": 1.0,
        "betas": (0.9, 0.95),
        "select": ("GA101", "GA102"),
        "ignore": ("GA103", "GA104"),
        "fail_on": "warn",
        "no_html": True,
        "json": "-",
        "output": str(tmp_path / "out" / "report.html"),
        "recipe": str(tmp_path / "recipe.toml"),
    }
    assert type(found["lr"]) is float


def test_module_specs_and_code_losses(tmp_path: Path) -> None:
    _write(tmp_path, '[tool.gradaudit]\ndata = "package.data:batch"\nloss = "loss.py:f"\n')
    found, _ = load_config(tmp_path)
    assert found == {"data": "package.data:batch", "loss": f"{tmp_path / 'loss.py'}:f"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
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
        ("[tool.gradaudit]\neffort = 'slow'", "expected quick, standard or thorough; found 'slow'"),
        ("[tool.gradaudit]\nprecision = 'fp8'", "expected fp32, fp16 or bf16"),
        ("[tool.gradaudit\n", "cannot be read; expected TOML"),
        ("[tool]\ngradaudit = 3\n", "not a table"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(UsageError, match=message) as caught:
        load_config(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_options_are_long_option_names() -> None:
    assert "trust" not in OPTIONS
    assert all(name == name.lower() and "_" not in name for name in OPTIONS)
