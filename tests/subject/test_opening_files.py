"""Model files: what opens, what is refused, and what is told about broken ones."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gradaudit.errors import ModelError, RefusedFile, UnreadableFile, UsageError
from gradaudit.subject.formats.loaded import file_digest
from gradaudit.subject.formats.pickles.allowed import allowed_globals, module_classes


class Mine(nn.Linear):
    """A layer that torch does not know."""


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch exploded",)


def _quietly(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


ENCODER = nn.TransformerEncoderLayer
STOCK = {
    "mlp": lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2)),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)),
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
    "encoder relu": lambda: ENCODER(8, 2),
    "encoder gelu": lambda: ENCODER(8, 2, activation="gelu"),
    "encoder tanh": lambda: ENCODER(8, 2, activation=torch.tanh),
    "encoder silu": lambda: ENCODER(8, 2, activation=nn.functional.silu),
    "encoder module": lambda: ENCODER(8, 2, activation=nn.Mish()),
    "encoders": lambda: nn.TransformerEncoder(ENCODER(8, 2, batch_first=True), 2),
    "transformer": lambda: nn.Transformer(8, 2, 1, 1, batch_first=True),
    "spectral norm": lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(4, 4))),
    "weight norm": lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4))),
    "parallel": lambda: nn.DataParallel(nn.Linear(4, 2)),
    "lists": lambda: nn.Sequential(OrderedDict(a=nn.Linear(4, 4), b=nn.Softmax(-1))),
    "embedding": lambda: nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4), nn.GELU()),
    "half": lambda: nn.Linear(4, 2).bfloat16(),
}  # fmt: skip


@pytest.mark.parametrize("name", STOCK)
def test_torchs_own_layers_open_without_trust(opened, name: str) -> None:
    model = _quietly(STOCK[name])
    torch.save(model, "model.pt")
    found = opened("model.pt")
    assert found.row.format == "pickled module"
    saved = {k.removeprefix("module."): v for k, v in model.state_dict().items()}
    assert all(torch.equal(v, saved[k]) for k, v in found.model.state_dict().items())


def test_the_list_of_layers_is_exact() -> None:
    names = set(allowed_globals())
    assert len(module_classes()) > 150
    assert {"torch.nn.modules.linear.Linear", "torch._C._nn.gelu"} <= names
    assert not names & {"builtins.eval", "builtins.exec", "os.system", "functools.reduce"}
    for name, cls in module_classes().items():
        assert name == f"{cls.__module__}.{cls.__qualname__}"


def test_onnx(opened, line) -> None:
    from onnx import TensorProto, helper, numpy_helper, save

    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in "xy"]
    nodes = [helper.make_node("Mul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    scale = numpy_helper.from_array(torch.rand(4).numpy(), "w")
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], [scale])
    save(helper.make_model(graph), "model.pt")  # by its content, whatever its name
    found = opened("model.pt")
    assert (found.row.format, found.row.parameters) == ("onnx", 4)
    x = torch.randn(3, 4)
    assert torch.equal(found.model(x), torch.relu(x * torch.tensor(numpy_helper.to_array(scale))))
    whole = Path("model.pt").read_bytes()
    Path("cut.onnx").write_bytes(whole[:-9])
    assert "cut.onnx is damaged or truncated" in line(UnreadableFile, "cut.onnx")
    Path("turned.onnx").write_bytes(whole[2:] + whole[:2])  # fields may come in any order
    assert opened("turned.onnx").row.format == "onnx"
    for content in (b"\x08", b"\x08\x0a", bytes(range(200, 256))):
        Path("odd.onnx").write_bytes(content)
        assert line(UnreadableFile, "odd.onnx").startswith("odd.onnx ")


def test_suffix_does_not_decide(opened) -> None:
    torch.save(nn.Linear(4, 2), "model.safetensors")
    save_file(nn.Linear(4, 2).state_dict(), "weights.pt")
    assert opened("model.safetensors").row.format == "pickled module"
    assert opened("weights.pt").row.format == "safetensors"


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", None])
def test_weights_only(opened, key: str | None) -> None:
    weights = nn.Linear(4, 2).state_dict()
    torch.save({key: weights, "epoch": 3} if key else weights, "weights.pt")
    found = opened("weights.pt")
    assert found.model is None
    assert found.row.format == ("training checkpoint" if key else "state dict")
    assert found.row.parameters == 10
    assert set(found.weights) == {"weight", "bias"}
    assert (found.batches, found.objective, found.sample.source) == ((), None, "none")
    assert "--build" in found.not_measured[0].why


def test_build(write, opened, line) -> None:
    write(
        "net.py",
        "def make():\n    return nn.Linear(4, 2)\n"
        "def other():\n    return nn.Linear(5, 3)\n"
        "def extra():\n    return nn.Sequential(nn.Linear(4, 2))\n",
    )
    model = nn.Linear(4, 2)
    torch.save(model.state_dict(), "weights.pt")
    save_file(model.state_dict(), "weights.safetensors")
    for name in ("weights.pt", "weights.safetensors"):
        found = opened(name, build="net.py:make")
        assert torch.equal(found.model.weight, model.weight)
    text = line(ModelError, "weights.pt", build="net.py:other")
    assert "weight [2, 4] against [3, 5]" in text
    text = line(ModelError, "weights.pt", build="net.py:extra")
    assert "not in the file 2: 0.weight, 0.bias" in text
    assert "not in the model 2: weight, bias" in text
    assert "names no code" in line(UsageError, "weights.pt", build="net.py")


def test_legacy_format(opened, line) -> None:
    model = nn.Linear(4, 2)
    torch.save(model.state_dict(), "old.pt", _use_new_zipfile_serialization=False)
    assert opened("old.pt").row.format == "legacy state dict"
    _quietly(lambda: torch.save(model, "module.pt", _use_new_zipfile_serialization=False))
    assert "if you made this file, add --trust" in line(RefusedFile, "module.pt")
    assert torch.equal(opened("module.pt", trust=True).model.weight, model.weight)


def test_unknown_classes_are_refused_and_listed(opened, line) -> None:
    torch.save(nn.Sequential(Mine(4, 2)), "mine.pt")
    text = line(RefusedFile, "mine.pt")
    assert f"it needs {__name__}.Mine;" in text
    assert text.endswith("if you made this file, add --trust")
    assert opened("mine.pt", trust=True).row.parameters == 10


def test_code_in_a_pickle_never_runs(line, folder: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(2)}, "x": Bomb()}, "bomb.pt")
    assert "posix.system" in line(RefusedFile, "bomb.pt")
    torch.save([Bomb()], "bomb.pt", _use_new_zipfile_serialization=False)
    assert "posix.system" in line(RefusedFile, "bomb.pt")
    Path("plain.pt").write_bytes(pickle.dumps(Bomb()))
    assert "a plain pickle" in line(UnreadableFile, "plain.pt")
    assert not (folder / "exploded").exists()


def test_layers_are_built_never_called(line) -> None:
    """A pickle that *calls* Linear(10**6, 10**6) would allocate four terabytes."""

    class Big:
        def __reduce__(self):
            return nn.Linear, (10**6, 10**6)

    class Bytes:
        def __reduce__(self):
            return bytearray, (10**12,)

    for bomb, name in ((Big(), "linear.Linear"), (Bytes(), "builtins.bytearray")):
        torch.save({"model": bomb}, "big.pt")
        assert name in line(RefusedFile, "big.pt")


def test_trusted_file_of_a_script_that_is_not_here(write, opened, line) -> None:
    write("parts.py", "class Net(nn.Linear):\n    pass\n")
    write("model.py", "import parts\nnet = parts.Net(4, 2)\n")
    torch.save(opened("model.py:net").model, "net.pt")
    Path("parts.py").unlink()
    import sys

    del sys.modules["parts"]
    text = line(UnreadableFile, "net.pt", trust=True)
    assert "needs code that is not here" in text
    write("parts.py", "class Net(nn.Linear):\n    pass\n")
    assert opened("net.pt", trust=True).row.name == "Net"


class TestBroken:
    def test_missing(self, line) -> None:
        torch.save(nn.Linear(2, 2), "model.pt")
        assert (
            line(UnreadableFile, "modell.pt") == "no such file: modell.pt; did you mean model.pt?"
        )

    @pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
    def test_truncated_zip(self, line, share: float) -> None:
        torch.save(nn.Linear(50, 50), "model.pt")
        data = Path("model.pt").read_bytes()
        Path("model.pt").write_bytes(data[: int(len(data) * share)])
        assert "damaged or truncated zip archive" in line(UnreadableFile, "model.pt")

    @pytest.mark.parametrize("share", [0.3, 0.9])
    def test_truncated_legacy(self, line, share: float) -> None:
        weights = nn.Linear(50, 50).state_dict()
        torch.save(weights, "model.pt", _use_new_zipfile_serialization=False)
        data = Path("model.pt").read_bytes()
        Path("model.pt").write_bytes(data[: int(len(data) * share)])
        assert "the file is damaged or hostile" in line(RefusedFile, "model.pt")

    def test_truncated_safetensors(self, line) -> None:
        save_file(nn.Linear(50, 50).state_dict(), "w.safetensors")
        data = Path("w.safetensors").read_bytes()
        Path("w.safetensors").write_bytes(data[:-500])
        assert "truncated safetensors" in line(UnreadableFile, "w.safetensors")

    def test_empty(self, line) -> None:
        Path("model.pt").touch()
        assert line(UnreadableFile, "model.pt").startswith("model.pt is empty")

    @pytest.mark.parametrize(
        ("content", "found"),
        [(b"hello there\n", "found text"), ("später".encode() * 200, "found text"),
         (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
         (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"), (bytes(range(256)), "unknown binary"),
         (b"\x93NUMPY\x01\x00", "--data")],
    )  # fmt: skip
    def test_not_a_model(self, line, content: bytes, found: str) -> None:
        Path("model.pt").write_bytes(content)
        assert found in line(UnreadableFile, "model.pt")

    def test_directory_and_fifo(self, line, folder: Path) -> None:
        (folder / "sub").mkdir()
        assert "sub is a directory" in line(UnreadableFile, "sub")
        os.mkfifo("pipe.pt")
        assert "not a regular file" in line(UnreadableFile, "pipe.pt")

    def test_unreadable(self, line) -> None:
        torch.save(nn.Linear(2, 2), "model.pt")
        Path("loop.pt").symlink_to("loop.pt")
        assert "no such file" in line(UnreadableFile, "loop.pt")

    @pytest.mark.parametrize(
        ("content", "found"),
        [(torch.ones(3, 2), "a tensor of shape [3, 2]"), ([1, 2], "a list of 2 items"),
         ({"epoch": 3}, "the keys 'epoch'"), ((torch.ones(2), torch.ones(2)), "--data")],
    )  # fmt: skip
    def test_no_model_inside(self, line, content: object, found: str) -> None:
        torch.save(content, "model.pt")
        assert found in line(UnreadableFile, "model.pt")

    def test_other_zip(self, line) -> None:
        with zipfile.ZipFile("model.pt", "w") as archive:
            archive.writestr("a.txt", "hello")
        assert "without a model" in line(UnreadableFile, "model.pt")


class TestHostile:
    """Files that claim more than they store are refused before anything is allocated."""

    def test_deflated_archive(self, line) -> None:
        torch.save({"w": torch.zeros(4_000_000)}, "plain.pt")
        with (
            zipfile.ZipFile("plain.pt") as old,
            zipfile.ZipFile("model.pt", "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for name in old.namelist():
                new.writestr(name, old.read(name))
        assert "compressed and unpacks to 16," in line(RefusedFile, "model.pt")

    def test_expanded_tensor(self, line) -> None:
        torch.save({"w": torch.ones(1).expand(10**12)}, "model.pt")
        assert "a tensor of 1,000,000,000,000 elements" in line(RefusedFile, "model.pt")
        torch.save({"w": torch.ones(1).expand(10)}, "model.pt")
        torch.save(
            {"w": torch.ones(1).expand(10**12)}, "old.pt", _use_new_zipfile_serialization=False
        )
        assert "1,000,000,000,000 elements" in line(RefusedFile, "old.pt")

    def test_storage_larger_than_its_record(self, line) -> None:
        torch.save({"w": torch.ones(1000)}, "plain.pt")
        with zipfile.ZipFile("plain.pt") as old, zipfile.ZipFile("model.pt", "w") as new:
            for name in old.namelist():
                data = old.read(name)
                new.writestr(name, data[:16] if name.endswith("data/0") else data)
        text = line(RefusedFile, "model.pt")
        assert "declares a storage of 4,000 bytes" in text
        assert "found 16" in text

    def test_modules_without_state_or_in_a_circle(self, line) -> None:
        circle = nn.Sequential(nn.Linear(2, 2))
        circle.append(circle)
        torch.save(circle, "circle.pt")
        assert "the module in circle.pt is damaged" in line(UnreadableFile, "circle.pt")
        hollow = nn.Linear(2, 2)
        del hollow.__dict__["_parameters"]
        torch.save(nn.Sequential(hollow), "hollow.pt")
        assert "is damaged" in line(UnreadableFile, "hollow.pt")

    def test_small_repeats_are_fine(self, opened) -> None:
        torch.save({"w": torch.ones(1).expand(100), "v": torch.ones(2, 2)}, "model.pt")
        assert opened("model.pt").weights["w"].shape == (100,)


class TestNotOpenedYet:
    def test_torch_package(self, line) -> None:
        from torch.package import PackageExporter

        with PackageExporter("model.pt") as exporter:
            exporter.save_pickle("a", "b.pkl", {"a": 1})
        assert "torch.package" in line(RefusedFile, "model.pt")
        assert "torch.package" in line(RefusedFile, "model.pt", trust=True)

    @pytest.mark.parametrize("trust", [False, True])
    def test_exported_program(self, opened, trust: bool) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        program = _quietly(lambda: torch.export.export(model, (torch.randn(3, 4),)))
        _quietly(lambda: torch.export.save(program, "model.pt2"))
        found = _quietly(lambda: opened("model.pt2", trust=trust))
        assert (found.row.format, found.sample.source) == ("pt2", "carried")
        x = found.batches[0].inputs[0]
        assert torch.allclose(found.model(x), model(x))


def test_second_open_of_the_same_file(opened) -> None:
    torch.save(nn.Linear(4, 2), "model.pt")
    first = opened("model.pt").row
    allowed = set(torch.serialization.get_safe_globals())
    assert opened("model.pt").row == first
    assert set(torch.serialization.get_safe_globals()) == allowed
    assert nn.Linear not in allowed


def test_dry_reading_lists_what_torch_lists() -> None:
    """The stand-in reader against torch's own static scan."""
    from gradaudit.subject.formats.pickles.dry import dry_read

    stream = io.BytesIO()
    torch.save(nn.Sequential(Mine(4, 2), nn.Conv2d(1, 1, 1)), stream)
    stream.seek(0)
    listed = set(torch.serialization.get_unsafe_globals_in_checkpoint(stream))
    with zipfile.ZipFile(stream) as archive:
        dry, _ = dry_read(archive.read("archive/data.pkl"))
    assert listed <= dry.names
    assert len(dry.tensors) == 4
    assert sum(storage.numel for storage in dry.storages.values()) == 12


def test_the_digest_of_a_folder_is_of_its_own_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    before = file_digest(folder)
    (tmp_path / "elsewhere").write_text("x")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "kernel").symlink_to("/proc/kmsg")  # a regular file that never ends
    os.mkfifo(folder / "pipe")
    (folder / "inner").mkdir()
    assert file_digest(folder) == before
    (folder / "weights").write_text("x")
    assert file_digest(folder) != before
