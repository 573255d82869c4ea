"""What the page says of the proof, of a search without a result, and of what was tried."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET

import pytest

from gradaudit.records import Attempt, Prescription, Remedy, Report, Trial
from gradaudit.reports import change, further, html
from gradaudit.reports.charts import compared
from tests import shared_proof, shared_report

NAMES = [f"layers.{2 * i}" for i in range(31)]
PROOF = shared_proof.proof(NAMES)


def section(text: str, name: str) -> str:
    start = text.index(f'<section id="{name}"')
    part = text[start : text.index("</section>", start)]
    part = re.sub(r"<(title|desc)\b.*?</\1>", " ", part)
    return " ".join(re.sub(r"<[^>]+>", " ", part).split())


def prescribed(report: Report, **changes: object) -> Report:
    assert report.prescription
    bare = Prescription(report.prescription.remedies, report.prescription.recipe)
    return dataclasses.replace(report, prescription=dataclasses.replace(bare, **changes))  # type: ignore[arg-type]


def labels(drawing: str) -> list[str]:
    return [e.text or "" for e in ET.fromstring(drawing).iter("text")]


def test_the_proof_is_said_plainly_and_shown_side_by_side() -> None:
    words = section(shared_report.page("exploding"), "change")
    assert (
        "Proven: with these changes the model trains, and the verdict goes from fail to pass. "
        "Measured again on batches held back from the search; the loss went from 2.31 to 0.0218 "
        "in 143 steps." in words
    )
    for row in (
        "Verdict Fail Pass",
        "Forecast It diverges 93% confident It trains 87% confident",
        "Failing findings GA101 none",
        "Growth in all 60.3 52.5 – 69.3 0.339 0.331 – 0.347",
        "Gradient norm 4.83 1.62",
        "Loss 2.61 → diverged in 20 steps 2.31 → 0.0218 in 143 steps",
        "Stage 0 is layers.0 , stage 30 is layers.60 .",
    ):
        assert row in words
    assert "proof-depth-title" in shared_report.page("exploding")
    assert "proof-loss-title" in shared_report.page("exploding")


def test_one_batch_for_both_is_said() -> None:
    same = dataclasses.replace(PROOF, batches="the same as in the search: the sample is one batch")
    assert "on batches that are the same as in the search: the sample is one" in change.proven(same)


def test_a_verdict_that_stays_and_losses_that_are_missing() -> None:
    warn = dataclasses.replace(PROOF.after, verdict="warn", last_loss=None, losses=())
    words = change.proven(dataclasses.replace(PROOF, before=warn, after=warn))
    assert words == (
        "with these changes the model trains, and the verdict stays at warning. "
        "Measured again on batches held back from the search."
    )


def test_rows_that_neither_side_has_are_left_out() -> None:
    bare = dataclasses.replace(
        PROOF.after, total_growth_log10=None, gradient_norm=None, first_loss=None
    )
    rows = change.rows(dataclasses.replace(PROOF, before=bare, after=bare))
    assert [row.label for row in rows] == ["Verdict", "Forecast", "Failing findings"]
    half = change.rows(dataclasses.replace(PROOF, before=bare))
    assert [row.before.text for row in half][-3:] == ["–", "–", "–"]


def test_a_proof_without_stages_or_losses_is_drawn_as_far_as_it_goes() -> None:
    bare = dataclasses.replace(PROOF.after, stages=(), losses=(), last_loss=None, first_loss=None)
    report = prescribed(
        shared_report.exploding(), proof=dataclasses.replace(PROOF, before=bare, after=bare)
    )
    text = html.render(report, ())
    assert "Measured again after the changes" in text
    assert "proof-depth" not in text
    assert "proof-loss" not in text


def test_changes_that_are_only_shown_are_no_part_of_the_proof() -> None:
    report = shared_report.exploding()
    assert report.prescription
    first, second = report.prescription.remedies
    shown = dataclasses.replace(second, safety="changes architecture: shown, not applied")
    whole = dataclasses.replace(report.prescription, remedies=(first, shown))
    words = section(html.render(dataclasses.replace(report, prescription=whole), ()), "change")
    assert "1 change above alters the architecture: shown, not applied" in words


def test_a_search_without_a_result_is_said_and_listed() -> None:
    words = section(shared_report.page("uncured"), "change")
    assert "No cure was found among 3 sets of changes." in words
    assert "Proven" not in words
    assert "What was tried: 3 sets of changes" in words
    assert "Does not pass Clip the gradient norm at 2.4 GA101 still fails" in words
    assert "GA101 still fails; forecast: stalls; loss 2.28 at the end" in words
    assert "Not applied Initialize the 30 Linear layers" in words


def test_what_was_tried_stands_under_the_proof() -> None:
    words = section(shared_report.page("exploding"), "change")
    assert words.index("Measured again") < words.index("What was tried: 3 sets of changes")
    assert words.endswith("Clip the norm at 2.4 loss 0.023 at the end")


def test_one_set_is_no_plural() -> None:
    report = prescribed(shared_report.exploding(), tried=shared_proof.failed()[:1])
    assert change.not_found(report) == (
        "No cure was found in the one set of changes that was tried."
    )


def test_a_model_that_is_not_ill_needs_no_cure() -> None:
    sound = dataclasses.replace(
        shared_report.sound(), prescription=Prescription((), tried=shared_proof.failed())
    )
    assert change.not_found(sound) == "Left as it is: 3 sets of changes did no better."


def test_long_searches_are_cut_off_and_counted() -> None:
    one = Attempt(("a",), ("A",), "stalls", passed=False, why="no")
    tries, left = change.tries((one,) * 70)
    assert (len(tries), left) == (60, 10)
    page = html.render(prescribed(shared_report.exploding(), tried=(one,) * 70), ())
    assert "10 sets more in the JSON report" in page


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (shared_report.made_up(), "the data are made up"),
        (prescribed(shared_report.exploding()), "Nothing here was tried. Run with"),
        (
            dataclasses.replace(
                prescribed(shared_report.exploding()), settings={"effort": "quick"}
            ),
            "the quick effort does not search. Run with `--effort standard`, or `gradaudit fix`",
        ),
        (
            dataclasses.replace(
                shared_report.weights_only(), prescription=shared_report.exploding().prescription
            ),
            "",
        ),
        (
            prescribed(
                dataclasses.replace(
                    shared_report.weights_only(),
                    prescription=shared_report.exploding().prescription,
                )
            ),
            "without code and data",
        ),
        (
            prescribed(
                shared_report.exploding(),
                remedies=(
                    Remedy(
                        "norm",
                        "norm",
                        "Add a norm",
                        {},
                        "",
                        "changes architecture: shown, not applied",
                    ),
                ),
            ),
            "these changes alter the architecture, which is left to you",
        ),
        (shared_report.exploding(), ""),
        (shared_report.uncured(), ""),
        (shared_report.sound(), ""),
    ],
)
def test_why_there_is_no_proof(report: Report, words: str) -> None:
    said = change.no_proof(report)
    assert words in said
    assert bool(said) is bool(words)


def test_the_charts_name_their_lines_and_where_one_ends() -> None:
    drawing = compared.losses(PROOF.before, PROOF.after, width=430, prefix="p")
    assert {"before", "after", "diverged", "Loss over training steps"} <= set(labels(drawing))
    assert "stroke-dasharray" in drawing
    drawing = compared.depth(PROOF.before, PROOF.after, width=430, prefix="p")
    assert {"before", "after", "stage (input → output)"} <= set(labels(drawing))


def test_long_nets_are_thinned() -> None:
    names = [str(i) for i in range(3000)]
    proof = shared_proof.proof(names)
    assert len(compared.depth(proof.before, proof.after, width=430, prefix="p")) < 40_000


def test_a_legend_that_is_too_long_for_its_row_takes_two() -> None:
    row = shared_proof.outlook()
    assert row.reference
    wordy = dataclasses.replace(row.reference, optimizer="a.very.long.name.of.an.Optimizer")
    drawing = compared.outlook(dataclasses.replace(row, reference=wordy), width=430, prefix="p")
    heights = {e.get("y") or e.get("transform") for e in ET.fromstring(drawing).iter("text")}
    assert len(heights) > 3
    assert "best constant guess" in labels(drawing)


@pytest.mark.parametrize("losses", [(), (2.0,), (0.0, -1.0), (1.0, 1e38)])
def test_losses_of_any_kind_are_drawn(losses: tuple[float, ...]) -> None:
    before = dataclasses.replace(PROOF.before, losses=losses, steps=len(losses))
    ET.fromstring(compared.losses(before, PROOF.after, width=430, prefix="p"))
    ET.fromstring(compared.losses(PROOF.before, before, width=430, prefix="p"))


def test_means_lie_in_the_middle_of_their_parts() -> None:
    assert [x for x, _ in compared.spread((3.0, 2.0, 1.0), 3)] == [0, 1, 2]
    assert [x for x, _ in compared.spread((3.0, 2.0), 100)] == [24.5, 74.5]
    assert compared.spread((), 0) == ()


def test_further_training_says_how_far_and_beside_what() -> None:
    words = section(shared_report.page("exploding"), "rehearsal")
    assert (
        "the recipe was then followed for 143 of 1,000 steps, as many as this effort has time for."
        in words
    )
    assert "The same start was trained under adamw at 0.001 for 71 steps; it was stopped" in words
    for figure in (
        "Loss under the recipe 2.47 from 4.16 in 143 steps",
        "Loss under adamw at 0.001 0.35 from 4.5 in 71 steps",
        "Best constant guess 2.29 on the same batches",
        "On a batch held out 2.52 a constant guess there: 2.2",
    ):
        assert figure in words
    assert {"adamw at 0.001", "the recipe", "best constant guess"} <= set(words_of_outlook())


def words_of_outlook() -> list[str]:
    return labels(compared.outlook(shared_proof.outlook(), width=430, prefix="p"))


def test_a_recipe_that_was_followed_to_its_end() -> None:
    words = section(shared_report.page("sound"), "rehearsal")
    assert "followed for all 400 steps." in words
    assert "The same start" not in words


def test_training_that_broke_is_said_to_have_diverged() -> None:
    own = Trial("sgd", 1.0, 7, (3.0, 9.0), 3.0, 9.0, 3.0, 7)
    row = shared_proof.outlook(own)
    assert "for 7 of 1,000 steps; at step 7 its loss or gradient was no longer" in further.words(
        row
    )
    base = shared_report.exploding()
    facts = further.facts(dataclasses.replace(base.measurements, outlook=row))
    assert (facts[0].value, facts[0].aside) == ("diverged", "from 3 in 7 steps")
    at_once = dataclasses.replace(row, own=Trial("sgd", 1.0, 0, (), 0.0, 0.0, 0.0, 0))
    m = dataclasses.replace(base.measurements, outlook=at_once, rehearsal=None)
    page = html.render(dataclasses.replace(base, measurements=m), ())
    assert "Loss under the recipe diverged at the first step" in section(page, "rehearsal")
    assert further.facts(shared_report.weights_only().measurements) == ()
