"""What training code writes with ``torch.save``: its own dicts, wrapped models, old formats."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.kinds.kind import CODE, Kind, data, net

_FORMAT = "training checkpoint"
_BUILD = ("--build", "net.py:build")


def _written(folder: Path, content: Any, *, old: bool = False) -> Path:
    (folder / "net.py").write_text(CODE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of the source it cannot find
        torch.save(content, folder / "model.pt", _use_new_zipfile_serialization=not old)
    return folder / "model.pt"


def legacy(folder: Path) -> Path:
    return _written(folder, net(), old=True)


def training(folder: Path) -> Path:
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    content = {"epoch": 0, "model_state_dict": model.state_dict(),
               "optimizer_state_dict": optimizer.state_dict()}  # fmt: skip
    return _written(folder, content)


def wrapped(folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _written(folder, {"model": torch.compile(nn.DataParallel(net())).state_dict()})


def consolidated(folder: Path) -> Path:
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = {"app": {"model": model.state_dict(), "optim": optimizer.state_dict()}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one process where several were expected
        dcp.save(state, checkpoint_id=folder / "shards", no_dist=True)
        dcp_to_torch_save(folder / "shards", folder / "model.pt")
    (folder / "net.py").write_text(CODE)
    return folder / "model.pt"


KINDS = (
    Kind(
        "pickled Module, before torch 1.6, `--trust`", legacy, "legacy pickled module",
        options=("--trust",), data=data, order=2,
    ),
    Kind("training checkpoint", training, _FORMAT, measured=("weights",), order=5),
    Kind("training checkpoint, `--build`", training, _FORMAT, options=_BUILD, data=data, order=6),
    Kind("of a compiled, data-parallel model", wrapped, _FORMAT, measured=("weights",), order=7),
    Kind("consolidated from FSDP or DCP", consolidated, _FORMAT, measured=("weights",), order=8),
)  # fmt: skip
