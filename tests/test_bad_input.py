"""Bad input, one by one: one clear line, exit code 2, no traceback, no file left behind."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.command import FAST, Ran, files_in, gradaudit, run

NET = """
import torch
from torch import nn

import gradaudit

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randn(8, 2, generator=torch.Generator().manual_seed(1))


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def sound():
    return gradaudit.Subject(net(), [(X, Y)], "mse", lambda p: torch.optim.SGD(p, lr=0.1))


def raising():
    raise ValueError("no such corpus:\\nlook elsewhere")


def exiting():
    raise SystemExit(0)


def nothing():
    return None


def no_parameters():
    return gradaudit.Subject(nn.Sequential(nn.Flatten(), nn.ReLU()), (X, Y))


class Raising(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.layer, self.error = nn.Linear(4, 2), error

    def forward(self, x):
        if self.error is not None:
            raise self.error
        return self.layer(x)


def forward_raises():
    return gradaudit.Subject(Raising(KeyError("weights of\\nnobody")), (X, Y))


def forward_exits():
    return gradaudit.Subject(Raising(SystemExit(0)), (X, Y))


def loss_raises():
    return gradaudit.Subject(net(), (X, Y), bad_loss)


def bad_loss(output, target):
    raise ArithmeticError("division of\\nlabour")


def vector_loss(output, target):
    return (output - target).square()


def tokens():
    return nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 2))


def meta():
    return gradaudit.Subject(nn.Linear(4, 2, device="meta"), (X, Y))


def complex_numbers():
    whole = nn.Linear(4, 2, dtype=torch.complex64)
    return gradaudit.Subject(whole, (X.to(torch.complex64), Y.to(torch.complex64)))


def not_an_optimizer():
    return gradaudit.Subject(net(), (X, Y), "mse", lambda p: "adam")


number = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and data to do wrong things with."""
    here = tmp_path_factory.mktemp("bad")
    (here / "net.py").write_text(NET)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    torch.save(net, here / "model.pt")
    whole = (here / "model.pt").read_bytes()
    (here / "truncated.pt").write_bytes(whole[: len(whole) // 2])
    (here / "text.pt").write_text("this is no model\n")
    (here / "empty.pt").write_bytes(b"")
    (here / "net.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    torch.save({"weights": "none"}, here / "words.pt")
    torch.save(net.state_dict(), here / "state.pt")
    x, y = torch.randn(8, 4), torch.randn(8, 2)
    save_file({"x": torch.randn(8, 5), "y": y}, here / "wide.safetensors")
    save_file({"x": torch.randint(0, 9, (8, 4)), "y": y}, here / "whole.safetensors")
    save_file({"x": x, "y": torch.randn(8, 3)}, here / "target.safetensors")
    save_file({"x": torch.zeros(0, 4), "y": torch.zeros(0, 2)}, here / "none.safetensors")
    np.savez(here / "classes.npz", x=x.numpy(), y=np.arange(8))
    spoilt = x.clone()
    spoilt[3, 1] = float("nan")
    np.savez(here / "nan.npz", x=spoilt.numpy(), y=y.numpy())
    np.save(here / "floats.npy", np.zeros((8, 3), dtype=np.float32))
    (here / "words.csv").write_text("a,b,c\n1,two,3\n")
    (here / "header.csv").write_text("a,b,c\n")
    (here / "recipe.toml").write_text("learnig-rate = 0.1\n")
    (here / "broken.json").write_text('{"lr": ')
    (here / "subfolder").mkdir()
    os.mkfifo(here / "pipe")
    (here / "theirs.html").write_text("<!doctype html><title>my thesis on gradaudit</title>")
    (here / "theirs.json").write_text('{"schema": "of mine", "tool": "gradaudit"}')
    return here


def refused(ran: Ran, *words: str) -> str:
    """The one line a refused run says, which holds ``words``."""
    assert ran.code == 2, ran.err
    assert ran.out == ""
    (line,) = ran.said
    assert line.startswith("gradaudit: error: ")
    assert len(line) < 700
    for word in words:
        assert word in line
    return line


MODELS = {
    "missing": ("modle.pt", ["no such file: modle.pt", "did you mean model.pt?"]),
    "missing folder": ("nowhere/model.pt", ["no such file", "there is no folder nowhere"]),
    "truncated": ("truncated.pt", ["truncated.pt is a damaged or truncated zip archive"]),
    "text": ("text.pt", ["text.pt is not a model", "found text"]),
    "empty": ("empty.pt", ["empty.pt is empty"]),
    "folder": ("subfolder", ["subfolder is a directory"]),
    "device": (os.devnull, ["is not a regular file"]),
    "data": ("floats.npy", ["a numpy array", "--data"]),
    "onnx": ("net.onnx", ["net.onnx cannot be opened", "it holds no graph"]),
    "long name": ("x" * 10_000, ["cannot be read", "File name too long"]),
    "no weights": ("words.pt", ["words.pt"]),
    "code, no name": ("net.py", ["which name in it is the model is not said"]),
    "no code": ("nte.py:net", ["no such file: nte.py", "net.py"]),
    "no module": ("nowhere.at.all:net", ["there is no module 'nowhere'"]),
    "no name": ("net.py:nett", ["net.py has no 'nett'", "did you mean 'net'?"]),
    "no model": ("net.py:number", ["net.py:number is no model", "type int"]),
    "nothing": ("net.py:nothing", ["net.py:nothing() returned no model", "found None"]),
    "raises": ("net.py:raising", ["ValueError: no such corpus: look elsewhere", "(net.py:20)"]),
    "exits": ("net.py:exiting", ["net.py:exiting raised SystemExit"]),
    "no parameters": ("net.py:no_parameters", ["Sequential has no parameters"]),
    "forward": ("net.py:forward_raises", ["forward raised KeyError", "weights of", "nobody"]),
    "forward exits": ("net.py:forward_exits", ["raised SystemExit(0)"]),
    "loss": ("net.py:loss_raises", ["bad_loss", "raised ArithmeticError: division of labour"]),
    "meta": ("net.py:meta", ["on the meta device"]),
    "complex": ("net.py:complex_numbers", ["the loss mse raised"]),
    "optimizer": ("net.py:not_an_optimizer", ["the optimizer factory returned no optimizer"]),
}


@pytest.mark.parametrize("case", MODELS)
def test_model(case: str, folder: Path) -> None:
    spec, words = MODELS[case]
    before = files_in(folder)
    refused(run(spec, *FAST, "--json", "r.json", cwd=folder), *words)
    assert files_in(folder) == before


DATA = {
    "missing": ("wdie.safetensors", ["no such file", "did you mean wide.safetensors?"]),
    "folder": ("subfolder", ["subfolder is no data file", "a directory"]),
    "device": (os.devnull, ["is no data file", "a special file"]),
    "shape": (
        "wide.safetensors",
        ["does not fit the first layer", "4 in the last dimension", "[8, 5]"],
    ),
    "whole numbers": ("whole.safetensors", ["does not fit the first layer", "float32", "int64"]),
    "target": ("target.safetensors", ["the target does not fit", "[8, 2]", "[8, 3]"]),
    "classes": ("classes.npz", ["the target holds class 7", "0 to 1"]),
    "NaN": ("nan.npz", ["input holds 1 value that are NaN", "NaN first at index [3, 1]"]),
    "empty": ("none.safetensors", ["the sample is empty: input has shape [0, 4]"]),
    "empty file": ("empty.pt", ["empty.pt is empty"]),
    "words": ("words.csv", ["words.csv, row 2, column 'b', is not a number", "'two'"]),
    "header": ("header.csv", ["header.csv has a header but no rows"]),
    "truncated": ("truncated.pt", ["truncated.pt is a damaged or truncated"]),
    "number": ("net.py:number", ["net.py:number is no sample", "int"]),
    "raises": ("net.py:raising", ["net.py:raising raised ValueError: no such corpus"]),
    "nothing": ("net.py:nothing", ["net.py:nothing is no sample"]),
}


@pytest.mark.parametrize("case", DATA)
def test_data(case: str, folder: Path) -> None:
    spec, words = DATA[case]
    before = files_in(folder)
    ran = run("model.pt", "--data", spec, *FAST, "--json", "r.json", cwd=folder)
    refused(ran, *words)
    assert files_in(folder) == before


def test_floats_for_an_embedding(folder: Path) -> None:
    ran = run("net.py:tokens", "--data", "floats.npy", *FAST, cwd=folder)
    refused(ran, "does not fit the first layer", "integers", "float32")


OPTIONS = {
    "loss": (["--loss", "cross_entorpy"], ["no loss called", "did you mean 'cross_entropy'?"]),
    "vector loss": (["--loss", "net.py:vector_loss"], ["returned [8, 2]", "a scalar tensor"]),
    "optimizer": (["--optimizer", "adamm"], ["torch has no optimizer 'adamm'", "'adam"]),
    "momentum": (["--optimizer", "adam", "--momentum", "0.9"], ["adam takes no momentum"]),
    "rate": (["--lr", "-1"], ["Invalid value for '--lr'", "x>0.0"]),
    "rate nan": (["--lr", "nan"], ["Invalid value for '--lr'", "finite"]),
    "betas": (["--optimizer", "adam", "--betas", "0.9"], ["--betas", "two numbers"]),
    "betas range": (["--optimizer", "adam", "--betas", "2,3"], ["betas", "from 0 below 1"]),
    "effort": (["--effort", "quik"], ["Invalid value for '--effort'", "'quick'"]),
    "fail on": (["--fail-on", "sometimes"], ["Invalid value for '--fail-on'", "'never'"]),
    "option": (["--treads", "1"], ["No such option", "--threads"]),
    "seed": (["--seed", str(2**80)], ["Invalid value for '--seed'"]),
    "timeout": (["--timeout", "inf"], ["Invalid value for '--timeout'"]),
    "device": (["--device", "warp"], ["--device warp cannot be used here"]),
    "rule": (["--select", "GA999"], ["GA999"]),
    "input": (["--input", "float32[8,x]"], ["--input 'float32[8,x]' cannot be read"]),
    "input misfit": (["--input", "float32[8,5]"], ["does not fit the first layer"]),
    "recipe": (["--recipe", "recipe.toml"], ["unknown key 'learnig-rate'", "did you mean"]),
    "recipe broken": (["--recipe", "broken.json"], ["broken.json is neither TOML nor JSON"]),
    "recipe missing": (["--recipe", "none.toml"], ["no such file: none.toml"]),
    "output folder": (["-o", "subfolder"], ["cannot write subfolder", "a directory"]),
    "output nowhere": (["-o", "nowhere/r.html"], ["no folder nowhere", "create it first"]),
    "output device": (["-o", "pipe", "--force"], ["cannot write pipe", "a device or pipe"]),
    "foreign html": (["-o", "theirs.html"], ["theirs.html exists", "--force"]),
    "foreign json": (["--json", "theirs.json"], ["theirs.json exists", "--force"]),
    "own code": (["-o", "net.py"], ["net.py exists and is not a gradaudit report"]),
    "twice stdout": (["-o", "-", "--json", "-"], ["both --output and --json", "one at most"]),
    "twice a file": (["-o", "r", "--json", "./r"], ["two reports would be written to r"]),
    "no html": (["-o", "r.html", "--no-html"], ["contradict each other"]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(case: str, folder: Path) -> None:
    options, words = OPTIONS[case]
    before = {name: (folder / name).stat().st_mtime_ns for name in files_in(folder)}
    refused(run("net.py:sound", "--threads", "1", *options, cwd=folder), *words)
    assert {name: (folder / name).stat().st_mtime_ns for name in files_in(folder)} == before


@pytest.mark.parametrize("option", [["--optimizer", "adamm"], ["--loss", "mes"]])
def test_options_are_checked_without_data_too(option: list[str], folder: Path) -> None:
    refused(run("model.pt", *FAST, *option, cwd=folder), "did you mean")


def test_unwritable_folder(folder: Path) -> None:
    # root may write anywhere but here
    place = "/proc" if os.geteuid() == 0 and sys.platform == "linux" else "/"
    refused(run("net.py:sound", *FAST, "-o", f"{place}/r.html", cwd=folder), "cannot write")


def test_force_overwrites_a_foreign_file(tmp_path: Path, folder: Path) -> None:
    theirs = tmp_path / "theirs.html"
    theirs.write_text("mine")
    model = str(folder / "net.py") + ":sound"
    assert run(model, *FAST, "-o", str(theirs), "--force", cwd=tmp_path).code in (0, 1)
    assert "gradaudit" in theirs.read_text()


def test_a_report_is_replaced_without_force(tmp_path: Path, folder: Path) -> None:
    model = str(folder / "net.py") + ":sound"
    (tmp_path / "r.json").touch()  # as mktemp makes it
    for _ in range(2):
        ran = run(model, *FAST, "-o", "r.html", "--json", "r.json", cwd=tmp_path)
        assert ran.code in (0, 1), ran.err
    assert files_in(tmp_path) == ["r.html", "r.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audit"], ["Missing argument 'MODEL'", "gradaudit audit --help"]),
        (["--quiet"], ["Missing argument 'MODEL'"]),
        (["explain", "GA999"], ["GA999"]),
        (["explain"], ["Missing argument 'CODE'"]),
    ],
)
def test_commands(arguments: list[str], words: list[str], folder: Path) -> None:
    refused(run(*arguments, cwd=folder), *words)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("batchsize = 3", ["unknown key 'batchsize'", "did you mean 'batch-size'?"]),
        ("html = 'r.html'", ["unknown key 'html'"]),
        ("lr = -1", ["pyproject.toml:2: lr: -1.0 is not in the range"]),
        ("trust = true", ["trust cannot be set"]),
        ("lr = ", ["pyproject.toml cannot be read", "expected TOML"]),
    ],
)
def test_pyproject(table: str, words: list[str], tmp_path: Path, folder: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.gradaudit]\n{table}\n")
    model = str(folder / "net.py") + ":sound"
    refused(run(model, *FAST, cwd=tmp_path), *words)
    assert files_in(tmp_path) == ["pyproject.toml"]
    assert run(model, *FAST, "--isolated", "--no-html", cwd=tmp_path).code in (0, 1)


CUSTOM = """
import torch
from torch import nn


