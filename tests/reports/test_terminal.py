from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from gradaudit.records import NotMeasured, Report
from gradaudit.reports import terminal
from tests import shared_report


def shown(report: Report, *, width: int = 80, encoding: str = "utf-8", colour: bool = False) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict", newline="\n")
    system = "standard" if colour else "auto"
    console = Console(file=stream, width=width, force_terminal=colour or None, color_system=system)
    terminal.render(report, console)
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_verdict_cause_finding_and_remedy_are_there() -> None:
    text = shown(shared_report.exploding())
    assert text.startswith("✗ FAIL  This model will not train")
    assert "diverges, 93% confident" in text
    assert "GA101 exploding-jacobian  layers.12" in text
    assert "3639 (2761 to 4797), limit 1000 total gain" in text
    assert "Initialize the 30 Linear layers with Glorot, gain 1.17" in text
    assert "nn.init.xavier_normal_(module.weight, gain=1.17)" in text
    assert "Not measured: curvature, noise scale" in text


def test_the_proof_takes_one_line() -> None:
    lines = shown(shared_report.exploding()).splitlines()
    proven = "  ✓ Proven: diverges -> trains, loss diverged -> 0.0218 in 143 steps"
    assert proven in lines
    assert "Proven" not in shown(shared_report.made_up())
    assert "  ok Proven: diverges" in shown(shared_report.exploding(), encoding="ascii")


def test_a_search_without_a_result_is_said() -> None:
    text = shown(shared_report.uncured())
    assert "  ? No cure was found among 3 sets of changes." in text.splitlines()
    assert "Proven" not in text


def test_it_fits_one_screen() -> None:
    for report in (*shared_report.every().values(), shared_report.deep(300)):
        lines = shown(report).splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80


def test_worst_findings_come_first_and_one_per_rule() -> None:
    text = shown(shared_report.exploding())
    assert text.index("GA101 ") < text.index("GA105 poor") < text.index("GA107 ")
    many = shown(shared_report.deep(300))
    assert many.count("poor-initialization") == 1
    assert "299 more findings" in many


def test_a_made_up_sample_is_said() -> None:
    assert "MADE-UP DATA: random float32[8,128]" in shown(shared_report.made_up())
    assert "cross_entropy" not in shown(shared_report.exploding())


def test_nothing_measured_is_no_pass() -> None:
    text = shown(shared_report.weights_only())
    assert text.startswith("? INCONCLUSIVE")
    assert "Forecast: unknown" in text


def test_names_are_neither_markup_nor_escape_sequences(report: Report) -> None:
    plain = shown(report)
    assert not [c for c in plain if ord(c) < 32 and c != "\n"]
    assert "\u202e" not in plain


def test_markup_in_names_is_shown_as_written() -> None:
    assert "[bold red]" in shown(shared_report.hostile())


def test_the_line_that_made_it_is_named() -> None:
    text = shown(shared_report.transformer())
    assert text.startswith("▲ WARNING")
    assert "mlp.c_proj (gpt.py, line 88)" in text
    assert "81,300, limit 65,504" in text


def test_only_a_terminal_gets_colours() -> None:
    assert "\x1b[" not in shown(shared_report.exploding())
    assert "\x1b[1;31m" in shown(shared_report.exploding(), colour=True)


def test_a_terminal_without_unicode_is_served(report: Report) -> None:
    assert shown(report, encoding="ascii").split()[0] in ("x", "!", "ok", "?")


def test_a_recipe_out_of_the_file_is_told_and_nothing_twice() -> None:
    report = shared_report.exploding()
    note = "Recipe: taken from the optimizer state in the file: optimizer sgd; lr 0.05."
    said = f"Weights only: {report.cause}"
    text = shown(replace(report, notes=(note, said)))
    assert "▲ Recipe: taken from the optimizer state" in text
    assert "Weights only" not in text


def test_what_was_not_measured_is_named_to_its_end() -> None:
    what = "gradients, Jacobian growth, activations and the rehearsal"
    gaps = (NotMeasured(what, "the model", "the file holds only weights"),)
    text = shown(replace(shared_report.exploding(), not_measured=gaps))
    assert what in " ".join(text.split())
