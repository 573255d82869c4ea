"""Mending from end to end: what is proven was trained on batches that the search never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradaudit.fixing import searching
from gradaudit.judging import Judged, judge
from gradaudit.mending import proof
from gradaudit.mending.change import START
from gradaudit.mending.completed import completed
from gradaudit.mending.made import made
from gradaudit.mending.proof import mend
from gradaudit.pacing import QUIET
from gradaudit.records import Finding, Prescription, Recipe, Remedy
from gradaudit.remedies import recipe_of
from gradaudit.settings import Settings
from gradaudit.subject import Opened, from_python
from tests.listening import Listening
from tests.test_api import same, state_of

X = torch.randn(96, 8, generator=torch.Generator().manual_seed(0))
Y = X @ torch.randn(8, 2, generator=torch.Generator().manual_seed(1))
STEPS = 120
HELD_BACK = "held back from the search"
ROWS = {round(float(value), 5): i for i, value in enumerate(X[:, 0])}
SEEN: list[Tensor] = []  # what any model was given


class Remembers(nn.Module):
    """Outside of the model, where no loan puts it back."""

    def forward(self, x: Tensor) -> Tensor:
        SEEN.append(x.detach()[:, 0].clone())
        return x


def net(depth: int = 1, gain: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [Remembers(), nn.Linear(8, 32), nn.Tanh()]
    for _ in range(depth - 1):
        layers += [nn.Linear(32, 32), nn.Tanh()]
        nn.init.normal_(layers[-2].weight, std=gain / 32**0.5)  # type: ignore[arg-type]
    return nn.Sequential(*layers, nn.Linear(32, 2))


def sgd(lr: float | None) -> Recipe:
    return Recipe("sgd", lr=lr, steps=STEPS)


def batches(count: int = 6) -> list[tuple[Tensor, Tensor]]:
    return list(zip(X.chunk(count), Y.chunk(count), strict=True))


@dataclass
class Mended:
    """An audit and its cure, and the rows that each part of it was shown."""

    opened: Opened
    settings: Settings
    judged: Judged
    prescription: Prescription | None
    findings: tuple[Finding, ...]
    said: list[str]
    searched: set[int]
    proved: set[int]
    back: bool  # the model is as it was

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        assert self.prescription is not None
        return self.prescription.remedies

    @property
    def tried(self) -> list[tuple[str, ...]]:
        assert self.prescription is not None
        return [attempt.remedies for attempt in self.prescription.tried]


def mended(model: nn.Module, data: Any = None, optimizer: Any = None, **how: Any) -> Mended:
    settings = Settings(threads=1, **{"recipe": sgd(0.05), **how})
    if settings.effort != "quick":
        settings = searching(settings)
    opened = from_python(model, batches() if data is None else data, "mse", optimizer, settings)
    before = state_of(model)
    judged = judge(opened, settings, QUIET)
    seen: dict[str, list[Tensor]] = {"try": [], "proving": []}
    SEEN.clear()
    phase = "try"

    class Turning(Listening):
        def __call__(self, what: str, part: str | None = None) -> None:
            nonlocal phase
            seen[phase].extend(SEEN)
            SEEN.clear()
            phase = what.split(maxsplit=1)[0]
            super().__call__(what, part)

    said = Turning()
    prescription, findings = mend(opened, judged, settings, said)
    seen[phase].extend(SEEN)
    searched, proved = (
        {ROWS[key] for x in seen[name] for v in x if (key := round(float(v), 5)) in ROWS}
        for name in ("try", "proving")
    )
    back = same(state_of(model), before)
    return Mended(
        opened, settings, judged, prescription, findings, said.said, searched, proved, back
    )


@cache
def too_fast() -> Mended:
    return mended(net(), recipe=sgd(30.0))


@cache
def exploding() -> Mended:
    return mended(net(16, 5.0))


@cache
def learned() -> Mended:
    return mended(net(16, 5.0), state="trained")


@cache
def unscaled() -> Mended:
    return mended(net(), [(x, 1000 + 500 * y) for x, y in batches()])


ALL = {"fast": too_fast, "exploding": exploding, "learned": learned, "unscaled": unscaled}


@pytest.mark.parametrize("name", ["fast", "exploding"])
def test_the_proof_stands_on_batches_that_the_search_has_not_seen(name: str) -> None:
    it = ALL[name]()
    assert it.prescription is not None
    assert it.prescription.proof is not None
    assert it.prescription.proof.batches == HELD_BACK
    # of six batches of 16 rows every other one
    assert it.searched == {i for i in range(96) if i // 16 % 2 == 0}
    assert it.proved == {i for i in range(96) if i // 16 % 2 == 1}


@pytest.mark.parametrize("name", ["fast", "exploding"])
def test_a_proof_passes_and_stands_beside_what_was(name: str) -> None:
    it = ALL[name]()
    assert it.prescription is not None
    shown = it.prescription.proof
    assert shown is not None
    assert (shown.before.verdict, shown.after.verdict) == ("fail", "pass")
    assert shown.before == proof.side(it.judged)
    assert shown.after.forecast.outcome == "trains"
    assert shown.after.failing == ()
    assert shown.steps == STEPS
    assert shown.after.last_loss is not None
    assert shown.after.last_loss < 0.5 * float(Y.var(0).mean())


@pytest.mark.parametrize("name", ALL)
def test_the_users_model_comes_back(name: str) -> None:
    assert ALL[name]().back


@pytest.mark.parametrize("name", ALL)
def test_no_more_is_tried_than_the_effort_affords_and_nothing_twice(name: str) -> None:
    it = ALL[name]()
    trials = [text for text in it.said if text.startswith("try ")]
    most = proof._trials(it.judged, it.settings)
    assert 1 <= len(trials) == len(it.tried) <= most
    assert trials[0].startswith(f"try 1 of at most {most}: ")
    titles = [attempt.titles for attempt in it.prescription.tried]  # type: ignore[union-attr]
    assert len(set(titles)) == len(titles)


def test_a_rate_that_was_too_high_is_lowered_and_the_start_stays() -> None:
    it = too_fast()
    (only,) = it.remedies
    assert only.id == "learning-rate"
    assert 1e-3 < float(only.parameters["lr"]) < 1.0  # type: ignore[arg-type]
    assert it.prescription is not None
    assert it.prescription.recipe == recipe_of(it.remedies)
    assert it.findings[0].code in only.for_codes  # the cause leads


def test_what_explodes_gets_other_start_values_and_the_findings_say_so() -> None:
    it = exploding()
    assert any(each.safety == START for each in it.remedies)
    told = {f.code: set(f.remedies) for f in it.findings if f.severity == "fail"}
    assert told["GA302"] & {each.id for each in it.remedies if each.safety == START}


def test_learned_weights_are_not_drawn_anew() -> None:
    it = learned()
    assert it.judged.measurements.state.state == "trained"
    assert it.judged.ill
    assert it.tried
    drawn = {"initialization", "lsuv", "unit-reset", "recurrent-initialization"}
    assert not drawn & {name for names in it.tried for name in names}
    assert not any(each.safety == START for each in it.remedies)


def test_unless_reinit_is_given() -> None:
    it = mended(net(16, 5.0), state="trained", reinit=True)
    assert it.judged.measurements.state.state == "fresh"
    assert any(each.safety == START for each in it.remedies)
    assert it.prescription is not None
    assert it.prescription.proof is not None


def test_of_a_sound_model_nothing_is_to_be_changed_and_nothing_is_tried() -> None:
    it = mended(net())
    assert it.judged.verdict == "pass"
    assert it.prescription is None
    assert it.said == []
    assert it.searched == it.proved == set()
    assert it.findings == it.judged.findings


def test_what_a_warning_calls_for_is_proven_in_one_trial_on_the_batches_held_back() -> None:
    it = unscaled()
    assert it.judged.verdict == "warn"
    assert it.tried == [("target-scaling",)]
    assert [each.id for each in it.remedies] == ["target-scaling"]
    assert it.searched == {i for i in range(96) if i // 16 % 2 == 1}  # the trial is the proof
    assert it.proved == set()
    assert it.prescription is not None
    assert it.prescription.proof is not None
    assert it.prescription.proof.batches == HELD_BACK


def test_one_batch_has_to_do_for_both_and_that_is_said() -> None:
    it = mended(net(), (X, Y), recipe=sgd(30.0))
    assert it.prescription is not None
    assert it.prescription.proof is not None
    assert it.prescription.proof.batches == "the same as in the search: the sample is one batch"
    assert it.searched == it.proved == set(range(96))


def test_quick_effort_prescribes_without_proof() -> None:
    it = mended(net(16, 5.0), effort="quick")
    assert it.judged.ill
    assert it.prescription is not None
    assert it.prescription.proof is None
    assert it.prescription.tried == ()
    assert it.remedies
    assert it.said == []


def test_nothing_is_proven_on_data_that_are_made_up() -> None:
    settings = searching(Settings(threads=1, input="float32[16,8]"))
    opened = from_python(net(16, 5.0), None, None, None, settings)
    judged = judge(opened, settings, QUIET)
    assert judged.ill
    said = Listening()
    prescription, _ = mend(opened, judged, settings, said)
    assert prescription is not None
    assert prescription.remedies
    assert (prescription.proof, prescription.tried, said.said) == (None, (), [])


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Proofs, so many of which come to what the subject was before."""

    ill = too_fast().judged

    def refuse(count: int) -> None:
        given, left = proof.judge_changed, [count]

        def judge(*how: Any) -> Judged:
            left[0] -= 1
            return ill if left[0] >= 0 else given(*how)

        monkeypatch.setattr(proof, "judge_changed", judge)

    return refuse


