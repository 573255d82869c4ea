"""Folders: what ``transformers`` and ``torch.distributed.checkpoint`` write."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch

from tests.kinds.kind import CODE, Kind, data, net

_TOKENS, _LENGTH, _ROWS = 12, 8, 16


def huggingface(folder: Path) -> Path:
    """A language model of two blocks whose tokens start far too large, in several files."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from gradaudit.subject.formats.huggingface.build import quiet

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=_TOKENS, n_positions=_LENGTH, n_embd=8, n_layer=2, n_head=2, bos_token_id=0,
        eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    with quiet():
        model = GPT2LMHeadModel(config)
        with torch.no_grad():
            model.transformer.wte.weight.mul_(1000.0)
        model.save_pretrained(folder / "model", max_shard_size="4KB")
    return folder / "model"


def of_another_class(folder: Path) -> Path:
    path = huggingface(folder)
    config = json.loads((path / "config.json").read_text())
    config["architectures"] = ["ClassOfNobodyForCausalLM"]
    (path / "config.json").write_text(json.dumps(config))
    return path


def tokens() -> dict[str, torch.Tensor]:
    """Rows that count on from any token, which a language model learns quickly."""
    start = torch.randint(0, _TOKENS, (_ROWS, 1), generator=torch.Generator().manual_seed(1))
    ids = (start + torch.arange(_LENGTH)) % _TOKENS
    return {"input_ids": ids, "labels": ids.clone()}


def distributed(folder: Path) -> Path:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process only
        weights, state = get_state_dict(model, optimizer)
        dcp.save({"model": weights, "optimizer": state}, checkpoint_id=folder / "checkpoint")
    (folder / "net.py").write_text(CODE)
    return folder / "checkpoint"


KINDS = (
    Kind("Hugging Face folder", huggingface, "Hugging Face model", data=tokens, order=30),
    Kind(
        "Hugging Face folder, without `transformers` or of a class it does not have",
        of_another_class,
        "Hugging Face weights",
        measured=("weights",),
        order=31,
    ),
    Kind(
        "torch.distributed.checkpoint",
        distributed,
        "distributed checkpoint",
        measured=("weights",),
        order=32,
    ),
    Kind(
        "torch.distributed.checkpoint, `--build`",
        distributed,
        "distributed checkpoint",
        options=("--build", "net.py:build"),
        data=data,
        order=33,
    ),
)
