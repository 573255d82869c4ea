"""Building a Hugging Face model with ``transformers``: no network, no code of the folder's.

The package is handed a configuration and a state dict, never the folder, so that of the folder it
reads nothing: no adapter, no pickle, no Python file. What it makes of names (those of older
versions, of a base model, of tied weights) is its own doing, the same as in ``from_pretrained``.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.subject.formats.huggingface.config import FolderConfig, check_numbers
from gradaudit.subject.formats.next_steps import HOSTILE_FOLDER
from gradaudit.subject.formats.stored_weights import StoredWeights
from gradaudit.telling import listed, quoted, told

_ALONE = "to judge the weights alone, name a folder of them without config.json"
# Settings that older files bring and newer classes take apart themselves, and those that older
# versions take without naming them.
_LEGACY = (
    "rope_theta", "rope_scaling", "partial_rotary_factor", "rotary_pct", "rotary_emb_base",
    "torch_dtype", "dtype", "architectures", "id2label", "label2id", "problem_type", "num_labels",
    "tie_word_embeddings", "is_decoder", "add_cross_attention", "pad_token_id", "bos_token_id",
    "eos_token_id", "decoder_start_token_id", "sep_token_id", "layer_types",
    "tie_encoder_decoder", "classifier_dropout", "out_features", "out_indices",
)  # fmt: skip
# Of the file's history, or for generating text: they change nothing here.
_SILENT = (
    "model_type", "architectures", "transformers_version", "_name_or_path", "use_cache", "prefix",
    "task_specific_params", "gradient_checkpointing", "max_length", "min_length", "num_beams",
    "early_stopping", "do_sample", "top_k", "top_p", "temperature", "length_penalty",
    "no_repeat_ngram_size", "forced_eos_token_id", "forced_bos_token_id", "repetition_penalty",
    "num_return_sequences", "output_past",
)  # fmt: skip
_CRITICAL = 50  # the level of Python's logging
_MOST_PARTS = 64  # tensors made on the way to one of the file's, buffers and renamed ones included
_SLACK = 1 << 24  # elements a model may have beside twice those in the file
_OWN_SLACK = 1 << 20  # and parameters: tables of sines are filled one by one, a second per million


def find_class(config: FolderConfig) -> type[nn.Module] | str:
    """The class of transformers' own that the configuration names, or why there is none."""
    try:
        with quiet():
            import transformers
            from transformers import PreTrainedModel
    except ImportError:
        return "the package transformers is not installed (pip install transformers)"
    except Exception as error:  # a version that does not go with this torch
        return f"the package transformers cannot be imported: {told(error)}"
    name = config.architecture
    if not name:
        return "config.json names no class under 'architectures'"
    unknown = f"transformers {transformers.__version__} has no model {quoted(name)}"
    names = getattr(transformers, "__all__", ())  # asking dir() takes a third of a second
    if not name.isidentifier() or name.startswith("_") or name not in names:
        return unknown
    try:
        with quiet():
            found = getattr(transformers, name)
    except Exception as error:  # a package that the class needs is missing
        return f"transformers cannot import {quoted(name)}: {told(error)}"
    own = isinstance(found, type) and issubclass(found, PreTrainedModel)
    if not own or not found.__module__.startswith("transformers.models."):
        return unknown
    wanted = getattr(found.config_class, "model_type", None)
    if wanted is None or (config.model_type and config.model_type != wanted):
        kind = quoted(config.model_type)
        return f"config.json calls the model {kind}, and {name} is {quoted(wanted)}"
    return found


def build(
    cls: type[Any], config: FolderConfig, weights: StoredWeights
) -> tuple[nn.Module, tuple[str, ...]]:
    """The model with the folder's weights, in evaluation mode, and what is to be said of it.

    It is built without memory first, and held against the weights. Raises ``RefusedFile`` for a
    configuration that asks for more than they hold, ``UnreadableFile`` where the two do not fit.
    """
    sizes = {size for entry in weights.entries() for size in entry.shape}
    check_numbers(config.content, sizes)
    with quiet(), offline():
        kept, dropped = _known(cls.config_class, config.content)
        settings = attempt("config.json", cls.__name__, cls.config_class.from_dict, kept)
        _check_size(cls, settings, weights)
        model, found = attempt(
            "the folder", cls.__name__, cls.from_pretrained, None, config=settings,
            state_dict=dict(weights), torch_dtype="auto", output_loading_info=True,
        )  # fmt: skip
    if found.get("mismatched_keys") or found.get("error_msgs"):
        faults = (*found["mismatched_keys"], *found["error_msgs"])
        raise _misfit(cls, " ".join(map(str, faults)))
    dropped = [n for n in dropped if getattr(settings, n, None) != config.content[n]]
    return model, (*_left_out(cls, dropped), *told_of(cls, found), *_cast(model, weights))


def attempt(what: str, name: str, make: Any, *arguments: Any, **keywords: Any) -> Any:
    """``make(...)``; what transformers raises becomes one line that names the class ``name``."""
    try:
        return make(*arguments, **keywords)
    except (RefusedFile, UnreadableFile):
        raise
    except Exception as error:  # whatever transformers makes of a configuration
        raise UnreadableFile(
            f"{what} does not describe a {name} that transformers can build",
            found=told(error),
            next_step=_ALONE,
        ) from None


