"""Reports and baselines as files: read back as they were, and refused in one line."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradaudit.comparing import snapshot
from gradaudit.comparing.baseline import read_baseline
from gradaudit.comparing.files import baseline_text, model_key, read_models
from gradaudit.errors import GradauditError
from gradaudit.records import Report, Snapshot
from gradaudit.reports import json_report
from gradaudit.resources import resource
from tests import shared_report
from tests.comparing.literal import compared

SCHEMA = json.loads(resource("baseline.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
REPORTS = {**shared_report.every(), "deep": shared_report.deep(300)}


def read_one(path: Path) -> Snapshot:
    (kept,) = read_models(str(path)).values()
    assert isinstance(kept, Snapshot)
    return kept


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "file.json"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_read_as_it_is_kept(name: str, tmp_path: Path) -> None:
    report: Report = REPORTS[name]
    path = written(tmp_path, json_report.render(report))
    assert read_one(path) == snapshot(report)


@pytest.mark.parametrize("name", REPORTS)
def test_a_baseline_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    """But for the numbers' last digits, which no tolerance sees."""
    kept = snapshot(REPORTS[name])
    text = baseline_text({"net": kept}, "0.1.0")
    VALIDATOR.validate(json.loads(text))
    path = written(tmp_path, text)
    back = read_one(path)
    assert baseline_text({"net": back}, "0.1.0") == text
    same = compared(back, kept)
    assert {each.change for each in (*same.findings, *same.metrics)} <= {"unchanged"}
    assert same.stale == ()


def test_the_schema_is_one_and_refuses() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    whole = json.loads(baseline_text({"net": snapshot(shared_report.exploding())}, "0.1.0"))
    whole["models"]["net"]["metrics"]["growth_per_stage"]["value"] = "large"
    with pytest.raises(jsonschema.ValidationError, match="large"):
        VALIDATOR.validate(whole)


def test_a_baseline_is_made_for_git() -> None:
    kept = {"b": snapshot(shared_report.exploding()), "a": snapshot(shared_report.sound())}
    text = baseline_text(kept, "0.1.0")
    assert text == baseline_text(dict(reversed(kept.items())), "0.1.0")
    assert text.endswith("}\n")
    assert text.isascii()
    assert text.index('"a": {') < text.index('"b": {')
    assert "times" not in text
    numbers = [n for n in _numbers(json.loads(text)) if isinstance(n, float)]
    assert numbers
    assert all(n == float(f"{n:.6g}") for n in numbers)
    assert len(text) < 20_000


def _numbers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [n for each in value.values() for n in _numbers(each)]
    if isinstance(value, list):
        return [n for each in value for n in _numbers(each)]
    return [value] if isinstance(value, (int, float)) else []


def test_names_are_kept_without_folders_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_key("models/net.py:net") == "models/net.py:net"
    assert model_key("package.module:net") == "package.module:net"
    assert model_key(str(tmp_path / "models" / "net.py:net")) == "models/net.py:net"
    assert model_key("/elsewhere/entirely/net.pt") == "net.pt"


def test_a_loss_of_the_user_s_is_kept_without_its_folder() -> None:
    report = shared_report.sound()
    object.__setattr__(report, "settings", {"loss": "/home/me/losses.py:mine", "data": "/x.npz"})
    assert snapshot(report).settings["loss"] == "losses.py:mine"
    assert "/" not in json.dumps(dict(snapshot(report).settings))


def test_a_run_of_several_models(tmp_path: Path) -> None:
    one = shared_report.sound().to_dict()
    entries = [
        {"name": "a", "exit_code": 0, "error": "", "report": one},
        {"name": "b", "exit_code": 2, "error": "no such file: b", "report": None},
    ]
    whole = {"schema": "gradaudit.run/1", "tool": one["tool"], "exit_code": 2, "models": entries}
    found = read_models(str(written(tmp_path, json.dumps(whole))))
    assert found == {"a": snapshot(shared_report.sound()), "b": "no such file: b"}
    entries[1]["name"] = "a"
    with pytest.raises(GradauditError, match=r"models\[1\]\.name .*another name for every model"):
        read_models(str(written(tmp_path, json.dumps(whole))))


def test_a_missing_baseline_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(GradauditError, match=r"no such baseline: .*; make it with --write-base"):
        read_baseline(str(tmp_path / "none.json"))


# --- damaged, foreign and hostile


def change(*path: str | int, to: Any) -> Callable[[Any], None]:
    def apply(whole: Any) -> None:
        for key in path[:-1]:
            whole = whole[key]
        whole[path[-1]] = to

    return apply


