from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
import shlex
from html.parser import HTMLParser

import pytest
from markupsafe import Markup

from gradaudit.records import Estimate, Limit, Prescription, Where
from gradaudit.reports import html, layers, page, templating, views, wording
from gradaudit.reports.numbers import number
from gradaudit.resources import resource
from tests import shared_report

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE_PARTS = ("<script>alert", "<img src=x", 'x" onclick', "\x1b", "\x00", "\u202e")


class Page(HTMLParser):
    """Elements, text and scripts of a page, checked for balance."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.raw: dict[str, list[str]] = {"style": [], "script": []}
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]].append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def opened(name: str) -> Page:
    return parse(shared_report.page(name))


def parse(text: str) -> Page:
    parsed = Page(text)
    assert parsed.open == []
    return parsed


def test_the_page_is_well_formed_and_ids_are_unique(name: str) -> None:
    parsed = opened(name)
    ids = [a["id"] for _, a in parsed.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    targets = [a["href"] for _, a in parsed.elements if (a.get("href") or "").startswith("#")]
    assert {t[1:] for t in targets if t} <= set(ids)


def test_nothing_is_fetched(name: str) -> None:
    for tag, attributes in opened(name).elements:
        for source in ("src", "href", "action", "data", "srcset"):
            value = attributes.get(source)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    style = (resource("templates") / "report.css").read_text(encoding="utf-8")
    assert "url(" not in style
    assert "@import" not in style


def test_the_content_policy_allows_the_pages_own_parts_and_no_more(name: str) -> None:
    parsed = opened(name)
    (policy,) = [a["content"] or "" for t, a in parsed.elements if a.get("http-equiv")]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        (text,) = parsed.raw[kind]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    for _, attributes in parsed.elements:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]


def test_equal_reports_give_equal_pages() -> None:
    assert html.render(shared_report.exploding(), ()) == shared_report.page("exploding")


def test_hostile_names_stay_text() -> None:
    text = shared_report.page("hostile")
    for part in HOSTILE_PARTS:
        assert part not in text
    text.encode("utf-8")
    parsed = Page(text)
    assert len(parsed.raw["script"]) == 1
    assert "<script>alert(1)</script>" in parsed.text
    assert "\\x1b[31m.red" in parsed.text
    assert "</code></pre><script>alert(4)</script>" in parsed.text


def test_sections_come_in_the_order_a_person_asks() -> None:
    report = shared_report.recurrent()
    stages = shared_report.exploding().measurements.stages
    report = dataclasses.replace(
        report, measurements=dataclasses.replace(report.measurements, stages=stages)
    )
    parsed = parse(html.render(report, ()))
    ids = [a["id"] for tag, a in parsed.elements if tag == "section" and a.get("id")]
    assert ids == [
        "map",
        "growth",
        "findings",
        "change",
        "layers",
        "spectral",
        "time",
        "rate",
        "rehearsal",
        "norms",
        "activations",
        "detail",
        "not-measured",
        "repeat",
        "words",
    ]


def test_verdict_cause_and_forecast_come_first() -> None:
    text = opened("exploding").text
    start = text[text.index("Fail", 10) :][:600]
    assert "This model will not train" in start
    assert "It diverges , 93% confident" in start
    assert "GA101" in start


def test_findings_carry_number_interval_limit_source_reason_and_code() -> None:
    text = opened("exploding").text
    finding = text[text.index("exploding-jacobian") :]
    finding = finding[: finding.index("poor-initialization")]
    for part in (
        "layers.12",
        "3639",
        "2761 – 4797",
        "total gain (sum of squares)",
        "1000",
        "15 nets that were then trained",
        "3.64× the limit",
        "Change 1",
        "nn.init.xavier_normal_(module.weight, gain=1.17)",
    ):
        assert part in finding


def test_the_change_to_make_stands_with_the_verdict() -> None:
    parsed = opened("exploding")
    hero = parsed.text[: parsed.text.index("The loss was chosen")]
    assert "Initialize the 30 Linear layers with Glorot, gain 1.17" in hero
    assert "Clip the gradient norm at 2.4" in hero
    assert "proven on a copy of the model" in hero
    assert "proven" not in opened("made_up").text[:1500]


def test_findings_and_layers_link_to_each_other() -> None:
    text = shared_report.page("exploding")
    finding = text[text.index('<article class="finding fail" id="GA101-layers.12"') :]
    assert '<a href="#layer-layers.12">' in finding[: finding.index("</article>")]
    layer = text[text.index('id="layer-layers.12"') :]
    assert 'href="#GA101-layers.12"' in layer[: layer.index("</details>")]
    assert '<a href="#GA101-layers.12">GA101</a>' in text[: text.index("</h1>") + 900]


def test_contents_name_every_section() -> None:
    parsed = opened("transformer")
    ids = {a["id"] for tag, a in parsed.elements if tag == "section" and a.get("id")}
    linked = {a["href"] for tag, a in parsed.elements if tag == "a" and a.get("href")}
    assert len(ids) > 10
    assert {f"#{address}" for address in ids} <= linked
    assert parsed.text.count("Half precision") >= 3  # the heading, and twice in the contents


def test_a_page_can_be_linked_to_its_style_and_script() -> None:
    text = html.linked(shared_report.page("sound"), "../st%20atic/")
    parsed = parse(text)
    assert parsed.raw == {"style": [], "script": []}
    links = [a for tag, a in parsed.elements if tag in ("link", "script")]
    assert [a.get("href") or a.get("src") for a in links] == [
        "../st%20atic/gradaudit.css",
        "../st%20atic/gradaudit.js",
    ]
    (policy,) = [a["content"] or "" for _, a in parsed.elements if a.get("http-equiv")]
    assert policy.endswith("style-src 'self'; script-src 'self'")
    assert set(html.assets()) == {"gradaudit.css", "gradaudit.js"}
    with pytest.raises(ValueError, match="not a page"):
        html.linked("<!doctype html><html></html>", "")


def test_made_up_data_are_said_loudly() -> None:
    assert "The data are made up" in opened("made_up").text
    assert "The data are made up" not in opened("exploding").text


def test_weights_alone_make_a_page() -> None:
    parsed = opened("weights_only")
    assert "Inconclusive" in parsed.text
    assert "No rule found anything in what could be measured." in parsed.text
    assert "there is no code to run" in parsed.text
    assert "growth" not in [a.get("id") for _, a in parsed.elements]


def test_long_nets_stay_small_and_every_finding_is_counted() -> None:
    text = shared_report.page("deep")
    assert len(text.encode()) < 3_000_000
    words = Page(text).text
    assert "1,997 more places where GA105 applies" in words
    assert "Each row stands for 20 consecutive stages" in words
    assert "The 250 of 2,000 rows that stand out most" in words
    assert "4,000 layers are gathered into 100 groups of consecutive stages" in words
    assert text.count('id="GA105-') == 2000
    assert text.count('id="layer-layers.') == 4000


def test_a_net_of_the_shape_of_gpt_2_stays_within_a_megabyte() -> None:
    report = shared_report.transformer(layers=12, heads=12, width=768)
    text = html.render(report, ())
    assert len(text.encode()) <= 1_000_000
    assert text.count('<details class="layer') == len(layers.layers(report)) > 120
    assert "stand out most" not in text  # nothing is left out


def test_findings_past_what_a_page_holds_are_counted() -> None:
    base = shared_report.deep(30)
    many = tuple(
        dataclasses.replace(base.findings[0], where=Where(parameter=f"p{i}")) for i in range(2600)
    )
    (group,) = views.groups(dataclasses.replace(base, findings=many))
    assert (len(group.shown), len(group.listed), group.left_out) == (3, 2497, 100)


def test_long_code_is_given_once_and_linked_to() -> None:
    base = shared_report.exploding()
    assert base.prescription
    code = "\n".join(f"line_{i} = {i}" for i in range(500))
    first = dataclasses.replace(base.prescription.remedies[0], code=code)
    report = dataclasses.replace(base, prescription=Prescription((first,)))
    text = html.render(report, ())
    assert text.count("line_499") == 1
    assert '<a href="#remedy-1">' in text


def test_dictionaries_of_layers_are_summed_up() -> None:
    report = shared_report.exploding()
    assert report.prescription
    rows = dict(wording.flat(report.prescription.remedies[0].parameters))
    assert rows == {"scheme": "Glorot (30 values)", "std": "0.103 (30 values)", "gain": "1.17"}
    ranged = wording.flat({"std": dict(enumerate([0.1, 0.2, 0.3, 0.1, 0.2]))})
    assert ranged == (("std", "0.1 – 0.3 (5 values)"),)


def test_limits_are_drawn_from_findings_where_the_settings_have_none() -> None:
    report = dataclasses.replace(shared_report.exploding(), settings={})
    assert page.growth_limits(report) == ((1000.0, "limit 1000"),)
    assert len(page.growth_limits(shared_report.sound())) == 2


@pytest.mark.parametrize(
    ("measured", "limit", "severity", "words"),
    [
        (6.0, 2.0, "fail", "3× the limit"),
        (0.01, 0.5, "warn", "50× below the limit"),
        (2.01, 2.0, "fail", ""),
        (6.0, 2.0, "note", ""),
        (-1.0, 2.0, "fail", ""),
    ],
)
def test_distance_to_the_limit(measured: float, limit: float, severity: str, words: str) -> None:
    finding = dataclasses.replace(
        shared_report.exploding().findings[0],
        severity=severity,
        measured=Estimate.exact(measured, "x"),
        limit=Limit(limit, "x", "here"),
    )
    assert views.finding_view(finding, ()).ratio == words


def test_places_are_named_as_far_as_they_are_known() -> None:
    base = shared_report.exploding().findings[0]
    places = {
        "the model": Where(),
        "stage 3": Where(stage=3),
        "cell, call 7": Where(module="cell", call=7),
        "cell.weight": Where(module="cell", parameter="cell.weight"),
        "cell (net/cell.py, line 3)": Where(module="cell", file="net/cell.py", line=3),
        "cell (…/net/cell.py, line 3)": Where(module="cell", file="/home/me/net/cell.py", line=3),
    }
    for words, where in places.items():
        assert views.place(dataclasses.replace(base, where=where)) == words


def test_the_command_repeats_settings_recipe_and_seed() -> None:
    report = dataclasses.replace(
        shared_report.exploding(), settings={**shared_report.SETTINGS, "trust": True, "data": "a b"}
    )
    words = shlex.split(wording.command(report))
    assert words[:2] == ["gradaudit", "samples/exploding_mlp.py:subject"]
    assert words[words.index("--data") + 1] == "a b"
    assert words[words.index("--lr") + 1] == "0.1"
    assert "--trust" in words
    assert "--effort" not in words
    assert words[-2:] == ["--seed", "0"]


def test_the_demo_is_repeated_by_name_and_no_path_of_a_machine_is_shown() -> None:
    base = shared_report.sound()
    source = f"{resource('samples', 'exploding_mlp.py')}:subject"
    report = dataclasses.replace(base, subject=dataclasses.replace(base.subject, source=source))
    assert wording.command(report).startswith("gradaudit demo --")
    written = html.render(report, ())
    assert "<code>…/samples/exploding_mlp.py:subject</code>" in written
    assert source not in written


def test_the_figures_on_top_speak_of_the_norm_as_the_headline_does() -> None:
    trunk = shared_report.exploding().measurements.trunk
    assert trunk.total_growth_log10
    assert trunk.growth_per_stage
    shown = {fact.label: fact.value for fact in page.facts(shared_report.exploding())}
    total, each = trunk.total_growth_log10.value, trunk.growth_per_stage.value
    assert shown["Gradient's growth in all"] == number(10 ** (total / 2))
    assert shown["Growth per hidden stage"] == number(each**0.5)


def test_made_up_data_are_why_there_is_no_forecast() -> None:
    assert "No forecast : that takes real data" in opened("made_up").text


def test_backticks_become_code_and_nothing_else() -> None:
    assert templating.ticked("see `a<b` & c") == Markup("see <code>a&lt;b</code> &amp; c")
    assert templating.ticked("one ` only <b>") == "one ` only &lt;b&gt;"


def test_words_of_the_field_are_explained() -> None:
    parsed = opened("exploding")
    titles = [a["title"] for tag, a in parsed.elements if tag == "dfn"]
    assert len(titles) > 5
    for word in ("Gain", "GSC", "Spectral norm", "Stable rank"):
        assert re.search(rf"{word} \S+", parsed.text)
