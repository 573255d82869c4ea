"""The command's contract: exit codes, what stands on which stream, bare models, configuration."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gradaudit.config import OPTIONS
from gradaudit.options import _OPTIONS
from gradaudit.rules import rule
from tests.command import FAST, SAMPLES, Ran, audited, checked, files_in, gradaudit, run

NET = """
import os
import subprocess
import sys
import time

import torch
from torch import nn

import gradaudit

print("imported")
X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
Y = X @ torch.randn(8, 2, generator=torch.Generator().manual_seed(1))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 2))


class Talking(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        print("forward")
        sys.__stdout__.write("around\\n")
        return self.net(x)


def batches():
    return list(zip(X.split(16), Y.split(16)))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05)


def sound():
    return gradaudit.Subject(net(), batches(), "mse", sgd)


def large_targets():
    return gradaudit.Subject(net(), [(x, 30 * y) for x, y in batches()], "mse", sgd)


def exploding():
    layers = [nn.Linear(8, 64), nn.Tanh()]
    for _ in range(30):
        layers += [nn.Linear(64, 64), nn.Tanh()]
        nn.init.normal_(layers[-2].weight, std=5 / 8)
    return gradaudit.Subject(nn.Sequential(*layers, nn.Linear(64, 2)), batches(), "mse", sgd)


def talking():
    os.system("echo from a child process")
    os.write(1, b"from the descriptor\\n")
    return gradaudit.Subject(Talking(), batches(), "mse", sgd)


def waiting():
    print("waiting", file=sys.stderr, flush=True)
    for _ in range(600):
        try:
            time.sleep(0.1)
        except Exception:
            pass
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("cli")
    (here / "net.py").write_text(NET)
    return here


# Exit codes


@pytest.mark.parametrize(
    ("name", "fail_on", "code"),
    [
        ("sound", "fail", 0),
        ("sound", "warn", 0),
        ("large_targets", "fail", 0),
        ("large_targets", "warn", 1),
        ("large_targets", "never", 0),
        ("exploding", "fail", 1),
        ("exploding", "warn", 1),
        ("exploding", "never", 0),
    ],
)
def test_fail_on(name: str, fail_on: str, code: int, folder: Path) -> None:
    verdict = {"sound": "pass", "large_targets": "warn", "exploding": "fail"}[name]
    report = audited(f"net.py:{name}", "--fail-on", fail_on, cwd=folder, expect=code)
    assert report["verdict"] == verdict, report["findings"]


