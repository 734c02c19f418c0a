"""Small pictures, each its own, and folders of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, form: str = "PNG", size: tuple[int, int] = (12, 10)) -> bytes:
    """An image file of noise that no other number has."""
    values = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, form)
    return stream.getvalue()


def fill(root: Path, counts: dict[str, int], start: int = 0) -> Path:
    """Make `counts` images in each folder below `root`, all different: {"train/cat": 5, …}."""
    number = start
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for position in range(count):
            (root / name / f"{position:03}.png").write_bytes(picture(number))
            number += 1
    return root


def put(file: Path, data: bytes) -> Path:
    """Write a file, and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file
