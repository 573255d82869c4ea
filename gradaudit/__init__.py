"""gradaudit: will this model train, and if not, what exactly do I change?

``import gradaudit`` is cheap: torch is imported by the first call of :func:`audit`, :func:`fix`
or :func:`load_onnx`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gradaudit.auditing import audit
    from gradaudit.errors import GradauditError, VerdictError
    from gradaudit.fixing import Fixed, fix
    from gradaudit.onnx_graph.loading import load_onnx
    from gradaudit.records import Recipe, Report
    from gradaudit.settings import LayerSettings, Settings
    from gradaudit.subject import Subject

__all__ = [
    "Fixed",
    "GradauditError",
    "LayerSettings",
    "Recipe",
    "Report",
    "Settings",
    "Subject",
    "VerdictError",
    "__version__",
    "audit",
    "fix",
    "load_onnx",
]

_HOME = {
    "audit": "gradaudit.auditing",
    "fix": "gradaudit.fixing",
    "Fixed": "gradaudit.fixing",
    "GradauditError": "gradaudit.errors",
    "LayerSettings": "gradaudit.settings",
    "load_onnx": "gradaudit.onnx_graph.loading",
    "Recipe": "gradaudit.records",
    "Report": "gradaudit.records",
    "Settings": "gradaudit.settings",
    "Subject": "gradaudit.subject",
    "VerdictError": "gradaudit.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gradaudit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
