"""Weights without a model, in one go: each tensor is read, measured and dropped."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

from gradaudit.pacing import QUIET, Progress
from gradaudit.probes._hooks import all_finite
from gradaudit.probes.state import judge_looks
from gradaudit.probes.vector_looks import VectorLook, look_at_vector
from gradaudit.probes.weight_sites import find_weights, is_vector
from gradaudit.probes.weights import WeightBook
from gradaudit.records import NonFinite, NotMeasured, StateRow, WeightRow
from gradaudit.settings import Settings
from gradaudit.subject.formats.stored_weights import StoredTensor, StoredWeights

_PIECE = 2**20  # entries looked at together


@dataclass(frozen=True)
class Bag:
    """What weights alone show."""

    rows: tuple[WeightRow, ...]
    not_measured: tuple[NotMeasured, ...]
    nonfinite: tuple[NonFinite, ...]
    state: StateRow


def measure_bag(weights: StoredWeights, settings: Settings, progress: Progress = QUIET) -> Bag:
    """Rows, non-finite tensors and the state of ``weights``, told from names and shapes.

    In memory at one time: the largest tensor, and what its norm takes
    (:mod:`gradaudit.probes.weight_norms`). A tensor under several names is read once.
    """
    sites, missing = find_weights(weights)
    at = {site.parameter: site for site in sites}
    book = WeightBook(settings, missing)
    looks: list[VectorLook] = []
    finite: dict[Hashable, bool] = {}
    total, read = max(sum(entry.nbytes for entry in weights.entries()), 1), 0
    for i, entry in enumerate(weights.entries()):
        progress.within(read / total, f"tensor {i + 1:,} of {len(weights):,}")
        read += entry.nbytes
        declared = weights.declared(entry.name)
        if not (declared.is_floating_point() or declared.is_complex()):
            continue  # such cannot hold a number that is not finite
        module, _, leaf = entry.name.rpartition(".")
        if entry.name in at:
            finite[entry.storage] = book.measure(at[entry.name]).finite
        elif entry.storage in finite:
            continue
        elif is_vector(leaf, declared, stored=entry.value is None):
            looks.append(look_at_vector(entry.name, module, entry.read()))
            finite[entry.storage] = looks[-1].finite
        else:
            finite[entry.storage] = _finite(entry)
    rows, gaps = book.finished()
    nonfinite = tuple(
        NonFinite("weights", "", entry.name.rpartition(".")[0], 0, parameter=entry.name)
        for entry in weights.entries()
        if not finite.get(entry.storage, True)
    )
    return Bag(rows, gaps, nonfinite, judge_looks(rows, looks, settings))


def _finite(entry: StoredTensor) -> bool:
    tensor = entry.read()
    if tensor.is_sparse or tensor.numel() <= _PIECE:
        return all_finite([_summable(tensor)])
    return all(all_finite([_summable(part)]) for part in tensor.reshape(-1).split(_PIECE))


def _summable(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.itemsize == 1 else tensor  # there are no sums of 8 bits
