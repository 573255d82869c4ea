"""Exported programs and TorchScript files are the nets that they were written from."""

from __future__ import annotations

import copy
import io
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import gradaudit
from gradaudit import Settings
from gradaudit.errors import BadData, RefusedFile, UnreadableFile
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.formats.programs.stored_records import stored_records
from gradaudit.subject.formats.pt2 import inspect_exported
from gradaudit.subject.formats.pt2.archive import INPUTS
from gradaudit.subject.formats.torchscript import inspect_torchscript
from gradaudit.subject.formats.torchscript.compiled import Compiled
from tests.command import audited
from tests.kinds import kind
from tests.onnx_graph.audits import differences, samples
from tests.onnx_graph.exported import Way, net
from tests.onnx_graph.exported_nets import NETS, drawn
from tests.subject.graph_files import WAYS, changed, opened, results, unwarned, written

NET = Way(True, 20)
# What ``torch.jit.script`` itself cannot take.
UNSCRIPTED = {"GPT-2, eager", "GPT-2, sdpa"}
PAIRS = [
    (name, way) for name in NETS for way in WAYS if way != "scripted" or name not in UNSCRIPTED
]
# Each net's audit by one way, and the forms that differ most by all.
AUDITED = [
    *((name, way) for name in ("MLP", "CNN", "encoder", "LSTM") for way in WAYS),
    ("two GRUs", "exported"),
    ("GPT-2, sdpa", "traced"),
    ("bidirectional LSTM", "scripted"),
]


@pytest.mark.parametrize(("name", "way"), PAIRS, ids=str)
def test_outputs_and_gradients_are_the_nets(name: str, way: str, tmp_path: Path) -> None:
    model, inputs = net(name, NET).train(), drawn(name, 4)
    loaded = opened(written(copy.deepcopy(model), inputs, way, tmp_path))
    assert loaded.model is not None
    assert dict(loaded.model.named_parameters()).keys() == dict(model.named_parameters()).keys()
    own, theirs = results(model, inputs), results(copy.deepcopy(loaded.model), inputs)
    assert len(own) == len(theirs)
    for a, b in zip(own, theirs, strict=True):
        torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "way"), AUDITED, ids=str)
def test_audits_agree(name: str, way: str, tmp_path: Path) -> None:
    model = net(name, NET).train()
    batches = samples(name, model)
    path = written(net(name, NET).train(), batches[0][0], way, tmp_path)
    settings = Settings(effort="quick", loss="mse")
    torch.set_num_threads(1)
    model_in_file = opened(path).model
    assert model_in_file is not None
    own, theirs = (
        gradaudit.audit(each, batches, settings=settings).to_dict()
        for each in (model, model_in_file)
    )
    assert not differences(own, theirs)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.body = nn.Linear(6, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(self.table(tokens))))  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", WAYS)
