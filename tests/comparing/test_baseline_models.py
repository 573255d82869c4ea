"""Several models in one baseline: each is held against its own, and what is left over is said."""

from __future__ import annotations

from pathlib import Path

from gradaudit.comparing import snapshot
from gradaudit.comparing.baseline import Baseline, baseline_of, render
from gradaudit.comparing.files import read_models
from gradaudit.records import Audited, Comparison, Report, Run
from gradaudit.tolerances import TOLERANCES
from tests import shared_report

SOUND, EXPLODING = shared_report.sound(), shared_report.exploding()


def held(baseline: Baseline, report: Report, name: str, *names: str) -> Comparison:
    comparison = baseline.held_against(report, name, names or (name,), TOLERANCES).comparison
    assert comparison is not None
    return comparison


def kept(**models: Report) -> Baseline:
    return Baseline("base.json", {name: snapshot(report) for name, report in models.items()})


def test_each_model_is_held_against_its_own() -> None:
    both = kept(a=SOUND, b=EXPLODING)
    assert held(both, SOUND, "a", "a", "b").regressions == ()
    assert held(both, EXPLODING, "b", "a", "b").regressions == ()
    assert held(both, EXPLODING, "a", "a", "b").of("new")


def test_one_model_alone_may_be_called_otherwise() -> None:
    alone = held(kept(old=EXPLODING), EXPLODING, "new")
    assert alone.regressions == ()
    assert alone.stale == ()


def test_models_on_one_side_only_are_said() -> None:
    both = kept(a=SOUND, b=EXPLODING)
    (sentence,) = held(both, SOUND, "a").stale
    assert sentence.startswith("In the baseline, and not in this run: b;")
    assert "--write-baseline" in sentence
    assert held(both, EXPLODING, "b", "a", "b").stale == ()
    added = held(both, EXPLODING, "c", "a", "b", "c")
    assert len(added.of("new")) == len(EXPLODING.findings)
    assert added.stale[0].startswith("This model is not in the baseline")


def test_what_is_accepted_now_is_known_at_once() -> None:
    accepted = baseline_of(EXPLODING, "net", "base.json")
    report = accepted.held_against(EXPLODING, "net", ("net",), TOLERANCES)
    assert EXPLODING.outcome == "fail"
    assert report.outcome == "pass"
    weights = shared_report.weights_only()
    own = baseline_of(weights, "net", "base.json")
    assert own.held_against(weights, "net", ("net",), TOLERANCES).outcome == "inconclusive"


def test_a_run_is_written_model_by_model(tmp_path: Path) -> None:
    audits = (Audited("b", EXPLODING, 1), Audited(str(Path.cwd() / "a.py:net"), SOUND, 0))
    path = tmp_path / "base.json"
    path.write_text(render(Run("0.1.0", audits)))
    assert list(read_models(str(path))) == ["a.py:net", "b"]
