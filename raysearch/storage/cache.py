"""Where decoded data is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_root() -> Path:
    """The folder named by RAYSEARCH_CACHE, else this user's cache folder for raysearch. It may not exist yet."""
    named = os.environ.get("RAYSEARCH_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("raysearch"))
