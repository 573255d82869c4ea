"""What a user's settings change about a rule: limits, severities, and both by layer."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

import gradaudit.rules
from gradaudit.errors import UsageError
from gradaudit.limits import LIMITS, with_limits
from gradaudit.rules import all_rules, notes_on, run_rules
from gradaudit.settings import LayerSettings, Settings
from tests.rules.literal import (
    FLAT,
    chain,
    data,
    estimate,
    measurements,
    module,
    parameter,
    recurrent,
    weight,
)

WIDE = measurements(
    weights=tuple(weight(i, 1.0, spectral_norm=estimate(25.0)) for i in range(4)),
    modules=(module("layers.0", "ReLU", dead_fraction=0.0), module("head.act", "ReLU")),
)
GROWS = measurements(**chain(10.0), rehearsal=FLAT, data=(data(std=1e4),))


def severities(seen: object, **settings: object) -> dict[str, str]:
    found = run_rules(seen, Settings(**settings))  # type: ignore[arg-type]
    return {f"{f.code} {f.where.parameter or f.where.module}".strip(): f.severity for f in found}


def layers(*match: str, **rest: object) -> tuple[LayerSettings, ...]:
    return (LayerSettings(match, **rest),)  # type: ignore[arg-type]


ALL_WARN = {f"GA301 layers.{i}.weight": "warn" for i in range(4)}


def test_the_measurements_of_these_tests_break_rules() -> None:
    assert severities(WIDE) == ALL_WARN
    assert severities(GROWS) == {"GA501": "fail", "GA101 layers.1": "fail"}


class TestLimits:
    def test_a_limit_of_the_users_decides_and_says_whose_it_is(self) -> None:
        settings = Settings(limits={"spectral_excess_fail": 12.0})
        found = run_rules(WIDE, settings)
        assert {f.severity for f in found} == {"fail"}
        assert found[0].limit.source == (
            "set by the user, instead of 100 from Bai and Yin 1993 (the edge)"
        )
        assert (found[0].limit.value, found[0].limit.unit) == (
            12.0,
            LIMITS["spectral_excess_fail"].unit,
        )
        assert severities(WIDE, limits={"spectral-excess-warn": 13.0}) == {}

    def test_the_others_stay(self) -> None:
        settings = Settings(limits={"growth_max": 1e3})
        changed = {name for name in LIMITS if settings.limit(name) != LIMITS[name]}
        assert changed == {"growth_max"}
        assert replace(settings, seed=3).limit("growth_max") == settings.limit("growth_max")

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"growth_mox": 1.0}, "no limit is called 'growth_mox'; did you mean 'growth-max'"),
            ({"growth-max": float("inf")}, "growth-max cannot be that; expected a finite number"),
            ({"growth-max": True}, "expected a finite number; found True"),
            ({"growth-max": "1"}, "expected a finite number; found '1'"),
            ({"growth-max": 0.0}, "expected a number above 0; found 0.0"),
            ({"disconnected-warn": -0.1}, "expected a number above 0; found -0.1"),
            ({"clip-rate-max": 1.5}, "expected a share, 1 at most; found 1.5"),
            ({"layer-imbalance-warn": 0.5}, "expected a factor, 1 at least; found 0.5"),
            (
                {"growth-min": 1e6},
                "growth-min and growth-max exclude each other; expected the first to be the "
                "smaller one; found 1e6 and 1e5",
            ),
            ({"dead-fraction-fail": 0.2}, "dead-fraction-warn and dead-fraction-fail exclude"),
        ],
    )
    def test_what_a_limit_cannot_be(self, given: dict[str, float], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            Settings(limits=given)
        with pytest.raises(UsageError, match=message):
            Settings(layers=layers("x", limits=given))

    def test_zero_is_a_limit_only_where_it_was_one(self) -> None:
        assert with_limits({"disconnected-warn": 0})["disconnected_warn"].value == 0

    def test_what_stands_in_the_catalogue_passes_its_own_checks(self) -> None:
        given = {name: limit.value for name, limit in LIMITS.items()}
        assert set(with_limits(given)) == set(LIMITS)


class TestSeverities:
    @pytest.mark.parametrize(
        ("demands", "expected"),
        [
            ({"GA301": "fail"}, "fail"),
            ({"excess-spectral-norm": "note"}, "note"),
            ({"GA": "fail"}, "fail"),
            ({"GA301": "note", "GA3": "fail"}, "note"),  # the closest
            ({"GA3": "fail", "excess-spectral-norm": "note"}, "note"),
            ({"ga101": "fail"}, "warn"),
        ],
    )
    def test_they_replace_what_the_rule_says(self, demands: object, expected: str) -> None:
        assert set(severities(WIDE, severities=demands).values()) == {expected}

    def test_off_is_ignored(self) -> None:
        assert severities(WIDE, severities={"GA301": "off"}) == {}

    def test_a_note_of_a_straddling_interval_stays_a_note(self) -> None:
        straddles = (weight(0, 1.0, spectral_norm=estimate(25.0, 15.0, 30.0)),)
        seen = replace(WIDE, weights=straddles)
        assert severities(seen, severities={"GA301": "fail"}) == {"GA301 layers.0.weight": "note"}

    def test_they_come_over_what_training_says_and_decide_the_order(self) -> None:
        mild = severities(GROWS, severities={"GA501": "note"})
        assert list(mild.items()) == [("GA101 layers.1", "fail"), ("GA501", "note")]

    def test_an_unknown_rule_is_told(self) -> None:
        for settings in (
            Settings(severities={"GA111": "warn"}),
            Settings(layers=layers("x", ignore=("GA111",))),
            Settings(layers=layers("x", severities={"GA111": "off"})),
        ):
            with pytest.raises(UsageError, match="no rule is called 'GA111'"):
                run_rules(measurements(), settings)

    def test_undemanded_keeps_what_is_off(self) -> None:
        settings = Settings(
            severities={"GA101": "warn", "GA2": "off"},
            layers=layers("x", severities={"GA3": "off"}),
        )
        bare = settings.undemanded()
        assert bare.severities == {"GA2": "off"}
        assert bare.layers == settings.layers


class TestLayers:
    @pytest.mark.parametrize("match", ["layers.2", "layers.2.weight", "*.2", "layers.[2]"])
    def test_ignored_in_one_layer(self, match: str) -> None:
        rest = {name: kind for name, kind in ALL_WARN.items() if ".2." not in name}
        assert severities(WIDE, layers=layers(match, ignore=("GA3",))) == rest
        assert severities(WIDE, layers=layers(match, severities={"GA301": "off"})) == rest

    def test_what_holds_a_layer_covers_it_and_case_counts(self) -> None:
        assert severities(WIDE, layers=layers("layers", ignore=("GA301",))) == {}
        assert severities(WIDE, layers=layers("Layers", ignore=("GA301",))) == ALL_WARN
        assert severities(WIDE, layers=layers("layer", ignore=("GA301",))) == ALL_WARN

    def test_severity_and_limit_of_a_layer(self) -> None:
        forced = severities(WIDE, layers=layers("layers.1", severities={"GA301": "fail"}))
        assert forced == {**ALL_WARN, "GA301 layers.1.weight": "fail"}
        strict = severities(WIDE, layers=layers("layers.1", limits={"spectral-excess-fail": 11.0}))
        assert strict == {**ALL_WARN, "GA301 layers.1.weight": "fail"}
        mild = severities(WIDE, layers=layers("layers.1", limits={"spectral-excess-warn": 20.0}))
        assert mild == {k: v for k, v in ALL_WARN.items() if ".1." not in k}

    def test_the_last_that_says_something_wins(self) -> None:
        both = (
            *layers("layers", ignore=("GA301",)),
            *layers("layers.3", severities={"GA301": "fail"}),
        )
        assert severities(WIDE, layers=both) == {"GA301 layers.3.weight": "fail"}

    def test_over_what_holds_for_the_model(self) -> None:
        only = severities(
            WIDE, severities={"GA301": "off"}, layers=layers("layers.3", severities={"GA3": "warn"})
        )
        assert only == {"GA301 layers.3.weight": "warn"}

    def test_the_source_of_a_layers_limit(self) -> None:
        source = "layers of pyproject.toml"
        told = LayerSettings(("layers.1",), limits={"spectral-excess-fail": 11}, source=source)
        found = run_rules(WIDE, Settings(layers=(told,)))
        assert found[0].limit.source.startswith("layers of pyproject.toml, instead of 100 from Bai")

    def test_a_finding_about_many_is_then_about_the_rest(self) -> None:
        """GA104 tells of all parameters that are cut off in one finding, at the first."""
        cut = measurements(parameters=tuple(parameter(f"p{i}", connected=i > 1) for i in range(8)))
        assert severities(cut) == {"GA104 p0": "warn"}
        (found,) = run_rules(cut, Settings(layers=layers("p0", ignore=("GA104",))))
        assert found.where.parameter == "p1"
        assert found.measured.value == pytest.approx(1 / 7)

    def test_growth_is_the_trunks_and_goes_by_the_stage_it_is_laid_at(self) -> None:
        assert "GA101 layers.1" not in severities(GROWS, layers=layers("layers.1", ignore=("GA1",)))
        assert "GA101 layers.1" in severities(GROWS, layers=layers("layers.2", ignore=("GA1",)))

    def test_loops_over_time(self) -> None:
        seen = measurements(recurrent=tuple(recurrent(30.0, module=n) for n in ("a", "b")))
        assert set(severities(seen)) == {"GA201 a", "GA201 b", "GA611 a"}
        kept = severities(seen, layers=layers("a", ignore=("GA201", "GA611")))
        assert set(kept) == {"GA201 b", "GA611 b"}

    def test_what_is_about_the_model_goes_by_the_models_terms(self) -> None:
        assert severities(GROWS, layers=layers("*", ignore=("GA",))) == {"GA501": "fail"}


def test_notes_say_what_is_left_out_and_what_matches_nothing() -> None:
    settings = Settings(
        ignore=("GA606", "GA104"),
        reasons={"GA606": "tiny batches on purpose"},
        severities={"GA301": "warn", "GA4": "off"},
        limits={"spectral-excess-fail": 50},
        layers=(
            LayerSettings(
                ("head", "tail.*"), ("GA301",), {"GA4": "fail"}, {"growth_max": 3e4}, "x"
            ),
            LayerSettings(("layers.1.weight",)),
        ),
    )
    assert notes_on(WIDE, settings) == (
        "GA606 is ignored: tiny batches on purpose",
        "GA301: what fails or warns is reported as 'warn', as was set",
        "GA4 is not judged: its severity is set to off",
        "the limit spectral-excess-fail is 50, set in the place of 100 (set by the user)",
        "layers head, tail.*: GA301 ignored; GA4 fail; growth-max 3e4: x",
        "no layer of the model is called 'tail.*', as the settings of layers head, tail.* have it",
        "layers layers.1.weight: nothing is changed",
    )
    assert notes_on(WIDE, Settings()) == ()


class TestDeclaredLimits:
    def test_every_limit_is_some_rules(self) -> None:
        assert {name for rule in all_rules() for name in rule.limits} == set(LIMITS)

    @pytest.mark.parametrize("code", [rule.code for rule in all_rules()])
    def test_each_is_read_in_the_rules_file_or_what_it_is_made_of(self, code: str) -> None:
        (rule,) = (each for each in all_rules() if each.code == code)
        package = Path(gradaudit.rules.__file__).parent
        stem = rule.name.replace("-", "_")
        home = next(p for p in package.glob("*.py") if f'CODE = "{code}"' in p.read_text())
        assert home.stem in (stem, "nonfinite")
        text = home.read_text()
        for helper in re.findall(r"from gradaudit\.rules\.(_\w+) import", text):
            text += (package / f"{helper}.py").read_text()
        if "_growth_findings" in text:
            text += (package / "_growth.py").read_text()
        read = {_pattern(node) for node in ast.walk(ast.parse(_only_code(text)))} - {None}
        for name in rule.limits:
            assert any(re.fullmatch(pattern, name) for pattern in read if pattern), name


def _only_code(text: str) -> str:
    return re.sub(r"^from __future__.*$", "", text, flags=re.MULTILINE)


def _pattern(node: ast.AST) -> str | None:
    """What a call of ``limit(...)`` may ask for: its text, with what is put in as anything."""
    if not (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "limit"):
        return None
    parts = [n for n in ast.walk(node.args[0]) if isinstance(n, (ast.Constant, ast.JoinedStr))]
    (first, *rest) = parts
    if isinstance(first, ast.JoinedStr):
        return "".join(
            str(value.value) if isinstance(value, ast.Constant) else ".*" for value in first.values
        )
    return "|".join(str(n.value) for n in (first, *rest) if isinstance(n, ast.Constant))
