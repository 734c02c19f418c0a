"""Coloured pictures with what an audit should find among them."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.trained import CLASSES, write_pictures

LOOK = ["--backbone", "simple_cnn", "--weights", "random"]
PER_CLASS = 12


def scene(number: int, side: int = 48) -> Image.Image:
    """Smooth shapes that no other number has, as photographs have them: noise has no copies but exact ones."""
    waves = np.random.default_rng(number).normal(size=(6, 6, 3))
    small = Image.fromarray(np.clip(128 + 60 * waves, 0, 255).astype(np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def splits(root: Path) -> Path:
    """Three colours in three splits, each image its own."""
    for number, split in enumerate(("train", "val", "test")):
        write_pictures(root / split, PER_CLASS if split == "train" else 4, first_seed=100 * number)
    return root


def with_wrong_labels(root: Path) -> tuple[Path, set[str]]:
    """The same with a blue picture among the red ones, and a green one among the blue; and their names."""
    splits(root)
    for label, taken in (("red", "blue"), ("blue", "green")):
        (root / "train" / taken / "011.png").rename(root / "train" / label / "wrong.png")
    return root, {"train/red/wrong.png", "train/blue/wrong.png"}


def zipped(root: Path, file: Path) -> Path:
    """A folder as a .zip."""
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(root.rglob("*.png")):
            archive.write(path, path.relative_to(root).as_posix())
    return file


def arrays(root: Path, file: Path) -> Path:
    """Splits of class folders as a .npz, the classes numbered in their order."""
    found = {}
    for split in ("train", "val", "test"):
        paths = sorted((root / split).rglob("*.png"))
        found[f"{split}_images"] = np.stack([np.asarray(Image.open(path)) for path in paths])
        found[f"{split}_labels"] = np.array([CLASSES.index(path.parent.name) for path in paths])
    np.savez(file, **found)
    return file


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """An image after compression."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def copy(source: Path, target: Path) -> Path:
    """A file once more."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(source, target))
