"""ONNX tensor types and torch's, and one as the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from onnx import TensorProto

DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
    TensorProto.COMPLEX64: torch.complex64,
    TensorProto.COMPLEX128: torch.complex128,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    TensorProto.FLOAT8E8M0: torch.float8_e8m0fnu,
}
ELEMENT_TYPES = {dtype: number for number, dtype in DTYPES.items()}
_BITS = {1: np.uint8, 2: np.int16}  # for ml_dtypes' types, by size in bytes
# Types that torch stores and hardly computes with: taken through int64 (see `nodes.py`).
STORED_ONLY = frozenset({torch.uint16, torch.uint32, torch.uint64})


def torch_dtype(element_type: int) -> torch.dtype:
    """The type in torch; raises ``ValueError`` for one that it does not carry."""
    if element_type not in DTYPES:
        known = element_type in TensorProto.DataType.values()
        label = TensorProto.DataType.Name(element_type) if known else str(element_type)
        raise ValueError(f"tensors of type {label}, which torch does not carry")
    return DTYPES[element_type]


def from_numpy(array: np.ndarray[Any, Any]) -> Any:
    """A tensor of its own with the array's values; an array of strings stays what it is.

    Raises ``TypeError`` for a type that torch does not carry.
    """
    if array.dtype.kind in "OUS":
        return array.astype(object)
    carried = getattr(torch, array.dtype.name, None)
    if carried not in ELEMENT_TYPES:
        raise TypeError(f"tensors of type {array.dtype.name}")
    if array.dtype.isbuiltin == 2:  # one of ml_dtypes' types
        bits = np.array(array, order="C", copy=True).view(_BITS[carried.itemsize])
        return torch.from_numpy(bits).view(carried)
    native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)
    return torch.from_numpy(native)


def to_numpy(value: torch.Tensor) -> np.ndarray[Any, Any]:
    """The tensor's values; bfloat16 and float8 as ml_dtypes' types, which onnx brings along."""
    value = value.detach().cpu()
    if value.dtype == torch.bfloat16 or (value.is_floating_point() and value.element_size() == 1):
        import ml_dtypes

        bits = torch.uint8 if value.element_size() == 1 else torch.int16
        name = str(value.dtype).removeprefix("torch.")
        return value.contiguous().view(bits).numpy().view(getattr(ml_dtypes, name))
    return value.numpy()


# What a file declares of a value: the type (None for what is no tensor, and strings) and the shape,
# with 0 where it depends on the inputs.
TensorType = tuple[torch.dtype | None, tuple[int, ...]]


def declared_type(value: Any) -> TensorType:
    """What a ValueInfoProto says."""
    kind = value.type.tensor_type
    return DTYPES.get(kind.elem_type), tuple(size.dim_value for size in kind.shape.dim)
