"""Where decoded data is kept between runs, and atomic writing into it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs


def cache_root() -> Path:
    """The folder named by RAYSEARCH_CACHE, else this user's cache folder for raysearch. It may not exist yet."""
    named = os.environ.get("RAYSEARCH_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("raysearch"))


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, also beside another process that writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
