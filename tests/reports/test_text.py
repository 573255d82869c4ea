from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from gradaudit.reports.text import clean, cut, one_line, plural, shorten


def test_what_cannot_be_seen_is_written_out() -> None:
    assert clean("a\x1b[31mb\u202ec\ud800\x00") == "a\\x1b[31mb\\u202ec\\ud800\\x00"
    assert clean("code\n\tline") == "code\n\tline"


@given(st.text(st.characters()))
def test_no_control_character_survives(text: str) -> None:
    kinds = {unicodedata.category(letter) for letter in clean(text) if letter not in "\n\t"}
    assert "Cc" not in kinds
    assert "Cs" not in kinds
    clean(text).encode("utf-8")


@given(st.text(), st.integers(8, 60))
def test_shortened_text_fits_on_its_line(text: str, width: int) -> None:
    short = shorten(text, width)
    assert len(short) <= width
    assert "\n" not in short
    if len(one_line(text)) <= width:
        assert short == one_line(text)


def test_both_ends_of_a_long_name_are_kept() -> None:
    assert shorten("encoder.layers.11.self_attn.out_proj.weight", 20) == "encode…t_proj.weight"


def test_code_is_cut_at_the_end_only() -> None:
    assert cut("\tx = 1", 20) == "    x = 1"
    assert cut("    " + "x" * 40, 10) == "    xxxxx…"


def test_plural() -> None:
    assert [plural(1, "batch"), plural(2, "batch"), plural(1200, "stage")] == [
        "1 batch",
        "2 batches",
        "1,200 stages",
    ]
