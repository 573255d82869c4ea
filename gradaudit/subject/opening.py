"""From what the user names to an :class:`Opened` subject."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from gradaudit.errors import ModelError, UsageError
from gradaudit.onnx_graph.export_notes import ExportNotes
from gradaudit.recipes import overlay
from gradaudit.records import NotMeasured, Recipe, SubjectRow
from gradaudit.settings import Settings
from gradaudit.subject.code import UserCode, is_code
from gradaudit.subject.construction import Construction, caller
from gradaudit.subject.formats import Loaded, open_file
from gradaudit.subject.formats.checkpoints.ultralytics_model import own_criterion
from gradaudit.subject.formats.loaded import file_digest
from gradaudit.subject.formats.torchscript.compiled import left_to_torch
from gradaudit.subject.named import as_subject
from gradaudit.subject.objective import given_objective
from gradaudit.subject.opened import Opened, OptimizerFactory, Subject
from gradaudit.subject.process_state import seeded
from gradaudit.subject.recipe import (
    checked_recipe,
    from_optimizer,
    suited,
    with_options,
)
from gradaudit.subject.sample import Given, Sampled, sample_for
from gradaudit.subject.source_files import SourceLine
from gradaudit.subject.weights import load_weights, weights_digest, weights_only
from gradaudit.telling import quoted

LossFunction = Callable[[Any, Any], torch.Tensor]


@dataclass(frozen=True)
class _Named:
    """What a specification named, before the sample and the loss are looked for."""

    subject: Subject
    format: str
    construction: Construction  # where its modules were made
    line: SourceLine | None = None  # of the code that makes it, or of what stands for that
    digest: str = ""
    file: Loaded | None = None  # what came with it in its file

    @property
    def carried(self) -> Any:
        """Example inputs that the file brings along."""
        return None if self.file is None else self.file.sample


def open_subject(spec: str, settings: Settings) -> Opened:
    """Open ``spec``: ``file.py:name``, ``package.module:name``, or a model file.

    Code gives a Module, a :class:`Subject`, or a callable without arguments giving either; it runs
    under ``settings.seed``, and the process's random states are put back. A file that holds only
    weights needs ``settings.build``; without it the result has ``model=None`` and says what cannot
    be measured. Raises a :class:`gradaudit.errors.GradauditError` of one line.
    """
    settings = replace(settings, recipe=checked_recipe(settings.recipe))
    with seeded(settings.seed):
        device, code = _device(settings.device), UserCode()
        if is_code(spec):
            subject, made, line = _made_by(spec, code)
            subject = replace(subject, model=_on_device(subject.model, device))
            return _opened(_Named(subject, "code", made, line), spec, settings, code)
        path = Path(spec)
        if path.suffix == ".py" and path.is_file():
            raise UsageError(
                f"{spec} is code, and which name in it is the model is not said",
                expected=f"{spec}:name, a Module or a function that returns one",
            )
        loaded = open_file(
            path, trust=settings.trust, device=settings.device, weights_only=bool(settings.build)
        )
        digest = file_digest(path)
        settings = replace(settings, recipe=_over(loaded.recipe, settings.recipe))
        if loaded.model is None and settings.build is None:
            return weights_only(loaded, digest, spec, settings)
        found, notes, made, line = _model_of(loaded, path, settings, code)
        model = _on_device(found, device)
        loaded = replace(loaded, notes=(*loaded.notes, *notes))
        named = _Named(Subject(model), loaded.format, made, line, digest, loaded)
        return _opened(named, spec, settings, code)


def from_python(
    model: nn.Module,
    sample: Any,
    loss: str | LossFunction | None,
    optimizer: torch.optim.Optimizer | OptimizerFactory | None,
    settings: Settings,
) -> Opened:
    """Open a model that is in memory already; it stays where it is and as it is.

    ``sample`` may be ``None``; options in ``settings`` win over ``sample``, ``loss`` and
    ``optimizer``. Raises a :class:`gradaudit.errors.GradauditError` of one line.
    """
    settings = replace(settings, recipe=checked_recipe(settings.recipe))
    with seeded(settings.seed):
        subject = replace(as_subject(model, "model"), sample=sample, loss=loss)
        subject = replace(subject, optimizer=optimizer)
        made = Construction()
        line = made.defined(type(subject.model)) or caller(made)
        named = _Named(subject, "code", made, line)
        return _opened(named, type(model).__name__, settings, UserCode())


def _over(base: Recipe, options: Recipe) -> Recipe:
    """``options`` over ``base``, whose numbers say nothing of another kind of optimizer."""
    if options.optimizer is not None and base.optimizer is None:
        base = suited(base, options.optimizer)
    elif options.optimizer not in (None, base.optimizer):
        base = Recipe()
    return overlay(base, options)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        text = str(error).split(".")[0].splitlines()[0]
        raise UsageError(f"--device {name} cannot be used here", found=text) from None
    return device


def _on_device(model: nn.Module, device: torch.device) -> nn.Module:
    kinds = {p.device.type for p in model.parameters()}
    return model if kinds <= {device.type, "meta"} else model.to(device)


def _made_by(spec: str, code: UserCode) -> tuple[Subject, Construction, SourceLine | None]:
    """What code makes, where each module was made, and where that code is."""
    made = Construction()
    with made.watched():
        found = code.find(spec)
        subject = as_subject(found, spec)
    return subject, made, made.named(found, code, spec)


def _model_of(
    loaded: Loaded, path: Path, settings: Settings, code: UserCode
) -> tuple[nn.Module, tuple[str, ...], Construction, SourceLine | None]:
    """The file's model, or the one that is built for its weights, and notes on their names."""
    if loaded.model is not None:
        model, made = as_subject(loaded.model, path.name).model, Construction()
        return model, (), made, made.defined(type(model))
    build = str(settings.build)
    if not is_code(build):
        raise UsageError(f"--build {build} names no code", expected="file.py:name")
    subject, made, line = _made_by(build, code)
    model = subject.model
    return model, load_weights(model, loaded.weights or {}, path, build), made, line


