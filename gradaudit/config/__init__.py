"""``[tool.gradaudit]``: options, limits, severities, layers and models from a file."""

from gradaudit.config.keys import OPTIONS, RUN_WIDE
from gradaudit.config.loading import Config, Model, load_config
from gradaudit.config.part import Part

__all__ = ["OPTIONS", "RUN_WIDE", "Config", "Model", "Part", "load_config"]
