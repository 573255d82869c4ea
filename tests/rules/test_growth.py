"""GA101 and GA102 on literal trunks."""

from dataclasses import replace

import pytest

from gradaudit.records import Recipe, TrunkRow
from tests.rules.literal import (
    DIVERGES,
    FALLS,
    FALLS_ABOVE_CONSTANT,
    FLAT,
    TRAINED,
    chain,
    check,
    estimate,
    loss,
    measurements,
    only,
    parameter,
    recurrent,
    stage,
    trunk,
    weight,
)

EXPLODES, VANISHES = chain(10.0), chain(0.1)


@pytest.mark.parametrize(
    ("code", "faulty", "other"), [("GA101", EXPLODES, "GA102"), ("GA102", VANISHES, "GA101")]
)
class TestEitherDirection:
    def test_fires_in_its_own_direction_only(self, code: str, faulty: dict, other: str) -> None:
        finding = only(code, measurements(**faulty))
        assert finding.severity == "fail"
        assert finding.measured.value == pytest.approx(20 if code == "GA101" else -20)
        assert finding.limit.value == pytest.approx(5 if code == "GA101" else -6)
        assert check(other, measurements(**faulty)) == []

    @pytest.mark.parametrize("rehearsal", [FLAT, DIVERGES, FALLS_ABOVE_CONSTANT])
    def test_fails_where_the_rehearsal_does_not_contradict(
        self, code: str, faulty: dict, other: str, rehearsal: object
    ) -> None:
        assert only(code, measurements(**faulty, rehearsal=rehearsal)).severity == "fail"

    def test_warns_where_the_rehearsal_contradicts(
        self, code: str, faulty: dict, other: str
    ) -> None:
        finding = only(code, measurements(**faulty, rehearsal=FALLS))
        assert finding.severity == "warn"
        assert "trains all the same" in finding.why

    def test_warns_on_learned_weights_that_work(self, code: str, faulty: dict, other: str) -> None:
        works = {"state": TRAINED, "loss": loss(initial=0.3)}
        assert only(code, measurements(**faulty, **works)).severity == "warn"
        works["loss"] = loss(initial=9.0)
        assert only(code, measurements(**faulty, **works)).severity == "fail"

    def test_is_silent_without_a_trunk(self, code: str, faulty: dict, other: str) -> None:
        lost = replace(faulty["trunk"], found=False)
        assert check(code, measurements(stages=faulty["stages"], trunk=lost)) == []

    def test_a_straddled_limit_is_a_note(self, code: str, faulty: dict, other: str) -> None:
        limit = 5.0 if code == "GA101" else -6.0
        unsure = trunk(estimate(limit, limit - 1, limit + 1))
        finding = only(code, measurements(stages=faulty["stages"], trunk=unsure, rehearsal=FALLS))
        assert finding.severity == "note"
        assert "more probes" in finding.why


def test_sound_growth_is_silent() -> None:
    for gain in (0.8, 1.0, 1.3):
        sound = measurements(**chain(gain))
        assert check("GA101", sound) == check("GA102", sound) == []


def test_a_loop_over_time_is_left_to_its_own_rules() -> None:
    loop = stage(2, 1e9, name="rnn", gsc=estimate(3e4))
    stages = (stage(0), stage(1, 0.5), loop, stage(3, 2.0, role="head"))
    seen = measurements(stages=stages, trunk=trunk(estimate(9.0), estimate(4e4)))
    assert only("GA101", seen).where.module == "rnn"
    assert check("GA101", replace(seen, recurrent=(recurrent(18.0),))) == []
    beside = replace(stages[1], backward_gain=estimate(1e5))
    both = replace(
        seen,
        stages=(stages[0], beside, *stages[2:]),
        trunk=trunk(estimate(14.3)),
        recurrent=(recurrent(18.0),),
    )
    finding = only("GA101", both)
    assert finding.where.module == "layers.1"
    assert finding.measured.value == pytest.approx(5.3)


def test_gsc_alone_is_a_finding() -> None:
    curved = measurements(trunk=trunk(estimate(0.0), estimate(400.0)))
    finding = only("GA101", curved)
    assert (finding.severity, finding.measured.value, finding.limit.value) == ("fail", 400, 100)
    assert "GSC" in finding.why
    deaf = measurements(trunk=trunk(estimate(0.0), estimate(1e-4)))
    assert only("GA102", deaf).limit.value == 1e-2


def test_plain_growth_is_told_first_where_both_are_past() -> None:
    both = measurements(trunk=trunk(estimate(20.0), estimate(400.0)))
    assert only("GA101", both).measured.value == 20.0


def test_names_the_run_of_stages_and_its_rate_in_norm() -> None:
    finding = only("GA101", measurements(**EXPLODES))
    assert "3.16x per layer" in finding.why
    assert "from `layers.20` back to `layers.1`; after 20 layers that is 10^10" in finding.why
    assert "NaN" in finding.why


def test_growth_that_starts_midway_is_located() -> None:
    gains = [1.0, 1.0, 0.9, 1.0, 1e2, 2e2, 1e2, 1e2, 1.0]
    stages = tuple(stage(i, gain) for i, gain in enumerate(gains))
    finding = only("GA101", measurements(stages=stages, trunk=trunk(estimate(8.3))))
    assert finding.where.module == "layers.5"
    assert finding.where.stage == 5
    assert "from `layers.7` back to `layers.4`" in finding.why