def state(scale: float = 1.0) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 2))
    return {name: scale * value for name, value in net.state_dict().items()}


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize(
    ("scale", "fail_on", "code"),
    [(1, "fail", 3), (1, "warn", 3), (1, "never", 0), (1e4, "fail", 1), (1e4, "never", 0)],
)
def test_weights_alone(scale: float, fail_on: str, code: int, suffix: str, tmp_path: Path) -> None:
    save = torch.save if suffix == "pt" else save_file
    save(state(scale), tmp_path / f"state.{suffix}")  # type: ignore[operator]
    report = audited(f"state.{suffix}", "--fail-on", fail_on, cwd=tmp_path, expect=code)
    assert report["verdict"] == ("inconclusive" if scale == 1 else "fail")
    assert report["forecast"]["outcome"] == "unknown"
    assert report["measurements"]["weights"]
    assert any("--build" in item["why"] for item in report["not_measured"])
    ran = run(f"state.{suffix}", "--fail-on", fail_on, *FAST, "--no-html", cwd=tmp_path)
    assert ran.code == code
    assert "--build" in ran.err


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    weights = state()
    weights["0.weight"][0, 0] = float("nan")
    torch.save(weights, tmp_path / "state.pt")
    report = audited("state.pt", cwd=tmp_path, expect=1)
    assert report["findings"][0]["code"] == "GA001"
    assert report["findings"][0]["where"]["parameter"] == "0.weight"


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.bfloat16, torch.complex64, torch.int64]
)
def test_weights_of_any_type(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save({"a.weight": (3 * torch.randn(8, 8)).to(dtype)}, tmp_path / "state.pt")
    audited("state.pt", cwd=tmp_path, expect=3)


def test_weights_with_the_code_that_builds_them(tmp_path: Path, folder: Path) -> None:
    torch.save(state(), tmp_path / "state.pt")
    (tmp_path / "net.py").write_text(NET)
    build = ["--build", "net.py:net", "--data", "net.py:batches", "--loss", "mse"]
    report = audited("state.pt", *build, cwd=tmp_path, expect=0)
    assert report["verdict"] == "pass"


# Shells start what runs in the background deaf to ^C, and its children inherit that.
LISTENING = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('gradaudit', run_name='__main__', alter_sys=True)"
)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_interrupt_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    command = [sys.executable, "-c", LISTENING, "net.py:waiting", "--json", "r.json"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "waiting" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert err.split("\n") == ["gradaudit: interrupted; nothing was written", ""]
    assert files_in(tmp_path) == ["net.py"]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX timers")
def test_timeout(folder: Path) -> None:
    before, started = files_in(folder), time.monotonic()
    ran = run("net.py:waiting", *FAST, "--timeout", "0.5", "--json", "r.json", cwd=folder)
    assert time.monotonic() - started < 20
    assert ran.code == 2
    assert ran.said[-1] == "gradaudit: error: gave up after 0.5 s (--timeout); try --effort quick"
    assert files_in(folder) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_timeout_is_not_taken_for_a_sample_that_does_not_fit(tmp_path: Path) -> None:
    """Time runs out while inputs are made up, where errors of the model's are passed over."""
    slow = "\n\nclass Slow(nn.Linear):\n    def forward(self, x):\n        waiting()\n\n\n"
    (tmp_path / "net.py").write_text(NET + slow + "slow = nn.Sequential(Slow(4, 2))\n")
    ran = run("net.py:slow", *FAST, "--timeout", "1", "--no-html", cwd=tmp_path)
    assert ran.code == 2
    assert "gave up after 1 s" in ran.said[-1]


# What goes where


def test_stdout_holds_only_the_json(folder: Path) -> None:
    arguments = ("net.py:talking", *FAST, "--json", "-", "--no-html")
    ran = gradaudit(*arguments, cwd=folder)
    assert ran.code == 0, ran.err
    assert checked(ran.out)["verdict"] == "pass"
    for words in ("imported", "forward", "around", "child process", "from the descriptor"):
        assert words in ran.err


def test_html_on_stdout(folder: Path) -> None:
    ran = gradaudit("net.py:sound", *FAST, "-o", "-", cwd=folder, env={"PYTHONIOENCODING": "ascii"})
    assert ran.out.startswith("<!doctype html>")
    assert ran.out.rstrip().endswith("</html>")
    assert "HTML report" not in ran.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_full_stdout_is_told(folder: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gradaudit", "net.py:sound", *FAST, "--json", "-", "--no-html"],
            cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "gradaudit: error: cannot write to standard output"
    )
    assert "Traceback" not in done.stderr


def test_quiet_is_silent(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 2)), tmp_path / "m.pt")
    ran = gradaudit("m.pt", *FAST, "--quiet", "--json", "r.json", cwd=tmp_path)
    assert (ran.out, ran.err) == ("", "")
    assert files_in(tmp_path) == ["gradaudit-report.html", "m.pt", "r.json"]


def test_outputs(tmp_path: Path, folder: Path) -> None:
    model = f"{folder / 'net.py'}:sound"
    ran = run(model, *FAST, cwd=tmp_path)
    assert files_in(tmp_path) == ["gradaudit-report.html"]
    assert "HTML report: gradaudit-report.html" in ran.said
    assert ran.out == ""
    (tmp_path / "gradaudit-report.html").unlink()
    ran = run(model, *FAST, "-o", "a.html", "--json", "b.json", cwd=tmp_path)
    assert files_in(tmp_path) == ["a.html", "b.json"]
    checked((tmp_path / "b.json").read_text())
    (tmp_path / "a.html").unlink()
    (tmp_path / "b.json").unlink()
    ran = run(model, *FAST, "--no-html", cwd=tmp_path)
    assert files_in(tmp_path) == []
    assert "report:" not in ran.err


def test_audit_is_the_default_command(folder: Path) -> None:
    bare = run("net.py:sound", *FAST, "--no-html", "--json", "-", cwd=folder)
    named = run("audit", "net.py:sound", *FAST, "--no-html", "--json", "-", cwd=folder)
    first = run("--no-html", *FAST, "--json", "-", "net.py:sound", cwd=folder)
    assert untimed(bare) == untimed(named) == untimed(first)


def untimed(ran: Ran) -> Any:
    report = json.loads(ran.out)
    del report["environment"]["times"]
    return report


