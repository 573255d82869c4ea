import re
import subprocess
import sys
import textwrap

import pytest

from gradaudit.errors import UsageError
from gradaudit.rules import HEADINGS, Rule, all_rules, rule, run_rules
from gradaudit.settings import Settings
from tests.rules.literal import (
    DIVERGES,
    FLAT,
    GIVEN,
    chain,
    data,
    measurements,
    parameter,
)

CODES = (
    *("GA001", "GA101", "GA102", "GA104", "GA105", "GA201", "GA202", "GA203", "GA301", "GA302"),
    *("GA303", "GA304", "GA305"),
    *("GA401", "GA402", "GA403", "GA404", "GA501", "GA502", "GA503"),
    *("GA601", "GA602", "GA603", "GA604", "GA605", "GA606", "GA607"),
    *("GA609", "GA611", "GA612"),
    *("GA701", "GA702", "GA703", "GA704"),
)


def test_every_rule_is_discovered_once_sorted_by_code() -> None:
    assert tuple(each.code for each in all_rules()) == CODES
    for key in ("name", "order", "summary"):
        values = [getattr(each, key) for each in all_rules()]
        assert len(set(values)) == len(values), key


@pytest.mark.parametrize("each", all_rules(), ids=lambda each: each.code)
class TestEveryRule:
    def test_has_the_fixed_headings_filled(self, each: Rule) -> None:
        assert tuple(each.sections) == HEADINGS
        assert all(len(body) > 10 for body in each.sections.values())

    def test_is_named_after_the_problem(self, each: Rule) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z]+)+", each.name)
        remedies = {"use", "set", "reduce", "increase", "clip-gradients", "normalize", "fix"}
        assert not remedies & {each.name.split("-", maxsplit=1)[0], each.name}

    def test_has_a_one_line_summary(self, each: Rule) -> None:
        assert each.summary.endswith(".")
        assert len(each.summary) < 100

    def test_has_an_example_that_runs(self, each: Rule) -> None:
        snippets = re.findall(r"```python\n(.*?)```", each.sections["Example"], re.DOTALL)
        assert snippets
        for snippet in snippets:
            exec(compile(textwrap.dedent(snippet), each.code, "exec"), {})

    def test_is_silent_on_a_subject_without_measurements(self, each: Rule) -> None:
        assert list(each.check(measurements(), Settings())) == []


def test_rules_need_no_torch() -> None:
    code = (
        "import sys; from gradaudit.rules import all_rules; all_rules(); import gradaudit.gate;"
        "from gradaudit.remedies import all_remedies; all_remedies();"
        "sys.exit(' '.join(m for m in ('torch', 'gradaudit.probes') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("wanted", ["GA101", "ga101", " exploding-jacobian "])
def test_a_rule_is_found_by_code_or_name(wanted: str) -> None:
    assert rule(wanted).code == "GA101"


@pytest.mark.parametrize(
    ("wanted", "nearest"), [("GA111", "GA101"), ("exploding-jacobean", "exploding-jacobian")]
)
def test_an_unknown_rule_names_the_nearest(wanted: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=f"no rule is called '{wanted}'.*nearest: "):
        rule(wanted)
    if wanted.startswith("exploding"):
        with pytest.raises(UsageError, match=nearest):
            run_rules(measurements(), Settings(select=(wanted,)))


def test_an_unknown_rule_unlike_any_points_to_the_list() -> None:
    with pytest.raises(UsageError, match="gradaudit rules"):
        run_rules(measurements(), Settings(ignore=("zzz",)))
    with pytest.raises(UsageError):
        run_rules(measurements(), Settings(ignore=("",)))


FAULTY = measurements(
    **chain(10.0),
    rehearsal=FLAT,
    data=(data(std=1e4),),
    parameters=tuple(parameter(f"p{i}", connected=i > 0) for i in range(4)),
)


def codes(settings: Settings) -> list[str]:
    return [finding.code for finding in run_rules(FAULTY, settings)]


def test_findings_come_worst_first_then_in_the_order_to_fix_them() -> None:
    assert codes(Settings()) == ["GA501", "GA101", "GA104"]  # the last only warns


@pytest.mark.parametrize(
    ("select", "ignore", "expected"),
    [
        (("GA1",), (), ["GA101", "GA104"]),
        (("GA1",), ("GA104",), ["GA101"]),
        (("unscaled-input", "GA104"), (), ["GA501", "GA104"]),
        ((), ("GA", "GA104"), []),
        ((), ("ga5",), ["GA101", "GA104"]),
    ],
)
def test_select_and_ignore(
    select: tuple[str, ...], ignore: tuple[str, ...], expected: list[str]
) -> None:
    assert codes(Settings(select=select, ignore=ignore)) == expected


def test_nan_at_the_start_comes_first_and_nan_in_the_rehearsal_last() -> None:
    from dataclasses import replace

    from gradaudit.records import NonFinite

    nan = NonFinite("forward", "log", "head", 0)
    at_start = replace(FAULTY, nonfinite=(nan,))
    assert run_rules(at_start, Settings())[0].code == "GA001"
    later = replace(DIVERGES, first_nonfinite=replace(nan, step=3))
    in_rehearsal = replace(FAULTY, rehearsal=later, sample=GIVEN)
    fails = [f.code for f in run_rules(in_rehearsal, Settings()) if f.severity == "fail"]
    assert fails == ["GA501", "GA101", "GA001"]
