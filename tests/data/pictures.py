"""Small pictures, each its own, and folders of them."""

from __future__ import annotations

import io
import struct
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


def tiff(values: np.ndarray, photometric: int, *, planar: bool = False, extra: int | None = None) -> bytes:
    """A plain TIFF as cameras and microscopes write it, which Pillow does not write.

    Args:
        values: shape (h, w) or (h, w, channels), uint8 or uint16.
        photometric: what the values mean: 0 white is zero, 1 black is zero, 2 RGB, 5 CMYK.
        planar: whether one channel comes after the other.
        extra: what further channels are: 0 nothing that is said, 2 opacity.
    """
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    bits = values.dtype.itemsize * 8
    planes = [values[..., c] for c in range(channels)] if planar else [values]
    data = [np.ascontiguousarray(plane).tobytes() for plane in planes]
    entries: dict[int, tuple[int, list[int]]] = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * channels), 259: (3, [1]), 262: (3, [photometric]),
        273: (4, [0] * len(data)), 277: (3, [channels]), 278: (4, [height]), 279: (4, [len(one) for one in data]),
        284: (3, [2 if planar else 1]),
    }  # fmt: skip
    if extra is not None:
        entries[338] = (3, [extra] * (channels - 3))
    start = 8 + 2 + 12 * len(entries) + 4
    sizes = {3: (2, "H"), 4: (4, "I")}
    behind = sum(sizes[kind][0] * len(found) for kind, found in entries.values() if sizes[kind][0] * len(found) > 4)
    starts = np.cumsum([start + behind, *(len(one) for one in data)])[:-1]
    entries[273] = (4, [int(one) for one in starts])
    head, tail = struct.pack("<H", len(entries)), b""
    for tag, (kind, found) in sorted(entries.items()):
        packed = struct.pack(f"<{len(found)}{sizes[kind][1]}", *found)
        if len(packed) > 4:
            packed, tail = struct.pack("<I", start + len(tail)), tail + packed
        head += struct.pack("<HHI", tag, kind, len(found)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", 8) + head + b"\0\0\0\0" + tail + b"".join(data)
