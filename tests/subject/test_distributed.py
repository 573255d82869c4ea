"""Folders of torch.distributed.checkpoint, written by torch itself: read without its unpickling."""

from __future__ import annotations

import io
import os
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict import get_state_dict

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.subject.formats.distributed.opening import inspect_distributed

NET = """\
def build():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.BatchNorm1d(6), nn.Linear(6, 1))
"""


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.BatchNorm1d(6), nn.Linear(6, 1))


class Sharded(torch.Tensor):
    """A tensor that is saved in blocks, as those of a mesh of devices are."""

    whole: torch.Tensor
    blocks: list[tuple[slice, ...]]

    @staticmethod
    def of(whole: torch.Tensor, blocks: list[tuple[slice, ...]]) -> Sharded:
        made = whole.as_subclass(Sharded)
        made.whole, made.blocks = whole, blocks
        return made

    def __create_write_items__(self, fqn: str, _: Any) -> list[WriteItem]:
        properties = TensorProperties.create_from_tensor(self.whole)
        return [
            WriteItem(
                MetadataIndex(fqn, chunk.offsets),
                WriteItemType.SHARD,
                tensor_data=TensorWriteData(chunk, properties, self.whole.size()),
            )
            for chunk in self.__create_chunk_list__()
        ]

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        return [
            ChunkStorageMetadata(torch.Size([p.start for p in block]), self.whole[block].size())
            for block in self.blocks
        ]

    def __get_tensor_shard__(self, index: MetadataIndex) -> torch.Tensor:
        assert index.offset is not None
        block = next(b for b in self.blocks if tuple(p.start for p in b) == tuple(index.offset))
        return self.whole[block]