BASELINE = ("models", "net")
DAMAGE: dict[str, tuple[Callable[[Any], None], str]] = {
    "another schema": (change("schema", to="other/1"), "no report of gradaudit's"),
    "a later schema": (change("schema", to="gradaudit.baseline/2"), "gradaudit.baseline/2"),
    "no schema": (change("schema", to=None), "no schema"),
    "a schema that is a list": (change("schema", to=[1]), "no report of gradaudit's"),
    "models in a list": (change("models", to=[]), "models cannot be read; expected an object"),
    "a model that is a number": (change(*BASELINE, to=3), "models.net.* expected an object"),
    "a verdict": (change(*BASELINE, "verdict", to="great"), "models.net.verdict .*'great'"),
    "no verdict": (change(*BASELINE, "verdict", to=None), "found nothing"),
    "findings": (change(*BASELINE, "findings", to={}), "models.net.findings .* a list"),
    "a finding": (change(*BASELINE, "findings", 0, to="GA101"), r"findings\[0\]"),
    "a severity": (
        change(*BASELINE, "findings", 0, "severity", to="bad"),
        r"findings\[0\]\.severity .*fail or warn or note",
    ),
    "a code": (change(*BASELINE, "findings", 0, "code", to=101), r"findings\[0\]\.code .*a text"),
    "a place without end": (
        change(*BASELINE, "findings", 0, "place", to="x" * 20_000),
        r"findings\[0\]\.place",
    ),
    "metrics": (change(*BASELINE, "metrics", to=[1]), "models.net.metrics"),
    "no number": (
        change(*BASELINE, "metrics", "growth_per_stage", to=None),
        "growth_per_stage .*a number with its interval",
    ),
    "a text for a number": (
        change(*BASELINE, "metrics", "growth_per_stage", "value", to="1"),
        "growth_per_stage.value .*a number",
    ),
    "true for a number": (
        change(*BASELINE, "metrics", "growth_per_stage", "value", to=True),
        "growth_per_stage.value",
    ),
    "NaN": (
        change(*BASELINE, "metrics", "growth_per_stage", "value", to=math.nan),
        "growth_per_stage.value .*a finite number",
    ),
    "infinity": (
        change(*BASELINE, "metrics", "growth_per_stage", "high", to=math.inf),
        "growth_per_stage.high",
    ),
    "more than a float": (
        change(*BASELINE, "metrics", "growth_per_stage", "value", to=10**400),
        "growth_per_stage.value .*a float can hold",
    ),
    "an interval upside down": (
        change(*BASELINE, "metrics", "growth_per_stage", "low", to=1e9),
        "low <= high",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told_by_file_and_field(name: str, tmp_path: Path) -> None:
    damage, words = DAMAGE[name]
    whole = json.loads(baseline_text({"net": snapshot(shared_report.exploding())}, "0.1.0"))
    damage(whole)
    path = written(tmp_path, json.dumps(whole))
    with pytest.raises(GradauditError, match=words) as caught:
        read_models(str(path))
    assert str(caught.value).isprintable()
    assert "file.json" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "holds no JSON object"),
        ('"text"', "holds no JSON object"),
        ('{"schema": "a", "schema": "b"}', "stands twice"),
        ("[" * 200_000, "nested too deep"),
        ('{"schema": "gradaudit.baseline/1", "x": ' + "[" * 80 + "]" * 80 + "}", "too deep"),
        ('{"x": 1' + "0" * 6000 + "}", "is not JSON"),
        ("PK\x03\x04", "is not JSON"),
        ('{"schema": "\ud800"}', "no report of gradaudit's"),
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_report_at_all(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    if "\ud800" in text:
        words = "is not JSON"
    with pytest.raises(GradauditError, match=words):
        read_models(str(path))


def test_a_file_of_a_size_no_report_has(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with path.open("wb") as stream:
        stream.truncate(200_000_000)  # takes no room on the disk
    started = time.perf_counter()
    with pytest.raises(GradauditError, match="larger than any of its kind"):
        read_models(str(path))
    assert time.perf_counter() - started < 5


def test_a_folder_and_nothing(tmp_path: Path) -> None:
    with pytest.raises(GradauditError, match="is no file"):
        read_models(str(tmp_path))
    with pytest.raises(GradauditError, match="no such file"):
        read_models(str(tmp_path / "none.json"))


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def trimmed(value: Any) -> Any:
    """With two items of every list: more are more of the same."""
    if isinstance(value, dict):
        return {key: trimmed(each) for key, each in value.items()}
    return [trimmed(each) for each in value[:2]] if isinstance(value, list) else value


WHOLES = {
    "report": trimmed(shared_report.sound().to_dict()),
    "baseline": json.loads(baseline_text({"net": snapshot(shared_report.exploding())}, "0.1.0")),
}


def paths(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every field."""
    if isinstance(value, dict):
        inner = list(value.items())
    else:
        inner = list(enumerate(value)) if isinstance(value, list) else []
    below = [path for key, each in inner for path in paths(each, (*way, key))]
    return [*([way] if way else []), *below]


PATHS = {kind: paths(whole) for kind, whole in WHOLES.items()}


@pytest.mark.parametrize("kind", WHOLES)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_anything_anywhere_is_read_or_refused_in_one_line(
    kind: str, tmp_path: Path, data: st.DataObject
) -> None:
    """One field, wherever it is, replaced by whatever JSON can hold."""
    whole = json.loads(json.dumps(WHOLES[kind]))
    change(*data.draw(st.sampled_from(PATHS[kind])), to=data.draw(ANYTHING))(whole)
    path = tmp_path / "file.json"
    path.write_text(json.dumps(whole), encoding="utf-8")
    try:
        found = read_models(str(path))
    except GradauditError as error:
        told = str(error)
    else:
        told = ""
        for kept in found.values():
            assert isinstance(kept, Snapshot)
            compared(kept, kept)
    assert "\n" not in told
