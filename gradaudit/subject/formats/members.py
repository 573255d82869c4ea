"""Files of a folder, by names that another file of it gives: none may lead out of the folder."""

from __future__ import annotations

import stat
from pathlib import Path

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.subject.formats.next_steps import HOSTILE_FOLDER
from gradaudit.telling import quoted

_LONGEST = 255
_CACHE = "models--"  # where a Hugging Face cache keeps a model: models--*/snapshots/*, its links'
_BLOBS = "blobs"  # targets in models--*/blobs


def member(folder: Path, name: str) -> Path:
    """The regular file ``name`` in ``folder``, with links followed.

    A link may lead to another file of the folder, or, in a cache of Hugging Face, to the blobs of
    the same model. Raises ``RefusedFile`` for a name or a link that leads elsewhere,
    ``UnreadableFile`` for a file that is missing or is no regular one.
    """
    if not plain(name):
        raise RefusedFile(
            f"{folder.name} names a file outside itself",
            expected="the plain name of a file in the folder",
            found=quoted(name),
            next_step=HOSTILE_FOLDER,
        )
    path = folder / name
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
    except FileNotFoundError:
        raise UnreadableFile(
            f"{folder.name} lacks the file {quoted(name)}",
            next_step="copy or download the whole folder again",
        ) from None
    except (OSError, RuntimeError) as error:  # a circle of links, no permission
        text = getattr(error, "strerror", None) or str(error)
        raise UnreadableFile(f"{quoted(name)} cannot be read", found=text) from None
    if not _inside(real, folder):
        raise RefusedFile(
            f"{quoted(name)} is a link that leads out of {folder.name}",
            expected="a file in the folder",
            next_step="put the file itself there, if you know it",
        )
    if not stat.S_ISREG(mode):
        raise UnreadableFile(f"{quoted(name)} in {folder.name} is not a regular file")
    return real


def plain(name: str) -> bool:
    """Whether ``name`` is that of a file right in a folder, on any system."""
    return (
        0 < len(name) <= _LONGEST
        and name not in (".", "..")
        and not any(sign in name for sign in "/\\:\0")
    )


def _inside(real: Path, folder: Path) -> bool:
    home = folder.resolve()
    if real.parent == home:
        return True
    cache = home.parent.parent
    in_cache = home.parent.name == "snapshots" and cache.name.startswith(_CACHE)
    return in_cache and real.parent == cache / _BLOBS
