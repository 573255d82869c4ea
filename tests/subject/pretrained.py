"""Tiny models of ``transformers``, one of each shape of input and loss; nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from gradaudit.subject.formats.huggingface.build import quiet

_TEXT = {
    "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
_PAIR = {
    "vocab_size": 96, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1,
}  # fmt: skip


def gpt2(cls: Any = hf.GPT2LMHeadModel, **more: Any) -> Any:
    sizes = {"vocab_size": 96, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    return cls(hf.GPT2Config(**{**sizes, "bos_token_id": 0, "eos_token_id": 0, **more}))


def bert(cls: Any, **more: Any) -> Any:
    return cls(hf.BertConfig(**_TEXT, **more))


MODELS: dict[str, Callable[[], Any]] = {
    "GPT-2": gpt2,  # tied weights
    "GPT-2 body": lambda: gpt2(hf.GPT2Model),
    "BERT masked": lambda: bert(hf.BertForMaskedLM),
    "BERT classes": lambda: bert(hf.BertForSequenceClassification, num_labels=5),
    "Llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**_TEXT)),
    "Mixtral": lambda: hf.MixtralForCausalLM(
        hf.MixtralConfig(**_TEXT, num_local_experts=2, num_key_value_heads=2)
    ),  # experts are stored apart and held together
    "T5": lambda: hf.T5ForConditionalGeneration(
        hf.T5Config(
            vocab_size=96, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2,
            decoder_start_token_id=0,
        )
    ),
    "BART": lambda: hf.BartForConditionalGeneration(
        hf.BartConfig(**_PAIR, max_position_embeddings=64)
    ),
    "ViT": lambda: hf.ViTForImageClassification(
        hf.ViTConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
            image_size=32, patch_size=8, num_labels=7,
        )
    ),
    "ResNet": lambda: hf.ResNetForImageClassification(
        hf.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5
        )
    ),  # buffers, and no size of images
    "Whisper": lambda: hf.WhisperForConditionalGeneration(
        hf.WhisperConfig(
            **_PAIR, max_source_positions=60, max_target_positions=32, num_mel_bins=16,
            suppress_tokens=None, begin_suppress_tokens=None,
        )
    ),
    "Mamba": lambda: hf.MambaForCausalLM(
        hf.MambaConfig(
            vocab_size=96, hidden_size=32, num_hidden_layers=1, state_size=8, time_step_rank=4
        )
    ),
    "CLIP": lambda: hf.CLIPModel(
        hf.CLIPConfig(
            text_config={**_TEXT, "projection_dim": 16},
            vision_config={
                "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                "intermediate_size": 64, "image_size": 32, "patch_size": 8,
            },
            projection_dim=16,
        )
    ),  # parts with configurations of their own
}  # fmt: skip


def save(model: Any, folder: Path, **saving: Any) -> Path:
    """``save_pretrained`` without its words."""
    with quiet():
        model.save_pretrained(folder, **saving)
    return folder


def saved(name: str, folder: Path, **saving: Any) -> Path:
    torch.manual_seed(0)
    with quiet():
        model = MODELS[name]()
    return save(model, folder, **saving)


def configure(folder: Path, **changes: Any) -> None:
    """Change ``config.json``; ``None`` takes a setting out."""
    path = folder / "config.json"
    found = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))
