from __future__ import annotations

import dataclasses
import re

from hypothesis import given
from hypothesis import strategies as st

from gradaudit.records import Where
from gradaudit.reports.anchors import addresses, anchor, finding
from tests import shared_report

SAFE = re.compile(r"[A-Za-z0-9._~-]+")
ANY = st.text(st.characters(), max_size=200)  # lone surrogates among them


@given(ANY)
def test_an_address_is_made_of_safe_characters(name: str) -> None:
    assert SAFE.fullmatch(anchor("layer", name))


@given(ANY, ANY)
def test_different_names_have_different_addresses(one: str, other: str) -> None:
    assert (anchor("layer", one) == anchor("layer", other)) == (one == other)


def test_names_that_are_alike_once_made_safe_are_told_apart() -> None:
    made = anchor("layer", "a b")
    names = ["a b", "a_b", "a-b", "a<b", "a\tb", "", "a" * 101, "a" * 102, made[len("layer-") :]]
    assert len({anchor("layer", name) for name in names}) == len(names)


def test_plain_names_stand_in_the_address_as_they_are() -> None:
    found = shared_report.exploding().findings[0]
    where = Where(module="encoder.3", call=2)
    assert anchor("layer", "encoder.layers.3") == "layer-encoder.layers.3"
    assert finding(dataclasses.replace(found, where=Where(module="encoder.3"))) == "GA101-encoder.3"
    assert finding(dataclasses.replace(found, where=where)) == "GA101-encoder.3~call-2"
    assert finding(dataclasses.replace(found, where=Where(stage=4))) == "GA101-stage-4"


def test_findings_of_one_rule_at_one_place_are_numbered() -> None:
    found = shared_report.exploding().findings[0]
    assert addresses([found, found, found]) == (
        "GA101-layers.12",
        "GA101-layers.12~no-2",
        "GA101-layers.12~no-3",
    )
