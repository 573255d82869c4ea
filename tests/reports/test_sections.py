"""What the sections say in words, and that they are absent where nothing was measured."""

from __future__ import annotations

import dataclasses
import re

import pytest

from gradaudit.records import Estimate, NonFinite
from gradaudit.reports import html, sections
from tests import shared_report, shared_rows

M = shared_report.transformer().measurements
OWN = ("time", "rate", "norms", "attention", "activations", "precision")


def shown(text: str) -> list[str]:
    return [name for name in re.findall(r'<section id="([^"]+)"', text) if name in OWN]


def test_sections_are_there_when_measured_and_absent_when_not() -> None:
    assert shown(shared_report.page("weights_only")) == []
    assert shown(shared_report.page("exploding")) == ["rate", "norms", "activations"]
    assert shown(shared_report.page("transformer")) == [n for n in OWN if n != "time"]
    assert shown(shared_report.page("recurrent"))[0] == "time"


def test_without_curvature_the_section_is_about_the_rate_alone() -> None:
    assert "<h2>Learning rate</h2>" in shared_report.page("exploding")
    assert "<h2>Curvature and learning rate</h2>" in shared_report.page("transformer")
    assert "<b></b>" not in shared_report.page("exploding")


@pytest.mark.parametrize(
    ("lr", "words"),
    [
        (0.0003, "Your rate 3×10⁻⁴ is within what this curvature bears."),
        (0.0073, "Your rate 0.0073 is about what this curvature bears: too close to tell."),
        (0.073, "Your rate 0.073 is 10 times what this curvature bears."),
        (None, ""),
    ],
)
def test_the_recipes_rate_is_held_against_the_interval(lr: float | None, words: str) -> None:
    assert sections.rate_words(given(lr=lr)) == words


def given(**recipe: object) -> shared_report.Measurements:
    return dataclasses.replace(M, recipe=dataclasses.replace(M.recipe, **recipe))  # type: ignore[arg-type]


def test_a_bound_that_is_unknown_decides_nothing() -> None:
    assert M.curvature
    loose = dataclasses.replace(M.curvature, rate_ceiling=Estimate(0.0073, None, None, "rate"))
    for lr in (1e-5, 0.0073, 5.0):
        m = dataclasses.replace(given(lr=lr), curvature=loose)
        assert sections.rate_words(m).endswith("too close to tell.")


def test_curvature_comes_with_intervals_rule_and_effort() -> None:
    facts = {fact.label: (fact.value, fact.aside) for fact in sections.rate(M)}
    assert facts["Sharpness"] == ("38.2", "37.9 – 39.4")
    assert facts["Sharpness under adamw"] == ("5210", "5190 – 5330")
    assert facts["Your rate bears"] == ("1.27×10⁵", "(2 + 2 beta1) / ((1 - beta1) lr)")
    assert facts["Lowest curvature"] == ("−4.1", "at least −4.40")
    assert M.curvature
    assert sections.effort(M.curvature) == "8 Hessian-vector products on 4 of the batch's 8 samples"
    whole = dataclasses.replace(M.curvature, samples=8)
    assert sections.effort(whole) == "8 Hessian-vector products on 8 samples"
    assert sections.rate(dataclasses.replace(M, curvature=None)) == ()


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (8, "Noise outweighs signal in a batch of 8"),
        (300, "A batch of 300 is about as much signal as noise."),
        (4096, "In a batch of 4096 the signal outweighs the noise"),
        (None, ""),
    ],
)
def test_the_noise_scale_is_held_against_the_batch(batch: int | None, words: str) -> None:
    sample = dataclasses.replace(M.sample, batch_size=batch)
    said = sections.noise_words(dataclasses.replace(M, sample=sample))
    assert said.startswith(words)
    assert bool(said) is bool(words)


def test_norms_come_with_tail_clip_and_noise() -> None:
    facts = {fact.label: (fact.value, fact.aside) for fact in sections.norms(M)}
    assert facts["Tail index"] == ("2.6", "1.70 – 3.90")
    assert facts["Clip at"][0] == "3.3"
    assert facts["That would clip"] == ("5%", "1% – 14%")
    assert facts["Noise scale"] == ("310 samples", "190 – 720")
    assert "Hill&#39;s index is below 4)" in shared_report.page("transformer")


