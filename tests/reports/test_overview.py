"""Several models on one page, and one model beside its baseline."""

from __future__ import annotations

import dataclasses

import pytest

from gradaudit.records import Audited, Comparison, Estimate, FindingChange, Known, MetricChange, Run
from gradaudit.reports import html, overview
from tests import shared_report
from tests.reports.test_html import parse

OLD = Known(
    "GA101", "exploding-jacobian", "layers.12", "fail", Estimate(2.1, 2, 2.2, "log10 of gain")
)
NOW = dataclasses.replace(OLD, measured=Estimate(3.5, 3.4, 3.6, "log10 of gain"))


def comparison(*changes: FindingChange, stale: tuple[str, ...] = ()) -> Comparison:
    metric = MetricChange(
        "better",
        "loss_after_rehearsal",
        "the model",
        Estimate.exact(2.5, "nats"),
        Estimate.exact(0.7, "nats"),
        "its interval or 10%",
        "It fell by 72%.",
    )
    return Comparison("baseline.json", changes, (metric,), stale)


def run(*audits: Audited) -> Run:
    return Run("0.1.0", audits)


def several() -> Run:
    bad = dataclasses.replace(
        shared_report.exploding(),
        comparison=comparison(FindingChange("worse", OLD, NOW, "Its gain rose 25-fold.")),
    )
    return run(
        Audited("mlp", bad, 1),
        Audited("a <b>", shared_report.sound(), 0),
        Audited("lost", None, 2, "cannot read lost.pt: no such file"),
    )


def test_every_model_has_a_row_with_its_link_verdict_and_cause() -> None:
    parsed = parse(html.render_run(several(), {"mlp": "mlp.html", "a <b>": "a%20b.html"}))
    links = [a["href"] for tag, a in parsed.elements if tag == "a"]
    assert links == ["mlp.html", "a%20b.html"]
    for words in ("mlp", "a <b>", "Fail", "It diverges", "93% confident", "This model trains"):
        assert words in parsed.text
    assert "lost Not audited" in parsed.text
    assert "cannot read lost.pt: no such file" in parsed.text
    assert "3 models: 1 fail, 1 pass, 1 error" in parsed.text


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ((0, 0), "Every model passes"),
        ((0, 1), "Not every model passes"),
        ((1, 2), "Not every model could be audited"),
        ((0, 3), "Too little could be measured"),
    ],
)
def test_the_run_ends_as_its_worst_model(codes: tuple[int, int], words: str) -> None:
    report = shared_report.sound()
    audits = (Audited(str(code), None if code == 2 else report, code, "e") for code in codes)
    assert overview.summary(run(*audits)).startswith(words)


def test_new_or_worse_counts_stand_in_the_list_only_where_there_is_a_baseline() -> None:
    assert "New or worse" in html.render_run(several(), {})
    assert "New or worse" not in html.render_run(run(Audited("a", shared_report.sound(), 0)), {})


def test_an_empty_run_is_said() -> None:
    assert "No model was audited." in html.render_run(run(), {})


def test_regressions_stand_before_what_got_better() -> None:
    changes = (
        FindingChange("unchanged", OLD, OLD, "Within its interval."),
        FindingChange("fixed", OLD, None, "It is gone."),
        FindingChange("worse", OLD, NOW, "Its gain rose `25`-fold."),
        FindingChange("new", None, NOW, "It was not there."),
    )
    view = overview.compared(comparison(*changes, stale=("It is of version 0.0.1.",)))
    assert view
    assert view.summary == "1 new, 1 worse, 1 fixed, 1 better, 1 unchanged"
    assert [row.change for row in view.regressions] == ["worse", "new"]
    assert [row.change for row in view.improvements] == ["fixed", "better"]
    worse = view.regressions[0]
    assert worse.unit == "gain"
    assert (worse.before, worse.now) == (("126", "100 – 158"), ("3162", "2512 – 3981"))

    report = dataclasses.replace(shared_report.exploding(), comparison=comparison(*changes))
    text = parse(html.render(report, ())).text
    assert text.index("Since the baseline") < text.index("Growth of the gradient")
    assert text.index("It was not there.") < text.index("It is gone.") < text.index("Within its")
    assert "Its gain rose 25 -fold." in text  # the number is set as code
    assert "baseline.json" in text


def test_page_and_index_say_what_the_gate_says() -> None:
    kept = comparison(FindingChange("unchanged", OLD, OLD, "Within its interval."))
    known = dataclasses.replace(shared_report.exploding(), comparison=kept)
    hero = parse(html.render(known, ())).text
    assert "The gate passes: all of it is known to baseline.json (1 better, 1 unchanged)" in hero
    new = comparison(FindingChange("new", None, NOW, "It was not there."))
    past = dataclasses.replace(shared_report.exploding(), comparison=new)
    assert (
        "The gate fails: 1 new since baseline.json (1 better)" in parse(html.render(past, ())).text
    )
    spared = parse(html.render(past, (), fail_on="never")).text
    assert "The gate passes, for none of it counts with --fail-on never: 1 new" in spared

    listed = run(Audited("mlp", known, 0), Audited("b", shared_report.sound(), 0))
    text = parse(html.render_run(listed, {})).text
    assert "Every model passes. 2 models: 2 pass." in text
    assert "Fail without the baseline" in text


def test_a_baseline_that_is_stale_says_so() -> None:
    report = dataclasses.replace(
        shared_report.sound(), comparison=comparison(stale=("The model has two more layers.",))
    )
    text = parse(html.render(report, ())).text
    assert "The baseline is stale: The model has two more layers." in text
    assert "Nothing is new or worse." in text


def test_without_a_baseline_nothing_is_said_about_one() -> None:
    assert "baseline" not in parse(shared_report.page("exploding")).text
