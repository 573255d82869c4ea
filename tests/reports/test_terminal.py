from __future__ import annotations

import io
import re
from dataclasses import replace

from rich.console import Console

from gradaudit.records import (
    Audited,
    Comparison,
    Estimate,
    FindingChange,
    Known,
    MetricChange,
    NotMeasured,
    Report,
    Run,
)
from gradaudit.reports import html, markdown, terminal
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
    assert "    total gain 3639 (2761 – 4797), limit 1000, as a sum of squares" in text.splitlines()
    assert "Initialize the 30 Linear layers with Glorot, gain 1.17" in text
    assert "nn.init.xavier_normal_(module.weight, gain=1.17)" in text
    assert "Not measured: curvature, noise scale" in text


def test_the_proof_takes_one_line() -> None:
    lines = shown(shared_report.exploding()).splitlines()
    proven = "  ✓ Proven: diverges → trains, loss diverged → 0.0218 in 143 steps"
    assert proven in lines
    assert "Proven" not in shown(shared_report.made_up())
    plain = shown(shared_report.exploding(), encoding="ascii")
    assert "  ok Proven: diverges -> trains" in plain
    assert "3639 (2761 to 4797)" in plain


def test_a_search_without_a_result_is_said() -> None:
    text = shown(shared_report.uncured())
    assert "  ? No cure was found among 3 sets of changes." in text.splitlines()
    assert "Proven" not in text


def test_it_fits_one_screen() -> None:
    for report in (*shared_report.every().values(), shared_report.deep(300), regressed()):
        lines = shown(report).splitlines()
        assert len(lines) <= terminal.ROWS < 24
        assert max(map(len, lines)) <= 80


def test_the_more_there_is_to_say_the_less_of_each_is_said() -> None:
    cause = " ".join(f"Reason {i} is long enough to take most of a line." for i in range(7))
    text = shown(replace(regressed(), cause=cause))
    assert len(text.splitlines()) <= terminal.ROWS
    assert "GA101" in text
    assert "GA105 poor-initialization  layers.14.weight\n    " not in text
    assert "5 lines to paste" in text
    usual = shown(shared_report.exploding())
    assert re.search(r"GA105 poor-initialization  layers.14.weight\n    \S+ .*, limit", usual)
    assert "nn.init.xavier_normal_" in usual
    assert "GA112" in shown(replace(shared_report.exploding(), prescription=None))


def test_no_word_is_cut_to_fit_a_line() -> None:
    place = "encoder." + ".".join(f"block_{i}" for i in range(30))
    report = replace(shared_report.exploding(), cause=f"Nothing reaches `{place}` at all.")
    assert f"`{place}`" in shown(report).splitlines()
    for width in (20, 33, 80):
        assert set(report.cause.split()) <= set(shown(report, width=width).split())


def test_worst_findings_come_first_and_one_per_rule() -> None:
    text = shown(shared_report.exploding())
    assert text.index("GA101 exp") < text.index("GA105 poor")
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


BEFORE = Known("GA105", "poor-initialization", "layers.14.weight", "note", None)


def regressed() -> Report:
    """The exploding net held against a baseline: one finding new, one worse, a number worse."""
    base = shared_report.exploding()
    known = [
        Known(f.code, f.name, str(f.where) or "the model", f.severity, f.measured)
        for f in base.findings
    ]
    changes = (
        FindingChange("new", None, known[0], "not in the baseline"),
        FindingChange("worse", BEFORE, known[1], "a note became a warning"),
        FindingChange("fixed", known[2], None, "no longer there"),
        FindingChange("unchanged", known[3], known[3], "within its interval"),
    )
    growth = MetricChange(
        "worse",
        "growth_per_stage",
        "the model",
        Estimate.exact(1.02, "gain"),
        Estimate.exact(1.34, "gain"),
        "its interval or 10%",
        "rose by 31%",
        "growth of a stage",
    )
    compared = Comparison("baseline.json", changes, (growth,), ("It was made by gradaudit 0.0.9.",))
    return replace(base, comparison=compared)


def test_what_is_new_or_worse_since_the_baseline_is_named() -> None:
    text = shown(regressed())
    said = "  ✗ The gate fails: 1 new, 2 worse than baseline.json (1 fixed, 1 unchanged)"
    assert said in text.splitlines()
    assert "✗ new   GA101 exploding-jacobian  layers.12" in text
    assert "▲ worse GA105 poor-initialization  layers.14.weight" in text
    assert "✗ worse growth of a stage: 1.02 → 1.34" in text
    assert "Stale baseline: It was made by gradaudit 0.0.9." in text
    assert "growth of a stage: 1.02 -> 1.34" in shown(regressed(), encoding="ascii")


def test_a_number_that_is_worse_has_its_title_and_place() -> None:
    report = regressed()
    assert report.comparison
    (growth,) = report.comparison.metrics
    gains = (Estimate.exact(at, "log10 of gain") for at in (0.5, 6.0))
    moved = MetricChange("worse", "m", "layers.12.weight", *gains, "", "", "gain of the worst")
    found = replace(report.comparison, findings=(), metrics=(growth, moved))
    lines = shown(replace(report, comparison=found)).splitlines()
    assert "  ✗ worse growth of a stage: 1.02 → 1.34" in lines
    assert "  ✗ worse gain of the worst: 3.16 → 10⁶ at layers.12.weight" in lines