def test_layers_through_time_say_exponents_lengths_and_gate() -> None:
    lost, kept = shared_rows.lost_in_time(), shared_rows.kept_in_time()
    assert sections.exponents(lost)[0] == ("−0.598", "−0.610 – −0.585")
    assert len(sections.exponents(lost)) == 4
    assert sections.by_length(lost)[0] == ("10 steps", "1.9×10⁻⁵", "1.3×10⁻⁵ – 2.5×10⁻⁵")
    facts = {fact.label: fact.value for fact in sections.through_time(kept)}
    assert facts["Forget gate"] == "53%"
    assert facts["Falls below 1%"] == "36 steps back"
    gru = dataclasses.replace(kept, type="GRU")
    assert "Update gate" in [fact.label for fact in sections.through_time(gru)]
    back = dataclasses.replace(kept, direction="backward")
    base = shared_report.recurrent()
    m = dataclasses.replace(base.measurements, recurrent=(back,))
    assert "LSTM, backwards, 40 steps" in html.render(dataclasses.replace(base, measurements=m), ())
    page = shared_report.page("recurrent")
    assert "LSTM, 40 steps, packed" in page
    assert "and 2 smaller" in page


def test_a_layer_without_a_profile_is_listed_all_the_same() -> None:
    base = shared_report.recurrent()
    bare = dataclasses.replace(shared_rows.kept_in_time(), profile=(), module="bare")
    m = dataclasses.replace(base.measurements, recurrent=(bare,) * 8)
    page = html.render(dataclasses.replace(base, measurements=m), ())
    assert page.count("<h3><code>bare</code>") == 6
    assert "2 more layers through time in the JSON report" in page


def test_the_line_that_made_a_number_not_finite_is_named() -> None:
    item = NonFinite("forward", "log", "head", 0, file="model.py", line=41)
    assert sections.origin(item) == "model.py, line 41"
    assert sections.origin(dataclasses.replace(item, line=None)) == "model.py"
    assert sections.origin(dataclasses.replace(item, file="")) == ""
    page = shared_report.page("recurrent")
    assert "<code>model.py, line 41</code>" in page
    assert "<code>train.py, line 12</code>" in page


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (
            NonFinite("weights", "", "body", 0, parameter="body.weight"),
            "weights: first made by the start values in body, parameter body.weight",
        ),
        (
            NonFinite("weights", "", "body", 0, step=1, parameter="body.weight"),
            "weights: first made by the optimizer in body, parameter body.weight, step 1",
        ),
        (
            NonFinite("constant", "add", "body", 0, parameter="body.held"),
            "constant: first made by a tensor that is held, and first taken by add in body, "
            "buffer body.held",
        ),
    ],
)
def test_what_held_a_number_not_finite_is_named(item: NonFinite, words: str) -> None:
    base = shared_report.recurrent()
    m = dataclasses.replace(base.measurements, nonfinite=(item,))
    page = html.render(dataclasses.replace(base, measurements=m), ())
    assert f"<li>{words}</li>" in re.sub(r"</?code>", "", page)


def test_precision_says_format_scale_and_place() -> None:
    assert M.precision
    facts = {fact.label: (fact.value, fact.aside) for fact in sections.precision(M.precision)}
    assert facts["Your recipe"] == ("fp16", "")
    assert facts["Loss scale for fp16"][0] == "32,768"
    assert facts["Largest activation"] == ("81,300", "addmm in transformer.h.11.mlp.c_proj")
    assert facts["Foretold for"] == ("autocast", "weights in float32")
    pure = dataclasses.replace(M.precision, regime="pure", weights="float16")
    assert "pure half precision" in [fact.value for fact in sections.precision(pure)]


def test_a_page_of_gpt2_size_stays_below_a_megabyte() -> None:
    page = html.render(shared_report.transformer(12, 12, 768), ())
    assert len(page.encode()) < 1_000_000
    assert "transformer.h.11.attn" in page
