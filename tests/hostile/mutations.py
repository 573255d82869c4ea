"""Small real files of every kind, and ways to damage them."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn

Make = Callable[[Path], Path]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 1))


def _module(folder: Path) -> Path:
    torch.save(net(), folder / "model.pt")
    return folder / "model.pt"


def _old_module(folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that it cannot find a class's source
        torch.save(net().state_dict(), folder / "model.pt", _use_new_zipfile_serialization=False)
    return folder / "model.pt"


def _state(folder: Path) -> Path:
    state = net().state_dict()
    state["tied"] = state["0.weight"]
    state["half"] = torch.ones(3, dtype=torch.float16)
    torch.save(state, folder / "model.pt")
    return folder / "model.pt"


def _checkpoint(folder: Path) -> Path:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    content = {
        "epoch": 3,
        "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "args": {"lr": 0.01, "betas": (0.9, 0.999)},
    }
    torch.save(content, folder / "last.ckpt")
    return folder / "last.ckpt"


def _safetensors(folder: Path) -> Path:
    save_file(net().state_dict(), folder / "model.safetensors", {"format": "pt"})
    return folder / "model.safetensors"


def _onnx(folder: Path) -> Path:
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    node = helper.make_node("Gemm", ["x", "w"], ["h"])
    graph = helper.make_graph(
        [node, helper.make_node("Relu", ["h"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [weight],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, folder / "model.onnx")
    return folder / "model.onnx"


def _exported(folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(
            torch.export.export(net().eval(), (torch.ones(2, 3),)), folder / "model.pt2"
        )
    return folder / "model.pt2"


def _scripted(folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but alive in files
        torch.jit.save(torch.jit.script(net()), folder / "model.pt")
    return folder / "model.pt"


def _huggingface(folder: Path) -> Path:
    """Shards by an index; the file that is damaged is one of three."""
    home = folder / "checkpoint"
    home.mkdir()
    config = {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 4, "n_head": 2,
        "n_layer": 1, "n_positions": 8, "vocab_size": 11, "torch_dtype": "float32",
    }  # fmt: skip
    (home / "config.json").write_text(json.dumps(config))
    name = "model-00001-of-00001.safetensors"
    save_file({"transformer.wte.weight": torch.ones(11, 4)}, home / name)
    index = {"metadata": {"total_size": 176}, "weight_map": {"transformer.wte.weight": name}}
    (home / "model.safetensors.index.json").write_text(json.dumps(index))
    return home


def _distributed(folder: Path) -> Path:
    from torch.distributed import checkpoint

    home = folder / "checkpoint"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that there is but one process
        checkpoint.save({"model": net().state_dict()}, checkpoint_id=str(home), no_dist=True)
    return home


MODELS: dict[str, Make] = {
    "module": _module,
    "old state dict": _old_module,
    "state dict": _state,
    "checkpoint": _checkpoint,
    "safetensors": _safetensors,
    "onnx": _onnx,
    "pt2": _exported,
    "torchscript": _scripted,
    "huggingface": _huggingface,
    "distributed": _distributed,
}


def _npy(folder: Path) -> Path:
    np.save(folder / "data.npy", np.ones((8, 3), np.float32))
    return folder / "data.npy"


def _npz(folder: Path) -> Path:
    np.savez(folder / "data.npz", x=np.ones((8, 3), np.float32), y=np.ones((8, 1), np.float32))
    return folder / "data.npz"


def _csv(folder: Path) -> Path:
    rows = "\n".join(f"{i},{i * 0.5},-{i},{i % 2}" for i in range(8))
    (folder / "data.csv").write_text(f"a,b,c,y\n{rows}\n")
    return folder / "data.csv"


def _tensors(folder: Path) -> Path:
    torch.save({"x": torch.ones(8, 3), "y": torch.ones(8, 1)}, folder / "data.pt")
    return folder / "data.pt"


def _recipe(folder: Path) -> Path:
    (folder / "recipe.json").write_text(
        '{"optimizer": "adam", "lr": 0.01, "betas": [0.9, 0.99], "clip_norm": null, "steps": 100}'
    )
    return folder / "recipe.json"


BESIDE: dict[str, tuple[str, Make]] = {
    "npy": ("--data", _npy),
    "npz": ("--data", _npz),
    "csv": ("--data", _csv),
    "pt": ("--data", _tensors),
    "recipe": ("--recipe", _recipe),
}

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_WORDS = (
    b"cposix\nsystem\n(S'touch canary'\ntR", b"\x8c\x02os\x8c\x06system\x93", b"PK\3\4", b"PK\1\2",
    b"PK\5\6", b"..", b"../../", b"\0", b"\n", b"{", b"}", b"[", b'"', b"-1", b"1e999", b"NaN",
    b".",
    b"R", b"b", b"Q", b"0", b"2", b"(", b"t", b"\x85", b"\x86", b"\x94", b"h\0", b"q\0", b"null",
    b"\xff\xfe", b"\xed\xa0\x80", b"99999999999999999999", b"true", b",", b":",
)  # fmt: skip


def damaged(content: bytes, random: Random) -> bytes:
    """``content`` with one to four changes; of an archive, often to a member's own content."""
    for _ in range(random.randint(1, 4)):
        zipped = content.startswith(b"PK") and random.random() < 0.7
        content = _member_changed(content, random) if zipped else _changed(content, random)
    return content


