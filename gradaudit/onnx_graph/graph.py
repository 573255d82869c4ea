"""A graph as a module that calls its nodes in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import nn

from gradaudit.errors import ModelError
from gradaudit.onnx_graph.declared import Declared
from gradaudit.onnx_graph.export_notes import ExportNotes
from gradaudit.onnx_graph.tensors import TensorType
from gradaudit.telling import quoted


@dataclass(frozen=True)
class Step:
    """One call: which values go in, what they come out as, and which are not needed after it."""

    module: nn.Module
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]  # "" where nobody reads one
    captures: tuple[str, ...] | None  # values that subgraphs read; None without subgraphs
    done_with: tuple[str, ...]


class Graph(nn.Module):
    """Called with the graph's inputs in order, or by their names.

    ``forward`` returns the output, or a tuple of several. ``input_names`` and ``output_names`` are
    the graph's own. Raises ``TypeError`` for inputs it does not know or misses, and
    :class:`gradaudit.onnx_graph.node.NodeError` where an operator raises.
    """

    def __init__(
        self, inputs: Sequence[str], outputs: Sequence[str], types: Sequence[TensorType] = ()
    ) -> None:
        super().__init__()
        self.output_types = tuple(types)  # known for subgraphs
        self.input_names, self.output_names = tuple(inputs), tuple(outputs)
        self.declared: tuple[Declared, ...] = ()  # of the model's own graph
        self.notes = ExportNotes()  # likewise
        self._steps: list[Step] = []
        # Values that lie in the tree of modules, by name: the module and the attribute. They are
        # looked up at each call, as torch.func.functional_call exchanges them.
        self._held: dict[str, tuple[tuple[nn.Module], str]] = {}

    def set_steps(self, steps: Sequence[Step]) -> None:
        """What to call, in order."""
        self._steps = list(steps)

    def set_held(self, held: Mapping[str, tuple[nn.Module, str]]) -> None:
        """Which values lie in the tree, and where."""
        # in tuples of one, so that torch takes none of the modules for a child of this one
        self._held = {name: ((home,), leaf) for name, (home, leaf) in held.items()}

    def forward(self, *inputs: Any, captured: Mapping[str, Any] | None = None, **named: Any) -> Any:
        """Run the graph."""
        values = self._values(inputs, captured, named)
        for step in self._steps:
            given = [values[name] for name in step.inputs]
            results = _run(step, given, values)
            for name, result in zip(step.outputs, results, strict=False):
                if name:
                    values[name] = result
            for name in step.done_with:
                del values[name]
        outputs = tuple(values[name] for name in self.output_names)
        return outputs if captured is not None or len(outputs) != 1 else outputs[0]

    def _values(
        self, inputs: Sequence[Any], captured: Mapping[str, Any] | None, named: Mapping[str, Any]
    ) -> dict[str, Any]:
        values = dict(captured or {})
        for name, ((home,), leaf) in self._held.items():
            values[name] = getattr(home, leaf)
        if len(inputs) > len(self.input_names):
            raise TypeError(
                f"the graph takes {len(self.input_names)} inputs "
                f"({', '.join(self.input_names)}), not {len(inputs)}"
            )
        unknown = [name for name in named if name not in self.input_names]
        if unknown:
            raise TypeError(
                f"the graph has no input {unknown[0]!r}; it takes {', '.join(self.input_names)}"
            )
        given = {**dict(zip(self.input_names, inputs, strict=False)), **named}
        missing = [n for n in self.input_names if n not in given]
        if missing:
            raise TypeError(f"the graph needs its input {missing[0]!r}")
        values.update(given)
        return values


@cache
def scope_class(kind: str) -> type[Graph]:
    """A class of that name, for the nodes of one module call."""
    return type(kind, (Graph,), {"__module__": __name__, "__doc__": "Nodes called as one."})


def _run(step: Step, given: list[Any], values: Mapping[str, Any]) -> Sequence[Any]:
    if step.captures is None:
        results = step.module(*given)
    else:
        captured = {name: values[name] for name in step.captures}
        results = step.module(*given, captured=captured)
    results = results if isinstance(results, tuple) else (results,)
    if len(results) < len(step.outputs):
        _check_outputs(step, len(results))
    return results


def _check_outputs(step: Step, made: int) -> None:
    lacking = [name for name in step.outputs[made:] if name]
    if lacking:
        raise ModelError(
            f"node {quoted(step.name)} gave {made} values",
            expected=f"one for its output {quoted(lacking[0])} too",
        )