def test_what_its_proof_does_not_bear_out_is_refused_and_listed(
    refusing: Callable[[int], None],
) -> None:
    refusing(1)
    it = mended(net(), recipe=sgd(30.0))
    assert it.prescription is not None
    refused = [a for a in it.prescription.tried if a.why.startswith("in its proof: ")]
    assert len(refused) == 1
    assert not refused[0].passed
    assert it.said.count("proving the changes") == 2
    assert it.prescription.proof is not None
    # the same search without that refusal takes what is refused here
    assert refused[0].titles == tuple(r.title for r in too_fast().remedies)
    assert it.remedies != too_fast().remedies
    assert tuple(r.title for r in it.remedies) in [
        a.titles for a in it.prescription.tried if a.passed
    ]


def test_where_no_proof_holds_nothing_is_prescribed(refusing: Callable[[int], None]) -> None:
    refusing(10**6)
    it = mended(net(), recipe=sgd(30.0), effort="standard")
    assert it.prescription is not None
    assert it.prescription.proof is None
    assert it.prescription.recipe is None
    assert it.remedies == ()
    assert it.tried
    proofs = it.said.count("proving the changes")
    whys = [a.why for a in it.prescription.tried if a.why.startswith("in its proof")]
    assert len(whys) == proofs
    assert proofs > 0


