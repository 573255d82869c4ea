"""Every sample through the command: verdict, exit code, and the true cause named first."""

from __future__ import annotations

import runpy
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from markupsafe import escape

from gradaudit.reports.text import typeset
from tests.command import FAST, SAMPLES, checked, run


@dataclass(frozen=True)
class Truth:
    """What a sample was built to show."""

    verdict: str
    first: str = ""  # code of the cause
    outcomes: tuple[str, ...] = ("stalls", "diverges")
    build: bool = False  # its file holds only weights


SOUND = ("trains",)
SET = {
    "exploding_mlp": Truth("fail", "GA101"),
    "vanishing_relu_mlp": Truth("fail", "GA102"),
    "sound_cnn": Truth("pass", outcomes=SOUND),
    "delayed_echo_rnn": Truth("fail", "GA201", build=True),
    "lstm_forecast_raw": Truth("fail", "GA501", build=True),
    "lstm_forecast_scaled": Truth("pass", outcomes=SOUND, build=True),
    "char_transformer": Truth("pass", outcomes=SOUND, build=True),
    "vanishing_onnx": Truth("fail", "GA102"),
}


ADAM = ("--optimizer", "adam", "--lr", "1e-3", "--batch-size", "64")
SGD = ("--optimizer", "sgd", "--lr", "0.1", "--batch-size", "64")
RECIPES = {  # as in subject() of each
    "exploding_mlp": SGD,
    "vanishing_relu_mlp": ("--optimizer", "adam", "--lr", "3e-4", "--batch-size", "64"),
    "sound_cnn": ADAM,
    "delayed_echo_rnn": ADAM,
    "lstm_forecast_raw": ADAM,
    "lstm_forecast_scaled": ADAM,
    "char_transformer": ("--optimizer", "adamw", "--lr", "1e-3", "--batch-size", "32"),
    "vanishing_onnx": SGD,
}


def judge(name: str, ran_code: int, text: str) -> None:
    report, truth = checked(text), SET[name]
    assert report["verdict"] == truth.verdict, report["cause"]
    assert ran_code == (1 if truth.verdict == "fail" else 0)
    assert report["forecast"]["outcome"] in truth.outcomes
    failing = [f for f in report["findings"] if f["severity"] == "fail"]
    assert [f["code"] for f in failing[:1]] == ([truth.first] if truth.first else [])
    assert report["findings"][: len(failing)] == failing  # what fails comes first
    assert report["measurements"]["sample"]["source"] == "given"
    if truth.first:
        assert report["prescription"]["remedies"]
        assert failing[0]["remedies"]
        assert failing[0]["why"].startswith(report["cause"][:40].split(":")[0])


def test_the_set_is_complete() -> None:
    assert set(SET) == {path.stem for path in SAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", SET)
def test_as_code(name: str, tmp_path: Path) -> None:
    spec = f"{SAMPLES / name}.py:subject"
    ran = run(spec, "--threads", "1", "-o", "r.html", "--json", "-", cwd=tmp_path)
    judge(name, ran.code, ran.out)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    cause = checked(ran.out)["cause"].split("`")[0]
    assert str(escape(typeset(cause))) in page
    assert SET[name].verdict.upper() in ran.said[0]


@pytest.mark.parametrize("name", SET)
def test_as_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The written model and data, with the recipe on the command line, opened without --trust."""
    script = SAMPLES / f"{name}.py"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", [script.name, str(tmp_path)])
        runpy.run_path(str(script), run_name="__main__")
    (model,) = (path.name for path in tmp_path.glob("model.*"))
    (data,) = (path.name for path in tmp_path.glob("data.*"))
    build = ["--build", f"{script}:model"] if SET[name].build else []
    effort = ["--threads", "1"] if name.startswith("lstm") else FAST
    ran = run(
        model, "--data", data, *build, *RECIPES[name], *effort,
        "--no-html", "--json", "-", cwd=tmp_path,
    )  # fmt: skip
    judge(name, ran.code, ran.out)
    assert checked(ran.out)["subject"]["format"] != "code"
