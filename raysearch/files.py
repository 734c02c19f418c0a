"""Writes one file at a time, wholly or not at all, and turns what Python holds into strict JSON."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def replace_with(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a file beside `path`, then puts it in its place: a reader sees the old file or the new one.

    On return it is on the disk. The folder is made if it is missing. The temporary file is hidden, has a name of its
    own, so that processes may write the same file, and keeps the suffix of `path`, by which some writers choose their
    format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(6)}{path.suffix}")
    try:
        write(temporary)
        _to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _to_disk(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Replaces `path` with `text` in UTF-8, atomically."""
    replace_with(path, lambda temporary: _write_text(temporary, text))


def replace_json(path: Path, tree: Any) -> None:
    """Replaces `path` with `tree` as indented, strict JSON (see `plain`), atomically."""
    replace_text(path, json.dumps(plain(tree), indent=2, ensure_ascii=False) + "\n")


def plain(tree: Any) -> Any:
    """Numbers, text, lists and dicts only: NumPy becomes Python, paths become text, NaN and infinities become null.

    Raises:
        TypeError: something that has no plain form.
    """
    if isinstance(tree, np.ndarray):
        tree = tree.tolist()
    elif isinstance(tree, np.generic):
        tree = tree.item()
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else None
    if tree is None or isinstance(tree, str | bool | int):
        return tree
    if isinstance(tree, os.PathLike):
        return os.fspath(tree)
    if isinstance(tree, Mapping):
        return {str(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, Sequence | set | frozenset) and not isinstance(tree, bytes):
        return [plain(value) for value in tree]
    raise TypeError(f"{tree!r} ({type(tree).__name__}) cannot be written as JSON")


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
