"""What to draw for a model of ``transformers``: from its configuration and what its class is for.

The package is not imported: a model of its own is known by its configuration and main input.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from gradaudit.subject.drawn import Drawn

_LENGTHS = (64, 32, 16, 8)  # tokens, where the model takes as many
_ROWS = (8, 1)  # a classifier without a padding token takes one sequence at a time
_SIDES = (64, 32, 224)  # of images, where the configuration does not say
_SAMPLES = (16_000, 4_000)  # of sound: a second at 16 kHz
_SPOKEN = 8  # tokens that label a piece of sound
_POSITIONS = (
    "max_position_embeddings", "n_positions", "max_source_positions", "max_sequence_length",
    "max_seq_len", "seq_length",
)  # fmt: skip

Guess = tuple[Drawn, ...]


def is_pretrained(model: nn.Module) -> bool:
    """Whether ``model`` says by its configuration what it takes, as those of transformers do."""
    kind = getattr(getattr(model, "config", None), "model_type", None)
    return isinstance(kind, str) and getattr(model, "main_input_name", None) in _MAIN


def pretrained_guesses(model: nn.Module) -> Iterator[Guess]:
    """Samples with the labels that the class takes, then without; the likeliest first."""
    inputs_for = _MAIN[str(model.main_input_name)]
    for rows in _ROWS:
        for inputs in inputs_for(model, rows):
            labels = _labels(model, inputs)
            if labels:
                yield (*inputs, *labels)
            yield (*inputs, *_decoded(model, inputs))


def _setting(config: Any, *names: str) -> Any:
    """The first of these settings that is there, in the configuration or in one of its parts."""
    for part in (config, getattr(config, "text_config", None), getattr(config, "encoder", None)):
        for name in names:
            found = getattr(part, name, None)
            if found is not None:
                return found
    return None


def _takes(model: nn.Module, name: str) -> bool:
    return name in inspect.signature(model.forward).parameters


def _vocabulary(model: nn.Module) -> int:
    """Rows of the table that tokens are looked up in; what the configuration says, else."""
    try:
        table = model.get_input_embeddings()  # type: ignore[operator]
    except (NotImplementedError, AttributeError):
        table = None
    found = getattr(table, "num_embeddings", None) or _setting(model.config, "vocab_size")
    return int(found or 2)


def _text(model: nn.Module, rows: int) -> Iterator[Guess]:
    most = _setting(model.config, *_POSITIONS)
    most = most if isinstance(most, int) and most > 0 else _LENGTHS[0]
    both = _takes(model, "pixel_values") and hasattr(model.config, "text_config")
    images = next(_images(model, rows)) if both and hasattr(model.config, "vision_config") else ()
    for length in [n for n in _LENGTHS if n <= most] or [most]:
        choices = (2,) if type(model).__name__.endswith("ForMultipleChoice") else ()
        shape = (rows, *choices, length)
        ids = Drawn(torch.int64, shape, _vocabulary(model), name="input_ids")
        yield (ids, *images)
        if images:
            yield (ids,)


def _images(model: nn.Module, rows: int) -> Iterator[Guess]:
    config = getattr(model.config, "vision_config", None) or model.config
    channels, size = _setting(config, "num_channels"), _setting(config, "image_size")
    if isinstance(size, int):
        sizes = [(size, size)]
    elif isinstance(size, (list, tuple)) and len(size) == 2:
        sizes = [(int(size[0]), int(size[1]))]
    else:
        sizes = [(side, side) for side in _SIDES]
    for each in sizes:
        image = (channels if isinstance(channels, int) else 3, *each)
        frames = _setting(config, "num_frames")  # of a film
        shape = (rows, frames, *image) if isinstance(frames, int) else (rows, *image)
        yield (Drawn(_dtype(model), shape, name="pixel_values"),)


def _features(model: nn.Module, rows: int) -> Iterator[Guess]:
    """Spectra: bands by steps as Whisper takes them, else steps by bands."""
    config = model.config
    bands, steps = _setting(config, "num_mel_bins"), _setting(config, "max_source_positions")
    if isinstance(bands, int) and isinstance(steps, int):  # two convolutions halve the steps
        yield (Drawn(_dtype(model), (min(rows, 4), bands, 2 * steps), name="input_features"),)
    bands = _setting(config, "input_feat_per_channel", "feature_projection_input_dim")
    if isinstance(bands, int):
        yield (Drawn(_dtype(model), (min(rows, 4), 64, bands), name="input_features"),)


def _sound(model: nn.Module, rows: int) -> Iterator[Guess]:
    config = model.config
    bands, steps = _setting(config, "num_mel_bins"), _setting(config, "max_length")
    if isinstance(bands, int) and isinstance(steps, int):
        yield (Drawn(_dtype(model), (min(rows, 4), steps, bands), name="input_values"),)
    for count in _SAMPLES:
        yield (Drawn(_dtype(model), (min(rows, 4), count), name="input_values"),)


def _dtype(model: nn.Module) -> torch.dtype:
    return next(p.dtype for p in model.parameters() if p.is_floating_point())


def _labels(model: nn.Module, inputs: Guess) -> Guess:
    """The labels that a class of this name takes; its own loss is taken of them."""
    first, name = inputs[0], type(model).__name__
    rows = first.shape[0]
    if name.endswith("ForQuestionAnswering"):
        spot = Drawn(torch.int64, (rows,), first.shape[-1], name="start_positions")
        return spot, replace(spot, name="end_positions")
    if not _takes(model, "labels"):
        return ()
    if name.endswith("ForMultipleChoice"):
        return (Drawn(torch.int64, (rows,), first.shape[1], name="labels"),)
    if name.endswith("ForTokenClassification"):
        return (Drawn(torch.int64, first.shape, _classes(model), name="labels"),)
    if name.endswith("ForSemanticSegmentation"):
        return (Drawn(torch.int64, (rows, *first.shape[-2:]), _classes(model), name="labels"),)
    if name.endswith(("Classification", "ForNextSentencePrediction")):
        return (_class_labels(model, rows),)
    if name.endswith("CTC") or (first.name != "input_ids" and _is_pair(model)):
        words = _setting(model.config, "vocab_size") or 2
        return (Drawn(torch.int64, (rows, _SPOKEN), int(words), least=1, name="labels"),)
    if first.name != "input_ids":
        return ()
    own = () if not _takes(model, "next_sentence_label") else (
        Drawn(torch.int64, (rows,), 2, name="next_sentence_label"),
    )  # fmt: skip
    if _is_pair(model):
        return (replace(first, name="labels"),)
    return (replace(first, name="labels", same_as="input_ids"), *own)


def _is_pair(model: nn.Module) -> bool:
    return bool(getattr(model.config, "is_encoder_decoder", False))


def _classes(model: nn.Module) -> int:
    return max(1, int(_setting(model.config, "num_labels") or 2))


def _class_labels(model: nn.Module, rows: int) -> Drawn:
    count, kind = _classes(model), getattr(model.config, "problem_type", None)
    if kind == "multi_label_classification":
        return Drawn(torch.float32, (rows, count), 2, name="labels")
    if kind == "regression" or (count == 1 and kind is None):
        return Drawn(_dtype(model), (rows,) if count == 1 else (rows, count), name="labels")
    return Drawn(torch.int64, (rows,), count, name="labels")


def _decoded(model: nn.Module, inputs: Guess) -> Guess:
    """What a decoder beside the encoder is given where there are no labels."""
    if not _is_pair(model) or not _takes(model, "decoder_input_ids"):
        return ()
    length = inputs[0].shape[-1] if inputs[0].name == "input_ids" else _SPOKEN
    shape = (inputs[0].shape[0], length)
    return (Drawn(torch.int64, shape, _vocabulary(model), name="decoder_input_ids"),)


_MAIN: Mapping[str, Callable[[nn.Module, int], Iterator[Guess]]] = {
    "input_ids": _text,
    "pixel_values": _images,
    "input_features": _features,
    "input_values": _sound,
}
