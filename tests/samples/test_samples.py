"""Every sample builds, repeats, runs, and writes files that load without trust."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

import gradaudit
from tests.benchmarks.train_samples import SAMPLES, load

NAMES = sorted(path.stem for path in SAMPLES.glob("*.py"))
WEIGHTS_ONLY = {  # own classes: a state dict, opened with --build
    "char_transformer",
    "delayed_echo_rnn",
    "lstm_forecast_raw",
    "lstm_forecast_scaled",
}
ONNX = {"vanishing_onnx"}
LAYERS = [
    nn.BatchNorm2d,
    nn.Conv2d,
    nn.Flatten,
    nn.Linear,
    nn.MaxPool2d,
    nn.ReLU,
    nn.Sequential,
    nn.Tanh,
]


@pytest.fixture(scope="module", params=NAMES)
def sample(request: pytest.FixtureRequest) -> ModuleType:
    return load(request.param)


def loss_of(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    if target.is_floating_point():
        assert output.shape == target.shape
        return F.mse_loss(output, target)
    return F.cross_entropy(output.flatten(0, -2), target.flatten())


def test_all_of_the_set_are_there() -> None:
    assert set(NAMES) >= {"exploding_mlp", "vanishing_relu_mlp", "sound_cnn", *WEIGHTS_ONLY, *ONNX}


def test_subject_takes_a_step(sample: ModuleType) -> None:
    made = sample.subject()
    assert isinstance(made, gradaudit.Subject)
    assert isinstance(made.sample, list)
    assert len(made.sample) >= 8  # distinct batches for the rehearsal
    x, y = made.sample[0]
    assert callable(made.optimizer)
    optimizer = made.optimizer(made.model.parameters())
    before = [parameter.detach().clone() for parameter in made.model.parameters()]
    loss = loss_of(made.model(x), y)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert all(parameter.grad is not None for parameter in made.model.parameters())
    after = list(made.model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_the_same_each_time(sample: ModuleType) -> None:
    first, second = sample.subject(), sample.subject()
    for a, b in zip(first.sample, second.sample, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
    other = sample.model(seed=1).state_dict()
    differs = False
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name])
        differs |= not torch.equal(tensor, other[name])
    assert differs


def test_batches_are_the_data(sample: ModuleType) -> None:
    arrays = sample.data()
    batches = sample.subject().sample
    for i, name in enumerate("xy"):
        gathered = torch.cat([batch[i] for batch in batches])
        assert gathered.shape == arrays[name].shape
        assert torch.equal(gathered.flatten().sort().values, arrays[name].flatten().sort().values)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Each sample run as the script its docstring says it is."""
    folders = {name: tmp_path_factory.mktemp("written") / name for name in NAMES}
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in folders.items():
            patch.setattr(sys, "argv", [f"{name}.py", str(folder)])
            runpy.run_path(str(SAMPLES / f"{name}.py"), run_name="__main__")
        yield folders


@pytest.mark.parametrize("name", NAMES)
def test_written_files_load_without_trust(name: str, written: dict[str, Path]) -> None:
    module, folder = load(name), written[name]
    if name in ONNX:
        stored = gradaudit.load_onnx(folder / "model.onnx").state_dict()
        same_tensors(stored, module.model().state_dict())
        return
    with torch.serialization.safe_globals(LAYERS):
        stored: Any = torch.load(folder / "model.pt", weights_only=True)
    expected = module.model().state_dict()
    if name in WEIGHTS_ONLY:
        assert isinstance(stored, dict)
    else:
        assert isinstance(stored, nn.Module)
        stored = stored.state_dict()
    same_tensors(stored, expected)


def same_tensors(stored: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert stored.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in stored.items())


@pytest.mark.parametrize("name", NAMES)
def test_written_data_is_the_data(name: str, written: dict[str, Path]) -> None:
    (path,) = (p for p in written[name].iterdir() if p.name.startswith("data."))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: torch.from_numpy(stored[key]) for key in stored.files}
    else:
        arrays = load_file(path)
    expected = load(name).data()
    assert arrays.keys() == expected.keys() == {"x", "y"}
    assert all(torch.equal(arrays[key], expected[key]) for key in arrays)


def test_raw_and_scaled_forecasters_differ_in_scale_alone() -> None:
    raw, scaled = load("lstm_forecast_raw"), load("lstm_forecast_scaled")
    levels, units = raw.series().double(), scaled.series().double()
    assert float(levels.mean()) == pytest.approx(4000, rel=0.1)
    standardized = (levels - levels.mean()) / levels.std()
    assert torch.allclose(standardized, units, atol=1e-5)
    same = zip(raw.model().parameters(), scaled.model().parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_faulty_samples_carry_their_fault() -> None:
    """Weight scales: the variances the docstrings name, within the spread of their sample."""
    tanh = load("exploding_mlp").model()[0].weight
    assert float(tanh.detach().var()) * tanh.shape[1] == pytest.approx(9, rel=0.05)
    relu = load("vanishing_relu_mlp").model()[0].weight
    assert float(relu.detach().var()) * relu.shape[1] == pytest.approx(1 / 3, rel=0.05)
    recurrent = load("delayed_echo_rnn").model().rnn.weight_hh_l0
    assert float(recurrent.detach().var()) * len(recurrent) == pytest.approx(2.5**2, rel=0.1)


def test_echo_is_of_the_first_symbol() -> None:
    arrays = load("delayed_echo_rnn").data()
    assert arrays["x"].shape == (2048, 40, 8)
    assert torch.equal(arrays["x"][:, 0].argmax(dim=1), arrays["y"])
    text = load("char_transformer").data()
    assert torch.equal(text["x"][:, 1:], text["y"][:, :-1])