def test_tied_weights_stay_tied(way: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = opened(written(Tied(), (torch.randint(11, (3, 5)),), way, tmp_path)).model
    assert model is not None
    assert model.get_parameter("head.weight") is model.get_parameter("table.weight")
    assert len(list(copy.deepcopy(model).parameters())) == 3


@pytest.mark.parametrize("way", WAYS)
def test_torchs_own_layers_are_themselves(way: str, tmp_path: Path) -> None:
    path = written(net("CNN", NET).train(), drawn("CNN", 4), way, tmp_path)
    kinds = {type(module) for module in opened(path).model.modules()}  # type: ignore[union-attr]
    assert {nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Linear} <= kinds
    path = written(net("encoder", NET).train(), drawn("encoder", 4), way, tmp_path)
    kinds = {type(module) for module in opened(path).model.modules()}  # type: ignore[union-attr]
    assert {nn.LayerNorm, nn.Dropout, nn.Linear} <= kinds
    assert (nn.MultiheadAttention in kinds) == (way == "scripted")


@pytest.mark.parametrize("way", WAYS)
def test_a_loan_puts_the_model_back(way: str, tmp_path: Path) -> None:
    inputs = drawn("CNN", 4)
    model = opened(written(net("CNN", NET).train(), inputs, way, tmp_path)).model
    assert model is not None
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with borrowed(model, training=True):
        model(*inputs)
        for parameter in model.parameters():
            parameter.data.mul_(2)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_example_inputs_are_the_sample(tmp_path: Path) -> None:
    inputs = drawn("MLP", 4)
    loaded = opened(written(net("MLP", NET), inputs, "exported", tmp_path))
    args, kwargs = loaded.sample
    assert kwargs == {}
    assert all(torch.equal(a, b) for a, b in zip(args, inputs, strict=True))


def test_a_batch_of_another_size_is_told_apart_from_one_that_may_vary(tmp_path: Path) -> None:
    model = opened(written(net("MLP", NET), drawn("MLP", 4), "exported", tmp_path)).model
    assert model is not None
    batch = [(drawn("MLP", 5), torch.zeros(5, 1))]
    with pytest.raises(BadData, match="give batches of 4"):
        gradaudit.audit(model, batch, settings=Settings(effort="quick"))


def test_data_is_cut_into_batches_of_the_one_size(tmp_path: Path) -> None:
    path = written(kind.net(), (kind.data()["x"][:16],), "exported", tmp_path)
    save_file(kind.data(), tmp_path / "data.safetensors")
    given = (str(path), "--data", "data.safetensors", "--fail-on", "never")
    report = audited(*given, cwd=tmp_path, expect=0)
    assert report["measurements"]["sample"]["batch_size"] == 16


def test_dynamic_sizes_stay_dynamic_also_in_copies(tmp_path: Path) -> None:
    rows = torch.export.Dim("rows", min=2, max=64)
    with unwarned():
        program = torch.export.export(
            net("CNN", NET).train(), drawn("CNN", 4), dynamic_shapes=({0: rows},)
        )
        torch.export.save(program, tmp_path / "model.pt2")
    model = opened(tmp_path / "model.pt2").model
    assert model is not None
    assert len(copy.deepcopy(model)(*drawn("CNN", 7))) == 7


def test_frozen_weights_are_parameters(tmp_path: Path) -> None:
    inputs = drawn("MLP", 4)
    with unwarned():
        script = torch.jit.freeze(torch.jit.script(net("MLP", NET).eval()))
        script.save(tmp_path / "model.pt")
    loaded = opened(tmp_path / "model.pt")
    assert loaded.model is not None
    assert any("frozen" in note for note in loaded.notes)
    sizes = sorted(p.numel() for p in net("MLP", NET).parameters())
    assert sorted(p.numel() for p in loaded.model.parameters()) == sizes
    torch.testing.assert_close(loaded.model(*inputs), script(*inputs))
    copied = copy.deepcopy(loaded.model)
    torch.autograd.grad(copied(*inputs).sum(), list(copied.parameters()))


class Stateful(nn.Module):
    """Plain attributes, containers, loops, ``with`` and early errors."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.register_buffer("seen", torch.zeros(1))
        self.calls = 0
        self.scales: dict[str, float] = {"one": 1.0, "two": 2.0}

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, int]:
        kept: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            x = torch.tanh(layer(x)) + x * self.scales["one" if number == 0 else "two"]
            kept.append(x)
        if mask is not None:
            x = x.masked_fill(mask, float("-inf"))
        with torch.no_grad():
            self.seen += 1
        self.calls += 1
        count = 0
        while count < 3 and bool(x.sum() > -1e9):
            count += 1
        if len(f"{count} of {x.shape}") > 1000:
            raise ValueError("too long")
        return torch.stack(kept).mean(0)[:, :2] * (count // 2 % 2 + 1), self.calls


def test_code_with_state_and_control_flow_runs_as_torch_runs_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = written(Stateful(), (), "scripted", tmp_path)
    model, given = opened(path).model, torch.randn(5, 4)
    assert model is not None
    with unwarned():
        script = torch.jit.load(str(path))
        for _ in range(3):
            (own, calls), (theirs, told) = model(given), script(given)
            torch.testing.assert_close(own, theirs)
            assert calls == told
    assert torch.equal(model.get_buffer("seen"), torch.tensor([3.0]))


def test_what_only_torchs_runtime_can_run_is_run_by_it_when_trusted(tmp_path: Path) -> None:
    class Seeded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            torch.manual_seed(3)
            return self.layer(x)  # type: ignore[no-any-return]

    path = written(Seeded(), (), "scripted", tmp_path)
    with pytest.raises(RefusedFile, match=r"torch\.manual_seed.*--trust"):
        opened(path)
    with unwarned():
        loaded = opened(path, trust=True)
        assert isinstance(loaded.model, Compiled)
        assert set(dict(loaded.model.named_parameters())) == {"layer.weight", "layer.bias"}
        assert loaded.not_measured
        batch = [(torch.randn(8, 4), torch.randn(8, 1))]
        report = gradaudit.audit(loaded.model, batch, settings=Settings(effort="quick"))
    assert [row.parameter for row in report.measurements.weights] == ["layer.weight"]


def test_inspecting_lists_tensors_and_operators(tmp_path: Path) -> None:
    inputs = drawn("MLP", 4)
    found: dict[str, Any] = {
        "pt2": inspect_exported(written(net("MLP", NET), inputs, "exported", tmp_path)),
        "torchscript": inspect_torchscript(written(net("MLP", NET), inputs, "traced", tmp_path)),
    }
    sizes = {name: tuple(p.shape) for name, p in net("MLP", NET).named_parameters()}
    for named, contents in found.items():
        assert contents.kind == named
        assert contents.trust == "none"
        assert {each.name: each.shape for each in contents.tensors} == sizes
        assert {each.standing for each in contents.globals} == {"allowed"}
        assert any("linear" in each.name for each in contents.globals)


def test_inspecting_marks_what_runs_commands_in_example_inputs(tmp_path: Path) -> None:
    path = written(net("MLP", NET), drawn("MLP", 4), "exported", tmp_path)
    stream = io.BytesIO()
    torch.save(Bomb(), stream)
    changed(path, {INPUTS: stream.getvalue()})
    found = inspect_exported(path)
    assert found.trust == "needed"
    assert found.why == "it asks for what no training code writes; do not give it"
    standings = {each.name: each.standing for each in found.globals}
    assert standings["posix.system"] == "dangerous"
    with pytest.raises(RefusedFile, match=r"posix\.system \(DANGEROUS\).*do not trust this file"):
        opened(path)


class Bomb:
    def __reduce__(self) -> Any:
        return os.system, ("exit 1",)


def test_a_record_unpacks_to_no_more_than_it_says(tmp_path: Path) -> None:
    path, size = tmp_path / "model.pt", 1 << 26
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(size))
    raw = path.read_bytes()
    assert raw.count(struct.pack("<I", size)) == 2  # in front of the entry, and in the directory
    path.write_bytes(raw.replace(struct.pack("<I", size), struct.pack("<I", 100)))
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableFile, match="damaged"), stored_records(path) as records:
            records.read("data.pkl")
        assert tracemalloc.get_traced_memory()[1] < size / 8
    finally:
        tracemalloc.stop()


class Functional(nn.Module):
    """Dropout that no layer switches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.layer(x), 0.5, self.training)


