"""TorchScript files (``torch.jit.save``), run by an interpreter of this package.

Nothing of such a file is handed to torch's own reader or compiler. Its pickles are read by an
unpickler that knows tensors, numbers and the file's own classes; its code is parsed, held against
an exact list of statements and operators, and run statement by statement with real modules, so that
hooks, names, parameters and copies are those of any other model.
"""

from __future__ import annotations

from gradaudit.subject.formats.torchscript.inspecting import inspect_torchscript
from gradaudit.subject.formats.torchscript.opening import load_torchscript

__all__ = ["inspect_torchscript", "load_torchscript"]