def test_one_stage_that_does_it_all_is_named_alone() -> None:
    stages = tuple(stage(i, 1e8 if i == 2 else 1.1) for i in range(5))
    finding = only("GA101", measurements(stages=stages, trunk=trunk(estimate(8.2))))
    assert "10^4-fold in `layers.2` alone" in finding.why
    assert finding.where.stage == 2


def test_the_inlet_is_not_blamed() -> None:
    stages = (stage(0, 1e30), stage(1, 1e2), stage(2, 1e2))
    finding = only("GA101", measurements(stages=stages, trunk=trunk(estimate(6.0))))
    assert finding.where.module in ("layers.1", "layers.2")


def test_a_trunk_without_stage_gains_is_judged_by_its_total() -> None:
    bare = TrunkRow(True, None, estimate(-12.0), 1, None, 3)
    finding = only("GA102", measurements(trunk=bare, stages=(stage(0, None), stage(1, None))))
    assert finding.where.module == "layers.1"
    assert "from the last layer to the first, 3 in all" in finding.why


def test_a_stage_that_passes_nothing_is_vanishing_without_a_logarithm() -> None:
    stages = (stage(0), stage(1, 1.0), stage(2, 0.0), stage(3, 1.0))
    finding = only(
        "GA102", measurements(stages=stages, trunk=TrunkRow(True, None, None, None, None))
    )
    assert finding.severity == "fail"
    assert finding.measured.value == 0
    assert finding.limit.value == 1e-6
    assert "`layers.2` passes no gradient back at all" in finding.why
    assert finding.where.module == "layers.2"


def behind_zero_head(gain: float, heard: float | None) -> dict:
    """Interior stages of one gain before a head of zeros, whose weight has this gradient norm."""
    before = chain(gain, 6)
    head = stage(7, 0.0, role="head")
    inner = before["trunk"].total_growth_log10
    name = head.parameters[0]
    norm = None if heard is None else estimate(heard)
    return {
        "stages": (*before["stages"], head),
        "trunk": TrunkRow(True, None, None, 1, None, 8, 6, inner),
        "weights": (weight(1, 1.0), weight(7, 0.0)),
        "parameters": (parameter(name, gradient_norm=norm),),
    }


def test_a_zero_head_that_its_first_step_opens_blocks_nothing() -> None:
    assert check("GA102", measurements(**behind_zero_head(1.0, heard=0.3))) == []


@pytest.mark.parametrize("heard", [0.0, None])
def test_a_zero_head_that_hears_nothing_blocks(heard: float | None) -> None:
    finding = only("GA102", measurements(**behind_zero_head(1.0, heard)))
    assert "`layers.7` passes no gradient back at all" in finding.why


@pytest.mark.parametrize(("gain", "code"), [(0.01, "GA102"), (100.0, "GA101")])
def test_growth_before_a_zero_head_is_judged(gain: float, code: str) -> None:
    finding = only(code, measurements(**behind_zero_head(gain, heard=0.3)))
    assert finding.severity == "fail"
    assert finding.measured.value == pytest.approx(12 if code == "GA101" else -12)
    assert "from `layers.6` back to `layers.1`" in finding.why


def test_a_head_that_rescales_once_is_not_growth_with_depth() -> None:
    """A final norm over a small stream multiplies the whole gradient, at every depth alike."""
    stages = (stage(0), *(stage(i, 1.1) for i in range(1, 5)), stage(5, 1e6, role="head"))
    rescaled = replace(trunk(estimate(6.2)), interior_stages=4, interior_growth_log10=estimate(0.2))
    assert check("GA101", measurements(stages=stages, trunk=rescaled)) == []
    compounds = replace(rescaled, interior_growth_log10=estimate(6.1))
    assert only("GA101", measurements(stages=stages, trunk=compounds)).severity == "fail"


@pytest.mark.parametrize(
    ("gain", "optimizer", "rehearsal", "severity"),
    [
        (0.4, "adam", FALLS_ABOVE_CONSTANT, "warn"),  # 10^-8: Adam scales such gradients up
        (0.4, "sgd", FALLS_ABOVE_CONSTANT, "fail"),
        (0.4, "adam", FLAT, "fail"),
        (0.1, "adam", FALLS_ABOVE_CONSTANT, "fail"),  # 10^-20: nothing does
    ],
)
def test_an_adaptive_optimizer_makes_up_for_some_vanishing(
    gain: float, optimizer: str, rehearsal: object, severity: str
) -> None:
    seen = measurements(**chain(gain), recipe=Recipe(optimizer=optimizer), rehearsal=rehearsal)
    assert only("GA102", seen).severity == severity


def test_the_prescribed_optimizer_counts_where_none_was_given() -> None:
    for name, severity in (("adamw", "warn"), ("sgd", "fail")):
        ours = replace(FALLS_ABOVE_CONSTANT, optimizer=name, prescribed=True)
        seen = measurements(**chain(0.4), recipe=Recipe(), rehearsal=ours)
        assert only("GA102", seen).severity == severity


def test_gsc_alone_does_not_fail_what_learns() -> None:
    bent = replace(chain(1.0)["trunk"], gsc=estimate(1e-3))
    seen = {"stages": chain(1.0)["stages"], "trunk": bent}
    assert only("GA102", measurements(**seen, rehearsal=FALLS_ABOVE_CONSTANT)).severity == "warn"
    assert only("GA102", measurements(**seen, rehearsal=FLAT)).severity == "fail"
