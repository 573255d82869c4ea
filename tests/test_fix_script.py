"""``fix.py`` for every kind of prescription: it runs, does what it says, and lints."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import types
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gradaudit
from gradaudit.auditing import audit
from gradaudit.fixing import Fixed
from gradaudit.mending.change import changed
from gradaudit.mending.further import steady_recipe
from gradaudit.mending.made import made
from gradaudit.probes.outlook import scheduled
from gradaudit.records import Forecast, Prescription, Proof, Recipe, Remedy, Report, Side
from gradaudit.remedies import recipe_of
from gradaudit.subject import from_python
from gradaudit.written import proof_line, recipe_json, script

QUICK = gradaudit.Settings(effort="quick", threads=1)
X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randn(32, 2, generator=torch.Generator().manual_seed(1))
MSE = nn.functional.mse_loss


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


@cache
def report() -> Report:
    return audit(net(), (X, Y), loss="mse", settings=QUICK)


def side(outcome: Any, first: float | None, last: float | None) -> Side:
    verdict: Any = "pass" if outcome == "trains" else "fail"
    losses = () if first is None else (first,)
    return Side(verdict, Forecast(outcome, 0.9), (), None, (), None, losses, 40, first, last)


def remedy(safety: Any = "recipe only", code: str = "", **parameters: Any) -> Remedy:
    name, kind = parameters.pop("id", "changed"), parameters.pop("kind", "recipe")
    return Remedy(name, kind, "Change it.", parameters, code, safety, ("GA101",))


def fixed(
    remedies: Sequence[Remedy],
    model: nn.Module | None = None,
    optimizer: Any = None,
    recipe: Recipe | None = None,
) -> Fixed:
    """As if the search had proven these remedies."""
    model = model or net()
    opened = from_python(model, (X, Y), "mse", optimizer, replace(QUICK, recipe=recipe or Recipe()))
    proof = Proof(side("stalls", 3.0, None), side("trains", 3.0, 0.5), 40, "the same")
    prescription = Prescription(tuple(remedies), recipe_of(remedies), proof)
    with changed(opened, remedies, 0) as subject:
        assert subject.model is not None
        start = {name: value.clone() for name, value in subject.model.state_dict().items()}
        used = made(subject)
    whole = replace(report(), recipe=opened.recipe, prescription=prescription)
    return Fixed(whole, start, used)


def code_of(cure: Fixed, tmp_path: Path | None = None) -> Any:
    module = types.ModuleType("fix")
    text = script(cure)
    exec(compile(text, "fix.py", "exec"), vars(module))
    if tmp_path is not None:
        (tmp_path / "fix.py").write_text(text)
        lint = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E,F,W,I,B,UP,SIM"]
        done = subprocess.run(
            [*lint, "--ignore", "E501", str(tmp_path / "fix.py")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
    return module


def test_nothing_of_a_kind_leaves_no_code(tmp_path: Path) -> None:
    cure = fixed([remedy(lr=0.02)], optimizer=lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9))
    text = script(cure)
    for word in ("autocast", "clip", "scaler", "SHIFT", "rate_share", "SEED", "to_original", "nn"):
        assert word not in text.split("import torch", 1)[1], word
    code = code_of(cure, tmp_path)
    model = net()
    before = [p.detach().clone() for p in model.parameters()]
    assert code.prepare(model) is model
    assert all(map(torch.equal, before, model.parameters()))
    optimizer = code.make_optimizer(model)
    assert type(optimizer) is torch.optim.SGD
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"]) == (0.02, 0.9)
    loss = MSE(net()(X), Y)
    assert code.training_step(model, optimizer, X, Y, MSE, 0) == pytest.approx(loss.item())
    assert MSE(model(X), Y) < loss


def test_warm_up_and_schedule_are_those_of_the_proof(tmp_path: Path) -> None:
    base = report().measurements
    recipe = replace(base.recipe, steps=40)
    cure = fixed([steady_recipe(replace(base, recipe=recipe), 0.003)], recipe=Recipe(steps=40))
    code = code_of(cure, tmp_path)
    model = code.prepare(net())
    optimizer = code.make_optimizer(model)
    assert type(optimizer) is torch.optim.AdamW
    wanted = Recipe("adamw", warmup=4, steps=40, schedule="cosine")
    for step in (0, 1, 3, 4, 20, 39, 50):
        code.training_step(model, optimizer, X, Y, MSE, step)
        rate = optimizer.param_groups[0]["lr"]
        assert rate == pytest.approx(0.003 * scheduled(wanted, step), abs=1e-12)
    written = json.loads(recipe_json(cure.report.prescription))  # type: ignore[arg-type]
    assert (written["optimizer"], written["schedule"], written["warmup_steps"]) == (
        ("adamw", "cosine", 4)
    )
    assert written["betas"] == [0.9, 0.999]
    assert "precision" not in written


def test_gradients_are_clipped_after_they_are_unscaled(tmp_path: Path) -> None:
    remedies = [remedy(clip_norm=0.01), remedy(loss_scale=1024.0), remedy(precision="fp16")]
    cure = fixed(remedies, optimizer=lambda p: torch.optim.SGD(p, lr=1.0))
    code = code_of(cure, tmp_path)
    model = code.prepare(net())
    before = torch.cat([p.detach().flatten() for p in model.parameters()]).clone()
    loss = code.training_step(model, code.make_optimizer(model), X, Y, MSE, 0)
    assert math.isfinite(loss)
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.01, rel=1e-2)
    assert code.scaler_on("cpu").get_scale() == 1024.0
    written = json.loads(recipe_json(cure.report.prescription))  # type: ignore[arg-type]
    assert (written["loss_scale"], written["precision"]) == (1024.0, "fp16")


def test_bf16_needs_no_scaler() -> None:
    cure = fixed([remedy(precision="bf16")], optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    text = script(cure)
    assert "torch.autocast(device, dtype=torch.bfloat16)" in text
    assert "scaler" not in text
    code = code_of(cure)
    kinds = []
    model = code.prepare(net())
    model[0].register_forward_hook(lambda m, i, output: kinds.append(output.dtype))
    code.training_step(model, code.make_optimizer(model), X, Y, MSE, 0)
    assert kinds == [torch.bfloat16]


def test_half_weights_are_not_under_autocast() -> None:
    cure = fixed([remedy(lr=0.1)], recipe=Recipe("sgd", precision="bf16"))
    assert "autocast" in script(cure)
    half = {name: value.bfloat16() for name, value in cure.start.items()}
    assert "autocast" not in script(replace(cure, start=half))


def test_data_are_scaled_as_in_the_proof(tmp_path: Path) -> None:
    numbers = {"input": {"shift": [1.0, 2.0, 3.0, 4.0], "scale": [2.0, 2.0, 4.0, 4.0]}}
    cure = fixed(
        [remedy(**numbers), remedy(target={"shift": 5.0, "scale": 10.0})], recipe=Recipe("sgd", 0.1)
    )
    code = code_of(cure, tmp_path)
    seen: list[Any] = []

    class Taking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: torch.Tensor, other: Any = None) -> torch.Tensor:
            seen.append((x.clone(), other))
            return self.net(x)

    def loss_function(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append(target)
        return MSE(output, target)

    model = Taking()
    optimizer = code.make_optimizer(model)
    scaled = (X - torch.tensor([1.0, 2.0, 3.0, 4.0])) / torch.tensor([2.0, 2.0, 4.0, 4.0])
    for inputs, x, other in ((X, scaled, None), ((X, "two"), scaled, "two"), ({"x": X}, X, None)):
        seen.clear()
        code.training_step(model, optimizer, inputs, Y, loss_function, 0)
        (given, second), target = seen
        assert torch.equal(given, x)
        assert second == other
        assert torch.allclose(target, (Y - 5) / 10)
    assert torch.allclose(code.to_original((Y - 5) / 10), Y, atol=1e-5)
    ids = torch.arange(4)
    assert code.standardised(ids, 1.0, 2.0) is ids


def test_start_values_twice_by_the_same_remedy(tmp_path: Path) -> None:
    first = (
        "# `model` is your torch.nn.Module, before training.\nimport torch\nfrom torch import nn\n"
    )
    draw = first + "\nwith torch.no_grad():\n    nn.init.normal_(model[{}].weight, std=0.5)\n"
    start: Any = "changes start values"
    remedies = [
        remedy(start, draw.format(0), id="initialization"),
        remedy(start, draw.format(2), id="initialization"),
        remedy(start, first + "\nmodel.get_parameter('0.bias').data.zero_()\n", id="unit-reset"),
        remedy("changes architecture: shown, not applied", "raise SystemExit", id="shown"),
    ]
    cure = fixed(remedies, recipe=Recipe("adam", 0.01))
    code = code_of(cure, tmp_path)
    state = torch.get_rng_state()
    prepared = code.prepare(net()).state_dict()
    assert list(prepared) == list(cure.start)
    assert all(torch.equal(prepared[name], value) for name, value in cure.start.items())
    torch.set_rng_state(state)
    model = net()
    drawn = torch.get_rng_state()
    code.prepare(model)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_parameter_groups_are_kept(tmp_path: Path) -> None:
    model = net()
    groups = [
        {"params": [model[0].weight, model[0].bias], "weight_decay": 0.1},
        {"params": [model[2].weight], "lr": 0.5},
    ]
    cure = fixed([remedy(clip_norm=1.0)], model, torch.optim.AdamW(groups, lr=0.01, amsgrad=True))
    code = code_of(cure, tmp_path)
    fresh = net()
    one, two = code.make_optimizer(fresh).param_groups
    assert [id(p) for p in one["params"]] == [id(fresh[0].weight), id(fresh[0].bias)]
    assert (one["lr"], one["weight_decay"], one["amsgrad"]) == (0.01, 0.1, True)
    assert (two["lr"], two["weight_decay"]) == (0.5, 0.01)
    assert len(two["params"]) == 1


def test_frozen_parameters_stay_out() -> None:
    model = net()
    model[0].weight.requires_grad_(False)
    code = code_of(fixed([remedy(lr=0.1)], model, recipe=Recipe("sgd")))
    (group,) = code.make_optimizer(model).param_groups
    assert len(group["params"]) == 3
    assert group["lr"] == 0.1


class Own(torch.optim.SGD):
    """Not one of torch's."""


