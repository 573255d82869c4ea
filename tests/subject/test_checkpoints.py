"""Training checkpoints: where the weights lie, and what else the file tells."""

from __future__ import annotations

import argparse
import datetime
import functools
import math
import pathlib
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradaudit.errors import ModelError, RefusedFile, UnreadableFile
from gradaudit.records import Recipe
from gradaudit.subject.formats.checkpoints.optimizer_state import recipe_in

BUILD = "def make():\n    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))\n"


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def stepped(make: Callable[[Any], torch.optim.Optimizer], model: nn.Module) -> Any:
    optimizer = make(model.parameters())
    model(torch.ones(2, 4)).square().sum().backward()
    optimizer.step()
    return optimizer


W, E = net(0).state_dict(), net(1).state_dict()
CONTENTS = {
    "timm": ({"epoch": 3, "arch": "x", "state_dict": W, "state_dict_ema": E}, "'state_dict'; the"),
    "mmengine": ({"meta": {"epoch": 1}, "state_dict": W, "ema_state_dict": E}, "'ema_state_dict'"),
    "detectron": ({"model": W, "iteration": 9}, ""),
    "DeepSpeed": ({"module": W, "buffer_names": [], "ds_config": {"a": {"b": 1}}}, ""),
    "nnU-Net": ({"network_weights": W, "current_epoch": 4, "logging": {"x": [1.0]}}, ""),
    "fairseq": ({"args": None, "model": W, "extra_state": {"a": 1}}, ""),
    "BasicSR": ({"params": W, "params_ema": E}, "'params'; the file also holds weights under 'p"),
    "GAN": ({"discriminator": E, "generator": W}, "'generator'; the file also holds weights under"),
    "DINO": ({"teacher": E, "student": W}, "'student'"),
    "Whisper": ({"dims": {"n": 1}, "model_state_dict": W}, ""),
    "only the average": ({"ema": W, "model": None}, ""),
    "consolidated": ({"app": {"model": W, "optim": {"state": {}}}}, "'app' / 'model'"),
    "nested": ({"model": {"state_dict": W, "name": "x"}}, "'model' / 'state_dict'"),
    "own words": ({"my_weights": W, "epoch": 1}, "'my_weights'"),
    "with counts": ({"net": {**W, "steps": 3, "norm._extra_state": {"a": 1}}}, ""),
}  # fmt: skip


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("make", CONTENTS)
def test_weights_are_found(opened, make: str, old: bool) -> None:
    content, told = CONTENTS[make]
    torch.save(content, "c.pt", _use_new_zipfile_serialization=not old)
    found = opened("c.pt")
    assert found.model is None
    assert set(found.weights) == set(W)
    assert all(torch.equal(found.weights[name], W[name]) for name in W)
    notes = [note for note in found.notes if note.startswith("Weights: ")]
    assert bool(notes) == bool(told)
    assert told in "".join(notes)


def test_tables_of_tables_are_joined(opened) -> None:
    nested = {"language_model": {"embedding": {"weight": torch.ones(3)}, "out": torch.zeros(2)}}
    torch.save({"model": nested, "iteration": 7}, "m.pt")
    assert list(opened("m.pt").weights) == [
        "language_model.embedding.weight", "language_model.out",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [{"epoch": 3}, {"a": W, "b": E}, {"model": {"a": {"b": 1}}}, {"model": "resnet"}, {},
     {"model": {1: torch.ones(2)}}, {"optimizer": {"state": {}, "param_groups": []}}],
)  # fmt: skip
def test_no_weights_to_be_sure_of(line, content: dict[str, Any]) -> None:
    torch.save(content, "c.pt")
    assert "c.pt holds no model" in line(UnreadableFile, "c.pt")


