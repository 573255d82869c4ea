"""What ``torch.save`` writes."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.kinds.kind import CODE, Kind, data, net


def pickled(folder: Path) -> Path:
    torch.save(net(), folder / "model.pt")
    return folder / "model.pt"


def state_dict(folder: Path) -> Path:
    torch.save(net().state_dict(), folder / "model.pt")
    (folder / "net.py").write_text(CODE)
    return folder / "model.pt"


KINDS = (
    Kind("pickled Module", pickled, "pickled module", data=data, order=1),
    Kind("state dict", state_dict, "state dict", measured=("weights",), order=3),
    Kind(
        "state dict, `--build`",
        state_dict,
        "state dict",
        options=("--build", "net.py:build"),
        data=data,
        order=4,
    ),
)
