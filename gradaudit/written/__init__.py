"""A proven cure as files: ``fix.py`` to paste, ``recipe.json``, and what is said of it."""

from gradaudit.written.ending import Ending, ending
from gradaudit.written.files import cure_files, recipe_json
from gradaudit.written.script import script
from gradaudit.written.words import proof_line

__all__ = ["Ending", "cure_files", "ending", "proof_line", "recipe_json", "script"]