def _opened(named: _Named, spec: str, settings: Settings, code: UserCode) -> Opened:
    subject, came_with = named.subject, named.file or Loaded(named.format)
    if isinstance(subject.model, torch.jit.ScriptModule):
        came_with = left_to_torch(subject.model, "A TorchScript module")
        subject = replace(subject, model=came_with.model)  # type: ignore[arg-type]
    lines = named.construction.lines(subject.model)
    loss = given_objective(_wanted_loss(subject, settings), code)
    model, options = subject.model, settings.recipe
    if next(model.parameters(), None) is None:
        what = f"the model {type(model).__name__} has no parameters"
        if isinstance(getattr(model, "notes", None), ExportNotes):
            what = "the ONNX graph has no floating initializers, nor weights in Constant nodes"
        raise ModelError(what, expected="a model with something to train")
    _check_names(model)
    if any(p.is_meta for p in model.parameters()):
        raise ModelError(
            "the model's parameters are on the meta device, which holds no values",
            next_step="build it on the cpu, or call to_empty() and initialize it",
        )
    sampled = sample_for(model, Given(subject.sample, named.carried), loss, settings, code)
    model = _materialized(model, sampled)
    recipe, make, told = from_optimizer(subject.optimizer, model)
    return Opened(
        model=model,
        weights={},
        batches=sampled.batches,
        objective=sampled.objective,
        recipe=_over(recipe, options),
        make_optimizer=None if make is None else with_options(make, options),
        row=SubjectRow(
            source=spec,
            format=named.format,
            digest=named.digest or weights_digest(model),
            parameters=sum(p.numel() for p in model.parameters()),
            modules=sum(1 for _ in model.modules()),
            stages=0,
            name=type(model).__name__,
            **(named.line._asdict() if named.line else {}),
        ),
        lines=lines,
        sample=sampled.row,
        notes=(*sampled.notes, *_export_notes(model).told, *told, *came_with.notes),
        not_measured=(*sampled.not_measured, *_hidden_by(model), *came_with.not_measured),
        trained=came_with.trained,
    )


def _check_names(model: nn.Module) -> None:
    """Raise ``ModelError`` for names that lead to no part, or to another: torch gives none such."""
    for module in model.modules():
        for name in (*module._modules, *module._parameters, *module._buffers):
            if not name or "." in name:
                raise ModelError(
                    f"{type(module).__name__} has a part named {quoted(name)}",
                    expected="names without dots, as register_module takes them",
                    next_step="name it otherwise",
                )


def _export_notes(model: nn.Module) -> ExportNotes:
    found = getattr(model, "notes", None)
    return found if isinstance(found, ExportNotes) else ExportNotes()


def _hidden_by(model: nn.Module) -> tuple[NotMeasured, ...]:
    """What the export of an ONNX graph leaves out."""
    hidden = _export_notes(model).hidden
    return (NotMeasured("dropout and batch norm in training", "the graph", hidden),) * bool(hidden)


def _wanted_loss(subject: Subject, settings: Settings) -> str | LossFunction:
    if settings.loss != "auto":
        return settings.loss
    return subject.loss or own_criterion(subject.model) or settings.loss


def _materialized(model: nn.Module, sampled: Sampled) -> nn.Module:
    """A copy with lazy layers given their shapes by the sample; the model itself if it has none."""
    if not any(map(is_lazy, [*model.parameters(), *model.buffers()])):
        return model
    if not sampled.batches:
        raise ModelError(
            "the model has lazy layers that have not seen data yet",
            next_step="give --data or --input, or run the model once before saving it",
        )
    # Lazy buffers refuse to be copied. They hold no values, so new ones do.
    lazy = [b for b in model.buffers() if isinstance(b, UninitializedBuffer)]
    memo = {id(b): UninitializedBuffer(device=b.device, dtype=b.dtype) for b in lazy}  # type: ignore[call-arg]
    model = copy.deepcopy(model, memo)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()  # running statistics stay as they are
    with torch.no_grad():
        sampled.batches[0].run(model)
    for module, mode in modes:
        module.training = mode
    return model
