"""The data sample: given, carried by the model, or made up; and the loss that goes with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradaudit.errors import BadData, GradauditError
from gradaudit.records import NotMeasured, SampleRow
from gradaudit.settings import Settings
from gradaudit.subject.auto_loss import auto_objective
from gradaudit.subject.batches import (
    DEFAULT_BATCH_SIZE,
    map_tensors,
    read_batches,
    sample_count,
)
from gradaudit.subject.code import UserCode, call, is_code
from gradaudit.subject.data_files import read_data_file
from gradaudit.subject.declared_inputs import fitted, fixed_rows
from gradaudit.subject.drawn import draw_batches
from gradaudit.subject.formats.checkpoints import ultralytics_model
from gradaudit.subject.known_loss import recognised
from gradaudit.subject.made_up import guesses, parse_input_spec
from gradaudit.subject.memory import in_memory
from gradaudit.subject.objective import CustomObjective, OwnObjective
from gradaudit.subject.opened import Batch, Objective
from gradaudit.subject.pretrained_inputs import is_pretrained
from gradaudit.subject.targets import Plan, ShapeOf, make_target, plan_target, reshaped
from gradaudit.subject.trial import check_first_layer, check_values, run_once

_MOST_BATCHES = 64
_MADE_UP_BATCHES = 8
_MADE_UP_BYTES = 1 << 28
_MORE = "give --data, or --input such as float32[32,10]"


@dataclass(frozen=True)
class Sampled:
    """A checked sample with its loss; no batches where there is none."""

    batches: tuple[Batch, ...]
    objective: Objective | None
    row: SampleRow
    notes: tuple[str, ...] = ()
    not_measured: tuple[NotMeasured, ...] = ()


@dataclass(frozen=True)
class Given:
    """What came with the model: the user's sample, and example inputs a file carries."""

    sample: Any = None
    carried: Any = None


@dataclass(frozen=True)
class _Found:
    batches: tuple[Batch, ...]
    source: str
    description: str
    output: Any = None  # of the first batch, where the model was run already


def sample_for(
    model: nn.Module, given: Given, loss: Objective | None, settings: Settings, code: UserCode
) -> Sampled:
    """The sample and loss to audit ``model`` with.

    ``--data`` goes before ``--input``, before what the user's code handed in, before inputs that
    the model or its file carries, before one made up from what the first layer takes. The model is
    run once, borrowed. Raises ``BadData`` or ``ModelError`` where a given sample does not fit; any
    other that does not is dropped and reported.
    """
    found = _given(model, given.sample, settings, code)
    if found is not None:
        found = dataclasses.replace(found, batches=fitted(model, found.batches))
        check_values(found.batches)
        check_first_layer(model, found.batches)
        output, batches, notes = in_memory(lambda b: run_once(model, b[0]), found.batches)
        found = dataclasses.replace(found, batches=batches, output=output)
        sampled = _with_loss(model, found, loss, settings)
        return dataclasses.replace(sampled, notes=(*notes, *sampled.notes))
    tried: list[str] = []
    attempts = (_carried, _made_up)
    # the dummy inputs of transformers are five tokens without labels; a configuration says more
    for attempt in reversed(attempts) if is_pretrained(model) else attempts:
        found = attempt(model, given.carried, settings, tried)
        if found is not None:
            return _with_loss(model, found, loss, settings)
    return nothing(" ".join(tried))


def nothing(why: str, *, next_step: str = _MORE) -> Sampled:
    """No sample: only what weights alone tell can be measured."""
    next_step = f"; {next_step}" if next_step else ""
    reason = why or "no layer says unambiguously what the model takes"
    row = SampleRow("none", "none", 0, None, "no sample")
    what = "gradients, Jacobian growth, activations and the rehearsal"
    missing = NotMeasured(what, "the model", f"no sample could be run: {reason}{next_step}")
    told = f"NO SAMPLE: only the weights are judged{next_step}."
    return Sampled((), None, row, (told,), (missing,))


def _given(model: nn.Module, raw: Any, settings: Settings, code: UserCode) -> _Found | None:
    limit = min(_MOST_BATCHES, settings.budget.gradient_batches + settings.budget.rehearsal_steps)
    if settings.data is not None:
        spec, size = settings.data, settings.batch_size
        if is_code(spec):
            raw = code.find(spec)
        else:
            raw = read_data_file(Path(spec), target=settings.target, trust=settings.trust)
            size = size or fixed_rows(model) or DEFAULT_BATCH_SIZE
        raw = _in_model_dtype(raw, model) if not is_code(spec) else raw
        batches = _even(model, read_batches(raw, model, limit=limit, batch_size=size, label=spec))
        return _Found(batches, "given", f"{_count(batches)} from {spec}")
    if settings.input is not None:
        wanted = parse_input_spec(settings.input)
        device = next(model.parameters()).device
        batches = draw_batches(wanted, _made_up_count(wanted), seed=settings.seed, device=device)
        return _Found(batches, "made up", f"random {settings.input}, as --input asks")
    if raw is not None:
        batches = read_batches(
            raw, model, limit=limit, batch_size=settings.batch_size, label="the sample"
        )
        return _Found(batches, "given", f"{_count(batches)} from the subject")
    return None


def _even(model: nn.Module, batches: tuple[Batch, ...]) -> tuple[Batch, ...]:
    """Without a last batch that is smaller than the only size the model takes."""
    rows = fixed_rows(model)
    if rows is None or len(batches) < 2 or sample_count(batches[-1]) == rows:
        return batches
    return batches[:-1]


def _count(batches: tuple[Batch, ...]) -> str:
    return f"{len(batches)} batch{'' if len(batches) == 1 else 'es'}"