class TestNames:
    @pytest.mark.parametrize(
        "wrap",
        [lambda n: f"module.{n}", lambda n: f"_orig_mod.{n}", lambda n: f"module._orig_mod.{n}",
         lambda n: f"_orig_mod.module.{n}", lambda n: f"_fsdp_wrapped_module.{n}",
         lambda n: n.replace("0.", "0._fsdp_wrapped_module._checkpoint_wrapped_module.")],
    )  # fmt: skip
    def test_wrappers_are_taken_off(self, opened, write, wrap: Callable[[str], str]) -> None:
        write("net.py", BUILD)
        torch.save({"model": {wrap(name): value for name, value in W.items()}}, "c.pt")
        found = opened("c.pt")
        assert set(found.weights) == set(W)
        assert any("is taken off the names" in note for note in found.notes)
        model = opened("c.pt", build="net.py:make").model
        assert torch.equal(model[2].weight, W["2.weight"])

    def test_a_child_called_module_keeps_its_name(self, opened, write) -> None:
        write("net.py", "class N(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
              "        self.module = nn.Linear(4, 3)\n    def forward(self, x):\n"
              "        return self.module(x)\n")  # fmt: skip
        weight = torch.randn(3, 4)
        torch.save({"module.weight": weight, "module.bias": torch.zeros(3)}, "c.pt")
        assert torch.equal(opened("c.pt", build="net.py:N").model.module.weight, weight)

    def test_a_part_of_what_was_trained(self, opened, write) -> None:
        write("net.py", BUILD)
        part = {f"model.{name}": value for name, value in W.items()}
        torch.save({"state_dict": {**part, "loss.weight": torch.ones(2)}}, "c.ckpt")
        found = opened("c.ckpt", build="net.py:make")
        assert torch.equal(found.model[0].weight, W["0.weight"])
        told = [note for note in found.notes if note.startswith("Names: ")]
        assert told == [
            "Names: the model's weights are those under 'model.' in the file; "
            "1 beside them are left out."
        ]
        assert set(opened("c.ckpt").weights) == {*part, "loss.weight"}

    def test_two_parts_that_fit(self, opened, write) -> None:
        write("net.py", BUILD)
        both = {f"{p}.{n}": v for p, w in (("online", W), ("target", E)) for n, v in w.items()}
        torch.save(both, "c.pt")
        found = opened("c.pt", build="net.py:make")
        assert torch.equal(found.model[0].weight, W["0.weight"])
        assert "under 'target.' too" in "".join(found.notes)

    def test_a_part_that_lacks_one(self, line, write) -> None:
        write("net.py", BUILD)
        part = {f"model.{name}": value for name, value in W.items() if name != "0.bias"}
        torch.save(part, "c.pt")
        assert "not in the file 4" in line(ModelError, "c.pt", build="net.py:make")

    def test_names_that_would_become_one(self, opened) -> None:
        torch.save({"a._orig_mod.w": torch.ones(2), "a.w": torch.zeros(2)}, "c.pt")
        assert set(opened("c.pt").weights) == {"a._orig_mod.w", "a.w"}

    def test_flat_parameters_are_told_of(self, opened) -> None:
        torch.save({"_fsdp_wrapped_module._flat_param": torch.ones(20)}, "c.pt")
        assert "FSDP's flat parameters" in "".join(opened("c.pt").notes)


SGD, ADAM, ADAMW, RMSPROP = (
    torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop,
)  # fmt: skip
OPTIMIZERS = {
    "sgd": (lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-4),
            Recipe("sgd", 0.1, momentum=0.9, weight_decay=1e-4)),
    "adam": (lambda p: ADAM(p, lr=3e-4, betas=(0.8, 0.99)),
             Recipe("adam", 3e-4, betas=(0.8, 0.99), eps=1e-8, weight_decay=0.0)),
    "adamw": (lambda p: ADAMW(p, lr=3e-4, weight_decay=0.05, eps=1e-6),
              Recipe("adamw", 3e-4, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.05)),
    "rmsprop": (lambda p: RMSPROP(p, lr=0.01, momentum=0.5),
                Recipe("rmsprop", 0.01, momentum=0.5, eps=1e-8, weight_decay=0.0)),
    "adagrad": (lambda p: torch.optim.Adagrad(p, lr=0.02),
                Recipe("adagrad", 0.02, eps=1e-10, weight_decay=0.0)),
    "nadam": (lambda p: torch.optim.NAdam(p, lr=0.02),
              Recipe("nadam", 0.02, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)),
    "radam": (lambda p: torch.optim.RAdam(p, lr=0.02),
              Recipe("radam", 0.02, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)),
    "adamax": (lambda p: torch.optim.Adamax(p, lr=0.02),
               Recipe("adamax", 0.02, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)),
}  # fmt: skip