class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x)


if __name__ == "__main__":
    import handmade
    torch.save(handmade.Mine(), "custom.pt")
"""


def test_custom_class_needs_trust(tmp_path: Path) -> None:
    (tmp_path / "handmade.py").write_text(CUSTOM)
    sys.path.insert(0, str(tmp_path))
    try:
        import handmade  # type: ignore[import-not-found]

        torch.save(handmade.Mine(), tmp_path / "custom.pt")
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["handmade"]
    ran = run("custom.pt", *FAST, cwd=tmp_path)
    line = refused(ran, "handmade.Mine", "if you made this file, add --trust")
    assert "torch.nn" not in line
    assert files_in(tmp_path) == ["custom.pt", "handmade.py"]
    ran = run("custom.pt", *FAST, "--trust", "--no-html", cwd=tmp_path)
    assert ran.code in (0, 1), ran.err


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    odd = os.fsdecode(b"mod\xffel.pt")
    ran = gradaudit(odd, cwd=tmp_path)
    refused(ran, "no such file: mod\\udcffel.pt")
    with (tmp_path / odd).open("wb") as stream:
        torch.save(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), stream)
    ran = run(odd, *FAST, "-o", "r.html", "--json", "r.json", cwd=tmp_path)
    assert ran.code in (0, 1), ran.err
    assert "mod\\udcffel.pt" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_as_a_process(folder: Path) -> None:
    before = files_in(folder)
    refused(gradaudit("truncated.pt", "--json", "-", cwd=folder), "truncated")
    refused(gradaudit("net.py:exiting", *FAST, cwd=folder), "SystemExit")
    assert files_in(folder) == before
