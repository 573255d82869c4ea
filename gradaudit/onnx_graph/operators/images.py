"""Images in files."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._axes import one_of
from gradaudit.onnx_graph.registry import operator


@operator("ImageDecoder")
def image_decoder(stream: Tensor, *, pixel_format: str = "RGB") -> Tensor:
    """``[height, width, channels]`` of bytes from an image file's; empty where it is none."""
    one_of(pixel_format, "RGB", "BGR", "Grayscale")
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ValueError("images are decoded by Pillow, which is not installed") from error
    channels = 1 if pixel_format == "Grayscale" else 3
    try:
        with Image.open(io.BytesIO(bytes(stream.tolist()))) as image:
            pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    except (UnidentifiedImageError, OSError):
        return torch.zeros((0, 0, channels), dtype=torch.uint8, device=stream.device)
    decoded = torch.from_numpy(pixels).to(stream.device).reshape(*pixels.shape[:2], channels)
    return decoded.flip(-1) if pixel_format == "BGR" else decoded