class TestRecipe:
    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_of_torchs_own(self, opened, name: str) -> None:
        make, expected = OPTIMIZERS[name]
        model = net()
        optimizer = stepped(make, model)
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "c.pt")
        found = opened("c.pt")
        assert found.recipe == expected
        told = [note for note in found.notes if note.startswith("Recipe: ")]
        assert len(told) == 1
        assert f"optimizer {name}" in told[0]
        assert f"lr {expected.lr:g}" in told[0]

    @pytest.mark.parametrize(
        "key", ["optimizer", "optimizer_state_dict", "optim", "optimizer_state", "opt"]
    )
    def test_under_every_name(self, key: str) -> None:
        state = SGD(net().parameters(), lr=0.1).state_dict()
        for content in ({key: state}, {key: [state]}, {"app": {key: state}}, {key: {"a": state}}):
            assert recipe_in(content)[0].lr == 0.1

    def test_options_go_before(self, opened) -> None:
        model = net()
        state = SGD(model.parameters(), lr=0.1, momentum=0.9).state_dict()
        torch.save({"model": model, "optimizer": state}, "c.pt")
        assert opened("c.pt", recipe=Recipe(lr=0.5)).recipe == Recipe(
            "sgd", 0.5, momentum=0.9, weight_decay=0.0
        )
        other = Recipe("adam", 0.5)  # a momentum of SGD's says nothing of Adam
        assert opened("c.pt", recipe=other).recipe == other

    @pytest.mark.parametrize(
        ("schedule", "rate", "told"),
        [(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 2), 0.1, "its initial_lr; a sch"),
         (lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 3.0, total_steps=9), 3.0, "its max_lr")],
    )  # fmt: skip
    def test_a_scheduled_rate_is_the_one_it_came_from(self, schedule, rate, told) -> None:
        optimizer = SGD(net().parameters(), lr=0.1)
        scheduler = schedule(optimizer)
        optimizer.step()
        scheduler.step()
        recipe, notes = recipe_in({"optimizer": optimizer.state_dict()})
        assert recipe.lr == rate
        assert told in notes[0]
        assert f"{optimizer.param_groups[0]['lr']:g}" in notes[0]

    def test_the_fastest_group(self) -> None:
        model = net()
        groups = [{"params": [model[0].bias], "weight_decay": 0.0}, {"params": [model[0].weight]},
                  {"params": [model[2].weight], "lr": 1e-4}]  # fmt: skip
        state = ADAMW(groups, lr=1e-3, weight_decay=0.05).state_dict()
        recipe, notes = recipe_in({"optimizer": state})
        assert (recipe.lr, recipe.weight_decay) == (1e-3, 0.05)
        assert "the fastest of 3 groups" in notes[0]

    def test_old_files_do_not_tell_adam_from_adamw(self, opened) -> None:
        group = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1,
                 "amsgrad": False, "params": [0]}  # fmt: skip
        content = {"optimizer": {"state": {}, "param_groups": [group]}}
        recipe, notes = recipe_in(content)
        assert (recipe.optimizer, recipe.lr) == (None, 1e-3)
        assert "adam or adamw, which it does not tell apart" in notes[0]
        group["weight_decay"] = 0  # then there is nothing to tell
        assert recipe_in(content)[0].optimizer == "adam"
        group["weight_decay"] = 0.1
        torch.save({"model": net().state_dict(), **content}, "c.pt")
        named = opened("c.pt", recipe=Recipe("adamw")).recipe
        assert named == Recipe("adamw", 1e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
        assert opened("c.pt", recipe=Recipe("sgd")).recipe == Recipe("sgd", 1e-3, weight_decay=0.1)

    def test_optimizers_that_torch_does_not_have(self) -> None:
        for extra in ({"correct_bias": True}, {"bias_correction": True, "grad_averaging": True}):
            group = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, **extra}
            recipe, notes = recipe_in({"optimizer": {"state": {}, "param_groups": [group]}})
            assert recipe.optimizer is None
            assert "none of torch's" in notes[0]

    @pytest.mark.parametrize(
        "value",
        [math.nan, math.inf, -1.0, 0.0, True, "0.1", 10**400, torch.ones(2), [1], {"a": 1}, None,
         torch.tensor(math.nan), (0.1,), 1 << 70],
        ids=str,
    )  # fmt: skip
    def test_hostile_rates_are_ignored(self, opened, value: object) -> None:
        group = {**SGD(net().parameters(), lr=0.1, momentum=0.9).param_groups[0], "lr": value}
        group["params"] = [0]
        torch.save(
            {"model": net().state_dict(), "optimizer": {"state": {}, "param_groups": [group]}},
            "c.pt",
        )
        found = opened("c.pt")
        assert found.recipe.lr is None
        assert found.recipe.momentum == 0.9
        assert value is None or "ignored in the file's optimizer state: lr" in "".join(found.notes)

    @pytest.mark.parametrize("value", [torch.tensor(0.25), np.float64(0.25), np.float32(0.25)])
    def test_rates_of_one_number(self, opened, value: object) -> None:
        group = {"lr": value, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False}
        state = {"state": {}, "param_groups": [{**group, "params": [0]}]}
        torch.save({"model": W, "optimizer": state}, "c.pt")
        assert opened("c.pt").recipe == Recipe("sgd", 0.25, momentum=0.0, weight_decay=0.0)

    @pytest.mark.parametrize(
        "state",
        [{}, {"param_groups": []}, {"param_groups": [1, "a"]}, {"param_groups": {"a": 1}}, 3, None,
         {"param_groups": [{}]}, {"state": {}, "param_groups": [{"betas": (0.9, "x", 3)}]}],
        ids=str,
    )  # fmt: skip
    def test_what_is_no_optimizer_state(self, state: object) -> None:
        recipe, _ = recipe_in({"optimizer": state})
        assert recipe == Recipe()

    def test_several_optimizers(self) -> None:
        states = [SGD(net().parameters(), lr=lr).state_dict() for lr in (0.1, 0.2)]
        recipe, notes = recipe_in({"optimizer_states": states})
        assert recipe.lr == 0.1
        assert "the first of 2 optimizers" in notes[-1]


