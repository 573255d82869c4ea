"""What a user can do about a file that was not opened, worded alike whatever its kind."""

from __future__ import annotations

IF_YOURS = "if you made this file, add --trust"
HOSTILE_FILE = "the file is damaged or hostile"
HOSTILE_FOLDER = "the folder is damaged or hostile"
SAVE_AGAIN = "copy or save it again"
