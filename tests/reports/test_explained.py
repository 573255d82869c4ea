"""What a page explains: the words that occur in it, and the rules that found something."""

from __future__ import annotations

import re

import pytest

from gradaudit.formats import rendered
from gradaudit.records import Audited, RuleDoc, Run
from gradaudit.reports import html
from gradaudit.rules import all_rules
from tests import shared_report

DOC = RuleDoc(
    "GA101",
    "exploding-jacobian",
    "Gradients grow on their way back.",
    {
        "What it measures": "The gain of\n`trunk`.\n\nOr the GSC.",
        "Why it hurts": "One step throws the weights off <b>.",
        "Example": "```python\nmodel = None\n```",
        "References": "He et al. 2015.",
    },
)


def words(name: str) -> set[str]:
    section = shared_report.page(name).partition('<section id="words">')[2]
    return set(re.findall(r"<dt>(.*?)</dt>", section.partition("</section>")[0]))


def test_words_that_do_not_occur_are_not_explained() -> None:
    weights = {"Spectral norm", "Stable rank", "Random entries", "Interval"}
    assert words("weights_only") == weights
    growth = {"Stage, trunk", "Gain", "GSC"}
    assert growth | weights <= words("exploding")
    recurrent = words("recurrent")
    assert not growth & recurrent
    assert "Lyapunov exponent" in recurrent
    assert {"Sharpness", "Noise scale", "QK, OV"} <= words("transformer")


def test_a_finding_is_explained_by_its_rules_page_once() -> None:
    report = shared_report.deep(12)
    code = report.findings[0].code
    doc = RuleDoc(code, DOC.name, DOC.summary, DOC.sections)
    text = html.render(report, (doc,))
    assert text.count('class="about-rule"') == 1
    folded = text.partition('class="about-rule"')[2].partition("</details>")[0]
    assert f"About {code}: Gradients grow on their way back</summary>" in folded
    headings = re.findall(r"<h4>(.*?)</h4>", folded)
    assert headings == ["Why it hurts", "What it measures", "References"]
    assert "<p>The gain of <code>trunk</code>.</p><p>Or the GSC.</p>" in folded
    assert "&lt;b&gt;" in folded
    assert "model = None" not in folded


def test_a_page_without_the_catalogue_has_no_explanations() -> None:
    assert 'class="about-rule"' not in shared_report.page("exploding")
    others = tuple(rule.described for rule in all_rules() if rule.code != "GA101")
    assert "About GA101" not in html.render(shared_report.exploding(), others)


def test_so_it_is_on_the_page_of_each_of_several_models() -> None:
    report = shared_report.deep(12)
    docs = tuple(rule.described for rule in all_rules())
    run = Run("0.1.0", (Audited("a", report, 1), Audited("b", None, 2, "no file")), docs)
    files, _ = rendered(run, {"html": "r.html"})
    (text,) = (text for path, text in files.items() if path.name == "r-a.html")
    assert f"About {report.findings[0].code}:" in text


@pytest.mark.parametrize("rule", all_rules(), ids=lambda rule: rule.code)
def test_every_rule_can_be_explained(rule: object) -> None:
    described = rule.described  # type: ignore[attr-defined]
    assert described.summary
    assert {"Why it hurts", "References"} <= set(described.sections)
