"""What one training step costs, counted and not timed, so that the same seed decides the same."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from gradaudit.probes._hooks import take_loss
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Opened

# A few milliseconds of one core: forty such steps are lost in the audit's fixed seconds.
CHEAP_FLOPS = 5e7
CHEAP_CALLS = 200  # module calls: below that size, each costs as much as what it computes


def is_cheap(opened: Opened) -> bool:
    """Whether a training step on the first batch is so small that dozens of them cost nothing.

    Counts the floating-point operations of matrix products and convolutions of one forward pass
    (a step is about three) and the module calls. Raises what the user's code raises.
    """
    if opened.model is None or opened.objective is None or not opened.batches:
        return False
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    with borrowed(opened.model) as model:
        handle = torch.nn.modules.module.register_module_forward_pre_hook(count)
        try:
            with torch.no_grad(), FlopCounterMode(display=False) as flops:
                take_loss(model, opened.objective, opened.batches[0])
        finally:
            handle.remove()
    return 3 * flops.get_total_flops() <= CHEAP_FLOPS and calls <= CHEAP_CALLS
