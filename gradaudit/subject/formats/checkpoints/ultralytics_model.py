"""Models of Ultralytics: as training starts from them, their own loss, a sample to draw for them.

The package is not needed until one of its models is at hand, and never asked for by a file alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.subject.code import call
from gradaudit.subject.opened import Batch

IMAGE = "img"  # the key of the images in its batches
_SIDES = (64, 160)  # pixels of made-up images, between which its own size is taken
_IMAGES, _BOXES = 4, 2
_DETECTION = "DetectionModel"
_FROZEN = ".dfl"  # its trainer never trains these: they are the numbers 0, 1, 2, ...


def is_ultralytics(model: object) -> bool:
    """Whether the model's class is of that package, and none of its wrappers."""
    home = type(model).__module__
    return isinstance(model, nn.Module) and home.startswith("ultralytics.nn.")


def as_trained(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The model of a file as its trainer starts from it: in float, and trainable."""
    notes = []
    if any(p.dtype == torch.float16 for p in model.parameters()):
        notes.append("Weights: stored in half precision, cast to float.")
    model = model.float()
    parameters = list(model.named_parameters())
    if parameters and not any(parameter.requires_grad for _, parameter in parameters):
        for name, parameter in parameters:
            parameter.requires_grad_(_FROZEN not in name)
        notes.append("Weights: stored frozen; trainable here, as Ultralytics' trainer makes them.")
    return model, tuple(notes)


def own_criterion(model: nn.Module) -> Callable[[Any, Any], Tensor] | None:
    """The loss that the package trains the model with, ``(output, target) -> scalar``.

    The target is a mapping: the batch as the package has it, without its images.
    """
    if not is_ultralytics(model) or not callable(getattr(model, "init_criterion", None)):
        return None
    criterion: Any = call(lambda: _with_settings(model).init_criterion(), "Ultralytics' own loss")

    def ultralytics_loss(output: Any, target: Mapping[str, Any]) -> Tensor:
        found = criterion(output, dict(target))
        loss: Tensor = found[0] if isinstance(found, tuple) else found
        return loss.sum()

    return ultralytics_loss


def _with_settings(model: Any) -> Any:
    """The model with its settings as attributes of an object, as its losses read them."""
    given = getattr(model, "args", None)
    if given is not None and not isinstance(given, Mapping):
        return model
    from ultralytics.cfg import get_cfg  # installed, or the model would not be here

    shallow = copy.copy(model)
    shallow.args = get_cfg(overrides=dict(given or {}))
    return shallow


def as_batch(raw: Mapping[str, Any]) -> Batch:
    """A batch of the package's, ``img`` beside ``cls``, ``bboxes`` and ``batch_idx``."""
    image = raw[IMAGE]
    if isinstance(image, Tensor) and not image.is_floating_point():
        image = image.float() / 255  # as its trainer does
    rest = {key: value for key, value in raw.items() if key != IMAGE}
    # boxes of all images are in one list: no row of it belongs to a row of the images
    return Batch((image,), rest, whole=True)


def made_up(model: nn.Module, seed: int, batches: int) -> tuple[str, tuple[Batch, ...]] | None:
    """Random images with boxes for a detection model, and in words what they are.

    ``None`` for its other models, whose batches hold masks, points, texts or depths.
    """
    found: Any = model
    if not is_ultralytics(model) or type(model).__name__ != _DETECTION:
        return None
    channels, side = _channels(found), _side(found)
    generator = torch.Generator().manual_seed(seed)
    drawn = tuple(_drawn(channels, side, _classes(found), generator) for _ in range(batches))
    device = next(model.parameters()).device
    moved = tuple(as_batch({key: item.to(device) for key, item in raw.items()}) for raw in drawn)
    words = (
        f"random images [{_IMAGES}, {channels}, {side}, {side}] with {_BOXES} boxes each, "
        "from the model's own description"
    )
    return words, moved


def _drawn(channels: int, side: int, classes: int, generator: torch.Generator) -> dict[str, Tensor]:
    count = _IMAGES * _BOXES
    return {
        IMAGE: torch.rand(_IMAGES, channels, side, side, generator=generator),
        "cls": torch.randint(classes, (count, 1), generator=generator).float(),
        # centre, width and height as shares of the image
        "bboxes": torch.rand(count, 4, generator=generator) * 0.4 + 0.3,
        "batch_idx": torch.arange(_IMAGES).repeat_interleave(_BOXES).float(),
    }


def _channels(model: Any) -> int:
    described = getattr(model, "yaml", None)
    found = described.get("channels", described.get("ch")) if isinstance(described, dict) else None
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return found if type(found) is int and found > 0 else 3 if first is None else first.in_channels


def _side(model: Any) -> int:
    given = getattr(model, "args", None)
    found = given.get("imgsz") if isinstance(given, Mapping) else getattr(given, "imgsz", None)
    least, most = _SIDES
    size = min(max(found, least), most) if type(found) is int else least
    return size // 32 * 32  # its largest stride


def _classes(model: Any) -> int:
    found = getattr(model, "nc", None)
    found = found if type(found) is int else getattr(model.model[-1], "nc", None)
    return found if type(found) is int and found > 0 else 1