class TestProgress:
    @pytest.mark.parametrize(
        ("beside", "told"),
        [({"epoch": 12}, "epoch 12"), ({"global_step": 4000}, "global_step 4,000"),
         ({"meta": {"iter": 5}}, "iter 5"), ({"epoch": 0}, ""), ({"epoch": -1}, ""),
         ({"epoch": True}, ""), ({"epoch": "12"}, ""), ({"epoch": 1 << 80}, ""), ({}, "")],
        ids=str,
    )  # fmt: skip
    def test_counters(self, opened, beside: dict[str, Any], told: str) -> None:
        torch.save({"model": W, **beside}, "c.pt")
        assert opened("c.pt").trained == (f"the file says {told}" if told else "")

    def test_optimizer_state_after_a_step(self, opened) -> None:
        model = net()
        fresh = ADAM(model.parameters()).state_dict()
        torch.save({"model": model, "optimizer": fresh}, "c.pt")
        assert opened("c.pt").trained == ""
        after = stepped(ADAM, model).state_dict()
        torch.save({"model": model, "optimizer": after}, "c.pt")
        assert "after its first step" in opened("c.pt").trained


class Mine:
    """A class of the user's own."""


DATA = {
    "namespace": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("/a/b")),
    "path": Path("/a"),
    "date": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
    "span": datetime.timedelta(3),
    "partial": functools.partial(nn.functional.relu, inplace=True),
    "dict": defaultdict(list, {"a": [1]}),
    "deque": deque([1, 2], 5),
    "counter": Counter("aab"),
    "uuid": uuid.uuid5(uuid.NAMESPACE_DNS, "a"),
    "scalar": np.float32(0.5),
    "array": np.arange(3),
    "dtype": np.dtype("f4"),
    "random": np.random.RandomState(0).get_state(),
    "generator": np.random.default_rng(0),
    "types": [int, dict, torch.float32, torch.optim.SGD],
    "device": torch.device("cpu"),
    "size": torch.Size([1, 2]),
    "version": torch.__version__,
    "set": {1, "a"},
    "complex": 1 + 2j,
    "bytes": b"\x00\xff",
    "slice": slice(1, 2),
}


class TestPlainData:
    @pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
    @pytest.mark.parametrize("name", DATA)
    def test_beside_weights_and_modules(self, opened, name: str, old: bool) -> None:
        torch.save(
            {"state_dict": W, "x": [DATA[name]]}, "c.pt", _use_new_zipfile_serialization=not old
        )
        assert set(opened("c.pt").weights) == set(W)
        if not old:
            torch.save({"model": net(), "x": [DATA[name]]}, "m.pt")
            assert opened("m.pt").row.format == "pickled module"

    def test_a_module_that_uses_it_is_refused(self, line, opened) -> None:
        layer = nn.TransformerEncoderLayer(8, 2, activation=functools.partial(nn.functional.gelu))
        torch.save(layer, "m.pt")
        text = line(RefusedFile, "m.pt")
        assert "TransformerEncoderLayer that uses functools.partial" in text
        assert "add --trust" in text
        assert opened("m.pt", trust=True).model(torch.ones(1, 2, 8)).shape == (1, 2, 8)

    def test_what_is_in_a_partial_is_refused(self, line) -> None:
        import os

        torch.save({"model": W, "x": functools.partial(os.system, "touch exploded")}, "c.pt")
        assert "it needs posix.system (DANGEROUS);" in line(RefusedFile, "c.pt")
        assert not Path("exploded").exists()

    def test_a_dict_of_ones_own_kind_holds_weights(self, opened) -> None:
        torch.save({"model": defaultdict(list, W)}, "c.pt")
        assert set(opened("c.pt").weights) == set(W)
        torch.save(OrderedDict(model=OrderedDict(W)), "c.pt", pickle_protocol=4)
        assert set(opened("c.pt").weights) == set(W)

    def test_others_need_trust(self, line, opened) -> None:
        torch.save({"model": W, "x": Mine()}, "c.pt")
        assert f"it needs {__name__}.Mine;" in line(RefusedFile, "c.pt")
        assert set(opened("c.pt", trust=True).weights) == set(W)
