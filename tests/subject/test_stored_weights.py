"""Tensors that stay in their file: values, ties, and files that contradict themselves."""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gradaudit.errors import GradauditError, UnreadableFile
from gradaudit.subject.formats.pickles.dry import dry_read
from gradaudit.subject.formats.safetensors_file import inspect_safetensors, stored_safetensors
from gradaudit.subject.formats.stored_weights import StoredTensor, StoredWeights, is_tensor
from gradaudit.subject.formats.torch_files.opening import open_torch_file
from tests.checkpoints import (
    audited,
    drawn,
    limit_for,
    llama,
    write_safetensors,
    write_shards,
    write_zip,
)

TYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    *(torch.uint16, torch.uint32, torch.uint64, torch.float8_e5m2, torch.float8_e4m3fn),
    *(torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
]


def sample(dtype: torch.dtype) -> Tensor:
    numbers = torch.linspace(-3, 120, 15).reshape(3, 5)
    unsigned = str(dtype).startswith("torch.uint")
    return (numbers.abs() if unsigned else numbers).to(dtype)


def same(found: Tensor, expected: Tensor) -> bool:
    """Bit for bit; some types have no comparison."""
    bits = [t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (found, expected)]
    return found.dtype == expected.dtype and found.shape == expected.shape and torch.equal(*bits)


