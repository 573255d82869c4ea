"""Tensors whose declaration does not fit what is stored, in PyTorch files of both formats."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from tests.hostile.harness import Case, Place, sound
from tests.hostile.opcodes import (
    BINPERSID,
    BUILD,
    called,
    legacy,
    named,
    persistent,
    tensor,
    torch_zip,
    value,
    whole,
)

ORDERED = called("collections OrderedDict")
STORED = bytes(range(16))


def held(*tensors: bytes, storage: bytes = STORED) -> Callable[[Place], Path]:
    """A state dict of these tensors in an archive with one small storage."""

    def make(place: Place) -> Path:
        data = whole(value({f"layer{i}.weight": item for i, item in enumerate(tensors)}))
        return torch_zip(place.files / "model.pt", data, {"0": storage})

    return make


def held_old(*tensors: bytes) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        data = whole(value({f"layer{i}.weight": item for i, item in enumerate(tensors)}))
        count = (4).to_bytes(8, "little")
        return legacy(place.files / "model.pt", data, ("0",), count + STORED)

    return make


def rebuilt(function: str, *arguments: object) -> bytes:
    return called(f"torch._utils {function}", *arguments)


def _sparse(indices: bytes, values: bytes, size: tuple[int, ...]) -> bytes:
    layout = called("torch.serialization _get_layout", "torch.sparse_coo")
    return rebuilt("_rebuild_sparse_tensor", layout, (indices, values, size, False))


def _csr(size: tuple[int, ...]) -> bytes:
    layout = called("torch.serialization _get_layout", "torch.sparse_csr")
    whole_numbers = tensor((2,), dtype="LongStorage", numel=2, key="0")
    parts = (whole_numbers, whole_numbers, tensor((1,)), size)
    return rebuilt("_rebuild_sparse_tensor", layout, parts)


def _sparse_far(place: Place) -> Path:
    """Indices that lie outside of the size: reading them would leave the memory."""
    indices = tensor((1, 2), dtype="LongStorage", numel=2, key="0")
    values = tensor((2,), numel=2, key="1")
    data = whole(value({"w.weight": _sparse(indices, values, (4,))}))
    far = (2**40).to_bytes(8, "little") + (-5).to_bytes(8, "little", signed=True)
    return torch_zip(place.files / "model.pt", data, {"0": far, "1": bytes(8)})


def _sparse_huge(place: Place) -> Path:
    indices = tensor((1, 2), dtype="LongStorage", numel=2, key="0")
    values = tensor((2,), numel=2, key="1")
    data = whole(value({"w.weight": _sparse(indices, values, (10**15,))}))
    return torch_zip(place.files / "model.pt", data, {"0": bytes(16), "1": bytes(8)})


def _sparse_wide(place: Place) -> Path:
    """A million by a million, two entries stored: 4 TB once it is made dense."""
    indices = tensor((2, 2), dtype="LongStorage", numel=4, key="0")
    values = tensor((2,), numel=2, key="1")
    data = whole(value({"w.weight": _sparse(indices, values, (10**6, 10**6))}))
    return torch_zip(place.files / "model.pt", data, {"0": bytes(32), "1": bytes(8)})


def _quantized(scale: float, *, axis: int | None = None) -> bytes:
    if axis is None:
        scheme: tuple[object, ...] = (named("torch per_tensor_affine"), scale, 0)
    else:
        scheme = (named("torch per_channel_affine"), tensor((1,)), tensor((1,)), axis)
    storage = persistent("QInt8Storage", "0", 16)
    arguments = (storage, 0, (4, 4), (4, 1), scheme, False, ORDERED)
    return rebuilt("_rebuild_qtensor", *arguments)


def _meta(size: tuple[int, ...]) -> bytes:
    dtype = named("torch float32")
    return rebuilt("_rebuild_meta_tensor_no_storage", dtype, size, (1,) * len(size), False)


def _wrapper(place: Place) -> Path:
    """A subclass of a tensor whose class and state come from the file."""
    body = called(
        "torch._tensor _rebuild_from_type_v2", named("torch._utils _rebuild_tensor_v2"),
        named("torch Tensor"), (persistent("FloatStorage", "0", 4), 0, (4,), (1,), False, ORDERED),
        {"__class__": 1, "data": 5},
    )  # fmt: skip
    return torch_zip(place.files / "model.pt", whole(value({"w.weight": body})), {"0": STORED})


def _built_storage(place: Place) -> Path:
    """A storage that is told afterwards to be shorter than was declared."""
    storage = persistent("FloatStorage", "0", 10**9) + value({"numel": 4}) + BUILD
    body = called("torch._utils _rebuild_tensor_v2", storage, 0, (10**9,), (1,), False, ORDERED)
    return torch_zip(place.files / "model.pt", whole(value({"w.weight": body})), {"0": STORED})


def _built_tensor(place: Place) -> Path:
    body = tensor((4,)) + value((persistent("FloatStorage", "0", 4), 0, (10**9,), (1,))) + BUILD
    return torch_zip(place.files / "model.pt", whole(value({"w.weight": body})), {"0": STORED})


def _hooked(place: Place) -> Path:
    """A tensor with hooks that the file names."""
    hooks = called("collections OrderedDict")
    arguments = (persistent("FloatStorage", "0", 4), 0, (4,), (1,), True)
    body = rebuilt("_rebuild_tensor_v2", *arguments, hooks, value({1: named("posix system")}))
    return torch_zip(place.files / "model.pt", whole(value({"w.weight": body})), {"0": STORED})


def _same_key_two_sizes(place: Place) -> Path:
    data = value({"a.weight": tensor((4,)), "b.weight": tensor((10**6,), numel=10**6)})
    return torch_zip(place.files / "model.pt", whole(data), {"0": STORED})


def _key(name: str) -> Callable[[Place], Path]:
    """A storage's key that is a path."""
    return lambda place: torch_zip(
        place.files / "model.pt", whole(value({"w.weight": tensor((4,), key=name)})), {"0": STORED}
    )