Own.__name__ = 'Own"""\n\nraise SystemExit'


def test_an_optimizer_of_an_unknown_class_is_the_users_own() -> None:
    def make(parameters: Any) -> torch.optim.Optimizer:
        return Own(parameters, lr=7.0)

    code = code_of(fixed([remedy(lr=0.1)], optimizer=make))
    optimizer = code.make_optimizer(net(), make)
    assert type(optimizer) is Own
    assert optimizer.param_groups[0]["lr"] == 0.1
    code = code_of(fixed([remedy(clip_norm=1.0)], optimizer=make))
    assert code.make_optimizer(net(), make).param_groups[0]["lr"] == 7.0


def test_what_others_wrote_stays_a_comment() -> None:
    evil = 'x\nraise SystemExit\n"""\r\x85\u2028\u202e# \ud800'
    cure = fixed([remedy(lr=0.1)], recipe=Recipe("sgd"))
    row = replace(cure.report.subject, source=evil, name=evil)
    finding = replace(_finding(), why=evil, name=evil)
    told = replace(cure.report, subject=row, findings=(finding,))
    text = script(replace(cure, report=told))
    code_of(replace(cure, report=told))
    assert "raise SystemExit" in text
    text.encode()
    assert text.isascii() or "\u2028" not in text


def _finding() -> Any:
    from gradaudit.records import Estimate, Finding, Limit, Where

    measured = Estimate(1.0, None, None, "gain")
    return Finding("GA101", "n", "fail", Where(), measured, Limit(1.0, "gain", ""), "why")


def test_the_proof_in_one_line() -> None:
    cure = fixed([remedy(lr=0.1)], recipe=Recipe("sgd"))
    prescription = cure.report.prescription
    assert prescription is not None
    assert proof_line(prescription) == (
        "stalls -> trains; loss 3 -> 0.5 in 40 steps (unchanged: 3 -> not finite in 40 steps)"
    )
    assert proof_line(replace(prescription, proof=None)) == ""


def test_it_says_how_a_folder_is_opened() -> None:
    cure = fixed([remedy(lr=0.02)])
    subject = replace(
        cure.report.subject, format="Hugging Face model", source="a/b", name="GPT2LMHeadModel"
    )
    text = script(replace(cure, report=replace(cure.report, subject=subject)))
    assert "prepare(transformers.GPT2LMHeadModel.from_pretrained('a/b'))" in text
    assert "Needs torch, and transformers to open the folder." in " ".join(
        text.replace("#", " ").split()
    )
    assert "Needs torch only." in script(cure)
