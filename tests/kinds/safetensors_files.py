"""What ``safetensors`` writes."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from tests.kinds.kind import CODE, Kind, data, net


def safetensors(folder: Path) -> Path:
    save_file(net().state_dict(), folder / "model.safetensors")
    (folder / "net.py").write_text(CODE)
    return folder / "model.safetensors"


KINDS = (
    Kind("safetensors", safetensors, "safetensors", measured=("weights",), order=20),
    Kind(
        "safetensors, `--build`",
        safetensors,
        "safetensors",
        options=("--build", "net.py:build"),
        data=data,
        order=21,
    ),
)
