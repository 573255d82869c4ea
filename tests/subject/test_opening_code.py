"""Naming a model by code: Modules, factories, Subjects, and all that can be wrong with them."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gradaudit.errors import ModelError, UnreadableFile, UsageError
from gradaudit.settings import Settings
from gradaudit.subject import Subject, from_python

NET = "net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))\n"
FACTORY = "def make():\n    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))\n"


@pytest.mark.parametrize("name", ["net", "make", "Class", "subject", "make_subject", "Box.net"])
def test_every_way_to_name_a_model(write, opened, name: str) -> None:
    write(
        "model.py",
        "import gradaudit\n" + NET + FACTORY + "class Class(nn.Linear):\n"
        "    def __init__(self):\n        super().__init__(4, 2)\n"
        "class Box:\n    net = net\n"
        "subject = gradaudit.Subject(net, (torch.ones(3, 4), torch.zeros(3, 2)), 'l1')\n"
        "def make_subject():\n    return subject\n",
    )
    for spec in (f"model.py:{name}", f"model:{name}"):
        found = opened(spec)
        assert found.model is not None
        assert found.row.format == "code"
        assert found.row.source == spec
        assert found.row.parameters == sum(p.numel() for p in found.model.parameters())
        given = "subject" in name
        assert found.sample.source == ("given" if given else "made up")
        assert found.objective.kind == ("l1" if given else "mse")


def test_same_seed_same_weights_and_random_states_stay(write, opened) -> None:
    write("model.py", FACTORY)
    state = torch.get_rng_state()
    first, second = opened("model.py:make", seed=3), opened("model.py:make", seed=3)
    assert first.row.digest == second.row.digest
    assert opened("model.py:make", seed=4).row.digest != first.row.digest
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.batches[0].inputs[0], second.batches[0].inputs[0])


def test_edited_code_is_read_again(write, opened) -> None:
    write("model.py", "def make():\n    return nn.Linear(4, 2)\n")
    assert opened("model.py:make").row.parameters == 10
    write("model.py", "def make():\n    return nn.Linear(4, 3)\n")
    assert opened("model.py:make").row.parameters == 15


def test_neighbours_of_two_folders_do_not_mix(write, opened) -> None:
    for name, width in (("one", 3), ("two", 5)):
        write(f"{name}/parts.py", f"def layer():\n    return nn.Linear(4, {width})\n")
        write(f"{name}/model.py", "import parts\ndef make():\n    return parts.layer()\n")
    assert opened("one/model.py:make").row.parameters == 15
    assert opened("two/model.py:make").row.parameters == 25
    assert opened("one/model.py:make").row.parameters == 15


def test_a_neighbour_named_like_an_installed_package_does_not_evict_it(write, opened) -> None:
    write("torch.py", "raise RuntimeError('never imported')\n")
    write("model.py", FACTORY)
    opened("model.py:make")
    assert sys.modules["torch"] is torch


def test_opening_leaves_no_files(write, opened, folder) -> None:
    write("model.py", FACTORY)
    opened("model.py:make")
    assert sorted(p.name for p in folder.iterdir()) == ["model.py"]


def test_imports_inside_forward_still_work(write, opened) -> None:
    write("deep/late.py", "SCALE = 2\n")
    write(
        "deep/model.py",
        "class Net(nn.Linear):\n    def __init__(self):\n        super().__init__(4, 2)\n"
        "    def forward(self, x):\n        import late\n"
        "        return late.SCALE * super().forward(x)\n",
    )
    found = opened("deep/model.py:Net", input="float32[3,4]")
    assert found.batches[0].run(found.model).shape == (3, 2)


class TestBadCode:
    def test_missing_file(self, write, line) -> None:
        write("model.py", NET)
        assert "did you mean" in line(UnreadableFile, "modle.py:net")
        assert "there is no folder" in line(UnreadableFile, "nowhere/model.py:net")

    def test_missing_name(self, write, line) -> None:
        write("model.py", NET)
        assert line(UsageError, "model.py:nte") == "model.py has no 'nte'; did you mean 'net'?"

    def test_missing_module(self, line) -> None:
        text = line(UsageError, "no_such_package.models:net")
        assert text.startswith("there is no module 'no_such_package'")

    def test_code_without_a_name(self, write, line) -> None:
        write("model.py", NET)
        assert "model.py:name" in line(UsageError, "model.py")

    def test_factory_that_raises(self, write, line) -> None:
        write("model.py", "def make():\n    raise ValueError('no\\nluck')\n")
        assert line(ModelError, "model.py:make") == (
            "model.py:make raised ValueError: no luck (model.py:4)"
        )

    def test_file_that_raises(self, write, line) -> None:
        write("model.py", "x = 1 / 0\n")
        assert line(ModelError, "model.py:x") == (
            "model.py raised ZeroDivisionError: division by zero (model.py:3)"
        )

    def test_file_that_exits(self, write, line) -> None:
        write("model.py", "import sys\nsys.exit('usage: train.py')\n")
        assert "raised SystemExit: usage: train.py (model.py:4)" in line(ModelError, "model.py:x")

    def test_file_that_imports_what_is_not_here(self, write, line) -> None:
        write("model.py", "import not_installed_here\n")
        assert "No module named 'not_installed_here' (model.py:3)" in line(ModelError, "model.py:x")
        assert "No module named 'not_installed_here'" in line(ModelError, "model:x")

    def test_syntax_error(self, write, line) -> None:
        write("model.py", "def make(:\n")
        text = line(ModelError, "model.py:make")
        assert "SyntaxError" in text
        assert text.endswith("(model.py:3)")

    def test_factory_with_arguments(self, write, line) -> None:
        write("model.py", "def make(width):\n    return nn.Linear(width, 1)\n")
        assert "missing 1 required positional argument: 'width'" in line(
            ModelError, "model.py:make"
        )

    @pytest.mark.parametrize(
        ("code", "found"),
        [("make = 3", "type int"), ("def make():\n    pass", "None"),
         ("def make():\n    return [1]", "type list"),
         ("import gradaudit\nmake = gradaudit.Subject('net')", "type str")],
    )  # fmt: skip
    def test_no_model(self, write, line, code: str, found: str) -> None:
        write("model.py", code + "\n")
        assert found in line(UsageError, "model.py:make")

    def test_no_parameters(self, write, line) -> None:
        write("model.py", "net = nn.Sequential(nn.ReLU())\n")
        assert line(ModelError, "model.py:net") == (
            "the model Sequential has no parameters; expected a model with something to train"
        )

    def test_lazy_without_data(self, write, line, opened) -> None:
        write("model.py", "net = nn.Sequential(nn.LazyLinear(3))\n")
        assert "lazy layers" in line(ModelError, "model.py:net")
        assert opened("model.py:net", input="float32[5,7]").row.parameters == 24

    def test_device(self, write, line) -> None:
        write("model.py", NET)
        assert "--device nonsense cannot be used" in line(
            UsageError, "model.py:net", device="nonsense"
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
def test_wrappers_are_taken_off() -> None:
    inner = nn.Linear(4, 2)
    for wrapped in (
        nn.DataParallel(inner),
        torch.compile(inner),
        torch.compile(nn.DataParallel(inner)),
    ):
        assert from_python(wrapped, None, None, None, Settings()).model is inner


@pytest.mark.filterwarnings("ignore::UserWarning")  # a process group of one is not usual
def test_a_distributed_wrapper_is_taken_off(tmp_path) -> None:
    group = torch.distributed
    group.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        inner = nn.Linear(4, 2)
        wrapped = nn.parallel.DistributedDataParallel(inner)
        assert from_python(wrapped, None, None, None, Settings()).model is inner
    finally:
        group.destroy_process_group()


def test_a_model_in_memory_is_left_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = from_python(
        model, (torch.randn(6, 4).double(), torch.randn(6, 4)), None, None, Settings()
    )
    assert found.model is model
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_options_win_over_the_subject(write, opened) -> None:
    write(
        "model.py",
        "import gradaudit\nnet = nn.Linear(4, 1)\n"
        "subject = gradaudit.Subject(net, (torch.ones(8, 4), torch.ones(8)), 'mse',\n"
        "    lambda p: torch.optim.Adam(p, lr=0.5))\n"
        "def data():\n    return torch.zeros(5, 4), torch.zeros(5, 1)\n",
    )
    plain = opened("model.py:subject")
    assert (plain.recipe.optimizer, plain.recipe.lr) == ("adam", 0.5)
    changed = opened("model.py:subject", data="model.py:data", loss="l1")
    assert changed.objective.kind == "l1"
    assert changed.sample.batch_size == 5


def test_lazy_models_in_memory_are_copied() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1))
    found = from_python(model, (torch.randn(5, 7), torch.randn(5)), None, None, Settings())
    assert type(model[0]) is nn.LazyLinear
    assert found.model[0].weight.shape == (3, 7)


def test_lazy_buffers_are_copied_too() -> None:
    model = nn.Sequential(nn.Linear(7, 3), nn.LazyBatchNorm1d(dtype=torch.float64)).double()
    model.append(nn.Linear(3, 1).double())
    sample = (torch.randn(5, 7).double(), torch.randn(5).double())
    found = from_python(model, sample, None, None, Settings())
    assert type(model[1]) is nn.LazyBatchNorm1d
    assert is_lazy(model[1].running_mean)
    copied = found.model[1]
    assert type(copied) is nn.BatchNorm1d
    assert torch.equal(copied.running_mean, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(copied.running_var, torch.ones(3, dtype=torch.float64))
    assert copied.training


def test_subject_is_public() -> None:
    import gradaudit

    assert gradaudit.Subject is Subject


@pytest.mark.parametrize("name", ["a.b", "", "."])
def test_a_name_that_leads_to_no_part_is_told(write, opened, name: str) -> None:
    write("model.py", f"{NET}net._modules[{name!r}] = nn.Linear(2, 2)\n")
    with pytest.raises(ModelError, match="has a part named '"):
        opened("model.py:net")


def test_an_error_that_does_not_tell_its_text_is_told_by_its_type(write, opened) -> None:
    write(
        "model.py",
        "class Silent(Exception):\n    def __str__(self):\n        raise ValueError\n"
        "def make():\n    raise Silent\n",
    )
    with pytest.raises(ModelError, match="raised Silent"):
        opened("model.py:make")
