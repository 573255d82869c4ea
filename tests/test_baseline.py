"""A baseline in use: what is known counts no more, what gets worse does; on real audits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from safetensors.torch import save_file

from gradaudit.resources import resource
from gradaudit.tolerances import TOLERANCES
from tests.command import FAST, checked, files_in, gradaudit, run

NET = """
import torch
from torch import nn

import gradaudit

X = torch.randn(96, 16, generator=torch.Generator().manual_seed(0))
Y = (X @ torch.randn(16, 4, generator=torch.Generator().manual_seed(1))).argmax(1)
GAIN, NORM, DEPTH = {gain}, {norm}, {depth}


def net():
    torch.manual_seed(0)
    layers = []
    for i in range(DEPTH):
        layers.append(nn.Linear(64 if i else 16, 64))
        nn.init.normal_(layers[-1].weight, std=GAIN / layers[-1].in_features ** 0.5)
        layers += [nn.LayerNorm(64), nn.ReLU()] if NORM else [nn.ReLU()]
    head = nn.Linear(64, 4)
    nn.init.normal_(head.weight, std=0.003)  # the loss starts at chance
    return nn.Sequential(*layers, head)


def subject():
    return gradaudit.Subject(
        net(), list(zip(X.split(32), Y.split(32))), optimizer=lambda p: torch.optim.Adam(p, lr=1e-3)
    )
"""
QUICK = (*FAST, "--no-html")


def write(folder: Path, gain: float = 2**0.5, *, norm: bool = False, depth: int = 8) -> None:
    (folder / "net.py").write_text(NET.format(gain=gain, norm=norm, depth=depth))


@pytest.fixture(scope="module")
def audited_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports of a net (old.json) and of one with a regression (new.json), and a baseline."""
    folder = tmp_path_factory.mktemp("audited")
    for name, gain in (("new.json", 1.3 * 2**0.5), ("old.json", 2**0.5)):
        write(folder, gain=gain)
        more = ("--write-baseline", "base.json") if name == "old.json" else ()
        ran = run("net.py:subject", *QUICK, "--json", name, *more, cwd=folder)
        assert ran.code == 0, ran.err
    return folder


