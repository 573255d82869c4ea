from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradaudit.reports.text import (
    clean,
    cut,
    encodable,
    one_line,
    opening,
    plural,
    short_path,
    shorten,
    typeset,
)


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


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("net/cell.py", "net/cell.py"),
        ("../cell.py", "../cell.py"),
        ("/home/me/net/cell.py", "…/net/cell.py"),
        ("/home/me/folder/", "…/me/folder"),
        ("C:\\me\\cell.py", "…/me/cell.py"),
        ("C:/me/cell.py", "…/me/cell.py"),
        ("/", "/"),
        ("", ""),
    ],
)
def test_paths_from_elsewhere_are_shown_by_their_last_two_parts(path: str, shown: str) -> None:
    assert short_path(path) == shown


def test_plural() -> None:
    assert [plural(1, "batch"), plural(2, "batch"), plural(1200, "stage")] == [
        "1 batch",
        "2 batches",
        "1,200 stages",
    ]


@pytest.mark.parametrize(
    ("plain", "printed"),
    [
        (
            "Gradients grow 3.1x per layer; that is 10^14.",
            "Gradients grow 3.1× per layer; that is 10¹⁴.",
        ),
        ("only 10^-7 is left", "only 10⁻⁷ is left"),
        ("variance x fan_in, 2 x 3", "variance × fan_in, 2 × 3"),
        ("stalls -> trains", "stalls → trains"),
        ("between 1e-05 and 4.4e-4, 1e14", "between 10⁻⁵ and 4.4×10⁻⁴, 10¹⁴"),
        ("`net.2x` at 0x1f, `a x b`, x2 and relu6x6", "`net.2x` at 0x1f, `a x b`, x2 and relu6x6"),
        ("layer1e5.weight, v1e5", "layer1e5.weight, v1e5"),
    ],
)
def test_sentences_are_typeset_and_names_are_not(plain: str, printed: str) -> None:
    assert typeset(plain) == printed


def test_letters_that_an_encoding_lacks_are_spelled() -> None:
    printed = "3.1× per layer → 10⁻⁷, 5 – 6, ± 2%"
    assert encodable(printed, "utf-8") == printed
    assert encodable(printed, "ascii") == "3.1x per layer -> 10^-7, 5 - 6, +/- 2%"
    assert encodable("é ×", "latin-1") == "é ×"
    assert encodable("块", "ascii") == "\\u5757"


def test_openings_end_with_a_word() -> None:
    assert opening("one two three", 13) == "one two three"
    assert opening("one two, three", 11) == "one two …"
    assert opening("supercalifragilistic", 9) == "superca …"
    for width in range(4, 40):
        assert len(opening("It grows 3.1x per layer, and more so further on.", width)) <= width
