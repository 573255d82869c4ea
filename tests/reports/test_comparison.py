"""Two runs side by side, as text, Markdown and JSON, from literal records."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from gradaudit.records import Compared, Difference
from gradaudit.reports import comparison_json, comparison_markdown, comparison_text, json_report
from gradaudit.reports import comparison_words as words
from gradaudit.resources import resource
from tests import shared_report
from tests.command import checked
from tests.comparing.literal import compared, known, measured, snapshot
from tests.shared_report import HOSTILE, HOSTILE_CONTROL

SCHEMA = json.loads(resource("diff.schema.json").read_text(encoding="utf-8"))

OLD = snapshot(
    known("gone"), known("better", 0.9), known("same"), measured("growth_per_stage", 1.02, 0.03)
)
NEW = snapshot(
    known("better", 0.6),
    known("same"),
    known("new", 0.9, "fail"),
    measured("growth_per_stage", 1.3, 0.03),
    measured("sharpness", 9.0, unit="sharpness"),
    verdict="fail",
)
REGRESSED = Compared("net.py:net", compared(OLD, NEW, baseline=False), "fail", 1)
SAME = Compared("same.py:net", compared(OLD, OLD, baseline=False), "warn", 0)
BROKEN = Compared("broken.py:net", None, None, 2, "no such file: broken.py")


def difference(*models: Compared, notes: tuple[str, ...] = ()) -> Difference:
    return Difference("0.1.0", "old.json", "new.json", models, notes)


def text(of: Difference, *, everything: bool = False, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, width=100)
    comparison_text.render(of, console, everything=everything)
    stream.flush()
    raw: Any = stream.buffer
    return str(raw.getvalue().decode(encoding))


def test_the_text_tells_every_kind_of_change() -> None:
    shown = text(difference(REGRESSED))
    assert shown.startswith("old.json -> new.json\n")
    assert "✗ net.py:net  warn -> fail; 1 new finding, 1 number worse" in shown
    assert "+ new       GA401 dead-units at new [fail]" in shown
    assert "✗ worse     growth per stage" in shown
    assert "1.02 -> 1.3: worse by more than its interval and 10%." in shown
    assert "✓ better    GA401 dead-units at better [warn]" in shown
    assert "✓ fixed     GA401 dead-units at gone [warn]" in shown
    assert "· 2 unchanged (--all lists them)" in shown
    assert "at same" not in shown
    assert "Note: Measured now, and not in the older report: sharpness" in shown


def test_all_lists_what_is_unchanged() -> None:
    shown = text(difference(REGRESSED), everything=True)
    assert "· unchanged GA401 dead-units at same [warn]" in shown
    assert "--all" not in shown


def test_nothing_new_or_worse() -> None:
    shown = text(difference(SAME))
    assert "✓ same.py:net  warn; nothing new or worse (3 known findings)" in shown
    assert "Nothing that counts" in comparison_markdown.render(difference(SAME))


def test_one_that_could_not_be_audited_is_told() -> None:
    both = difference(SAME, BROKEN, notes=("old.py:net is in old.json only.",))
    assert both.exit_code == 2
    assert "✗ broken.py:net  not audited; no such file: broken.py" in text(both)
    assert "Note: old.py:net is in old.json only." in text(both)
    markdown = comparison_markdown.render(both)
    assert "### 🛑 `broken.py:net`: not audited" in markdown
    assert "no such file: broken.py" in markdown


def test_an_old_terminal_gets_its_own_letters() -> None:
    shown = text(difference(REGRESSED), encoding="ascii")
    assert "x net.py:net  warn -> fail" in shown
    assert "ok fixed" in shown


def test_many_changes_are_cut_in_the_text() -> None:
    many = snapshot(*(known(f"layers.{i}", 0.9) for i in range(300)))
    of = difference(Compared("net", compared(snapshot(), many), "warn", 0))
    assert len(text(of).splitlines()) < 60
    assert "and 280 more rows (--all lists them)" in text(of)
    assert text(of, everything=True).count("at layers.") >= 300


# --- Markdown


def test_the_markdown_tells_every_kind_of_change() -> None:
    markdown = comparison_markdown.render(difference(REGRESSED))
    assert markdown.startswith(comparison_markdown.MARKER)
    assert "## ❌ gradaudit: There is something new or worse" in markdown
    assert "### ❌ `net.py:net`: warn -> fail" in markdown
    assert "1 new finding, 1 number worse (2 known findings, 1 fixed)." in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| ") and "what" not in line]
    assert [re.sub(r"^\| \S+ (\w+) \|.*", r"\1", row) for row in rows] == [
        "new",
        "worse",
        "better",
        "fixed",
        "unchanged",
        "unchanged",
    ]
    assert all(row.count("|") == 4 for row in rows)
    assert "<details><summary>2 unchanged</summary>" in markdown


def test_a_comment_on_github_holds_it() -> None:
    many = snapshot(*(known(f"layers.{i}." + "x" * 100, 0.9) for i in range(300)))
    comparison = compared(snapshot(), many)
    models = tuple(Compared(f"net {i}", comparison, "warn", 0) for i in range(40))
    for of in (difference(*models[:1]), difference(*models), difference(*(models * 3))):
        markdown = comparison_markdown.render(of)
        assert len(markdown.encode()) <= 60_000
        assert "gradaudit:" in markdown


def test_hostile_names_stay_text() -> None:
    before = snapshot(known(HOSTILE), subject={"name": HOSTILE})
    now = snapshot(known(HOSTILE_CONTROL, 0.9), subject={"name": HOSTILE_CONTROL})
    of = Difference(
        "0.1.0",
        HOSTILE,
        HOSTILE_CONTROL,
        (Compared(HOSTILE, compared(before, now), "warn", 0, ""), replace(BROKEN, error=HOSTILE)),
        (HOSTILE_CONTROL,),
    )
    markdown, shown = comparison_markdown.render(of), text(of, everything=True)
    assert "<script" not in re.sub("`[^`]*`", "", markdown)  # outside of code nothing is markup
    assert "\x1b" not in markdown
    assert "\x1b" not in shown
    jsonschema.validate(json.loads(comparison_json.render(of)), SCHEMA)


# --- JSON


@pytest.mark.parametrize("of", [difference(REGRESSED), difference(SAME, BROKEN), difference()])
def test_the_json_satisfies_its_schema(of: Difference) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    rendered = comparison_json.render(of)
    whole = json.loads(rendered)
    jsonschema.validate(whole, SCHEMA)
    assert rendered == json.dumps(whole, indent=2, sort_keys=True) + "\n"
    assert [model["name"] for model in whole["models"]] == [model.name for model in of.models]


def test_the_schema_refuses_what_is_none() -> None:
    whole = json.loads(comparison_json.render(difference(REGRESSED)))
    whole["models"][0]["findings"][0]["change"] = "odd"
    with pytest.raises(jsonschema.ValidationError, match="odd"):
        jsonschema.validate(whole, SCHEMA)


def test_a_report_with_a_comparison_satisfies_the_report_s_schema() -> None:
    report = replace(shared_report.sound(), comparison=compared(OLD, NEW))
    found = checked(json_report.render(report))["comparison"]
    assert found["against"] == "base.json"
    assert found["verdict_before"] == "warn"
    assert {row["change"] for row in found["findings"]} == {"new", "better", "fixed", "unchanged"}


def test_the_headline() -> None:
    assert words.headline(compared(OLD, OLD)) == "nothing new or worse (3 known findings)"
    assert words.headline(compared(snapshot(), snapshot())) == "nothing new or worse"
    two = snapshot(known("a", 0.9), known("b", 0.9))
    assert words.headline(compared(snapshot(), two)) == "2 new findings"
    worse = compared(snapshot(known("a")), snapshot(known("a", severity="fail")))
    assert words.headline(worse) == "1 finding worse"
