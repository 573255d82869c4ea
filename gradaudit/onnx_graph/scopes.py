"""The modules a graph was exported from: runs of nodes, called as one.

Both of torch's exporters write down which module call a node comes from: the newer one in the
node's metadata (``pkg.torch.onnx.name_scopes``), the older one in its name
(``/encoder/layers.0/linear1/MatMul``). Nodes that follow each other and come from one module become
one call again, under that module's name, so that a residual block is a block here as it is there.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from onnx import NodeProto

from gradaudit.onnx_graph.protos import metadata_of

_NAMES, _CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"
_UNKNOWN = "_empty_nn_module_stack"  # what torch writes where it has lost track
_LONGEST = 10_000  # characters of metadata read
_DEEPEST = 50  # module calls inside each other
_NUMBER = re.compile(r"\d*$")


@dataclass(frozen=True)
class Scope:
    """One module call around a node: the module's path, and its class where that is told."""

    path: str
    kind: str = ""


def scopes_of(nodes: Sequence[NodeProto]) -> list[tuple[Scope, ...]]:
    """The module calls around each node, outermost first, without the model itself.

    A node of which nothing is told, as optimizers of graphs put in, lies where both its neighbours
    do.
    """
    told = [_told(node) for node in nodes]
    found: list[tuple[Scope, ...]] = []
    behind: list[tuple[Scope, ...]] = []
    for scopes in reversed(told):
        behind.append(scopes if scopes is not None else behind[-1] if behind else ())
    for scopes, later in zip(told, reversed(behind), strict=True):
        before = found[-1] if found else ()
        found.append(_shared(before, later) if scopes is None else scopes)
    return found


def _shared(before: tuple[Scope, ...], later: tuple[Scope, ...]) -> tuple[Scope, ...]:
    pairs = zip(before, later, strict=False)
    return tuple(
        a for a, _ in itertools.takewhile(lambda pair: pair[0].path == pair[1].path, pairs)
    )


def _told(node: NodeProto) -> tuple[Scope, ...] | None:
    metadata = metadata_of(node)
    if _NAMES in metadata:
        return _from_metadata(metadata[_NAMES], metadata.get(_CLASSES, ""))
    return _from_name(node.name) if node.name.startswith("/") else None


def _from_metadata(names: str, classes: str) -> tuple[Scope, ...] | None:
    if _UNKNOWN in names:
        return None
    paths, kinds = _strings(names)[:-1], _strings(classes)
    kinds += [""] * (len(paths) - len(kinds))
    return tuple(
        Scope(path, kind.rpartition(".")[2])
        for path, kind in zip(paths[:_DEEPEST], kinds, strict=False)
        if path
    )


def _strings(written: str) -> list[str]:
    """A list of strings as Python prints it; empty for anything else."""
    if len(written) > _LONGEST:
        return []
    try:
        read = ast.literal_eval(written)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    sound = isinstance(read, list) and all(isinstance(each, str) for each in read)
    return read if sound else []


def _from_name(name: str) -> tuple[Scope, ...]:
    """``/net/net.0/conv/Conv`` lies in ``net``, ``net.0`` and ``net.0.conv``."""
    path, before = "", ""
    found = []
    for part in name.split("/")[1:-1][:_DEEPEST]:
        # A Sequential's children carry its name once more.
        own = part.removeprefix(f"{before}.") if before else part
        path, before = f"{path}.{own}" if path else own, part
        found.append(Scope(path))
    return tuple(found)


@dataclass(frozen=True)
class Run:
    """Nodes that follow each other: a single one by its number, or those of one module call."""

    scope: Scope | None  # None: a single node, outside of any module or alone in one
    inside: tuple[Run, ...] = ()
    node: int = -1
    path: str = ""  # of the module, also of a node that is alone in one

    def nodes(self) -> list[int]:
        """The numbers of all nodes in it."""
        return [self.node] if self.scope is None else [n for r in self.inside for n in r.nodes()]


def runs(scopes: Sequence[tuple[Scope, ...]], first: int = 0, depth: int = 0) -> tuple[Run, ...]:
    """The nodes numbered from ``first``, whose scopes these are, in runs.

    A node alone in its module stays a node.
    """
    found: list[Run] = []
    start = 0
    while start < len(scopes):
        end, here = start + 1, scopes[start]
        if len(here) > depth:
            while (
                end < len(scopes)
                and len(scopes[end]) > depth
                and (scopes[end][depth].path == here[depth].path)
            ):
                end += 1
        path = here[depth].path if len(here) > depth else ""
        if end - start == 1:
            found.append(Run(None, node=first + start, path=path))
        else:
            inside = runs(scopes[start:end], first + start, depth + 1)
            found.append(Run(here[depth], inside, path=path))
        start = end
    return tuple(found)


def class_names(top: Sequence[Run]) -> dict[int, str]:
    """A class's name for each run that is a module call, by its identity.

    Told by the exporter, or else ``Sequential``, what only calls its numbered children; ``Block``,
    one of several that are named alike but for a number; or ``Scope``.
    """
    named: dict[int, str] = {}
    todo = [list(top)]
    while todo:
        calls = [run for run in todo.pop() if run.scope is not None]
        stems = [_stem(run) for run in calls]
        alike = Counter(stems)
        for run, stem in zip(calls, stems, strict=True):
            assert run.scope is not None
            told = run.scope.kind if run.scope.kind.isidentifier() else ""
            named[id(run)] = told or _guess(run, alike=alike[stem] > 1)
            todo.append(list(run.inside))
    return named


def _stem(run: Run) -> str:
    return _NUMBER.sub("", run.path)


def _guess(run: Run, *, alike: bool) -> str:
    numbered = all(inner.path.rpartition(".")[2].isdigit() for inner in run.inside)
    return "Sequential" if numbered else "Block" if alike else "Scope"
