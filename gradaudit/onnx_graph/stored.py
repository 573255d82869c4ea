"""Tensors as a model stores them: whether they are what they declare, and reading them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnx import SparseTensorProto, TensorProto, helper

from gradaudit.errors import UnreadableFile
from gradaudit.onnx_graph.external import DataFolder
from gradaudit.onnx_graph.tensors import DTYPES
from gradaudit.telling import quoted

# Zeros that sparse tensors may be filled up with, over the whole model; a few bytes in the file
# declare any number of them. Weights in the wild are far below it.
MOST_ZEROS = 1 << 24
MOST_DIMENSIONS = 64  # numpy's limit
_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
_ELEMENT = {
    "float_data": np.float32,
    "int32_data": np.int32,
    "int64_data": np.int64,
    "double_data": np.float64,
    "uint64_data": np.uint64,
}
_DAMAGED = "the model is damaged or was written wrongly: copy or export it again"


class Stored:
    """The tensors of one model; ``folder`` has those in other files."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._zeros = 0
        self.bytes = 0  # that all tensors checked so far take

    def check(self, proto: TensorProto, label: str) -> None:
        """Raise ``UnreadableFile`` unless the bytes are there that shape and type ask for.

        Tensors of types that torch does not hold are left to
        :func:`gradaudit.onnx_graph.supported.check_supported`.
        """
        if proto.data_type not in TensorProto.DataType.values() or not proto.data_type:
            raise UnreadableFile(
                f"{label} is of no type that ONNX has",
                found=f"type {proto.data_type}",
                next_step=_DAMAGED,
            )
        if proto.HasField("segment"):
            raise UnreadableFile(f"{label} is a part of a tensor", expected="whole tensors")
        count = elements(proto.dims, label)
        dtype = DTYPES.get(proto.data_type)
        if dtype is not None:
            size = count * dtype.itemsize
            self.bytes += size
            if _is_external(proto, self._folder):
                self._folder.check(proto, size, label)
            else:
                _check_inside(proto, count, label)
        elif proto.data_type == TensorProto.STRING:
            _check_inside(proto, count, label)

    def check_sparse(self, proto: SparseTensorProto, label: str) -> None:
        """As for a tensor, and that what it is when made dense stays within bounds."""
        count = elements(proto.dims, label)
        self.check(proto.values, f"{label}, its values,")
        self.check(proto.indices, f"{label}, its indices,")
        if proto.values.data_type not in DTYPES:
            return
        stored = elements(proto.values.dims, label)
        rank = len(proto.dims)
        shapes = ([stored], [stored, rank]) if rank else ([stored],)
        if list(proto.values.dims) != [stored] or list(proto.indices.dims) not in shapes:
            raise UnreadableFile(
                f"{label} has indices that do not fit its values",
                expected=f"values of shape [N] and indices of shape [N] or [N, {rank}]",
                found=f"{list(proto.values.dims)} and {list(proto.indices.dims)}",
                next_step=_DAMAGED,
            )
        self._zeros += max(count - stored, 0)
        if self._zeros > MOST_ZEROS:
            raise UnreadableFile(
                f"{label} declares {count:,} elements and stores {stored:,}",
                expected=f"at most {MOST_ZEROS:,} zeros that are not stored",
                next_step="the file is damaged or hostile; save the tensor dense",
            )
        self.bytes += count * DTYPES[proto.values.data_type].itemsize
        self._check_indices(proto, count, label)

    def _check_indices(self, proto: SparseTensorProto, count: int, label: str) -> None:
        if proto.indices.data_type != TensorProto.INT64:
            raise UnreadableFile(f"{label} has indices that are not int64", next_step=_DAMAGED)
        indices = self.read(proto.indices)
        if indices.dim() == 2:
            limits = torch.tensor(list(proto.dims))
            within = bool(((indices >= 0) & (indices < limits)).all())
            strides = [math.prod(proto.dims[i + 1 :]) for i in range(len(proto.dims))]
            indices = (indices * torch.tensor(strides)).sum(1)
        else:
            within = bool(((indices >= 0) & (indices < count)).all())
        if not within or not bool((indices[1:] > indices[:-1]).all()):
            raise UnreadableFile(
                f"{label} has indices out of its shape or out of order",
                expected=f"ascending indices within {list(proto.dims)}",
                next_step=_DAMAGED,
            )

    def read(self, proto: TensorProto | SparseTensorProto) -> Any:
        """The value of a tensor that was checked: torch's, or an array of strings."""
        if isinstance(proto, SparseTensorProto):
            return self._dense(proto)
        if proto.data_type == TensorProto.STRING:
            texts = [each.decode("utf-8", "replace") for each in proto.string_data]
            return np.array(texts, dtype=object).reshape(tuple(proto.dims))
        label = f"tensor {quoted(proto.name)}" if proto.name else "a tensor without a name"
        tensor = _allocated(proto, label)
        buffer = tensor.reshape(-1).view(torch.uint8).numpy()
        if _is_external(proto, self._folder):
            self._folder.fill(proto, buffer.data, label)
        elif proto.HasField("raw_data"):
            buffer[:] = np.frombuffer(proto.raw_data, dtype=np.uint8)
        elif tensor.numel():
            buffer[:] = _typed(proto, tensor.dtype, label).view(np.uint8)
        # any byte but 0 and 1 in torch's booleans is undefined behaviour
        return tensor.view(torch.uint8) != 0 if tensor.dtype == torch.bool else tensor

    def _dense(self, proto: SparseTensorProto) -> torch.Tensor:
        values, indices = self.read(proto.values), self.read(proto.indices)
        dense: torch.Tensor = values.new_zeros(tuple(proto.dims))
        if indices.dim() == 2:
            dense[tuple(indices.T)] = values
        else:
            dense.view(-1)[indices] = values
        return dense