# What a proof trained with is stated


def test_a_recipe_that_left_the_rate_open_is_completed_by_the_one_of_the_proof() -> None:
    it = too_fast()
    silent = replace(it.opened, recipe=Recipe(steps=STEPS))
    (found,) = completed((), silent, it.judged)
    assert found.parameters["optimizer"] == "sgd"
    assert found.parameters["lr"] == 30.0
    assert found.title.startswith("Train with SGD at a learning rate of 30.0")
    named = replace(it.opened, recipe=sgd(None))
    (found,) = completed((), named, it.judged)
    assert "optimizer" not in found.parameters
    assert completed((), it.opened, it.judged) == ()
    own = replace(silent, make_optimizer=lambda p: torch.optim.SGD(p, lr=1.0))
    assert completed((), own, it.judged) == ()


def test_a_rate_found_on_the_faulty_start_gives_way_to_that_of_the_proof() -> None:
    it = too_fast()
    old = replace(it.remedies[0], parameters={"lr": None})
    (found,) = completed((old,), replace(it.opened, recipe=Recipe(steps=STEPS)), it.judged)
    assert found.parameters["lr"] == 30.0


@pytest.fixture
def owned() -> Opened:
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    model[0].bias.requires_grad_(False)
    return from_python(model, (X, Y), "mse", None, Settings(recipe=sgd(0.05), threads=1))


def test_the_optimizer_made_is_told_by_class_groups_and_what_is_no_default(owned: Opened) -> None:
    trained = ("0.weight", "1.weight", "1.bias")
    found = made(owned)
    assert (found.name, found.of_torch, found.every, found.trainable) == ("SGD", True, False, True)
    assert [(g.parameters, dict(g.options)) for g in found.groups] == [(trained, {"lr": 0.05})]

    class Own(torch.optim.AdamW):
        pass

    def factory(parameters: Any) -> torch.optim.Optimizer:
        first, *rest = list(parameters)
        groups = [{"params": [first], "weight_decay": 0.5}, {"params": rest}]
        return Own(groups, lr=torch.tensor(0.25), betas=(0.5, 0.75))

    found = made(replace(owned, make_optimizer=factory))
    assert (found.name, found.of_torch, found.every, found.trainable) == (
        *("Own", False, False, False),
    )
    shared = {"lr": 0.25, "betas": (0.5, 0.75)}
    assert [dict(g.options) for g in found.groups] == [{**shared, "weight_decay": 0.5}, shared]
    assert [g.parameters for g in found.groups] == [
        ("0.weight",),
        ("0.bias", "1.weight", "1.bias"),
    ]
    every = made(replace(owned, make_optimizer=lambda p: torch.optim.SGD(p, lr=1.0)))
    assert (every.every, every.trainable) == (True, False)
