"""Writing Python that a person pastes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MODEL = "# `model` is your torch.nn.Module, before training."


def rounded(value: float) -> float:
    """Four significant digits: what a person would type."""
    return float(f"{value:.4g}")


def dict_literal(name: str, items: Mapping[str, object]) -> str:
    """An assignment of a dict, one entry a line."""
    lines = [f"    {key!r}: {value!r}," for key, value in items.items()]
    return "\n".join([f"{name} = {{", *lines, "}"])


def list_literal(name: str, items: Sequence[str]) -> str:
    """An assignment of a list, one entry a line."""
    return "\n".join([f"{name} = [", *(f"    {item!r}," for item in items), "]"])