def save(state: dict[str, Any], path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process only
        dcp.save(state, checkpoint_id=path)
    return path


@pytest.fixture
def trained(folder: Path, write: Callable[..., Path]) -> Path:
    """A net with its optimizer's state, after a step."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.8, 0.99))
    model(torch.randn(8, 4)).sum().backward()
    optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights, state = get_state_dict(model, optimizer)
    write("net.py", NET)
    return save({"model": weights, "optimizer": state, "step": 7}, folder / "trained")


def stepped(path: Path) -> dict[str, torch.Tensor]:
    """The weights as torch reads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted: dict[str, Any] = {"model": net().state_dict()}
        dcp.load(wanted, checkpoint_id=path)
    return dict(wanted["model"])


def change(path: Path, how: Callable[[Metadata], object]) -> None:
    """Write the metadata anew after ``how`` has changed it."""
    found = pickle.loads((path / ".metadata").read_bytes())
    how(found)
    (path / ".metadata").write_bytes(pickle.dumps(found))


class TestReading:
    def test_weights_are_as_torch_reads_them(self, opened, trained: Path) -> None:
        found, wanted = opened("trained"), stepped(trained)
        assert found.row.format == "distributed checkpoint"
        assert found.weights.keys() == wanted.keys()
        assert all(torch.equal(found.weights[name], value) for name, value in wanted.items())

    def test_the_optimizer_is_the_recipe(self, opened, trained: Path) -> None:
        recipe = opened("trained").recipe
        assert (recipe.optimizer, recipe.lr, recipe.betas) == ("adamw", 3e-4, (0.8, 0.99))

    def test_into_a_model(self, opened, trained: Path) -> None:
        model = opened("trained", build="net.py:build").model
        wanted = stepped(trained)
        assert all(torch.equal(v, wanted[name]) for name, v in model.state_dict().items())

    def test_weights_alone(self, opened, folder: Path) -> None:
        save(net().state_dict(), folder / "flat")
        assert set(opened("flat").weights) == set(net().state_dict())

    @pytest.mark.parametrize(
        "blocks",
        [
            [(slice(0, 3), slice(0, 6)), (slice(3, 5), slice(0, 6))],
            [(slice(0, 5), slice(0, 4)), (slice(0, 5), slice(4, 6))],
            [(slice(i, i + n), slice(j, j + 3)) for i, n in ((0, 2), (2, 3)) for j in (0, 3)],
            [(slice(0, 2), slice(0, 6)), (slice(2, 5), slice(0, 1)), (slice(2, 5), slice(1, 6))],
        ],
        ids=["rows", "columns", "mesh", "irregular"],
    )
    def test_chunks_are_put_together(self, opened, folder: Path, blocks: Any) -> None:
        whole = torch.arange(30.0).view(5, 6).bfloat16()
        save({"model": {"a": Sharded.of(whole, blocks), "b": torch.ones(2)}}, folder / "parts")
        found = opened("parts").weights
        assert found["a"].dtype == torch.bfloat16
        assert torch.equal(found["a"], whole)

    def test_contents(self, trained: Path) -> None:
        found = inspect_distributed(trained)
        entry = next(t for t in found.tensors if t.name == "model.0.weight")
        assert (entry.dtype, entry.shape) == ("float32", (6, 4))
        assert entry.size >= 96
        assert (found.kind, found.trust) == ("distributed checkpoint", "none")
        assert {each.standing for each in found.globals} == {"allowed"}
        assert found.size == sum(f.stat().st_size for f in trained.iterdir())


class Bomb:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


class TestHostileMetadata:
    @pytest.mark.parametrize("protocol", range(6))
    def test_code_is_not_run(self, line, trained: Path, folder: Path, protocol: int) -> None:
        found = pickle.loads((trained / ".metadata").read_bytes())
        found.planner_data = {"a": Bomb(folder / "canary")}
        (trained / ".metadata").write_bytes(pickle.dumps(found, protocol))
        for trust in (False, True):
            text = line(RefusedFile, "trained", trust=trust)
            assert "mkdir (DANGEROUS)" in text
        contents = inspect_distributed(trained)
        assert contents.trust == "never"
        assert [g.name for g in contents.globals if g.standing == "dangerous"] == [
            f"{os.name}.mkdir"
        ]
        assert not (folder / "canary").exists()

    @pytest.mark.parametrize(
        "code",
        [
            b"ctorch\nload\n(S'x'\ntR.",
            b"cbuiltins\neval\n(S'1'\ntR.",
            b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c\x01x\x85R.",
            b"ctorch.distributed.checkpoint.metadata\nMetadata.__init__\n.",
            b"ctorch.distributed.checkpoint.filesystem\nFileSystemReader\n(S'x'\ntR.",
            b"cpathlib\nPath.unlink\n(S'net.py'\ntR.",
        ],
    )
    def test_names_beyond_the_records_are_refused(self, line, trained: Path, code: bytes) -> None:
        (trained / ".metadata").write_bytes(code)
        assert "would run code to be opened: it needs" in line(RefusedFile, "trained")

    @pytest.mark.parametrize(
        "text",
        [
            b"", b"x", b"}.", b"N.", b"(lp0\n.", b"ctorch\nSize\n(lp0\nS'a'\natR.",
            pickle.dumps({"state_dict_metadata": {}}), pickle.dumps(torch.Size([1])),
            b"ctorch.distributed.checkpoint.metadata\nMetadata\n)\x81.",
            b"ctorch.distributed.checkpoint.metadata\nMetadata\n}b.",
            b"ctorch.distributed.checkpoint.metadata\nMetadata\n)\x81(I1\nI2\nl b.",
            b"\x80\x04]r\xff\xff\xff\x7f.",
        ],
    )  # fmt: skip
    def test_no_metadata(self, line, trained: Path, text: bytes) -> None:
        (trained / ".metadata").write_bytes(text)
        assert "metadata" in line(UnreadableFile, "trained")

    @pytest.mark.parametrize("name", ["pathlib\nPosixPath", "torch.serialization\n_get_layout"])
    def test_lists_of_lists_are_not_written_out(self, line, trained: Path, name: str) -> None:
        """As text they would be larger than any memory."""
        each = (b"(lp%d\ng%d\nag%d\na0" % (n, n - 1, n - 1) for n in range(1, 40))
        made = b"(lp0\n0" + b"".join(each)
        (trained / ".metadata").write_bytes(made + b"c" + name.encode() + b"\n(g39\ntR.")
        assert "metadata" in line(UnreadableFile, "trained")

    def test_a_large_one_is_not_read(self, line, trained: Path) -> None:
        with (trained / ".metadata").open("r+b") as stream:
            stream.truncate(300 << 20)
        assert "bytes; expected at most" in line(RefusedFile, "trained")

    def test_cut_short(self, line, trained: Path) -> None:
        text = (trained / ".metadata").read_bytes()
        for size in range(0, len(text), len(text) // 23):
            (trained / ".metadata").write_bytes(text[:size])
            assert "metadata" in line(UnreadableFile, "trained")


WEIGHT = "model.0.weight"


def _info(**changes: Any) -> Callable[[Metadata], None]:
    """Change where the first weight lies."""

    def how(found: Metadata) -> None:
        index = next(index for index in found.storage_data if index.fqn == WEIGHT)
        found.storage_data[index] = replace(found.storage_data[index], **changes)

    return how


def _entry(**changes: Any) -> Callable[[Metadata], None]:
    """Change what is said of the first weight."""

    def how(found: Metadata) -> None:
        for name, value in changes.items():
            setattr(found.state_dict_metadata[WEIGHT], name, value)

    return how


def _chunks(*parts: tuple[list[int], list[int]]) -> Callable[[Metadata], None]:
    chunks = [ChunkStorageMetadata(torch.Size(o), torch.Size(s)) for o, s in parts]

    def how(found: Metadata) -> None:
        _entry(chunks=chunks)(found)
        info = next(info for i, info in found.storage_data.items() if i.fqn == WEIGHT)
        found.storage_data |= {MetadataIndex(WEIGHT, o): info for o, _ in parts}

    return how


class TestHostilePlaces:
    @pytest.mark.parametrize(
        ("kind", "how", "says"),
        [
            (RefusedFile, _info(relative_path="../net.py"), "names a file outside itself"),
            (RefusedFile, _info(relative_path="/etc/passwd"), "names a file outside itself"),
            (UnreadableFile, _info(relative_path="__9_9.distcp"), "lacks the file"),
            (UnreadableFile, _info(relative_path=7), "does not say where"),
            (RefusedFile, _info(offset=-1), "claims 96 bytes or more"),
            (RefusedFile, _info(offset=1 << 60), "claims 96 bytes or more"),
            (RefusedFile, _info(length=95), "claims 96 bytes or more"),
            (RefusedFile, _info(length=1 << 60), "claims 96 bytes or more"),
            (UnreadableFile, _info(transform_descriptors=["zstd"]), "stored compressed"),
            (UnreadableFile, _info(offset=3), "is damaged"),
            (UnreadableFile, _entry(size=torch.Size([6, 5])), "do not make up the tensor"),
            (RefusedFile, _entry(size=torch.Size([2, 2])), "lies outside it"),
            (RefusedFile, _entry(size=torch.Size([1 << 40, 1 << 40])), "that no file holds"),
            (UnreadableFile, _entry(size=torch.Size([-1, 4])), "gives no sizes"),
            (UnreadableFile, _entry(size=torch.Size([1] * 70)), "gives no sizes"),
            (UnreadableFile, _entry(chunks=[]), "do not make up the tensor"),
            (UnreadableFile, _entry(chunks=5), "does not say which parts"),
            (UnreadableFile, _entry(properties=None), "does not say the type"),
            (
                UnreadableFile,
                _entry(properties=TensorProperties(dtype=torch.int32)),
                "is not what .metadata says; expected torch.int32",
            ),
            (UnreadableFile, _chunks(([0, 0], [3, 4]), ([2, 0], [3, 4])), "do not make up"),
            (UnreadableFile, _chunks(([0, 0], [4, 4]), ([2, 0], [2, 4])), "do not make up"),
            (UnreadableFile, lambda m: setattr(m, "storage_data", {}), "no storage_data"),
            (UnreadableFile, lambda m: setattr(m, "storage_data", {"a": 1}), "what lies where"),
            (UnreadableFile, lambda m: m.state_dict_metadata.update({5: None}), "is no text"),
            (UnreadableFile, lambda m: m.state_dict_metadata.update(a=None), "what 'a' is"),
            (
                UnreadableFile,
                lambda m: m.planner_data.update({WEIGHT: ("model", "0.bias")}),
                "twice",
            ),
            (
                UnreadableFile,
                lambda m: m.planner_data.update({WEIGHT: ("model", "0.bias", "x")}),
                "",
            ),
        ],
        ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
    )
    def test_what_the_files_do_not_bear_out(
        self, line, trained: Path, kind: Any, how: Any, says: str
    ) -> None:
        change(trained, how)
        assert says in line(kind, "trained", build="net.py:build")

    def test_a_repeated_tensor(self, line, trained: Path) -> None:
        """One stored value shown as many, in an archive that is filled up with others."""
        stream, count = io.BytesIO(), (1 << 24) + 1
        torch.save([torch.ones(1).expand(count), torch.zeros(count)], stream)
        with (trained / "__0_0.distcp").open("ab") as file:
            begin, length = file.tell(), file.write(stream.getbuffer())
        change(trained, _entry(size=torch.Size([count])))
        change(trained, _chunks(([0], [count])))

        def how(found: Metadata) -> None:
            index = MetadataIndex(WEIGHT, [0])
            found.storage_data[index] = replace(
                found.storage_data[index], offset=begin, length=length
            )

        change(trained, how)
        text = line(RefusedFile, "trained", build="net.py:build")
        assert f"declares a tensor of {count:,} elements" in text

    def test_pipes_and_links(self, line, trained: Path, folder: Path) -> None:
        shard = trained / "__0_0.distcp"
        shard.rename(folder / "outside")
        shard.symlink_to(folder / "outside")
        assert "is a link that leads out of trained" in line(RefusedFile, "trained")
        shard.unlink()
        os.mkfifo(shard)
        assert "is not a regular file" in line(UnreadableFile, "trained")

    def test_code_in_an_item_is_not_run(self, line, opened, trained: Path, folder: Path) -> None:
        """In place of a tensor it is refused; beside the weights it is left alone."""
        stream = io.BytesIO()
        torch.save(Bomb(folder / "canary"), stream)
        with (trained / "__0_0.distcp").open("ab") as file:
            begin = file.tell()
            file.write(stream.getvalue())

        def hide(found: Metadata) -> None:
            index = next(index for index in found.storage_data if index.fqn == "step")
            found.storage_data[index] = replace(
                found.storage_data[index], offset=begin, length=len(stream.getvalue())
            )

        change(trained, hide)
        assert opened("trained").weights
        change(trained, _info(offset=begin, length=len(stream.getvalue())))
        text = line(RefusedFile, "trained", build="net.py:build")
        assert "is not a plain tensor" in text
        assert "mkdir" in text
        assert not (folder / "canary").exists()