def _changed(content: bytes, random: Random) -> bytes:
    if not content:
        return random.choice(_WORDS)
    at = random.randrange(len(content))
    end = min(len(content), at + random.choice((1, 1, 2, 4, 8, 64, 1024)))
    kind = random.randrange(8)
    if kind == 0:
        return content[:at] + bytes([content[at] ^ (1 << random.randrange(8))]) + content[at + 1 :]
    if kind == 1:
        return content[:at] + bytes([random.randrange(256)]) + content[at + 1 :]
    if kind == 2:
        return content[:at] + content[end:]
    if kind == 3:
        return content[:end] + content[at:end] * random.choice((1, 1, 2, 100)) + content[end:]
    if kind == 4:
        return content[:at] + random.choice(_WORDS) + content[at:]
    if kind == 5:
        word = random.choice(_WORDS)
        return content[:at] + word + content[at + len(word) :]
    if kind == 6:
        size = random.choice((1, 2, 4, 8))
        number = random.choice(_NUMBERS) % (1 << (8 * size))
        order = random.choice(("little", "big"))
        return content[:at] + number.to_bytes(size, order) + content[at + size :]
    return content[: random.choice((at, end, len(content) - 1))]


def _member_changed(content: bytes, random: Random) -> bytes:
    """Another archive of the same members, whole again around what was changed."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:  # it is no archive any more
        return _changed(content, random)
    if not members:
        return _changed(content, random)
    # the longest member is numbers, mostly; pickles and texts are where the fun is
    weights = [4 if name.endswith((".pkl", ".json", ".py")) else 1 for name, _ in members]
    at = random.choices(range(len(members)), weights)[0]
    other = random.randrange(len(members))
    kind = random.randrange(10)
    name, inside = members[at]
    if kind == 0:
        del members[at]
    elif kind == 1:
        members[at], members[other] = (name, members[other][1]), (members[other][0], inside)
    elif kind == 2:
        members[at] = (name.replace("/", random.choice(("/../", "//", "\\", "/./"))), inside)
    elif kind == 3:
        members.append((name + random.choice(("", "x", "/")), inside))
    else:
        members[at] = (name, _changed(inside, random))
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, inside in members:
            archive.writestr(name, inside)
    return buffer.getvalue()


def damage(path: Path, random: Random) -> None:
    """Damage the file at ``path``, or one of the files in the folder."""
    if path.is_dir():
        path = random.choice(sorted(item for item in path.rglob("*") if item.is_file()))
    path.write_bytes(damaged(path.read_bytes(), random))
