"""``training_step(...)``: scaling, rate, precision, clipping and the step, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradaudit.records import Recipe
from gradaudit.written.start import Part

_HALF = {"fp16": "torch.float16", "bf16": "torch.bfloat16"}

_STANDARDISED = '''\
def standardised(values, shift, scale):
    """Return `(values - shift) / scale`; what is not a floating tensor stays as it is."""
    if not isinstance(values, torch.Tensor) or not values.is_floating_point():
        return values
    shift = torch.tensor(shift, dtype=values.dtype, device=values.device)
    scale = torch.tensor(scale, dtype=values.dtype, device=values.device)
    return (values - shift) / scale
'''
_INPUTS = '''\
def standardised_inputs(inputs):
    """Standardise the input, the first of several; a mapping of inputs stays as it is."""
    if isinstance(inputs, (tuple, list)):
        return (standardised(inputs[0], INPUT_SHIFT, INPUT_SCALE), *inputs[1:])
    return standardised(inputs, INPUT_SHIFT, INPUT_SCALE)
'''
_ORIGINAL = '''\
def to_original(prediction):
    """Turn a prediction of the trained model back into the units of the target."""
    shift = torch.tensor(TARGET_SHIFT, dtype=prediction.dtype, device=prediction.device)
    scale = torch.tensor(TARGET_SCALE, dtype=prediction.dtype, device=prediction.device)
    return prediction * scale + shift
'''
_CALL = '''\
def outputs(model, inputs):
    """Call `model` on a tensor, a tuple of arguments or a mapping of keywords."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)
'''
_SCALER = '''\
@functools.cache
def scaler_on(device):
    """Return the loss scale of all steps, which adapts itself."""
    return torch.amp.GradScaler(device{initial})
'''
_STEP = '''\
def training_step(model, optimizer, inputs, target, loss_function, step):
    """Take one step on one batch and return its loss; `step` counts from 0.

    `loss_function(output, target)` returns a scalar tensor. Of a model that returns its own loss
    it is `lambda output, target: output.loss`.
    """
'''


@dataclass(frozen=True)
class _Parts:
    """What the step is made of."""

    recipe: Recipe
    input: Mapping[str, Any] | None
    target: Mapping[str, Any] | None
    loss_scale: float | None
    half: str  # the type to compute in under autocast, or nothing

    @property
    def paced(self) -> bool:
        return bool(self.recipe.warmup) or self.recipe.schedule in ("linear", "cosine")

    @property
    def scaler(self) -> bool:
        return self.half == _HALF["fp16"]


def step_part(recipe: Recipe, prescribed: Mapping[str, Any], *, half_weights: bool) -> Part:
    """The step of ``recipe``, which has what is prescribed in it; other parts are left out.

    Weights in half precision need no autocast, and torch's loss scale refuses them.
    """
    half = "" if half_weights else _HALF.get(recipe.precision or "", "")
    parts = _Parts(
        recipe, _scaling(prescribed, "input"), _scaling(prescribed, "target"),
        prescribed.get("loss_scale"), half,
    )  # fmt: skip
    imports = {"from collections.abc import Mapping", "import torch"}
    if parts.paced and recipe.schedule == "cosine":
        imports.add("import math")
    if parts.scaler:
        imports.add("import functools")
    if parts.input is None and parts.target is None and not parts.half and not recipe.clip_norm:
        imports.remove("import torch")
    functions = [*_helpers(parts), _STEP + "".join(f"    {line}\n" for line in _lines(parts))]
    return Part("\n\n".join(functions), frozenset(imports), tuple(_constants(parts)))


def _scaling(prescribed: Mapping[str, Any], role: str) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] = prescribed.get(role) or {}
    return None if found.get("scale") is None else found


def _constants(parts: _Parts) -> list[str]:
    lines = []
    for role, numbers in (("INPUT", parts.input), ("TARGET", parts.target)):
        if numbers is not None:
            lines.append(f"{role}_SHIFT = {numbers['shift']!r}")
            lines.append(f"{role}_SCALE = {numbers['scale']!r}")
    recipe = parts.recipe
    if recipe.clip_norm is not None:
        lines.append(f"CLIP_NORM = {recipe.clip_norm!r}")
    if recipe.warmup:
        lines.append(f"WARMUP = {recipe.warmup!r}  # steps")
    if recipe.schedule in ("linear", "cosine"):
        lines.append(f"STEPS = {recipe.steps!r}  # that you mean to train: the rate is 0 then")
    return lines


def _helpers(parts: _Parts) -> list[str]:
    found = []
    if parts.input is not None or parts.target is not None:
        found.append(_STANDARDISED)
    if parts.input is not None:
        found.append(_INPUTS)
    if parts.target is not None:
        found.append(_ORIGINAL)
    if parts.paced:
        found.append(_pace(parts.recipe))
    if parts.scaler:
        scale = parts.loss_scale
        found.append(_SCALER.format(initial=f", init_scale={scale!r}" if scale else ""))
    return [*found, _CALL]


def _pace(recipe: Recipe) -> str:
    ways = []
    if recipe.warmup:
        ways.append("min(1.0, (step + 1) / WARMUP)")
    if recipe.schedule == "cosine":
        ways.append("0.5 * (1 + math.cos(math.pi * min(1.0, step / STEPS)))")
    if recipe.schedule == "linear":
        ways.append("(1 - min(1.0, step / STEPS))")
    return (
        "def rate_share(step):\n"
        '    """Return the share of the full learning rate at `step`."""\n'
        f"    return {' * '.join(ways)}\n"
    )


def _lines(parts: _Parts) -> list[str]:
    lines = []
    if parts.input is not None:
        lines.append("inputs = standardised_inputs(inputs)")
    if parts.target is not None:
        lines.append("target = standardised(target, TARGET_SHIFT, TARGET_SCALE)")
    if parts.paced:
        lines += [
            "for group in optimizer.param_groups:",
            '    full = group.setdefault("initial_lr", group["lr"])',
            '    group["lr"] = full * rate_share(step)',
        ]
    lines.append("optimizer.zero_grad()")
    forward = "loss = loss_function(outputs(model, inputs), target)"
    if parts.half:
        lines += [
            "device = next(model.parameters()).device.type",
            f"with torch.autocast(device, dtype={parts.half}):",
            f"    {forward}",
        ]
    else:
        lines.append(forward)
    clip = "torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)"
    clips = [clip] if parts.recipe.clip_norm is not None else []
    if parts.scaler:
        lines += ["scaler = scaler_on(device)", "scaler.scale(loss).backward()"]
        if clips:
            lines.append("scaler.unscale_(optimizer)  # the norm is of the gradients themselves")
        lines += [*clips, "scaler.step(optimizer)", "scaler.update()"]
    else:
        lines += ["loss.backward()", *clips, "optimizer.step()"]
    return [*lines, "return loss.item()"]