def _made_up_count(wanted: Any) -> int:
    size = sum(item.dtype.itemsize * torch.Size(item.shape).numel() for item in wanted)
    return max(1, min(_MADE_UP_BATCHES, _MADE_UP_BYTES // size))


def _in_model_dtype(raw: Any, model: nn.Module) -> Any:
    """Floating tensors of a file in the model's dtype, as numpy arrays are converted too."""
    dtypes = [p.dtype for p in model.parameters() if p.is_floating_point()]
    if not dtypes:
        return raw

    def converted(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(dtypes[0]) if tensor.is_floating_point() else tensor

    return map_tensors(raw, converted)


def _carried(model: nn.Module, carried: Any, settings: Settings, tried: list[str]) -> _Found | None:
    name, inputs = "the file's example inputs", carried
    if inputs is None:
        for name in ("example_input_array", "dummy_inputs"):
            inputs = getattr(model, name, None)
            if inputs is not None:
                break
        else:
            return None
    device = next(model.parameters()).device
    batch = _carried_batch(map_tensors(inputs, lambda t: t.to(device)))
    try:
        check_values((batch,))
        output = run_once(model, batch)
    except GradauditError as error:
        tried.append(f"{name} could not be used: {error};")
        return None
    return _Found((batch,), "carried", f"one batch from {name}", output)


def _carried_batch(inputs: Any) -> Batch:
    if isinstance(inputs, Mapping):
        return Batch(dict(inputs))
    if isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[1], dict):
        args, keywords = inputs  # torch.export's (args, kwargs)
        if not keywords:
            return Batch(tuple(args))
        return Batch(dict(keywords)) if not args else Batch(tuple(args))
    return Batch(tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,))


def _made_up(model: nn.Module, _: Any, settings: Settings, tried: list[str]) -> _Found | None:
    if ultralytics_model.is_ultralytics(model):
        return _made_up_images(model, settings, tried)
    whence, drawn = guesses(model)
    device, first_error = next(model.parameters()).device, ""
    for guess in drawn:
        (batch,) = draw_batches(guess, 1, seed=settings.seed, device=device)
        shown = "; ".join(map(str, guess))
        try:
            output = run_once(model, batch)
        except GradauditError as error:
            first_error = first_error or f"on a made-up {shown} {error}"
            continue
        count = _made_up_count(guess)
        batches = draw_batches(guess, count, seed=settings.seed, device=device)
        described = f"random {shown}, from {whence}"
        return _Found(fitted(model, batches), "made up", described, output)
    if first_error:
        tried.append(first_error)
    return None


def _made_up_images(model: nn.Module, settings: Settings, tried: list[str]) -> _Found | None:
    own = ultralytics_model.made_up(model, settings.seed, _MADE_UP_BATCHES)
    if own is None:
        tried.append(f"a {type(model).__name__} takes batches of Ultralytics' own kind")
        return None
    described, batches = own
    try:
        return _Found(batches, "made up", described, run_once(model, batches[0]))
    except GradauditError as error:
        tried.append(f"on {described} {error}")
        return None


def _with_loss(
    model: nn.Module, found: _Found, loss: Objective | None, settings: Settings
) -> Sampled:
    batches, made = found.batches, None
    if batches[0].target is None:
        batches, made = _targets(model, found, loss, settings)
    output = found.output
    if made is not None and made.source == "labels":
        output = run_once(model, batches[0])
    objective = loss or auto_objective(output, batches[0])
    value = call(objective, f"the loss {objective.kind}", output, batches[0])
    if value.is_complex():
        raise BadData("the loss is complex", expected="a real scalar")
    objective, missing = recognised(objective, output, batches[0], value.detach())
    target, rows = _target_word(objective, made, found), sample_count(batches[0])
    row = SampleRow(found.source, target, len(batches), rows, found.description)
    notes = (*_notes(row, objective, made), *reshaped(objective, output, batches[0].target))
    return Sampled(batches, objective, row, notes, missing)


def _targets(
    model: nn.Module, found: _Found, loss: Objective | None, settings: Settings
) -> tuple[tuple[Batch, ...], Plan | None]:
    first = found.batches[0]
    own_words = isinstance(loss, CustomObjective) and loss.like is None
    if own_words and found.source == "given":
        return found.batches, None  # (output, target) may well be written for no target
    plan = plan_target(found.output, first, loss, model, real_inputs=found.source == "given")
    if plan is None:
        return found.batches, None
    generator = torch.Generator().manual_seed(settings.seed + 1)
    shape_of = ShapeOf(model, first, found.output)
    return tuple(
        make_target(plan, shape_of(batch), batch, generator, model) for batch in found.batches
    ), plan


def _target_word(objective: Objective, made: Plan | None, found: _Found) -> str:
    batch = found.batches[0]
    # keywords that were drawn are labels among them
    drawn = batch.target is not None or isinstance(batch.inputs, Mapping)
    if made is not None or (found.source == "made up" and drawn):
        return "made up"
    if isinstance(objective, OwnObjective):
        return "in the model"
    return "none" if batch.target is None else "given"


def _notes(row: SampleRow, objective: Objective, made: Plan | None) -> tuple[str, ...]:
    notes = []
    if row.source == "made up":
        notes.append(
            f"MADE-UP DATA: {row.description}. The verdict covers architecture and weights; "
            "findings about data and the forecast need --data."
        )
    if row.source == "carried":
        notes.append(f"The sample is {row.description}; --data gives your own.")
    if made is not None:
        notes.append(f"MADE-UP TARGET: {made.why}.")
    notes.append(f"Loss: {objective.kind}. {objective.why}")
    return tuple(notes)
