"""An audit held against an earlier one: findings by rule and layer, numbers by their tolerance."""

from gradaudit.comparing.compare import compare
from gradaudit.comparing.snapshots import snapshot

__all__ = ["compare", "snapshot"]
