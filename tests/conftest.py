"""One thread: small tensors run faster, and runs on busy machines agree."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