def opened(path: Path) -> Any:
    return open_torch_file(path, trust=False)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_values_are_those_that_were_saved(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {"x": sample(dtype), "one": sample(dtype)[0, 1], "none": sample(dtype)[:0]}
    torch.save(tensors, tmp_path / "x.pt")
    save_file({n: t.clone() for n, t in tensors.items()}, tmp_path / "x.safetensors")
    for weights in (opened(tmp_path / "x.pt"), stored_safetensors(tmp_path / "x.safetensors")):
        assert list(weights) == sorted(weights) or list(weights) == list(tensors)
        for name, expected in tensors.items():
            held = weights[name]
            found = held.read() if isinstance(held, StoredTensor) else held
            assert same(found, expected), name


def test_views_are_read_by_offset_and_stride_and_ties_are_known(tmp_path: Path) -> None:
    table = torch.randn(6, 4)
    module = nn.Linear(4, 4)
    tree = {
        "state": {"a": table, "tied": table, "turned": table.T, "part": table[2:5, 1:3]},
        "expanded": torch.ones(1, 4).expand(3, 4),
        "parameter": module.weight,
        "epoch": 3,
        "names": ["a", {"b": (1.5, None, True)}],
        "size": torch.Size([2, 3]),
        "raw": b"\0\xff",
    }
    torch.save(tree, tmp_path / "x.pt")
    found = opened(tmp_path / "x.pt")
    assert {k: found[k] for k in ("epoch", "names", "size", "raw")} == {
        k: tree[k] for k in ("epoch", "names", "size", "raw")
    }
    for name, expected in tree["state"].items():  # type: ignore[attr-defined]
        assert same(found["state"][name].read(), expected), name
        assert found["state"][name].read().stride() == expected.stride()
    assert same(found["expanded"].read(), torch.ones(3, 4))
    assert same(found["parameter"].read(), module.weight)
    state = found["state"]
    assert state["a"].storage == state["tied"].storage != state["part"].storage
    assert all(is_tensor(x) for x in state.values())
    assert not is_tensor(state)


def test_nothing_is_read_before_it_is_asked_for_and_nothing_is_kept(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(4), "b": torch.ones(4)}, tmp_path / "x.pt")
    weights = StoredWeights.of(opened(tmp_path / "x.pt"))
    assert (len(weights), weights.entry("a").nbytes, weights.declared("a").is_meta) == (2, 16, True)
    first, again = weights["a"], weights["a"]
    assert first.data_ptr() != again.data_ptr()
    size = (tmp_path / "x.pt").stat().st_size
    with (tmp_path / "x.pt").open("r+b") as stream:
        stream.truncate(size // 4)
    with pytest.raises(UnreadableFile, match="ends too early"):
        _ = weights["b"]
    (tmp_path / "x.pt").unlink()
    with pytest.raises(UnreadableFile, match="cannot be read"):
        _ = weights["a"]


def test_what_lies_in_memory_is_taken_as_it_is() -> None:
    tensors = {"a": torch.ones(2, 2), "b": torch.ones(2, 2).to_sparse(), "c": torch.ones(2)}
    weights = StoredWeights.of(tensors)
    assert all(weights[name] is weights.declared(name) is tensors[name] for name in tensors)
    assert StoredWeights.of(weights) is weights


def test_shards_are_joined(tmp_path: Path) -> None:
    shapes = llama(1, 8, 16, 32)
    write_shards(tmp_path / "model", shapes, drawn(0), most=1_000)
    shards = sorted((tmp_path / "model").glob("*.safetensors"))
    assert len(shards) > 2
    joined = StoredWeights(e for shard in shards for e in stored_safetensors(shard).entries())
    assert {name: tuple(t.shape) for name, t in joined.items()} == shapes


# --- safetensors that break the rules


def with_header(header: object, data: bytes = bytes(16)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin: int = 0, end: int = 16, shape: object = (4,), dtype: object = "F32") -> object:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


TWICE = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}'  # noqa: E501
FAULTS: dict[str, tuple[bytes, str]] = {
    "shorter than a length": (b"\1\0", "a header of"),
    "header past the end": ((1 << 20).to_bytes(8, "little") + b"{}", "a header of 1,048,576"),
    "header over the limit": ((1 << 40).to_bytes(8, "little") + b"{}", "at most 100,000,000"),
    "no JSON": (with_header(b"{nonsense"), "no JSON"),
    "no UTF-8": (with_header(b'{"\xff": 1}'), "no JSON"),
    "a list": (with_header([]), "a list"),
    "deep": (with_header(b'{"a":' * 50_000), "nested too deeply"),
    "a key twice": (with_header(TWICE), "'a' stands twice"),
    "an endless number": (with_header(b'{"a":' + b"9" * 5000 + b"}"), "5,000 digits"),
    "metadata of numbers": (with_header({"__metadata__": {"a": 1}}, b""), "__metadata__"),
    "metadata of text": (with_header({"__metadata__": "x"}, b""), "__metadata__"),
    "an entry of text": (with_header({"a": "x"}), "no tensor's"),
    "an entry with more": (with_header({"a": {**entry(), "x": 1}}), "no tensor's"),  # type: ignore[dict-item]
    "an unknown type": (with_header({"a": entry(dtype="F7")}), "'F7'"),
    "a type of numbers": (with_header({"a": entry(dtype=["F32"])}), "of the type"),
    "a negative side": (with_header({"a": entry(shape=[-4])}), "whole numbers"),
    "a broken side": (with_header({"a": entry(shape=[4.0])}), "whole numbers"),
    "a true side": (with_header({"a": entry(shape=[True])}), "whole numbers"),
    "an absurd shape": (with_header({"a": entry(shape=[2**40, 2**40])}), "whole numbers"),
    "no elements of absurd shape": (
        with_header({"a": entry(0, 0, [0, 2**62, 4])}, b""),
        "whole numbers",
    ),
    "three offsets": (with_header({"a": {**entry(), "data_offsets": [0, 8, 16]}}), "offsets"),  # type: ignore[dict-item]
    "too few bytes": (with_header({"a": entry(0, 8)}), "16 bytes for its type and shape"),
    "backwards": (with_header({"a": entry(16, 0)}), "of -16 bytes"),
    "a hole": (with_header({"a": entry(0, 4, [1]), "b": entry(8, 16, [2])}), "a hole before 'b'"),
    "an overlap": (
        with_header({"a": entry(0, 12, [3]), "b": entry(8, 16, [2])}),
        "an overlap at 'b'",
    ),
    "a late start": (with_header({"a": entry(4, 16, [3])}), "a hole before 'a'"),
    "more behind": (with_header({"a": entry(0, 8, [2])}), "16 bytes of data"),
    "cut off": (with_header({"a": entry()}, bytes(12)), "12 bytes of data"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_safetensors_file_is_told_in_one_line(fault: str, tmp_path: Path) -> None:
    content, told = FAULTS[fault]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    for read in (stored_safetensors, inspect_safetensors):
        with pytest.raises(UnreadableFile, match=re.escape(told)) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600


def test_files_beyond_four_gigabytes_are_read_by_their_header(tmp_path: Path) -> None:
    shapes = {"a": (2, 2**31), "b": (2**31, 2), "c": (3,)}
    write_safetensors(tmp_path / "x.safetensors", shapes, None)  # sparse: it takes no room
    weights = stored_safetensors(tmp_path / "x.safetensors")
    assert {entry.name: entry.shape for entry in weights.entries()} == shapes
    assert weights["c"].tolist() == [0, 0, 0]


def test_metadata_and_types_are_described_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": sample(torch.bfloat16)}, path, metadata={"format": "pt\n"})
    contents = inspect_safetensors(path)
    assert [(t.name, t.dtype, t.shape, t.size) for t in contents.tensors] == [
        ("a", "bfloat16", (3, 5), 30)
    ]
    assert (contents.trust, contents.notes) == ("none", ("'format': 'pt\\n'",))


# --- PyTorch files that contradict themselves


class Named:
    """Pickled as a global of that name."""

    def __init__(self, name: str) -> None:
        self.name = name


class Call:
    """Pickled as a call of a global, and then given ``state``."""

    def __init__(self, name: str, *arguments: object, state: object = None) -> None:
        self.parts = (Named(name), arguments, state)


class _Pickler(pickle._Pickler):
    @property
    def raw(self) -> Callable[[bytes], object]:
        return vars(self)["write"]

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Named):
            module, _, name = obj.name.rpartition(".")
            self.raw(b"c" + f"{module}\n{name}\n".encode())
        elif isinstance(obj, Call):
            function, arguments, state = obj.parts
            self.save(function)
            self.save(arguments)
            self.raw(pickle.REDUCE)
            if state is not None:
                self.save(state)
                self.raw(pickle.BUILD)
        else:
            super().save(obj, save_persistent_id)  # type: ignore[misc]

    def persistent_id(self, obj: Any) -> Any:
        return obj[1:] if isinstance(obj, tuple) and obj[:1] == ("persistent",) else None


def storage(numel: int = 4, key: str = "0") -> tuple[object, ...]:
    return ("persistent", "storage", Named("torch.FloatStorage"), key, "cpu", numel)


def tensor(offset: int, shape: object, stride: object, *, state: object = None) -> Call:
    name = "torch._utils._rebuild_tensor_v2"
    return Call(name, storage(), offset, shape, stride, False, {}, state=state)


def archive(path: Path, content: object) -> Path:
    with zipfile.ZipFile(path, "w") as target, target.open("x/data.pkl", "w") as stream:
        _Pickler(stream, protocol=2).dump(content)
    with zipfile.ZipFile(path, "a") as target:
        target.writestr("x/data/0", bytes(16))
        target.writestr("x/version", b"3\n")
    return path


def test_a_file_written_by_hand_opens_where_it_tells_the_truth(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pt", {"a": tensor(1, (3,), (1,)), "b": tensor(0, (2, 2), (2, 1))})
    assert same(opened(path)["a"].read(), torch.zeros(3))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"a": tensor(2, (3,), (1,))}, "beyond its storage"),
        ({"a": tensor(0, (2, 3), (2, 1))}, "beyond its storage"),
        ({"a": tensor(0, (2,), (2**61,))}, "beyond its storage"),
        ({"a": tensor(-1, (2,), (1,))}, "no negative numbers"),
        ({"a": tensor(3, (2,), (-1,))}, "no negative numbers"),
        ({"a": tensor(0, (-2,), (1,))}, "no negative numbers"),
        ({"a": tensor(0, (1,) * 65, (1,) * 65)}, "64 dimensions"),
        ({"a": tensor(0, (2,), (1, 1))}, "1 sizes and 2 strides"),
        ({"a": tensor(0, (10**9, 10**3), (0, 0))}, "a tensor of"),
        ({"a": tensor(0, (2,), (1,), state={"shape": (10**9,)})}, "takes no"),
        ({"a": Call("torch._utils._rebuild_tensor_v2", storage(5), 0, (5,), (1,), False, {})}, "a storage of 20"),  # noqa: E501
        ({"a": Call("torch._utils._rebuild_tensor_v2", storage(key="7"), 0, (4,), (1,), False, {})}, "a storage of 16"),  # noqa: E501
    ],
)  # fmt: skip
def test_tensors_must_lie_within_what_is_stored(content: object, told: str, tmp_path: Path) -> None:
    with pytest.raises(GradauditError, match=re.escape(told)):
        opened(archive(tmp_path / "x.pt", content))