def declared_bytes(proto: TensorProto | SparseTensorProto) -> int:
    """What reading a tensor that was checked takes."""
    dense = proto.values if isinstance(proto, SparseTensorProto) else proto
    dtype = DTYPES.get(dense.data_type)
    return 0 if dtype is None else math.prod(proto.dims) * dtype.itemsize


def elements(dims: Sequence[int], label: str) -> int:
    """How many elements a tensor of that shape has. Raises ``UnreadableFile`` for no shape."""
    if len(dims) > MOST_DIMENSIONS:
        raise UnreadableFile(
            f"{label} has {len(dims):,} dimensions", expected=f"at most {MOST_DIMENSIONS}"
        )
    # strides must be numbers of 64 bits even where there is nothing to stride over
    if min(dims, default=0) < 0 or math.prod(max(size, 1) for size in dims) >= 1 << 59:
        raise UnreadableFile(
            f"{label} declares the shape {quoted(list(dims))}",
            expected="a shape that fits its data",
            next_step=_DAMAGED,
        )
    return math.prod(dims)


def _is_external(proto: TensorProto, folder: DataFolder) -> bool:
    """Whether the data is elsewhere; a ModelProto may have it loaded and still say so."""
    if proto.data_location != TensorProto.EXTERNAL:
        return False
    return folder.exists or not proto.HasField("raw_data")


def _check_inside(proto: TensorProto, count: int, label: str) -> None:
    """Whether the message itself holds the data for ``count`` elements, and in one field."""
    used = [name for name in _FIELDS if len(getattr(proto, name))]
    if proto.HasField("raw_data") and proto.data_type != TensorProto.STRING:
        wanted, found, unit = count * DTYPES[proto.data_type].itemsize, len(proto.raw_data), "bytes"
    else:
        field = helper.tensor_dtype_to_field(proto.data_type)
        complex_ = proto.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
        wanted, found, unit = count * (1 + complex_), len(getattr(proto, field)), f"in {field}"
        used = [name for name in used if name != field]
    if used:
        raise UnreadableFile(
            f"{label} has data where its type does not keep any",
            found=", ".join(used),
            next_step=_DAMAGED,
        )
    if wanted != found:
        raise UnreadableFile(
            f"the data of {label} does not fit its shape {list(proto.dims)} and type",
            expected=f"{wanted:,} {unit}",
            found=f"{found:,}",
            next_step=_DAMAGED,
        )


def _allocated(proto: TensorProto, label: str) -> torch.Tensor:
    try:
        return torch.empty(tuple(proto.dims), dtype=DTYPES[proto.data_type])
    except (RuntimeError, MemoryError):
        raise UnreadableFile(
            f"there is no memory for {label} of shape {list(proto.dims)}",
            next_step="use a machine with more",
        ) from None


def _typed(proto: TensorProto, dtype: torch.dtype, label: str) -> np.ndarray[Any, Any]:
    """The values in the field that the type has, as an array of the type or of its bits."""
    field = helper.tensor_dtype_to_field(proto.data_type)
    values = np.array(getattr(proto, field), dtype=_ELEMENT[field])
    if dtype == torch.bool:
        return values != 0
    if dtype.is_floating_point or dtype.is_complex:
        # of those narrower than a float, the field holds the bits
        return values.astype(f"u{dtype.itemsize}") if field == "int32_data" else values
    narrow = values.astype(helper.tensor_dtype_to_np_dtype(proto.data_type))
    if not np.array_equal(narrow, values):
        raise UnreadableFile(
            f"{label} holds numbers out of the range of {str(dtype).removeprefix('torch.')}",
            next_step=_DAMAGED,
        )
    return narrow
