"""PyTorch files: ``torch.save``'s zip archives, and the pickles it wrote before version 1.6."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.subject.code import import_path
from gradaudit.subject.formats.allowed import (
    ACTIVATIONS,
    CALLABLE,
    TORCH_FUNCTIONS,
    allowed_globals,
)
from gradaudit.subject.formats.dry_pickle import INSTANCE, DryPickle, dry_read
from gradaudit.subject.formats.torch_archive import read_archive
from gradaudit.subject.formats.torch_limits import check_archive, check_declared
from gradaudit.subject.formats.torch_stored import TensorMaker
from gradaudit.subject.formats.tree import check_tree
from gradaudit.telling import told

_LEGACY_PICKLES = 5  # magic, protocol, system, the object, the storages' keys


def load_torch_file(path: Path, *, trust: bool, device: str = "cpu") -> Any:
    """The object in a PyTorch file.

    Without ``trust`` nothing in the file can run code: it is read under ``weights_only=True`` with
    an exact list of torch's own layers. Raises ``RefusedFile`` for a file that needs more, or that
    claims more than it stores; ``UnreadableFile`` for a damaged one.
    """
    dry, _ = _dry(path, trust=trust)
    return _checked(dry, path, trust=trust, device=device)


def open_torch_file(path: Path, *, trust: bool, device: str = "cpu") -> Any:
    """The same, with tensors left in the file (``StoredTensor``) where it holds only tensors,
    plain containers, texts and numbers: nothing is unpickled then, trusted or not.
    """
    dry, content = _dry(path, trust=trust)
    if content is not None:
        check_tree(content, path)
        return content
    return _checked(dry, path, trust=trust, device=device)


def _checked(dry: DryPickle | None, path: Path, *, trust: bool, device: str) -> Any:
    if not trust and dry is not None:
        _refuse_unlisted(dry, path)
    content = _load(path, trust=trust, device=device)
    if not trust:
        check_tree(content, path)
    return content


def _dry(path: Path, *, trust: bool) -> tuple[DryPickle | None, Any]:
    """What the pickle asks for, and all it holds where that needs nothing to be imported."""
    try:
        return _dry_zip(path) if zipfile.is_zipfile(path) else _dry_legacy(path)
    except RefusedFile:
        raise
    except Exception as error:
        if trust:
            return None, None  # a pickle with tricks the stand-ins do not know
        raise _damaged(path, error) from None


def _dry_zip(path: Path) -> tuple[DryPickle, Any]:
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path)
    found = read_archive(path)
    make = TensorMaker(path, found.storages)
    dry, (content,) = dry_read(found.pickle, make=make)
    check_declared(dry, found.sizes, path)
    return dry, content if dry.plain and found.direct and not make.unknown else None


def _dry_legacy(path: Path) -> tuple[DryPickle, Any]:
    dry, _ = dry_read(path.read_bytes(), pickles=_LEGACY_PICKLES)
    size = path.stat().st_size
    check_declared(dry, dict.fromkeys(dry.storages, size), path)
    return dry, None


def _refuse_unlisted(dry: DryPickle, path: Path) -> None:
    known = set(allowed_globals()) | set(_torch_allows())
    needed = {name for name in dry.names if name not in known} | (dry.called - CALLABLE)
    needed |= {
        name if owner == INSTANCE else f"{owner}.{name}"
        for owner, name in dry.attributes
        if owner != TORCH_FUNCTIONS or name not in ACTIVATIONS
    }
    if needed:
        raise RefusedFile(
            f"{path.name} would run code to be opened: it needs {', '.join(sorted(needed))}",
            next_step="if you made this file, add --trust",
        )
    if dry.classes_by_source:
        raise RefusedFile(
            f"{path.name} is a module pickled in torch's format from before 1.6, "
            "which cannot be opened without running what it names",
            next_step="if you made this file, add --trust, or save it again with torch.save",
        )


def _torch_allows() -> dict[str, Any]:
    from torch import _weights_only_unpickler

    return dict(_weights_only_unpickler._get_allowed_globals())


def _load(path: Path, *, trust: bool, device: str) -> Any:
    safe: list[Any] = [(value, name) for name, value in allowed_globals().items()]
    if trust:
        import_path(path.resolve().parent)
    # an open stream: given a name, torch.load goes by the suffix .safetensors
    with (
        warnings.catch_warnings(),
        torch.serialization.safe_globals(safe),
        path.open("rb") as stream,
    ):
        # old pickles warn of their age; the user can do nothing about it here
        warnings.simplefilter("ignore")
        try:
            return torch.load(stream, map_location=device, weights_only=not trust)
        except (AttributeError, ModuleNotFoundError) as error:
            raise UnreadableFile(
                f"{path.name} needs code that is not here",
                found=told(error),
                next_step="run from the folder of the script that saved it, or save its state_dict "
                "and give --build file.py:name",
            ) from None
        except Exception as error:  # whatever the reader met, or code that came with the file
            raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> UnreadableFile:
    return UnreadableFile(
        f"{path} cannot be loaded: it is damaged or truncated",
        found=told(error),
        next_step="copy or save it again",
    )
