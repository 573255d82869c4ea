"""``.pt2`` archives of ``torch.export``, checked before torch sees them.

torch's own reader unpickles, evaluates the text of symbolic sizes, and builds Python source of the
graph's names, so a crafted archive runs code. Here the archive is read by this package: pickles go
through the exact allow-list, the program's JSON is rebuilt from checked parts only, and torch is
handed the archive made of those.
"""

from __future__ import annotations

from gradaudit.subject.formats.pt2.inspecting import inspect_exported
from gradaudit.subject.formats.pt2.opening import load_exported

__all__ = ["inspect_exported", "load_exported"]