def test_what_an_export_fixes_is_told(tmp_path: Path) -> None:
    loaded = opened(written(Functional().eval(), (torch.zeros(3, 4),), "exported", tmp_path))
    assert [each.what for each in loaded.not_measured] == ["dropout and batch norm in training"]
    assert "Functional" in loaded.not_measured[0].why
    loaded = opened(written(Functional().train(), (torch.zeros(3, 4),), "exported", tmp_path))
    assert not loaded.not_measured


def test_layers_of_an_export_in_evaluation_can_be_trained(tmp_path: Path) -> None:
    model = opened(written(net("CNN", NET).eval(), drawn("CNN", 4), "exported", tmp_path)).model
    assert model is not None
    assert not model.training
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    before = norm.running_mean.clone()  # type: ignore[union-attr]
    model.train()(*drawn("CNN", 4))
    assert not torch.equal(before, norm.running_mean)  # type: ignore[arg-type]


def test_inputs_are_taken_by_name_too(tmp_path: Path) -> None:
    inputs = drawn("two GRUs", 4)
    model = opened(written(net("two GRUs", NET), inputs, "exported", tmp_path)).model
    assert model is not None
    named = dict(zip(("source", "target"), inputs, strict=True))
    torch.testing.assert_close(model(**named), model(*inputs))
    with pytest.raises(TypeError, match="source, target"):
        model(inputs[0], other=inputs[1])


def test_a_graph_in_the_graph_runs(tmp_path: Path) -> None:
    class Guarded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                scale = x.abs().mean() + 1
            return self.layer(x) / scale  # type: ignore[no-any-return]

    torch.manual_seed(0)
    net_, given = Guarded(), torch.randn(3, 4)
    model = opened(written(net_, (given,), "exported", tmp_path)).model
    assert model is not None
    torch.testing.assert_close(copy.deepcopy(model)(given), net_(given))
    assert opened(tmp_path / "model.pt2", trust=True).format == "pt2"
