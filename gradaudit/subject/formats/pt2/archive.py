"""A ``.pt2`` archive: read and checked by this package, then written anew for torch to open."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.json_object import parsed_object
from gradaudit.subject.formats.next_steps import IF_YOURS
from gradaudit.subject.formats.programs.stored_records import Records, stored_records
from gradaudit.subject.formats.pt2.payloads import Payload, check_payloads, payloads
from gradaudit.subject.formats.pt2.pickled_inputs import read_inner
from gradaudit.subject.formats.pt2.program import checked_part, checked_program
from gradaudit.telling import quoted

MODEL = "models/model.json"
WEIGHTS = "data/weights/"
CONSTANTS = "data/constants/"
INPUTS = "data/sample_inputs/model.pt"
_LONGEST = 1 << 28  # bytes of JSON


@dataclass(frozen=True)
class Checked:
    """What passed: the archive that torch may read, and the program in it."""

    archive: io.BytesIO
    program: dict[str, Any]


def checked_archive(path: Path, device: str) -> Checked:
    """The archive at ``path``, made again of nothing but what was checked.

    Raises ``RefusedFile`` naming what is beyond the list; ``UnreadableFile`` for a damaged file.
    """
    with stored_records(path) as records:
        program = program_of(records, path)
        clean = checked_program(program, device)
        made = _Written()
        for folder in (WEIGHTS, CONSTANTS):
            _copy_tensors(records, folder, made, device)
        inputs = records.read(INPUTS) if INPUTS in records.entries else b""
        made.add(INPUTS, _again(read_inner(inputs, path)) if inputs else b"")
    made.add(MODEL, json.dumps(clean).encode())
    return Checked(made.close(), clean)


def program_of(records: Records, path: Path) -> dict[str, Any]:
    """The program's JSON. Raises for an archive of an older layout or with compiled code."""
    if records.below("data/aotinductor/"):
        raise RefusedFile(f"{path.name} holds machine code (AOTInductor)", next_step=IF_YOURS)
    models = records.below("models/")
    if MODEL in records.entries and models == (MODEL,):
        return parsed_object(records.read(MODEL, _LONGEST), f"the program in {path.name}")
    if "serialized_exported_program.json" in records.entries or not models:
        raise RefusedFile(
            f"{path.name} is an archive in the layout of torch.export before 2.8, which torch "
            "may unpickle to open",
            next_step=f"export it again, or {IF_YOURS}",
        )
    raise UnreadableFile(
        f"{path.name} holds {len(models)} programs",
        expected="one named 'model'",
        found=quoted(models[0]),
    )


def declared_tensors(records: Records, folder: str) -> tuple[dict[str, Any], list[Payload]]:
    """The configuration of the weights or constants, and what it declares, checked."""
    name = f"{folder}model_{folder.split('/')[1]}_config.json"
    if name not in records.entries:
        raise UnreadableFile(f"the exported program lacks {name}")
    config = parsed_object(records.read(name, _LONGEST), name)
    found = list(payloads(config, name))
    check_payloads(found, {each.record: records.size(f"{folder}{each.record}") for each in found})
    return config, found


def _copy_tensors(records: Records, folder: str, made: _Written, device: str) -> None:
    config, found = declared_tensors(records, folder)
    prefix = "tensor_" if folder == CONSTANTS else "weight_"
    numbers = {name: i for i, name in enumerate(dict.fromkeys(each.record for each in found))}
    clean: dict[str, Any] = {}
    for each in found:
        entry = config["config"][each.name]
        clean[each.name] = {
            "path_name": f"{prefix}{numbers[each.record]}",
            "is_param": entry.get("is_param") is True,
            "use_pickle": False,
            "tensor_meta": checked_part(entry["tensor_meta"], device),
        }
    for name, number in numbers.items():
        made.add(f"{folder}{prefix}{number}", records.read(f"{folder}{name}"))
    config_name = f"{folder}model_{folder.split('/')[1]}_config.json"
    made.add(config_name, json.dumps({"config": checked_part(clean, device)}).encode())


class _Written:
    """An archive in memory, as torch lays it out."""

    def __init__(self) -> None:
        self._stream = io.BytesIO()
        self._archive = zipfile.ZipFile(self._stream, "w")
        for name, text in (
            ("archive_format", b"pt2"),
            ("archive_version", b"0"),
            (".data/version", b"6"),
            ("version", b"6"),
            ("byteorder", b"little"),
        ):
            self.add(name, text)

    def add(self, name: str, content: bytes) -> None:
        self._archive.writestr(f"checked/{name}", content)

    def close(self) -> io.BytesIO:
        self._archive.close()
        self._stream.seek(0)
        return self._stream


def _again(inputs: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(inputs, stream)
    return stream.getvalue()
