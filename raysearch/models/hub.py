"""Weights on the Hugging Face Hub, where timm's are published: from the hub's own cache, else downloaded into it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from raysearch.models.imagenet import DownloadError, why_unreachable
from raysearch.models.spec import HubFile

_log = logging.getLogger(__name__)


def cached_hub_file(hub: HubFile) -> Path | None:
    """The file in the hub's cache; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub.repository, hub.file)
    return Path(found) if isinstance(found, str) else None


def hub_file(hub: HubFile) -> Path:
    """The file, from the hub's cache, else downloaded into it (resumed and checked by the hub's own client).

    Raises:
        DownloadError: it is not in the cache and cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download

    if (there := cached_hub_file(hub)) is not None:
        return there
    if reason := why_unreachable(hub.url):
        raise DownloadError(reason)
    _log.info("downloading %s", hub.url)
    try:
        return Path(hf_hub_download(hub.repository, hub.file))
    except Exception as error:
        raise DownloadError(f"downloading {hub.url} failed: {error}") from error


def hub_cache() -> Path:
    """The folder in which the hub's client keeps what it downloads, whether the client is installed or not."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