def _known(cls: type[Any], content: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The settings that the class names, numbers under any name, and the names of all others.

    Those are not set, whatever they are: some name repositories to take code from.
    """
    fields = {*inspect.signature(cls.__init__).parameters, *_LEGACY}
    for pair in (getattr(cls, "attribute_map", None) or {}).items():
        fields |= set(pair)
    inner: Mapping[str, Any] = getattr(cls, "sub_configs", None) or {}
    kept: dict[str, Any] = {}
    for name, value in content.items():
        number = value is None or isinstance(value, (int, float))
        named = name in fields or (number and not hasattr(cls, name))
        if named and not name.startswith("_"):
            kept[name] = _known_inside(inner[name], value) if name in inner else value
    dropped = [name for name in content if name not in kept and name not in _SILENT]
    return kept, dropped


def _known_inside(cls: type[Any], value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if not hasattr(cls, "model_type"):  # AutoConfig: any of transformers' own
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        kind = value.get("model_type")
        if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
            raise UnreadableFile(
                "config.json has a part of a type that transformers does not know",
                found=quoted(kind),
            )
        cls = CONFIG_MAPPING[kind]
    kept, _ = _known(cls, value)
    return {**kept, "model_type": value["model_type"]} if "model_type" in value else kept


def _check_size(cls: type[Any], settings: Any, weights: StoredWeights) -> None:
    """Build the model on the meta device, and hold it against what the file declares."""
    entries = {entry.name: entry for entry in weights.entries()}
    held = sum(entry.numel for entry in entries.values())
    limits = _Limits(_MOST_PARTS * (len(entries) + 64), 4 * held + _SLACK)
    with limits, torch.device("meta"):
        empty = attempt("config.json", cls.__name__, cls, settings)
    tensors = {id(t): t for t in (*empty.parameters(), *empty.buffers())}
    declared = sum(tensor.numel() for tensor in tensors.values())
    own = sum(parameter.numel() for parameter in empty.parameters())
    if declared > 2 * held + _SLACK or own > 2 * held + _OWN_SLACK:
        raise _too_large(f"a model of {declared:,} elements", f"{held:,} in the file")
    for name, tensor in empty.state_dict().items():
        entry = entries.get(name)
        if entry is not None and entry.shape != tuple(tensor.shape):
            raise _misfit(
                cls, f"{quoted(name)} of {list(entry.shape)} in the file", str(list(tensor.shape))
            )


class _Limits(TorchFunctionMode):
    """Ends a construction that makes more tensors, or larger ones, than the weights explain."""

    def __init__(self, tensors: int, elements: int) -> None:
        super().__init__()
        self._left, self._elements = tensors, elements

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in _FACTORIES:
            self._left -= 1
            if self._left < 0:
                raise _too_large("a model of more layers", "fewer tensors in the file")
            if isinstance(made, torch.Tensor) and made.numel() > self._elements:
                raise _too_large(
                    f"a tensor of {made.numel():,} elements", f"{self._elements:,} at most"
                )
        return made


_FACTORIES = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange}
)


def _too_large(asked: str, there: str) -> RefusedFile:
    return RefusedFile(
        f"config.json asks for {asked}",
        expected="what the folder's weights can fill",
        found=there,
        next_step=HOSTILE_FOLDER,
    )


def _misfit(cls: type[Any], *found: str) -> UnreadableFile:
    return UnreadableFile(
        f"the weights do not fit the {cls.__name__} of config.json",
        found=" against ".join(each for each in found if each)[:300],
        next_step="save the model again with save_pretrained, or " + _ALONE,
    )


def _left_out(cls: type[Any], dropped: list[str]) -> tuple[str, ...]:
    if not dropped:
        return ()
    names = listed([quoted(name) for name in dropped])
    return (f"config.json: {names} left out, which {cls.config_class.__name__} does not name.",)


def told_of(cls: type[Any], found: Mapping[str, Any]) -> tuple[str, ...]:
    """What is to be said of tensors that the file lacks, and of those the model does not use."""
    notes = []
    missing, unexpected = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    if missing:
        notes.append(
            f"NEWLY INITIALIZED: {len(missing)} tensors of {cls.__name__} are not in the file and "
            f"start at random: {listed([quoted(name) for name in missing])}."
        )
    if unexpected:
        notes.append(
            f"{len(unexpected)} tensors in the file are not used by {cls.__name__}: "
            f"{listed([quoted(name) for name in unexpected])}."
        )
    return tuple(notes)


def _cast(model: nn.Module, weights: StoredWeights) -> tuple[str, ...]:
    stored = {entry.dtype for entry in weights.entries()}
    used = {parameter.dtype for parameter in model.parameters()}
    floats = [{d for d in kinds if d.is_floating_point} for kinds in (stored, used)]
    if floats[0] == floats[1]:
        return ()
    words = [" and ".join(sorted(str(d).removeprefix("torch.") for d in kinds)) for kinds in floats]
    return (f"The file stores {words[0]}; the model is opened in {words[1]}, as config.json says.",)


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Keep the Hub's client from any request; what was set before is put back."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the package's warnings and progress bars; its settings are put back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.utils import logging  # the package may be missing

        level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity(_CRITICAL)
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            if bars:
                logging.enable_progress_bar()
