"""PyTorch files: ``torch.save``'s zip archives, and the pickles it wrote before version 1.6."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from gradaudit.errors import GradauditError, RefusedFile, UnreadableFile
from gradaudit.subject.code import import_path
from gradaudit.subject.formats.next_steps import IF_YOURS, SAVE_AGAIN
from gradaudit.subject.formats.pickles.allowed import allowed_globals
from gradaudit.subject.formats.pickles.dry import DryPickle, dry_read
from gradaudit.subject.formats.pickles.tree import check_tree
from gradaudit.subject.formats.torch_files.archive import read_archive
from gradaudit.subject.formats.torch_files.limits import check_archive, check_declared, check_total
from gradaudit.subject.formats.torch_files.stored import TensorMaker
from gradaudit.subject.formats.torch_files.trust import refuse_unlisted, unlisted
from gradaudit.telling import told

PROTOCOL = 2  # torch's own, and all that weights_only reads
_LEGACY_PICKLES = 5  # magic, protocol, system, the object, the storages' keys


def load_torch_file(path: Path, *, trust: bool) -> Any:
    """The object in a PyTorch file, on the CPU.

    What needs no trust is read under ``weights_only=True`` with an exact list of torch's own
    layers, so that nothing in the file can run code, with ``trust`` as without. Raises
    ``RefusedFile`` for a file that needs trust and has none, or that claims more than it stores;
    ``UnreadableFile`` for a damaged one.
    """
    dry, content = _dry(path, trust=trust)
    return _loaded(dry, content, path, trust=trust, device="cpu")


def open_torch_file(path: Path, *, trust: bool, device: str = "cpu") -> Any:
    """The same, with tensors left in the file (``StoredTensor``) where it holds only tensors,
    plain containers, texts and numbers: nothing is unpickled then, trusted or not. Raises as above.
    """
    dry, content = _dry(path, trust=trust)
    if dry is not None and dry.plain and dry.direct:
        check_tree(content, path)
        return content
    return _loaded(dry, content, path, trust=trust, device=device)


def load_trusted(path: Path, *, device: str = "cpu") -> Any:
    """The object in a PyTorch file that the user trusts, with whatever code it runs.

    Raises ``UnreadableFile`` for a damaged one, and where the code it needs is not here.
    """
    return _load(path, trust=True, device=device)


def _loaded(dry: DryPickle | None, tree: Any, path: Path, *, trust: bool, device: str) -> Any:
    if not trust and dry is not None:
        refuse_unlisted(dry, path)
        if dry.protocol > PROTOCOL:
            raise RefusedFile(
                f"{path.name} is pickled in a protocol that torch reads only by running it",
                expected=f"protocol {PROTOCOL}, as torch.save writes by default",
                next_step=f"{IF_YOURS}, or save it without pickle_protocol",
            )
    needed = dry is None or bool(unlisted(dry)) or dry.classes_by_source or dry.protocol > PROTOCOL
    if not (trust and needed):
        check_tree(tree, path)
    return _load(path, trust=trust and needed, device=device)


def dry_file(path: Path) -> tuple[DryPickle, Any]:
    """What a file's pickle asks for, and the tree it holds, with inert stand-ins for objects.

    Raises ``RefusedFile`` for a file that claims more than it stores, ``UnreadableFile`` for one
    that is damaged.
    """
    try:
        return _dry_zip(path) if _is_zip(path) else _dry_legacy(path)
    except GradauditError:
        raise
    except Exception as error:  # a pickle raises whatever it meets, and so does zipfile
        raise _damaged(path, error) from None


def _is_zip(path: Path) -> bool:
    """As torch itself tells: an archive may as well lie behind an old file's pickles."""
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\3\4"


def _dry(path: Path, *, trust: bool) -> tuple[DryPickle | None, Any]:
    """The same, or nothing where the stand-ins do not know a trusted pickle's tricks."""
    try:
        return dry_file(path)
    except UnreadableFile:
        if trust:
            return None, None
        raise


def _dry_zip(path: Path) -> tuple[DryPickle, Any]:
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path)
    found = read_archive(path)
    make = TensorMaker(path, found.storages)
    dry, (content,) = dry_read(found.pickle, make=make)
    check_declared(dry, found.sizes, path)
    dry.direct = found.direct and not make.unknown
    return dry, content


def _dry_legacy(path: Path) -> tuple[DryPickle, Any]:
    dry, (*_, content, _) = dry_read(path.read_bytes(), pickles=_LEGACY_PICKLES)
    size = path.stat().st_size
    check_declared(dry, dict.fromkeys(dry.storages, size), path)
    check_total(dry, size, path)
    return dry, content


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
            raise (_no_code if trust else _damaged)(path, error) from None
        except Exception as error:  # a pickle can raise whatever what it names raises
            raise _damaged(path, error) from None


def _no_code(path: Path, error: Exception) -> UnreadableFile:
    absent = str(error.name).partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    install = f"install {absent}, " if absent.isidentifier() else ""
    return UnreadableFile(
        f"{path.name} needs code that is not here",
        found=told(error),
        next_step=f"{install}run from the folder of the script that saved it, or save its "
        "state_dict and give --build file.py:name",
    )


def _damaged(path: Path, error: Exception) -> UnreadableFile:
    return UnreadableFile(
        f"{path} cannot be loaded: it is damaged or truncated",
        found=told(error),
        next_step=SAVE_AGAIN,
    )