def test_the_gate_is_told_apart_from_the_verdict() -> None:
    report = regressed()
    run = Run("0", (Audited("a", report, 0, fail_on="never"),))
    told = shown_run(run)
    assert told.startswith("✗ FAIL")
    said = "✓ The gate passes, for none of it counts with --fail-on never: 1 new, 2 worse than"
    assert said in " ".join(told.split())


def test_where_the_gate_is_stricter_than_the_verdict_it_is_said() -> None:
    warned = replace(shared_report.exploding(), verdict="warn")
    strict = Run("0", (Audited("a", warned, 1, fail_on="warn"),))
    said = "The gate fails with --fail-on warn"
    assert f"  ✗ {said}" in shown_run(strict).splitlines()
    assert f"**{said}.**" in markdown.render(strict)
    assert said in html.render(warned, (), fail_on="warn")
    usual = Run("0", (Audited("a", warned, 0),))
    assert "The gate" not in shown_run(usual) + markdown.render(usual)


def test_a_baseline_that_holds_is_said() -> None:
    report = regressed()
    assert report.comparison
    held = Comparison("baseline.json", report.comparison.findings[2:], ())
    text = shown(replace(report, comparison=held))
    said = "✓ The gate passes: all of it is known to baseline.json (1 fixed, 1 unchanged)"
    assert said in " ".join(text.split())
    unjudged = replace(shared_report.weights_only(), comparison=Comparison("b.json", (), ()))
    assert "? The gate cannot tell: too little was measured" in shown(unjudged)


def run_of(reports: dict[str, Report], *, gone: bool = True) -> Run:
    codes = {"fail": 1, "warn": 0, "pass": 0, "inconclusive": 3}
    audits = [Audited(name, report, codes[report.verdict]) for name, report in reports.items()]
    if gone:
        audits.append(Audited("gone.py:model", None, 2, "no such file: gone.py; expected a model"))
    return Run("0.1.0", tuple(audits))


def shown_run(run: Run, *, width: int = 80, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict", newline="\n")
    terminal.render_run(run, Console(file=stream, width=width))
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_several_models_take_a_line_each_then_the_total_and_the_worst() -> None:
    reports = {"sound": shared_report.sound(), "deep net": shared_report.exploding()}
    lines = shown_run(run_of(reports)).splitlines()
    assert lines[0].startswith("✓ sound          Pass   This model trains")
    assert lines[1].startswith("✗ deep net       Fail   This model will not train")
    assert lines[2].startswith("✗ gone.py:model  Error  no such file: gone.py")
    assert lines[3] == "3 models: 1 fails, 1 passes, 1 could not be audited"
    assert lines[5] == "Worst: deep net"
    assert any("GA101 exploding-jacobian" in line for line in lines)
    assert "Initialize the 30 Linear layers" in "\n".join(lines)


def test_a_run_of_all_reports_fits_one_screen() -> None:
    run = run_of({**shared_report.every(), "regressed": regressed()})
    for encoding in ("utf-8", "ascii"):
        lines = shown_run(run, encoding=encoding).splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80
    many = run_of({f"model {i}": shared_report.sound() for i in range(50)})
    text = shown_run(many)
    assert "gone.py:model" in text
    assert "and 38 more models, none of them worse" in text
    assert "51 models: 50 pass, 1 could not be audited" in text
    assert len(text.splitlines()) <= 24


def test_a_run_of_one_is_that_models_summary() -> None:
    report = shared_report.exploding()
    alone = Run("0.1.0", (Audited("x", report, 1),))
    assert shown_run(alone) == shown(report)


def test_the_baseline_of_each_model_is_told_in_its_line() -> None:
    text = shown_run(run_of({"a": regressed(), "b": shared_report.sound()}), width=120)
    assert "Fail   (3 new or worse) This model" in text
    held = replace(regressed(), comparison=Comparison("b.json", (), ()))
    without = replace(held, comparison=None)
    known = Run("0.1.0", (Audited("a", held, 0), Audited("b", without, 1)))
    first, second, total = shown_run(known, width=120).splitlines()[:3]
    assert first.startswith("✓ a  Pass  (known) This model will not train")
    assert second.startswith("✗ b  Fail")
    assert total == "2 models: 1 fails, 1 passes, held against b.json"
    alone = Run("0.1.0", (known.audits[0], Audited("c", shared_report.sound(), 0)))
    assert "Worst: a (known to b.json)" in shown_run(alone)


def test_a_file_elsewhere_is_named_by_its_last_two_parts() -> None:
    first, *rest = shared_report.exploding().findings
    for file, said in {
        "models/net.py": "(models/net.py, line 7)",
        "/usr/lib/site-packages/timm/models/vit.py": "(…/models/vit.py, line 7)",
        "../other/net.py": "(…/other/net.py, line 7)",
        "C:\\code\\deep\\net.py": "(…/deep/net.py, line 7)",
    }.items():
        where = replace(first.where, file=file, line=7)
        report = replace(shared_report.exploding(), findings=(replace(first, where=where), *rest))
        assert f"GA101 exploding-jacobian  layers.12 {said}" in shown(report)
