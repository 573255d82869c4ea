"""``gradaudit config``: everything that is in force, and where each value came from."""

from gradaudit.in_force.record import in_force
from gradaudit.in_force.text import render, render_json

__all__ = ["in_force", "render", "render_json"]
