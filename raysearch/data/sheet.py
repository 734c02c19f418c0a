"""Contact sheets: images in rows, each with its name below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from raysearch.data.names import one_line

_TILE_PIXELS = 112


def sheet(pixels: np.ndarray, names: Sequence[str], columns: int | None = None) -> Image.Image:
    """uint8 images (n, h, w, 3) in rows, each with its name below; small ones enlarged by whole pixels.

    Args:
        pixels: the images.
        names: n of them.
        columns: images in a row; None: about as many as rows.
    """
    n, height, width, _ = pixels.shape
    factor = max(1, _TILE_PIXELS // max(height, width))
    tile_height, tile_width = height * factor, width * factor
    columns = columns or math.ceil(math.sqrt(n))
    gap, text = 6, 18
    page = Image.new(
        "RGB",
        (columns * (tile_width + gap) + gap, math.ceil(n / columns) * (tile_height + text + gap) + gap),
        "white",
    )
    draw = ImageDraw.Draw(page)
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", 12)
    for i, (image, name) in enumerate(zip(pixels, map(one_line, names), strict=True)):
        x, y = gap + i % columns * (tile_width + gap), gap + i // columns * (tile_height + text + gap)
        page.paste(Image.fromarray(image).resize((tile_width, tile_height), Image.Resampling.NEAREST), (x, y))
        while len(name) > 1 and draw.textlength(name, font) > tile_width:
            name = name.rstrip("…")[:-1] + "…" if len(name) > 2 else name[:1]
        draw.text((x, y + tile_height + 2), name, fill="black", font=font)
    return page