def test_same_seed_same_report(folder: Path) -> None:
    """Across processes; another seed differs."""
    sample = f"{SAMPLES / 'exploding_mlp.py'}:subject"
    arguments = (sample, *FAST, "--no-html", "--json", "-", "--seed")
    one, two = run(*arguments, "5", cwd=folder), gradaudit(*arguments, "5", cwd=folder)
    other = run(*arguments, "6", cwd=folder)
    assert untimed(one) == untimed(two)
    assert untimed(one)["measurements"] != untimed(other)["measurements"]


# A bare model file


MODELS: dict[str, Any] = {
    "mlp": lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4)),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    ),
    "lstm": lambda: nn.LSTM(6, 16, batch_first=True),
    "transformer": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2, enable_nested_tensor=False
    ),
    "tokens": lambda: nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 20)),
}


@pytest.mark.parametrize("name", MODELS)
def test_bare_model(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(MODELS[name](), tmp_path / "model.pt")
    report = audited("model.pt", cwd=tmp_path, expect=0)
    assert report["verdict"] in ("pass", "warn"), report["cause"]
    assert report["forecast"] == {"outcome": "unknown", "confidence": 0.0, "because": []}
    assert report["measurements"]["sample"]["source"] == "made up"
    assert any(note.startswith("MADE-UP DATA") and "--data" in note for note in report["notes"])
    missing = {item["what"] for item in report["not_measured"]}
    assert "rehearsal and forecast" in missing
    assert not {f["code"] for f in report["findings"]} & {"GA501", "GA502", "GA503"}
    ran = run("model.pt", *FAST, cwd=tmp_path)
    assert "made up" in ran.err.lower() or "made-up" in ran.err.lower()
    assert "MADE-UP DATA" in (tmp_path / "gradaudit-report.html").read_text(encoding="utf-8")


def test_ambiguous_model_is_weights_only(tmp_path: Path) -> None:
    """Two inputs: nothing says what they are, and the audit names the option that would."""
    torch.manual_seed(0)
    torch.save(nn.Bilinear(4, 5, 3), tmp_path / "model.pt")
    report = audited("model.pt", cwd=tmp_path, expect=3)
    assert any("--data" in item["why"] for item in report["not_measured"])


def test_input_option(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(nn.Bilinear(4, 5, 3), tmp_path / "model.pt")
    report = audited("model.pt", "--input", "float32[8,4],float32[8,5]", cwd=tmp_path, expect=0)
    assert report["measurements"]["sample"]["source"] == "made up"


# [tool.gradaudit]


def configure(folder: Path, table: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "net.py").write_text(NET)
    (folder / "pyproject.toml").write_text(f"[tool.gradaudit]\n{table}\n")


def test_configuration_is_honoured(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 2)), tmp_path / "m.pt")
    configure(
        tmp_path,
        'data = "net.py:batches"\nloss = "l1"\noptimizer = "adam"\nlr = 0.003\nseed = 7\n'
        'betas = [0.8, 0.9]\neffort = "quick"\nthreads = 1\nno-html = true\njson = "out.json"\n'
        'ignore = ["GA6"]\nfail-on = "never"\nquiet = true',
    )
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    ran = run("../../m.pt", cwd=below)
    assert (ran.code, ran.out, ran.err) == (0, "", "imported\n")
    assert files_in(below) == []
    report = checked((tmp_path / "out.json").read_text())
    assert report["seed"] == 7
    assert report["recipe"]["optimizer"] == "adam"
    assert report["recipe"]["betas"] == [0.8, 0.9]
    assert report["settings"]["ignore"] == ["GA6"]
    assert report["measurements"]["loss"]["kind"] == "l1"
    assert report["measurements"]["sample"]["source"] == "given"


def test_command_line_wins(tmp_path: Path) -> None:
    configure(
        tmp_path,
        'seed = 7\nlr = 0.003\nloss = "l1"\nno-html = true\noptimizer = "adam"\nbetas = [0.8, 0.9]',
    )
    ran = run(
        "net.py:net", "--data", "net.py:batches", "--seed", "8", "--lr", "0.1", "--loss", "mse",
        "--optimizer", "sgd", *FAST, "-o", "r.html", "--json", "-", cwd=tmp_path,
    )  # fmt: skip
    report = checked(ran.out)
    assert (report["seed"], report["recipe"]["lr"]) == (8, 0.1)
    assert (report["recipe"]["optimizer"], report["recipe"]["betas"]) == ("sgd", None)
    assert report["measurements"]["loss"]["kind"] == "mse"
    assert (tmp_path / "r.html").exists()
    configure(tmp_path, 'output = "c.html"\ndata = "net.py:batches"')
    ran = run(
        "net.py:net", "--no-html", "--input", "float32[4,8]", *FAST, "--json", "-", cwd=tmp_path
    )
    assert checked(ran.out)["measurements"]["sample"]["source"] == "made up"
    assert not (tmp_path / "c.html").exists()


