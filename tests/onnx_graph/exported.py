"""Nets as both of torch's exporters write them, loaded, against the same nets in torch.

``python -m tests.onnx_graph.exported [REGEX]`` exports every net in every way and prints how far
outputs and gradients are off, and what has no counterpart.
"""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gradaudit.onnx_graph.loading import load_onnx
from tests.onnx_graph.exported_nets import NETS, drawn
from tests.onnx_graph.matching import Outcome, compare

LIMIT = 1e-4  # norm of the difference over the norm
OPSETS = (13, 17, 18, 20, 23)
OLD_OPSETS = (13, 17, 18, 20)  # the older exporter has no later ones


@dataclass(frozen=True)
class Way:
    """How a net is exported: by the newer exporter, or the older one that traces."""

    new: bool
    opset: int
    training: bool = False
    dynamic: bool = False  # the batch's size
    double: bool = False

    def __str__(self) -> str:
        words = ["new" if self.new else "old", f"{self.opset}"]
        words += ["train" if self.training else "eval", "dynamic" if self.dynamic else "fixed"]
        return " ".join([*words, "float64" if self.double else "float32"])


def refused(name: str, way: Way) -> bool:
    """Whether the exporter does not write the net in this way."""
    fused = name in ("Transformer", "encoder", "GPT-2, sdpa")  # attention as one operator of torch
    masked = name == "Transformer"
    return not way.new and ((fused and way.opset < 14) or (masked and way.double))


def net(name: str, way: Way) -> nn.Module:
    """The net with parameters and running statistics drawn, so that no two are equal."""
    torch.manual_seed(0)
    model = NETS[name][0]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        for key, buffer in model.named_buffers():
            if "running" in key:
                buffer.add_(torch.rand_like(buffer), alpha=0.1)
    return model.to(torch.float64 if way.double else torch.float32).train(way.training)


def inputs_of(name: str, way: Way, **options: int) -> tuple[Tensor, ...]:
    """Inputs in the way's precision; floating ones want their gradient."""
    kind = torch.float64 if way.double else torch.float32
    given = drawn(name, **options)
    return tuple(x.to(kind).requires_grad_() if x.is_floating_point() else x for x in given)


def export(model: nn.Module, inputs: Sequence[Tensor], way: Way) -> onnx.ModelProto:
    """The net as the exporter writes it. It is run, so batch norm's statistics may move."""
    given = tuple(each.detach() for each in inputs)
    with quiet():
        return _new(model, given, way) if way.new else _old(model, given, way)


def _new(model: nn.Module, inputs: tuple[Tensor, ...], way: Way) -> onnx.ModelProto:
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.onnx.export(
        model,
        inputs,
        dynamo=True,
        opset_version=way.opset,
        dynamic_shapes=tuple({0: batch} for _ in inputs) if way.dynamic else None,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _old(model: nn.Module, inputs: tuple[Tensor, ...], way: Way) -> onnx.ModelProto:
    mode = torch.onnx.TrainingMode
    names = [f"in_{i}" for i in range(len(inputs))]
    written = io.BytesIO()
    torch.onnx.export(
        model,
        inputs,
        written,
        dynamo=False,
        opset_version=way.opset,
        input_names=names,
        dynamic_axes={each: {0: "batch"} for each in names} if way.dynamic else None,
        training=mode.TRAINING if way.training else mode.EVAL,
        do_constant_folding=not way.training,
    )
    return onnx.load_from_string(written.getvalue())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings, and no fused kernel for inference, which is no ONNX operator."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        torch.backends.mha.set_fastpath_enabled(fast)


def outcome(name: str, way: Way, path: Path | None = None) -> Outcome:
    """Export a net (through a file with external data, if given a ``path``), load, compare."""
    model, inputs = net(name, way), inputs_of(name, way)
    proto = export(copy.deepcopy(model), inputs, way)
    if path is None:
        graph = load_onnx(proto)
    else:
        onnx.save(proto, path, save_as_external_data=True, size_threshold=0, location="weights")
        graph = load_onnx(path)
    if way.dynamic:
        inputs = inputs_of(name, way, batch=5, seed=2)
    if way.new:  # it writes batch norm as in evaluation, whatever the mode
        for module in model.modules():
            module.train(module.training and not isinstance(module, _BatchNorm))
    return compare(model, graph, inputs)


def main() -> None:
    pattern = re.compile(sys.argv[1] if len(sys.argv) > 1 else "")
    torch.set_num_threads(1)
    modes = list(itertools.product((False, True), repeat=3))
    ways = [Way(True, opset, *mode) for opset in OPSETS for mode in modes]
    ways += [Way(False, opset, *mode) for opset in OLD_OPSETS for mode in modes]
    for name, way in itertools.product(NETS, ways):
        if pattern.search(f"{name} {way}") and not refused(name, way):
            try:
                said = _told(outcome(name, way))
            except Exception as error:
                said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            print(f"{name:20} {way!s:32} {said}", flush=True)


def _told(found: Outcome) -> str:
    words = [f"{found.worst:.1e} {'agrees' if found.worst < LIMIT else 'DIFFERS'}"]
    words += [f"{name} by {error:.1e}" for name, error in found.errors.items() if error >= LIMIT]
    for label in ("unmatched", "idle", "folded", "constants"):
        names = getattr(found, label)
        words += [f"{label} {', '.join(names)}"] if names else []
    return "; ".join(words)


if __name__ == "__main__":
    main()
