"""How far numbers may move from a baseline before they count as worse, and where that comes from.

A number is worse once its interval no longer meets the baseline's *and* it moved by more than its
tolerance. Keys are the metrics' names; in ``[tool.gradaudit.tolerances]`` with ``-`` for ``_``.
"""

from __future__ import annotations

from collections.abc import Mapping

from gradaudit.records import Limit

_SPREAD = (
    "beyond what 20 seeds of a start differ by in 8 small nets (tests/benchmarks/baseline_noise.py)"
)
_SHARE = "share of the value before"

TOLERANCES: Mapping[str, Limit] = {
    "growth_per_stage": Limit(0.1, _SHARE, _SPREAD),
    "total_growth_log10": Limit(1.0, "log10 of the gain", _SPREAD),
    "gsc": Limit(0.5, _SHARE, _SPREAD),
    "worst_stage_gain": Limit(0.5, _SHARE, _SPREAD),
    "time_growth_log10": Limit(1.0, "log10 of the gain", _SPREAD),
    "largest_spectral_norm": Limit(0.25, _SHARE, _SPREAD),
    "gradient_norm": Limit(0.5, _SHARE, _SPREAD),
    "sharpness": Limit(0.5, _SHARE, _SPREAD),
    "noise_scale": Limit(0.5, _SHARE, _SPREAD),
    "rehearsal_fall": Limit(0.1, "share of the loss", _SPREAD),
    "trains": Limit(0.3, "probability", _SPREAD),
    "clip_rate": Limit(0.1, "share of steps", _SPREAD),
    "dead_fraction": Limit(0.1, "share of units", _SPREAD),
    "saturated_fraction": Limit(0.1, "share of outputs", _SPREAD),
    "attention_entropy": Limit(0.1, "share of ln(keys allowed)", _SPREAD),
    "finding": Limit(0.1, "share of a known finding's value", _SPREAD),
}
