"""What Ultralytics writes; in a process of its own, for its package changes torch and settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from tests.command import CHECKOUT, python
from tests.kinds.kind import Kind

# where `make setup` puts it, apart: other packages change their ways where torchvision is there
PACKAGES = Path(os.environ.get("GRADAUDIT_VISION", Path(sys.prefix) / "vision"))
WRITE = """\
from copy import deepcopy

import torch
from ultralytics import YOLO

torch.manual_seed(0)
model = YOLO("yolov8n.yaml")
model.save("saved.pt")
# as its trainer leaves one behind: the average alone, frozen and in half precision
average = deepcopy(model.model).half().requires_grad_(False)
average.args = dict(model.overrides, imgsz=64)
torch.save({"epoch": -1, "model": None, "ema": average, "optimizer": None}, "trained.pt")
"""


def environment(folder: Path) -> dict[str, str]:
    """Ultralytics importable, offline, its settings in ``folder``."""
    places = (CHECKOUT / "tests" / "kinds" / "vision", PACKAGES, CHECKOUT)
    return {
        "PYTHONPATH": os.pathsep.join(map(str, places)),
        "YOLO_CONFIG_DIR": str(folder),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_VERBOSE": "false",
    }


def written(folder: Path) -> Path:
    """A folder with ``saved.pt``, as ``YOLO.save`` writes it, and ``trained.pt``."""
    if not (PACKAGES / "ultralytics").is_dir():
        pytest.skip("Ultralytics is not installed; `make setup` does")
    ran = python("-c", WRITE, cwd=folder, env=environment(folder))
    assert (folder / "trained.pt").is_file(), ran.err
    return folder


def trained(folder: Path) -> Path:
    return written(folder) / "trained.pt"


def images() -> dict[str, torch.Tensor]:
    """A batch of four small images with six boxes, as Ultralytics' loaders give them."""
    generator = torch.Generator().manual_seed(0)
    return {
        "img": torch.randint(256, (4, 3, 64, 64), generator=generator, dtype=torch.uint8),
        "cls": torch.randint(80, (6, 1), generator=generator).float(),
        "bboxes": torch.rand(6, 4, generator=generator) * 0.4 + 0.3,
        "batch_idx": torch.tensor([0.0, 0.0, 1.0, 2.0, 2.0, 3.0]),
    }


KINDS = (
    Kind(
        "Ultralytics, `--trust`", trained, "pickled module",
        measured=("layers", "weights", "rehearsal"), options=("--trust",), data=images, order=12,
        environment=environment,
    ),
)  # fmt: skip
