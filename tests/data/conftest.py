"""Sources made on the spot: small images in every layout, and a cache of their own."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("RAYSEARCH_CACHE", str(folder))
    return folder


@pytest.fixture
def png() -> Callable[[int], bytes]:
    """A 10 x 12 PNG of its own colour per number."""

    def make(number: int) -> bytes:
        colour = tuple(int(c) for c in np.random.default_rng(number).integers(0, 256, 3))
        stream = io.BytesIO()
        Image.new("RGB", (10, 12), colour).save(stream, "PNG")
        return stream.getvalue()

    return make


@pytest.fixture
def folder(tmp_path: Path, png: Callable[[int], bytes]) -> Callable[[dict[str, int]], Path]:
    """Make a folder from {"train/cat": 5, …}: so many images in each class folder."""

    def make(counts: dict[str, int]) -> Path:
        root = tmp_path / "images"
        number = 0
        for name, count in counts.items():
            (root / name).mkdir(parents=True)
            for position in range(count):
                (root / name / f"{position:03}.png").write_bytes(png(number))
                number += 1
        return root

    return make
