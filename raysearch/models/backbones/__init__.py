"""The backbones: a file each, whose `SPEC` says all that the rest of the program knows of it."""

from pathlib import Path

NAMES: tuple[str, ...] = tuple(
    sorted(file.stem for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_"))
)
"""Known from the files alone: --help lists them without importing torch."""