def _shapes(count: int) -> bytes:
    return tensor((1,) * count, (1,) * count)


def _device(place: Place) -> Path:
    body = value(("storage", named("torch FloatStorage"), "0", "cuda:99", 4)) + BINPERSID
    made = called("torch._utils _rebuild_tensor_v2", body, 0, (4,), (1,), False, ORDERED)
    return torch_zip(place.files / "model.pt", whole(value({"w.weight": made})), {"0": STORED})


def _numbers(dtype: torch.dtype) -> Callable[[Place], Path]:
    """A tensor of a type that has no norm."""

    def make(place: Place) -> Path:
        torch.save({"a.weight": torch.ones(4, 4).to(dtype)}, place.files / "model.pt")
        return place.files / "model.pt"

    return make


def _saved(content: Callable[[], object]) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        torch.save(content(), place.files / "model.pt")
        return place.files / "model.pt"

    return make


def _two_faced(place: Place) -> Path:
    """A thousand tensors, each repeating a few values a million times."""
    wide = [tensor((2**20,), (0,)) for _ in range(1_000)]
    return held(*wide)(place)


def _nested(place: Place) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it a prototype
        ragged = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    torch.save({"a.weight": ragged}, place.files / "model.pt")
    return place.files / "model.pt"


BIG = 10**12
_REFUSED: dict[str, Callable[[Place], Path]] = {
    "a storage of 4 TB": held(tensor((BIG,), numel=BIG)),
    "a storage of 2**63 elements": held(tensor((2**63,), numel=2**63)),
    "a storage of -1 elements": held(tensor((1,), numel=-1)),
    "expanded to 10**12": held(tensor((BIG,), (0,))),
    "expanded in two axes": held(tensor((10**6, 10**6), (0, 0))),
    "expanded a thousand times": _two_faced,
    "a shape of 2**62 by 4": held(tensor((2**62, 4), (0, 0))),
    "a shape of 10**30": held(tensor((10**30,), (0,))),
    "a negative size": held(tensor((-4,), (1,))),
    "two negative sizes": held(tensor((-4, -4), (1, 1))),
    "a negative stride": held(tensor((4,), (-1,), offset=3)),
    "a stride past the storage": held(tensor((2, 2), (1000, 1))),
    "a stride that overflows": held(tensor((2, 2), (2**62, 2**62))),
    "an offset past the storage": held(tensor((4,), offset=100)),
    "a negative offset": held(tensor((2,), offset=-2)),
    "an offset of 2**63": held(tensor((2,), offset=2**63)),
    "more sizes than strides": held(tensor((2, 2), (1,))),
    "sizes that are text": held(tensor(("a",), (1,))),
    "sizes that are fractions": held(tensor((1.5,), (1,))),
    "a storage that is missing": _key("7"),
    "a storage named ../../etc/passwd": _key("../../../../etc/passwd"),
    "a storage by an absolute path": _key("/etc/passwd"),
    "a storage with NUL in its name": _key("0\0x"),
    "a storage of two sizes": _same_key_two_sizes,
    "a storage cut short": held(tensor((4,)), storage=STORED[:7]),
    "an empty storage": held(tensor((4,)), storage=b""),
    "a storage rebuilt smaller": _built_storage,
    "a tensor rebuilt larger": _built_tensor,
    "hooks from the file": _hooked,
    "a subclass from the file": _wrapper,
    "sparse indices outside": _sparse_far,
    "sparse, 10**15 long": _sparse_huge,
    "compressed rows that do not fit": held(_csr((5, 5)), storage=bytes(16)),
    "a tensor on no device, 10**15 long": held(_meta((10**15,))),
    "a storage of no type": held(tensor((4,), dtype="EvilStorage")),
    "a storage of a function": held(tensor((4,), dtype="load")),
    "old: a storage of 4 TB": held_old(tensor((BIG,), numel=BIG)),
    "old: expanded to 10**12": held_old(tensor((BIG,), (0,))),
    "old: a negative stride": held_old(tensor((4,), (-1,), offset=3)),
    "old: an offset past the storage": held_old(tensor((4,), offset=100)),
}
_ODD: dict[str, Callable[[Place], Path]] = {
    "sparse, a million square": _sparse_wide,
    "a thousand axes": held(_shapes(1_000)),
    "64 axes": held(_shapes(64)),
    "quantized": held(_quantized(0.1)),
    "quantized with scale NaN": held(_quantized(float("nan"))),
    "quantized along axis 99": held(_quantized(0.1, axis=99)),
    "overlapping rows": held(tensor((3, 2), (1, 1))),
    "a device that is not here": _device,
    "no elements": _saved(lambda: {"a.weight": torch.empty(0, 5), "b.weight": torch.empty(5, 0)}),
    "scalars": _saved(lambda: {"a.weight": torch.tensor(1.0)}),
    "booleans": _numbers(torch.bool),
    "bytes": _numbers(torch.uint8),
    "16-bit unsigned": _numbers(torch.uint16),
    "8-bit floats": _numbers(torch.float8_e4m3fn),
    "complex": _numbers(torch.complex64),
    "nothing but NaN": _saved(lambda: {"a.weight": torch.full((4, 4), float("nan"))}),
    "infinite": _saved(lambda: {"a.weight": torch.full((4, 4), float("inf"))}),
    "enormous numbers": _saved(lambda: {"a.weight": torch.full((4, 4), 3e38)}),
    "denormal numbers": _saved(lambda: {"a.weight": torch.full((4, 4), 1e-45)}),
    "keys that are numbers": _saved(lambda: {1: torch.ones(2, 2)}),
    "keys of all kinds": _saved(lambda: {(1, 2): torch.ones(2, 2), None: 1, "a": "b"}),
    "nested 200 deep": _saved(lambda: _deep(200)),
    "sparse tensors": _saved(lambda: {"a.weight": torch.eye(4).to_sparse()}),
    "a nested tensor": _nested,
    "a meta tensor": _saved(lambda: {"a.weight": torch.ones(4, 4, device="meta")}),
}


def _deep(depth: int) -> object:
    content: object = {"w.weight": torch.ones(2, 2)}
    for _ in range(depth):
        content = {"model": content}
    return content


def cases() -> tuple[Case, ...]:
    refused = [Case(name, make, "") for name, make in _REFUSED.items()]
    return (*refused, *(sound(name, make) for name, make in _ODD.items()))