def _twice(path: Path) -> None:
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(path, "a") as target,
    ):
        target.writestr("x/data/0", b"\1" * 16)


def _other_local_name(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"x/data/0", b"x/data/1", 1))


def _overlapping(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.rfind(b"PK\1\2", 0, content.rfind(b"x/version"))
    before = content.rfind(b"PK\1\2", 0, place)
    content[place + 42 : place + 46] = content[before + 42 : before + 46]
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("spoil", [_twice, _other_local_name, _overlapping])
def test_an_archive_must_say_the_same_twice(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pt", {"a": tensor(0, (4,), (1,))})
    spoil(path)
    with pytest.raises(GradauditError, match="contradicts itself"):
        opened(path)


def test_what_needs_more_than_tensors_goes_by_torch_itself(tmp_path: Path) -> None:
    torch.save({"a": torch.eye(3).to_sparse(), "b": torch.ones(2)}, tmp_path / "sparse.pt")
    found = opened(tmp_path / "sparse.pt")
    assert found["a"].is_sparse
    assert isinstance(found["b"], Tensor)
    torch.save({"b": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert isinstance(opened(tmp_path / "old.pt")["b"], Tensor)


def test_plain_pickles_are_told_from_others() -> None:
    for content, plain in (
        ({"a": tensor(0, (4,), (1,))}, True),
        ({"a": Call("collections.OrderedDict"), "b": Call("torch.Size", (1, 2))}, True),
        ({"a": Named("torch.float32")}, True),
        ({"a": Named("os.system")}, False),
        ({"a": Call("torch.FloatStorage", 10**9)}, False),
        ({"a": Call("torch.nn.modules.linear.Linear")}, False),
    ):
        stream = io.BytesIO()
        _Pickler(stream, protocol=2).dump(content)
        assert dry_read(stream.getvalue())[0].plain is plain


# --- memory


def test_weights_that_exceed_the_memory_are_audited_a_tensor_at_a_time(tmp_path: Path) -> None:
    shapes = llama(6, 2048, 2048, 2048)  # 370 MB in all, 8 MB each
    limit = limit_for(shapes, itemsize=2)
    # one direction stands out, so that its norm is found in few steps
    write_zip(tmp_path / "model.pt", shapes, lambda shape: drawn(0)(shape) + 1)
    found = audited(str(tmp_path / "model.pt"), "--no-html", "--effort", "quick", "--threads", "1")
    assert (found.code, found.errors.count("Traceback")) == (3, 0), found.errors
    assert 200e6 < found.peak <= limit, f"{found.peak / 1e6:.0f} MB"
