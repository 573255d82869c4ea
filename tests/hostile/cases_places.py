"""What stands in place of a file: links, pipes, devices, folders, nothing."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.hostile.cases_zips import saved
from tests.hostile.harness import Case, Place, sound
from tests.hostile.opcodes import called, torch_zip, whole

Make = Callable[[Place], "Path | Sequence[str | Path]"]


def _fifo(place: Place) -> Path:
    os.mkfifo(place.files / "model.pt")
    return place.files / "model.pt"


def _socket(place: Place) -> Path:
    here = os.getcwd()
    os.chdir(place.files)  # the name of a socket may not be long
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("model.pt")
    finally:
        os.chdir(here)
    return place.files / "model.pt"


def _link(target: str, name: str = "model.pt") -> Make:
    def make(place: Place) -> Path:
        (place.files / name).symlink_to(target)
        return place.files / name

    return make


def _link_to_fifo(place: Place) -> Path:
    os.mkfifo(place.files / "pipe")
    return _link("pipe")(place)  # type: ignore[return-value]


def _loop(place: Place) -> Path:
    (place.files / "a").symlink_to("b")
    (place.files / "b").symlink_to("a")
    return place.files / "a"


def _empty_folder(place: Place) -> Path:
    return place.files


def _folder_of_itself(place: Place) -> Path:
    (place.files / "inner").symlink_to(place.files)
    return place.files


def _content(content: bytes, name: str = "model.pt") -> Make:
    def make(place: Place) -> Path:
        (place.files / name).write_bytes(content)
        return place.files / name

    return make


def _unreadable(place: Place) -> Path:
    path = saved(place)
    path.chmod(0)
    return path


def _hole(place: Place) -> Path:
    """A terabyte of zeros that takes no room."""
    with (place.files / "model.pt").open("wb") as stream:
        stream.truncate(1 << 40)
    return place.files / "model.pt"


def _hole_behind(head: bytes) -> Make:
    def make(place: Place) -> Path:
        with (place.files / "model.pt").open("wb") as stream:
            stream.write(head)
            stream.truncate(1 << 36)
        return place.files / "model.pt"

    return make


def _named(name: str) -> Make:
    def make(place: Place) -> Path:
        return torch_zip(place.files / name, whole(called("posix system", place.command)))

    return make


def _missing(name: str) -> Make:
    return lambda place: [place.files / name]


def _shards(index: Callable[[Place], object], *, secret: bool = True) -> Make:
    """A Hugging Face folder whose index is made by ``index``."""

    def make(place: Place) -> Path:
        folder = place.files / "checkpoint"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
        save_file({"a.weight": torch.ones(4, 4)}, folder / "model-00001-of-00001.safetensors")
        save_file({"a.weight": torch.ones(4, 4)}, place.files / "outside.safetensors")
        made = index(place)
        text = made if isinstance(made, str) else json.dumps(made)
        (folder / "model.safetensors.index.json").write_text(text)
        return folder

    return make


def _map(*names: object) -> Callable[[Place], object]:
    return lambda place: {"weight_map": {f"layer{i}.weight": n for i, n in enumerate(names)}}


def _shard_link(place: Place) -> Path:
    folder = Path(str(_shards(_map("evil.safetensors"))(place)))
    (folder / "evil.safetensors").symlink_to("/etc/passwd")
    return folder


def _shard_fifo(place: Place) -> Path:
    folder = Path(str(_shards(_map("pipe.safetensors"))(place)))
    os.mkfifo(folder / "pipe.safetensors")
    return folder


def _config(text: str) -> Make:
    """A Hugging Face folder with sound weights and this configuration."""

    def make(place: Place) -> Path:
        folder = place.files / "checkpoint"
        folder.mkdir()
        (folder / "config.json").write_text(text)
        save_file({"a.weight": torch.ones(4, 4)}, folder / "model.safetensors")
        return folder

    return make


def _remote_code(place: Place) -> Path:
    """A configuration that names code lying beside it."""
    folder = Path(str(_config(json.dumps(
        {"model_type": "evil", "auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.C"},
         "architectures": ["Evil"]}
    ))(place)))  # fmt: skip
    (folder / "evil.py").write_text(place.code)
    (folder / "modeling_evil.py").write_text(place.code)
    return folder


def _pickled_shards(place: Place) -> Path:
    folder = place.files / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    torch_zip(folder / "pytorch_model.bin", whole(called("posix system", place.command)))
    return folder


def _distributed(content: Callable[[Place], bytes]) -> Make:
    def make(place: Place) -> Path:
        folder = place.files / "checkpoint"
        folder.mkdir()
        (folder / ".metadata").write_bytes(content(place))
        (folder / "__0_0.distcp").write_bytes(b"PK")
        return folder

    return make


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
_REFUSED: dict[str, tuple[Make, str]] = {
    "a pipe": (_fifo, "not a regular file"),
    "a socket": (_socket, "not a regular file"),
    "a device": (lambda place: Path("/dev/zero"), "not a regular file"),
    "random bytes without end": (lambda place: Path("/dev/urandom"), "not a regular file"),
    "standard input": (lambda place: Path("/dev/stdin"), "not a regular file"),
    "a link to a pipe": (_link_to_fifo, "not a regular file"),
    "a link to a device": (_link("/dev/zero"), "not a regular file"),
    "a link to /etc/passwd": (_link("/etc/passwd"), "text"),
    "a link to nowhere": (_link("nowhere"), "no such file"),
    "links in a circle": (_loop, ""),
    "a link to itself": (_link("model.pt"), ""),
    "an empty folder": (_empty_folder, "is a directory"),
    "a folder within itself": (_folder_of_itself, "is a directory"),
    "the root": (lambda place: Path("/"), "is a directory"),
    "a process's memory": (lambda place: Path("/proc/self/mem"), ""),
    "an empty file": (_content(b""), "is empty"),
    "one byte": (_content(b"\x80"), ""),
    "text": (_content(b"hello\n"), "text"),
    "a Git LFS pointer": (_content(LFS), "git lfs pull"),
    "a picture": (_content(b"\x89PNG\r\n\x1a\n" + bytes(100)), "unknown binary"),
    "HDF5": (_content(b"\x89HDF\r\n\x1a\n"), "HDF5"),
    "a terabyte of zeros": (_hole, "unknown binary"),
    "64 GB behind PK": (_hole_behind(b"PK\3\4"), "zip"),
    "64 GB behind a pickle": (_hole_behind(b"\x80\x02N."), "pickle"),
    "a missing file with escapes": (_missing("\x1b[31m\u202e\n.pt"), "no such file"),
    "a missing file of a long name": (_missing("n" * 5_000), ""),
    "a missing file that is no UTF-8": (_missing("mod\udcffel.pt"), "no such file"),
    "a name with escapes": (_named("\x1b[31mmodel\u202e\n<script>.pt"), "would run code"),
    "a name that is no UTF-8": (_named("mod\udcffel.pt"), "would run code"),
    "a name of 250 bytes": (_named("n" * 247 + ".pt"), "would run code"),
    "a name like an option": (_named("--trust"), ""),
    "a file with a colon": (_named("model:evil.pt"), ""),
    "a shard outside": (_shards(_map("../outside.safetensors")), ""),
    "a shard by an absolute path": (
        _shards(lambda p: _map(str(p.files / "outside.safetensors"))(p)),
        "",
    ),
    "a shard in Windows' way": (_shards(_map("..\\outside.safetensors")), ""),
    "a shard that is a link to /etc/passwd": (_shard_link, ""),
    "a shard that is a pipe": (_shard_fifo, ""),
    "a shard that is the folder": (_shards(_map(".")), ""),
    "a shard that is missing": (_shards(_map("model-00002-of-00002.safetensors")), ""),
    "a shard of no name": (_shards(_map("")), ""),
    "a shard with NUL": (_shards(_map("a\0b.safetensors")), ""),
    "a shard of 10 kB name": (_shards(_map("n" * 10_000)), ""),
    "a shard that is a number": (_shards(_map(7)), ""),
    "an index of itself": (_shards(_map("model.safetensors.index.json")), ""),
    "an index without a map": (_shards(lambda place: {"metadata": {}}), ""),
    "an index that is a list": (_shards(lambda place: [1, 2]), ""),
    "an index that is no JSON": (_shards(lambda place: "{'a'"), ""),
    "an index 100,000 levels deep": (_shards(lambda place: "[" * 100_000), ""),
    "an index with a number of 10**5 digits": (_shards(lambda place: "9" * 100_000), ""),
    "an index of 100,000 shards": (
        _shards(_map(*[f"s{i}" for i in range(100_000)])),
        "",
    ),
    "a pickled shard": (_pickled_shards, ""),
    "distributed: metadata that run": (
        _distributed(lambda place: whole(called("posix system", place.command))),
        "",
    ),
    "distributed: metadata of garbage": (_distributed(lambda place: b"\x80\x02garbage"), ""),
    "distributed: no metadata": (_distributed(lambda place: b""), ""),
}
_ODD: dict[str, Make] = {
    "an unreadable file": _unreadable,
    "code beside a configuration": _remote_code,
    "a configuration that is no JSON": _config("{'a"),
    "a configuration that is a list": _config("[1]"),
    "a configuration 100,000 levels deep": _config("[" * 100_000),
    "a configuration of absurd sizes": _config(
        json.dumps({"model_type": "gpt2", "n_embd": 10**9, "n_layer": 10**9, "vocab_size": 10**12})
    ),
    "a configuration of six million sines": _config(
        '{"model_type": "distilbert", "architectures": ["DistilBertModel"], "dim": 1, "n_heads": 1,'
        '"sinusoidal_pos_embds": true, "max_position_embeddings": 6000000, "n_layers": 1,'
        '"hidden_dim": 4, "vocab_size": 10}'
    ),
    "a configuration of negative sizes": _config(
        json.dumps({"model_type": "gpt2", "n_embd": -1, "n_layer": -5, "vocab_size": -7})
    ),
    "a configuration of text": _config(
        json.dumps({"model_type": "gpt2", "n_embd": "a", "n_head": None})
    ),
    "a configuration of a hostile kind": _config(json.dumps({"model_type": "<script>\x1b[31m\n"})),
    "a configuration whose kind is a path": _config(json.dumps({"model_type": "../../evil"})),
    "a configuration whose kind is a list": _config(json.dumps({"model_type": ["gpt2"]})),
    "a configuration named elsewhere": _config(
        json.dumps({"model_type": "gpt2", "_name_or_path": "https://example.com/evil"})
    ),
}


def cases() -> tuple[Case, ...]:
    refused = [Case(name, make, says) for name, (make, says) in _REFUSED.items()]
    return (*refused, *(sound(name, make) for name, make in _ODD.items()))
