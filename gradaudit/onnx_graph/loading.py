"""From a file, bytes or a ModelProto to a module."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import DecodeError
from onnx import ModelProto

from gradaudit.errors import GradauditError, UnreadableFile, UsageError
from gradaudit.onnx_graph.attributes import subgraphs_of
from gradaudit.onnx_graph.build import build
from gradaudit.onnx_graph.checks import check_model
from gradaudit.onnx_graph.external import DataFolder
from gradaudit.onnx_graph.graph import Graph
from gradaudit.onnx_graph.protos import bodies_of, initializers_of, nodes_within
from gradaudit.onnx_graph.stored import Stored
from gradaudit.onnx_graph.supported import check_supported
from gradaudit.telling import missing, quoted, told

_LARGEST = 2**31 - 1  # bytes protobuf can parse


class _Source(NamedTuple):
    model: ModelProto
    name: str
    folder: Path | None  # where external data may be


def load_onnx(
    source: str | os.PathLike[str] | bytes | ModelProto, *, frozen: bool | Collection[str] = False
) -> Graph:
    """An ONNX model as a differentiable module; call it with the graph's inputs in order.

    Floating initializers are parameters under their own names; those in ``frozen``, or all of them
    if it is ``True``, require no gradient. Data outside the model's file must lie beside it, in
    plain files. Raises a :class:`gradaudit.errors.GradauditError` of one line, before anything is
    allocated that the files do not account for.
    """
    with checked_model(source) as (model, stored):
        check_supported(model)
        _check_memory(stored.bytes)
        return build(model, stored.read, _frozen(model, frozen))


@contextmanager
def checked_model(
    source: str | os.PathLike[str] | bytes | ModelProto,
) -> Iterator[tuple[ModelProto, Stored]]:
    """The model, and its tensors to be read: its structure and their sizes are sound.

    Nothing is built and no tensor is read. Raises a ``GradauditError`` that names the file, also
    for one that the body raises.
    """
    model, name, folder = _opened(source)
    try:
        with DataFolder(folder) as data:
            stored = Stored(data)
            check_model(model, stored)
            yield model, stored
    except UsageError:
        raise
    except GradauditError as error:
        raise type(error)(
            f"{name} cannot be opened: {error.what}",
            expected=error.expected,
            found=error.found,
            next_step=error.next_step or "it is damaged or was written wrongly: export it again",
        ) from None


def _opened(source: object) -> _Source:
    if isinstance(source, ModelProto):
        return _Source(source, "the model", None)
    if isinstance(source, bytes):
        return _Source(_parsed(source, "the model"), "the model", None)
    if not isinstance(source, (str, os.PathLike)):
        raise UsageError(
            f"load_onnx was given a {type(source).__name__}",
            expected="a path, bytes or an onnx.ModelProto",
        )
    path = Path(os.fsdecode(source))
    return _Source(_parsed(_content(path), path.name), path.name, path.parent)


def _content(path: Path) -> bytes:
    """The file's bytes. Raises ``UnreadableFile`` for what no model can be."""
    try:
        # nothing waits: a pipe without a writer would for ever
        with open(path, "rb", buffering=0, opener=_without_waiting) as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UnreadableFile(f"{path} is not a regular file", expected="an ONNX model")
            if found.st_size > _LARGEST:
                raise UnreadableFile(
                    f"{path} is of {found.st_size:,} bytes",
                    expected=f"at most {_LARGEST:,}, which protobuf can read",
                    next_step="save the model with external data",
                )
            return stream.read()
    except FileNotFoundError:
        raise missing(path) from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        said = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UnreadableFile(f"{quoted(str(path))} cannot be read", found=said) from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _parsed(content: bytes, name: str) -> ModelProto:
    if not content:
        raise UnreadableFile(f"{name} is empty", expected="an ONNX model")
    try:
        return ModelProto.FromString(content)
    except DecodeError as error:
        raise UnreadableFile(
            f"{name} is damaged or truncated, or no ONNX model",
            found=told(error),
            next_step="copy or export it again",
        ) from None


def _check_memory(needed: int) -> None:
    """Raise ``UnreadableFile`` for more than the machine has: files may be all holes."""
    try:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return
    if needed > present:
        raise UnreadableFile(
            f"its tensors take {needed:,} bytes",
            expected=f"at most the {present:,} of this machine's memory",
            next_step="use a machine with more",
        )


def _frozen(model: ModelProto, wanted: bool | Collection[str]) -> Collection[str]:
    """Names of initializers that require no gradient. Raises ``UsageError`` for unknown ones."""
    if wanted is False:
        return ()
    names = set(initializers_of(model.graph))
    for body in bodies_of(model, model.functions):
        for node, _ in nodes_within(body.nodes):
            for graph in subgraphs_of(node).values():
                names |= initializers_of(graph).keys()
    if wanted is True:
        return names
    if isinstance(wanted, (str, bytes)) or not isinstance(wanted, Collection):
        raise UsageError(
            f"frozen is {quoted(wanted)}", expected="True, False or a collection of names"
        )
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            raise UsageError(
                f"the model has no initializer {quoted(name)} to freeze",
                next_step=f"did you mean {quoted(near[0])}?" if near else "",
            )
    return wanted
