"""What is audited: opened, given data, a loss and a recipe, and borrowed."""

from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Batch, Objective, Opened, OptimizerFactory, Subject
from gradaudit.subject.opening import from_python, open_subject
from gradaudit.subject.outputs import main_tensor
from gradaudit.subject.process_state import seeded
from gradaudit.subject.recipe import build_optimizer

__all__ = [
    "Batch",
    "Objective",
    "Opened",
    "OptimizerFactory",
    "Subject",
    "borrowed",
    "build_optimizer",
    "from_python",
    "main_tensor",
    "open_subject",
    "seeded",
]
