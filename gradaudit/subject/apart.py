"""Models of one run keep to themselves: what one leaves behind in the process is taken back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gradaudit.subject.process_state import save_process_state
from gradaudit.subject.source_files import made_by_user


@contextmanager
def apart() -> Iterator[None]:
    """Put the process back as it was: an audit in here is as if it were the only one.

    Put back are the random states and global flags of :func:`save_process_state`, the working
    folder, ``sys.path``, ``sys.argv`` and the environment's variables; modules of the user's own
    that were imported are forgotten, so that the next model imports its own anew. Installed
    packages stay imported, and so do compiled modules, which load only once.
    """
    restore, folder = save_process_state(), os.getcwd()
    path, arguments, variables = list(sys.path), list(sys.argv), dict(os.environ)
    known = dict(sys.modules)
    try:
        yield
    finally:
        restore()
        os.chdir(folder)
        sys.path[:], sys.argv[:] = path, arguments
        if os.environ != variables:
            os.environ.clear()
            os.environ.update(variables)
        for name, module in list(sys.modules.items()):
            if module is not known.get(name) and made_by_user(module):
                del sys.modules[name]
        sys.modules.update({name: module for name, module in known.items() if made_by_user(module)})
