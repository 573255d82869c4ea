"""Nodes that call subgraphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradaudit.onnx_graph.node import Body
from gradaudit.onnx_graph.operators._axes import axis_in
from gradaudit.onnx_graph.registry import operator
from gradaudit.onnx_graph.tensors import TensorType


@operator("If", as_stored=True)
def if_(cond: Tensor, *, then_branch: Body, else_branch: Body) -> tuple[Any, ...]:
    """The outputs of one branch."""
    return then_branch() if cond.item() else else_branch()


@operator("Loop", as_stored=True)
def loop(
    most: Tensor | None = None, cond: Tensor | None = None, *carried: Any, body: Body
) -> tuple[Any, ...]:
    """The body up to ``most`` times while ``cond``: the values carried, and what each turn gave.

    Without ``cond``, what the body says of it is ignored.
    """
    if most is None and cond is None:
        raise ValueError("a loop without end: neither a number of turns nor a condition")
    turns = None if most is None else int(most.item())
    device = _device(most, cond, *carried)
    state, given, turn = list(carried), [], 0
    while (turns is None or turn < turns) and (cond is None or bool(cond.item())):
        number = torch.tensor(turn, dtype=torch.int64, device=device)
        going = torch.tensor(True, device=device) if cond is None else cond
        going, *results = body(number, going, *state)
        cond = cond if cond is None else going
        state = results[: len(carried)]
        given.append(results[len(carried) :])
        turn += 1
    types = body.output_types[1 + len(carried) :]
    return (*state, *_stacked(given, types, [0] * len(types), device))


def _device(*values: Any) -> torch.device | None:
    return next((value.device for value in values if isinstance(value, Tensor)), None)


def _stacked(
    turns: Sequence[Sequence[Tensor]],
    types: Sequence[TensorType],
    axes: Sequence[int],
    device: torch.device | None,
) -> list[Tensor]:
    """By output, what the turns gave along a new axis; empty, as declared, without any turn."""
    if turns:
        columns = zip(*turns, strict=True)
        return [torch.stack(each, axis) for each, axis in zip(columns, axes, strict=True)]
    empty = []
    for (dtype, shape), axis in zip(types, axes, strict=True):
        place = axis_in(axis, len(shape) + 1)
        empty.append(torch.zeros((*shape[:place], 0, *shape[place:]), dtype=dtype, device=device))
    return empty


@operator("Scan", since=9, as_stored=True)
def scan(
    *inputs: Any,
    body: Body,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] = (),
    scan_input_directions: Sequence[int] = (),
    scan_output_axes: Sequence[int] = (),
    scan_output_directions: Sequence[int] = (),
) -> tuple[Any, ...]:
    """The body on each slice of the scanned inputs: the last state, and what each turn gave.

    A direction of 1 goes from the end: through an input, or in putting an output together.
    """
    states = len(inputs) - num_scan_inputs
    axes = scan_input_axes or [0] * num_scan_inputs
    scanned = [x.unbind(axis) for x, axis in zip(inputs[states:], axes, strict=True)]
    for i, backwards in enumerate(scan_input_directions):
        scanned[i] = scanned[i][::-1] if backwards else scanned[i]
    state, given = _scanned(body, list(inputs[:states]), scanned)
    types = body.output_types[states:]
    directions = scan_output_directions or [0] * len(types)
    device = _device(*inputs)
    outputs = _stacked(given, types, scan_output_axes or [0] * len(types), device)
    axes = scan_output_axes or [0] * len(types)
    turned = [
        output.flip(axis) if backwards else output
        for output, axis, backwards in zip(outputs, axes, directions, strict=True)
    ]
    return (*state, *turned)


def _scanned(
    body: Body, state: list[Any], scanned: Sequence[Sequence[Tensor]]
) -> tuple[list[Any], list[list[Any]]]:
    """The last state, and by turn what else the body gave."""
    lengths = [len(each) for each in scanned]
    if len(set(lengths)) > 1:
        raise ValueError(f"scanned inputs of lengths {lengths}, where one length was expected")
    given = []
    states = len(state)
    for elements in zip(*scanned, strict=True):
        results = list(body(*state, *elements))
        state = results[:states]
        given.append(results[states:])
    return state, given


@operator("Scan", since=8, as_stored=True)
def scan_batch(
    sequence_lens: Tensor | None,
    *inputs: Tensor,
    body: Body,
    num_scan_inputs: int,
    directions: Sequence[int] = (),
) -> tuple[Tensor, ...]:
    """As from opset 9 on for each sample, along axis 1; outputs are padded with zeros."""
    states = len(inputs) - num_scan_inputs
    batch, longest = inputs[states].shape[:2]
    lengths = [longest] * batch if sequence_lens is None else sequence_lens.tolist()
    of_batch = []
    for sample, length in zip(range(batch), lengths, strict=True):
        scanned = [x[sample, :length].unbind() for x in inputs[states:]]
        for i, backwards in enumerate(directions):
            scanned[i] = scanned[i][::-1] if backwards else scanned[i]
        state, given = _scanned(body, [x[sample] for x in inputs[:states]], scanned)
        types = body.output_types[states:]
        outputs = _stacked(given, types, [0] * len(types), inputs[0].device)
        missing = longest - length
        padded = [torch.cat([y, y.new_zeros((missing, *y.shape[1:]))]) for y in outputs]
        of_batch.append([*state, *padded])
    return tuple(torch.stack(each) for each in zip(*of_batch, strict=True))


@operator("SequenceMap", as_stored=True)
def sequence_map(sequence: list[Any], *others: Any, body: Body) -> tuple[list[Any], ...]:
    """The body on each element: by output, the sequence of its results."""
    for other in others:
        if isinstance(other, list) and len(other) != len(sequence):
            raise ValueError(f"sequences of lengths {len(sequence)} and {len(other)}")
    rows = [
        body(each, *[other[i] if isinstance(other, list) else other for other in others])
        for i, each in enumerate(sequence)
    ]
    return tuple([row[i] for row in rows] for i in range(len(body.output_types)))
