"""What an adaptive optimizer divides by, from the gradients at the start weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradaudit.linalg.lanczos import dot
from gradaudit.probes._hooks import backward, clear_gradients, take_loss
from gradaudit.probes.hessian import widest
from gradaudit.subject.opened import Batch, Objective

_NEGLIGIBLE_EPS = 1e-3  # of the gradient's rms: below it eps only guards against zeros


def mean_square_gradient(
    model: nn.Module,
    objective: Objective,
    batches: Sequence[Batch],
    parameters: Sequence[Tensor],
    penalty: float = 0.0,
) -> Tensor:
    """Mean over ``batches`` of the squared gradient, entry by entry, flat, in float32 or wider.

    It is what Adam's bias-corrected second moment would be after one step on each batch if the
    weights stood still (its memory of 1,000 steps does not fade on so few). ``penalty`` is a weight
    decay that acts through the gradient. Call it inside ``borrowed(model)``; random numbers and
    buffers run on from batch to batch, as in training. Cost: a training step a batch.

    Raises :class:`gradaudit.errors.ModelError` where the model does.
    """
    dtype = widest(parameters)
    sizes = [p.numel() for p in parameters]
    flat = torch.zeros(sum(sizes), dtype=dtype, device=parameters[0].device)
    total = [mean.view(p.shape) for mean, p in zip(flat.split(sizes), parameters, strict=True)]
    for batch in batches:
        clear_gradients(model)
        _, loss = take_loss(model, objective, batch)
        if loss.requires_grad:
            backward(loss)
        for mean, parameter in zip(total, parameters, strict=True):
            gradient = parameter.grad
            if gradient is not None:
                gradient = gradient.to_dense() if gradient.is_sparse else gradient
                gradient = gradient.to(dtype)
            if penalty:
                decay = penalty * parameter.detach().to(dtype)
                gradient = decay if gradient is None else gradient + decay
            if gradient is not None:
                mean.addcmul_(gradient, gradient, value=1 / len(batches))
    clear_gradients(model)
    return flat


def inverse_root(moment: Tensor, eps: float) -> tuple[Tensor, int]:
    """``P^-1/2`` with ``P = sqrt(moment) + eps``, and how many entries were left out (set to zero).

    Left out are entries whose root is zero to the rounding of the largest, where ``eps`` is small
    against the gradient: the optimizer does not move them yet (their first moment is zero too), and
    ``1 / eps`` would stand for curvature that no step sees. Their part of the matrix is cut off, so
    that its top eigenvalue can only become lower (Cauchy's interlacing). A large ``eps`` is meant
    as damping, and holds for all entries. ``moment`` is overwritten.
    """
    root = moment.sqrt_()  # in place: it is as large as the model
    rounding = float(torch.finfo(root.dtype).eps) * float(root.max())
    silent = root <= rounding
    if eps > 0 and eps >= _NEGLIGIBLE_EPS * math.sqrt(dot(root, root) / len(root)):
        silent.zero_()
    return root.add_(eps).rsqrt_().masked_fill_(silent, 0.0), int(silent.count_nonzero())