@pytest.fixture
def sound(audited_once: Path, tmp_path: Path) -> Path:
    """A folder with a sound net and its baseline."""
    for name in ("net.py", "base.json"):
        shutil.copy(audited_once / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def reports(audited_once: Path, tmp_path: Path) -> Path:
    """A folder with the reports old.json and new.json, the second with a regression."""
    for name in ("net.py", "old.json", "new.json"):
        shutil.copy(audited_once / name, tmp_path / name)
    return tmp_path


def held(folder: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit code and comparison against the baseline."""
    ran = run("net.py:subject", *QUICK, "--baseline", "base.json", "--json", "-", *more, cwd=folder)
    comparison: dict[str, Any] = checked(ran.out)["comparison"]
    return ran.code, comparison


def changed(comparison: dict[str, Any], kind: str) -> set[str]:
    rows = [*comparison["findings"], *comparison["metrics"]]
    return {
        row.get("metric") or (row["now"] or row["before"])["code"]
        for row in rows
        if row["change"] == kind
    }


def test_a_regression_is_gated_and_its_repair_passes(sound: Path) -> None:
    """The start of every layer 1.3 times as large: no rule fails it, growth does."""
    code, same = held(sound)
    assert code == 0
    assert changed(same, "new") | changed(same, "worse") | changed(same, "fixed") == set()
    assert same["stale"] == []
    write(sound, gain=1.3 * 2**0.5)
    code, worse = held(sound)
    assert code == 1
    assert "growth_per_stage" in changed(worse, "worse")
    assert not changed(worse, "new"), "no rule finds fault with it"
    alone = run("net.py:subject", *QUICK, cwd=sound)
    assert alone.code == 0, "without a baseline nothing fails"
    assert held(sound, "--fail-on", "never")[0] == 0
    write(sound)
    assert held(sound)[0] == 0


def test_a_dropped_norm_is_gated(tmp_path: Path) -> None:
    """At this start norms keep the gradient's size, and without them it shrinks."""
    write(tmp_path, gain=0.8, norm=True)
    ran = run("net.py:subject", *QUICK, "--write-baseline", "base.json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    write(tmp_path, gain=0.8)
    code, worse = held(tmp_path)
    assert code == 1
    assert "growth_per_stage" in changed(worse, "worse")


def test_a_failing_model_that_does_not_change_passes_and_says_so(tmp_path: Path) -> None:
    write(tmp_path, gain=0.5, depth=20)
    first = run("net.py:subject", *QUICK, cwd=tmp_path)
    assert first.code == 1
    accepted = run("net.py:subject", *QUICK, "--write-baseline", "base.json", cwd=tmp_path)
    assert accepted.code == 0, accepted.err
    assert "Baseline: base.json" in accepted.err
    again = run("net.py:subject", *QUICK, "--baseline", "base.json", cwd=tmp_path)
    assert again.code == 0
    assert "The gate passes: all of it is known to base.json" in again.err
    code, kept = held(tmp_path, "--fail-on", "warn")
    assert code == 0
    assert "GA102" in changed(kept, "unchanged")


def test_a_known_failure_does_not_stand_for_what_cannot_be_judged_any_more(tmp_path: Path) -> None:
    write(tmp_path, gain=6.0, depth=12)
    first = run("net.py:subject", *QUICK, "--write-baseline", "base.json", cwd=tmp_path)
    assert first.code == 0
    frozen = NET.format(gain=6.0, norm=False, depth=12)
    frozen = frozen.replace("*layers, head)", "*layers, head).requires_grad_(False)")
    (tmp_path / "net.py").write_text(
        frozen.replace(", optimizer=lambda p: torch.optim.Adam(p, lr=1e-3)", "")
    )
    alone = run("net.py:subject", *QUICK, cwd=tmp_path)
    held = run("net.py:subject", *QUICK, "--baseline", "base.json", cwd=tmp_path)
    assert (alone.code, held.code) == (1, 3), held.err


def test_the_baseline_is_the_same_text_again_and_fits_its_schema(sound: Path) -> None:
    text = (sound / "base.json").read_text()
    whole = json.loads(text)
    jsonschema.validate(whole, json.loads(resource("baseline.schema.json").read_text()))
    (name,) = whole["models"]
    assert name == "net.py:subject"
    assert str(sound) not in text
    place = str(sound / "net.py") + ":subject"
    ran = run(place, *QUICK, "-q", "--write-baseline", "base.json", cwd=sound)
    assert ran.code == 0
    assert (sound / "base.json").read_text() == text


def test_comparing_and_writing_in_place_goes_by_the_comparison(sound: Path) -> None:
    write(sound, gain=1.3 * 2**0.5)
    both = ("--baseline", "base.json", "--write-baseline", "base.json")
    assert run("net.py:subject", *QUICK, *both, cwd=sound).code == 1
    assert run("net.py:subject", *QUICK, *both, cwd=sound).code == 0, "it was accepted then"


def test_a_report_serves_as_baseline(reports: Path) -> None:
    ran = run("net.py:subject", *QUICK, "--baseline", "old.json", cwd=reports)
    assert ran.code == 0, ran.err
    write(reports, gain=1.3 * 2**0.5)
    assert run("net.py:subject", *QUICK, "--baseline", "old.json", cwd=reports).code == 1


def test_a_baseline_of_another_effort_is_said_to_be_stale(sound: Path) -> None:
    whole = json.loads((sound / "base.json").read_text())
    (model,) = whole["models"].values()
    model["settings"]["effort"] = "thorough"
    model["metrics"]["rehearsal_loss"].update(value=0.01, unit="x the loss, after 80 steps")
    (sound / "base.json").write_text(json.dumps(whole))
    code, comparison = held(sound)
    assert code == 0
    (sentence,) = comparison["stale"]
    assert "effort (thorough, now quick)" in sentence
    assert "--write-baseline" in sentence


def test_standard_output_takes_a_baseline_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path)
    ran = run("net.py:subject", *QUICK, "--write-baseline", "-", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["schema"] == "gradaudit.baseline/1"
    both = run("net.py:subject", *QUICK, "--write-baseline", "-", "--json", "-", cwd=tmp_path)
    assert (both.code, both.out) == (2, "")
    assert "--write-baseline" in both.err


def test_what_cannot_be_judged_is_written_and_still_inconclusive(tmp_path: Path) -> None:
    save_file({"a.weight": torch.eye(8)}, tmp_path / "net.safetensors")
    ran = run("net.safetensors", *QUICK, "--write-baseline", "base.json", cwd=tmp_path)
    assert ran.code == 3, ran.err
    again = run("net.safetensors", *QUICK, "--baseline", "base.json", cwd=tmp_path)
    assert again.code == 3, again.err


def test_of_models_that_could_not_all_be_audited_no_baseline_is_written(tmp_path: Path) -> None:
    save_file({"a.weight": torch.eye(8)}, tmp_path / "net.safetensors")
    (tmp_path / "pyproject.toml").write_text(
        '[[tool.gradaudit.model]]\nname = "a"\nmodel = "net.safetensors"\n'
        '[[tool.gradaudit.model]]\nname = "b"\nmodel = "none.py:net"\n'
    )
    ran = run("a", "b", *QUICK, "--write-baseline", "base.json", cwd=tmp_path)
    assert ran.code == 2
    assert "no baseline is written: not every model could be audited" in ran.err
    assert "base.json" not in files_in(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--baseline", "none.json"], "no such baseline: none.json; make it with --write-baseline"),
        (["--baseline", "broken.json"], "broken.json is not JSON"),
        (["--baseline", "foreign.json"], "no report of gradaudit's"),
        (["--baseline", "half.json"], "half.json: models.net.verdict cannot be read"),
        (["--baseline", "."], ". is no file"),
        (["--write-baseline", "foreign.json"], "foreign.json exists and is not a gradaudit report"),
        (["--write-baseline", "no/such/base.json"], "no folder"),
        (["--write-baseline", "same.json", "--json", "same.json"], "two reports"),
    ],
)
def test_a_bad_baseline_is_told_before_the_audit(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "foreign.json").write_text('{"schema": "other/1"}')
    (tmp_path / "half.json").write_text(
        '{"schema": "gradaudit.baseline/1", "models": {"net": {"findings": []}}}'
    )
    (tmp_path / "net.py").write_text("raise RuntimeError('it was run')")
    before = files_in(tmp_path)
    ran = run("net.py:subject", *QUICK, *arguments, cwd=tmp_path)
    assert ran.code == 2
    assert words in ran.err
    assert len(ran.said) == 1
    assert "it was run" not in ran.err
    assert files_in(tmp_path) == before


def test_it_can_be_configured_and_overridden(sound: Path) -> None:
    (sound / "deep").mkdir()
    (sound / "pyproject.toml").write_text('[tool.gradaudit]\nbaseline = "base.json"\n')
    write(sound, gain=1.3 * 2**0.5)
    model = ("../net.py:subject", *QUICK)
    assert run(*model, cwd=sound / "deep").code == 1
    assert run(*model, "--isolated", cwd=sound / "deep").code == 0


def test_tolerances_can_be_configured(reports: Path) -> None:
    """For a run as for gradaudit diff."""
    table = "[tool.gradaudit.tolerances]\n" + "".join(
        f"{name.replace('_', '-')} = 1e6\n" for name in TOLERANCES
    )
    (reports / "pyproject.toml").write_text(table)
    assert run("diff", "old.json", "new.json", cwd=reports).code == 0
    assert run("diff", "old.json", "new.json", "--isolated", cwd=reports).code == 1
    write(reports, gain=1.3 * 2**0.5)
    audit = ("net.py:subject", *QUICK, "--baseline", "old.json")
    assert run(*audit, cwd=reports).code == 0
    assert run(*audit, "--isolated", cwd=reports).code == 1


# --- gradaudit diff


def test_diff_tells_what_changed(reports: Path) -> None:
    ran = run("diff", "old.json", "new.json", cwd=reports)
    assert (ran.code, ran.err) == (1, "")
    assert "✗ net.py:subject" in ran.out
    assert "worse     growth per stage" in ran.out
    back = run("diff", "new.json", "old.json", cwd=reports)
    assert back.code == 0
    assert "better    growth per stage" in back.out
    assert "nothing new or worse" in run("diff", "old.json", "old.json", cwd=reports).out
    assert run("diff", "old.json", "new.json", "--fail-on", "never", cwd=reports).code == 0


def test_diff_writes_markdown_and_json(reports: Path) -> None:
    both = ("--markdown", "diff.md", "--json", "diff.json")
    ran = run("diff", "old.json", "new.json", *both, cwd=reports)
    assert ran.code == 1
    assert (reports / "diff.md").read_text().startswith("<!-- gradaudit diff -->")
    whole = json.loads((reports / "diff.json").read_text())
    jsonschema.validate(whole, json.loads(resource("diff.schema.json").read_text()))
    assert whole["exit_code"] == 1
    again = run("diff", "old.json", "new.json", "--json", "diff.json", cwd=reports)
    assert again.code == 1, "its own file is replaced"
    out = run("diff", "old.json", "new.json", "--json", "-", cwd=reports)
    assert json.loads(out.out) == whole
    markdown = run("diff", "old.json", "new.json", "--markdown", "-", cwd=reports)
    assert markdown.out == (reports / "diff.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["old.json"], "Missing argument 'NEW'"),
        (["old.json", "none.json"], "no such file: none.json"),
        (["notes.txt", "old.json"], "notes.txt is not JSON"),
        (["old.json", "old.json", "--json", "notes.txt"], "notes.txt exists and is not a"),
        (["old.json", "old.json", "--json", "-", "--markdown", "-"], "one at most"),
        (["old.json", "old.json", "--json", "a", "--markdown", "a"], "a file for each"),
    ],
)
def test_diff_refuses_in_one_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "old.json").write_text('{"schema": "gradaudit.baseline/1", "models": {}}')
    (tmp_path / "notes.txt").write_text("notes")
    ran = run("diff", *arguments, cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert len(ran.said) == 1
    assert files_in(tmp_path) == ["notes.txt", "old.json"]


def test_diff_in_a_process_of_its_own_loads_no_torch(tmp_path: Path) -> None:
    base = '{"schema": "gradaudit.baseline/1", "tool": {"version": "0.1.0"}, "models": {}}'
    (tmp_path / "old.json").write_text(base)
    (tmp_path / "torch.py").write_text("raise ImportError('torch was loaded')")
    (tmp_path / "matplotlib.py").write_text("raise ImportError('matplotlib was loaded')")
    ran = gradaudit("diff", "old.json", "old.json", cwd=tmp_path, env={"PYTHONUTF8": "1"})
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0] == "old.json -> old.json"
