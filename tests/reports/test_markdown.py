"""Markdown: what a reader of GitHub's sees, read with a parser of Markdown."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from gradaudit.records import Attempt, NotMeasured, Prescription, Remedy, Report, Run, Where
from gradaudit.reports import markdown
from gradaudit.reports.markdown_text import block, code, prose
from tests import shared_report, shared_runs

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
OWN_TAGS = re.compile(
    r"<!-- gradaudit report -->|</?(details|sub|code)>|<summary>[\w :]+</summary>"
)
# All that GitHub makes more of than CommonMark does.
HOSTILE = (
    "a|b \\| `tick` ``two`` *em* _em_ __init__ ~~gone~~ <b>bold</b> <!-- --> [l](http://x.y) "
    "![i](http://x.y/i.png) http://x.y www.x.y @somebody #12 $x$ # head &amp; \x1b[31m\ud800"
)


def text_of(run: Run) -> str:
    text = markdown.render(run)
    assert len(text.encode("utf-8")) <= markdown.MOST
    assert text.startswith(markdown.MARKER + "\n")
    assert text.endswith("\n")
    return text


def tokens(text: str) -> Iterator[Token]:
    for token in PARSER.parse(text):
        yield token
        yield from token.children or ()


def harmless(text: str) -> None:
    """Nothing but text, code, tables and our own tags."""
    in_code = False
    for token in tokens(text):
        assert token.type not in ("link_open", "image", "s_open", "em_open"), token
        if token.type in ("html_inline", "html_block"):
            left = OWN_TAGS.sub("", token.content).strip()
            assert not left, left
            in_code = token.content == "<code>" or (in_code and token.content != "</code>")
        if token.type == "text" and not in_code:
            # GitHub looks for these in what is shown outside of code
            assert not re.search(r"@\w|#\d", token.content), token.content


def cells(text: str) -> list[list[str]]:
    """Rows of all tables as their source."""
    rows: list[list[str]] = []
    found = PARSER.parse(text)
    for i, token in enumerate(found):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            rows[-1].append(found[i + 1].content)
    return rows


def test_every_report(report: Report) -> None:
    text = text_of(shared_runs.run(shared_runs.placed(report)))
    harmless(text)
    rows = cells(text)
    assert {len(row) for row in rows} <= {5}
    shown = [row[1] for row in rows[1:]]
    assert len(shown) == len(report.findings)


def test_the_verdict_the_cause_and_the_numbers() -> None:
    report = shared_runs.placed(shared_report.exploding())
    text = text_of(shared_runs.run(shared_runs.audited(report)))
    lines = text.splitlines()
    assert lines[2] == "## ❌ Fail: `net.py:make`"
    assert lines[4].startswith("**Cause.** This model will not train: its gradient grows 3639-fold")
    assert "**Forecast.** It diverges, 93% confident, because of GA101, GA105." in lines
    assert cells(text)[1] == [
        "❌",
        "GA101 exploding-jacobian",
        "`layers.12` at `models/net.py:20`",
        "3639 (2761 – 4797)",
        "1000 total gain (sum of squares)",
    ]
    order = [row[0] for row in cells(text)[1:]]
    assert order == ["❌", "⚠️", "⚠️", "ℹ️"]


def test_the_first_change_is_folded_away_and_can_be_copied() -> None:
    text = text_of(shared_runs.run(shared_report.exploding()))
    assert "**Change first.** Initialize the 30 Linear layers with Glorot, gain 1.17." in text
    (fence,) = [token for token in tokens(text) if token.type == "fence"]
    assert fence.info == "python"
    assert fence.content == shared_report.INIT_CODE
    before = text[: text.index("```python")]
    assert before.rstrip().endswith("<details><summary>Code to paste</summary>")


def test_what_was_not_measured_is_told() -> None:
    text = text_of(shared_runs.run(shared_report.weights_only()))
    assert "## ❔ Inconclusive: " in text
    assert "<details><summary>Not measured: 3 items</summary>" in text
    assert "- rehearsal (the whole model): there is no code to run" in text


def test_against_a_baseline_what_is_new_and_worse_comes_first() -> None:
    report = shared_runs.compared(shared_report.exploding(), worse_metric=True)
    text = text_of(shared_runs.run(report))
    told = "**The gate fails: 1 new, 2 worse than `baseline.json` (1 fixed, 1 better, 1 unch"
    assert told in text
    rows = [row for row in cells(text) if len(row) == 6][1:]
    assert [row[0] for row in rows] == [
        "**new**",
        "**worse**",
        "**worse**",
        "**fixed**",
        "**better**",
    ]
    assert rows[2][1:5] == [
        "growth per stage",
        "the model",
        "1.1 (1.05 – 1.15)",
        "1.4 (1.35 – 1.45)",
    ]
    assert text.index("**The gate fails:") < text.index("| | rule | where |")
    assert "**Stale.** The baseline is of another model" in text
    assert "GA105 poor-initialization (known)" in text
    harmless(text)


def test_a_baseline_that_has_it_all_passes_and_says_so() -> None:
    text = text_of(shared_runs.run(shared_runs.all_known(shared_report.exploding())))
    assert text.splitlines()[2] == "## ✅ Pass: `models/net0.py:make`"
    assert "**Without the baseline: Fail.** **Cause.** This model will not train" in text


def test_several_models_have_a_summary_and_a_section_each() -> None:
    run = shared_runs.run(shared_report.exploding(), shared_report.sound(), None)
    text = text_of(run)
    assert text.splitlines()[2] == "## 🛑 gradaudit: 1 of 3 models pass the gate"
    summary = cells(text)[1:4]
    assert [row[:3] for row in summary] == [
        ["❌", "`models/net0.py:make`", "Fail"],
        ["✅", "`models/net1.py:make`", "Pass"],
        ["🛑", "`models/net2.py:make`", "Cannot run"],
    ]
    assert summary[2][3] == "no such file: model.pt; check the path"
    heads = [line for line in text.splitlines() if line.startswith("### ")]
    assert heads == [
        "### ❌ Fail: `models/net0.py:make`",
        "### ✅ Pass: `models/net1.py:make`",
        "### 🛑 Cannot run: `models/net2.py:make`",
    ]


# Size


def test_findings_of_a_rule_are_counted() -> None:
    rows = cells(text_of(shared_runs.run(shared_runs.many(60_000))))
    assert len(rows) == 7
    assert rows[-1][1:3] == ["GA105 poor-initialization", "and 59,995 more places"]


@pytest.mark.parametrize("count", [3, 30, 300])
def test_many_models_of_many_findings_fit(count: int) -> None:
    """Fewer findings of each are shown, and in the end the summary alone."""
    report = dataclasses.replace(shared_report.hostile(), cause="x" * 3_000)
    findings = tuple(
        dataclasses.replace(f, code=f"X{i}", why="y" * 3_000)
        for i in range(30)
        for f in report.findings
    )
    report = dataclasses.replace(report, findings=findings)
    text = text_of(shared_runs.run(*[report] * count))
    assert cells(text)[count if count < 200 else 200][1].startswith("`models/net")
    harmless(text)


# Names written by others


def hostile(report: Report) -> Report:
    findings = tuple(
        dataclasses.replace(f, where=Where(module=HOSTILE), why=HOSTILE, name=HOSTILE, code="X|`")
        for f in report.findings
    )
    remedy = Remedy(HOSTILE, HOSTILE, HOSTILE, {}, f"```\n{HOSTILE}\n````", "recipe only")
    return dataclasses.replace(
        report,
        cause=HOSTILE,
        findings=findings,
        prescription=Prescription((remedy,), tried=tuple[Attempt, ...]()),
        not_measured=(NotMeasured(HOSTILE, HOSTILE, HOSTILE),),
    )


def test_hostile_names_stay_text() -> None:
    report = hostile(shared_report.exploding())
    text = text_of(shared_runs.run(shared_runs.audited(report, HOSTILE), None))
    harmless(text)
    assert {len(row) for row in cells(text)} == {4, 5}
    (fence,) = [token for token in tokens(text) if token.type == "fence"]
    assert fence.content.splitlines()[0] == "```"


@pytest.mark.parametrize("write", [prose, code], ids=["prose", "code"])
def test_nothing_is_lost_on_the_way(write: object) -> None:
    assert callable(write)
    name = "a|b \\x <b> [l](u) @me #1 $x$ &amp; *e* _i_ __init__ in_word ~~g~~ www.x.y http://x.y"
    (_, inline, _) = PARSER.parse(f"{write(name)}\n")
    shown = "".join(token.content for token in inline.children or () if token.type != "html_inline")
    assert shown.replace("\u200b", "") == name


def test_ordinary_names_are_easy_to_read_in_the_source_too() -> None:
    assert code("layers.12.weight_v") == "`layers.12.weight_v`"
    assert (
        prose("variance x fan_in of `layers.12` is 3.") == "variance x fan_in of `layers.12` is 3."
    )


def test_long_code_is_cut_with_a_word_about_it() -> None:
    text = block("\n".join(f"line {i}" for i in range(100)), "python", 10)
    assert text.splitlines()[-2:] == ["# 90 more lines, in the report", "```"]
