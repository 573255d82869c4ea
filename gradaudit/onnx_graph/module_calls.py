"""Steps in their order, and those of one module call as one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from gradaudit.onnx_graph.graph import Graph, Step, scope_class
from gradaudit.onnx_graph.holding import Values
from gradaudit.onnx_graph.names import Tree
from gradaudit.onnx_graph.scopes import Run, Scope


def finish(graph: Graph, steps: Sequence[Step], values: Values) -> None:
    """Give ``graph`` its steps, and the held values they read."""
    graph.set_steps(_with_ends(steps, graph.output_names))
    held, read = values.held, {n for step in steps for n in _reads(step)} | set(graph.output_names)
    graph.set_held({n: (held[n].home, held[n].leaf) for n in sorted(read) if n in held})


def _reads(step: Step) -> tuple[str, ...]:
    return (*step.inputs, *(step.captures or ()))


class Caller:
    """Makes the steps of one module call one step."""

    def __init__(
        self,
        steps: Sequence[Step],
        kinds: Mapping[int, str],
        tree: Tree,
        values: Values,
    ) -> None:
        self._steps, self._kinds, self._tree, self._values = steps, kinds, tree, values
        self._last = {name: i for i, step in enumerate(steps) for name in _reads(step)}

    def called(self, found: Sequence[Run], outputs: Collection[str]) -> list[Step]:
        """A step for each run; ``outputs`` are read behind them all."""
        return [
            self._steps[run.node] if run.scope is None else self._call(run, run.scope, outputs)
            for run in found
        ]

    def _call(self, run: Run, scope: Scope, outputs: Collection[str]) -> Step:
        nodes = run.nodes()
        own = [self._steps[i] for i in nodes]
        made = [name for step in own for name in step.outputs if name]
        results = [n for n in made if n in outputs or self._last.get(n, -1) > nodes[-1]]
        held, inside = self._values.held, set(made)
        reads = dict.fromkeys(name for step in own for name in _reads(step))
        given = [name for name in reads if name not in held and name not in inside]
        inner = scope_class(self._kinds[id(run)])(given, results)
        finish(inner, self.called(run.inside, set(results)), self._values)
        path = self._tree.add_module(scope.path, inner)
        return Step(inner, path, tuple(given), tuple(results), None, ())


def _with_ends(steps: Sequence[Step], outputs: Sequence[str]) -> list[Step]:
    """The steps, each with the values nobody reads after it."""
    needed = set(outputs)
    ended: list[Step] = []
    for step in reversed(steps):
        reads = set(_reads(step))
        kept = tuple(name if name in needed else "" for name in step.outputs)
        ended.append(replace(step, outputs=kept, done_with=tuple(sorted(reads - needed))))
        needed |= reads
    return ended[::-1]