def test_recipe_file(tmp_path: Path) -> None:
    configure(tmp_path, "lr = 0.5\nsteps = 10")
    (tmp_path / "recipe.toml").write_text('optimizer = "adam"\nlr = 0.01\nclip_norm = 2\n')
    arguments = ("net.py:net", "--data", "net.py:batches")
    report = audited(*arguments, "--recipe", "recipe.toml", cwd=tmp_path, expect=0)
    recipe = report["recipe"]
    assert (recipe["lr"], recipe["clip_norm"], recipe["steps"]) == (0.01, 2.0, 10)
    report = audited(*arguments, "--recipe", "recipe.toml", "--lr", "0.02", cwd=tmp_path, expect=0)
    assert report["recipe"]["lr"] == 0.02
    configure(tmp_path, 'lr = 0.5\nrecipe = "recipe.toml"')
    report = audited(*arguments, "--fail-on", "never", cwd=tmp_path, expect=0)
    assert (report["recipe"]["lr"], report["recipe"]["optimizer"]) == (0.5, "adam")


def test_optimizer_named_over_the_subjects_own(tmp_path: Path) -> None:
    """The numbers of another kind of optimizer do not come along."""
    adam = "lambda p: torch.optim.AdamW(p, lr=1e-3, betas=(0.8, 0.9))"
    mine = f'\n\ndef adam():\n    return gradaudit.Subject(net(), batches(), "mse", {adam})\n'
    (tmp_path / "net.py").write_text(NET + mine)
    ran = ("net.py:adam", "--optimizer", "SGD", "--lr", "0.05")
    recipe = audited(*ran, cwd=tmp_path, expect=0)["recipe"]
    assert (recipe["optimizer"], recipe["lr"], recipe["betas"]) == ("sgd", 0.05, None)
    recipe = audited("net.py:adam", "--lr", "0.002", cwd=tmp_path, expect=0)["recipe"]
    assert (recipe["optimizer"], recipe["lr"], recipe["betas"]) == ("adamw", 0.002, [0.8, 0.9])


def test_every_option_can_be_configured() -> None:
    def holder() -> None:
        """Take the options."""

    for option in _OPTIONS:
        holder = option(holder)  # type: ignore[assignment]
    names = {
        name.removeprefix("--")
        for parameter in holder.__click_params__  # type: ignore[attr-defined]
        for name in parameter.opts
        if name.startswith("--")
    }
    assert set(OPTIONS) == names - {"trust"}


# Other commands


def test_demo(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.gradaudit]\ndata = "nothing.npz"\n')
    ran = gradaudit("demo", *FAST, cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.out == ""
    assert "FAIL" in ran.said[0]
    assert "HTML report: gradaudit-report.html" in ran.said
    assert "as it should" in ran.said[-1]
    assert (tmp_path / "gradaudit-report.html").stat().st_size > 10_000


def test_rules_and_explain(tmp_path: Path) -> None:
    listed = run("rules", cwd=tmp_path)
    assert listed.code == 0
    for line in listed.out.splitlines():
        code, name, _ = line.split(None, 2)
        explained = run("explain", code.lower(), cwd=tmp_path)
        assert explained == run("explain", name, cwd=tmp_path)
        assert explained.out.startswith(f"{code} {name}\n")
        assert "## Remedy" in explained.out
        limits = [name.replace("_", "-") for name in rule(code).limits]
        assert re.findall(r"^- `(\S+) = ", explained.out, re.MULTILINE) == limits
    assert len(listed.out.splitlines()) >= 15


def test_help_version_and_nothing(tmp_path: Path) -> None:
    for option in ("--help", "-h"):
        assert "gradaudit MODEL" in run(option, cwd=tmp_path).out
    assert run("--version", cwd=tmp_path).out.startswith("gradaudit, version ")
    assert "--effort" in run("audit", "--help", cwd=tmp_path).out
    bare = run(cwd=tmp_path)
    assert (bare.code, bare.out) == (2, "")
    assert "gradaudit MODEL" in bare.err
