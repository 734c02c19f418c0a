"""torchvision's ImageNet weights: whether they are there or can be had, and how to have them."""

from __future__ import annotations

import contextlib
import http.client
import logging
import pickle
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor
from torchvision.models import WeightsEnum

from raysearch.models.weight_file import read_tensors

PATIENCE_SECONDS = 5.0
"""How long to wait for an answer before the weights count as out of reach."""
STALL_SECONDS = 30.0
"""How long a download may receive nothing before it is given up."""

_log = logging.getLogger(__name__)


class DownloadError(RuntimeError):
    """The weights could not be downloaded; says why."""


def cached_file(weights: WeightsEnum) -> Path:
    """The file in which torchvision keeps these weights once they are downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name


@cache
def why_unreachable(url: str) -> str | None:
    """None if `url` answers within `PATIENCE_SECONDS`, else why not; asked once a process, so that nothing waits twice.

    The request runs in a thread of its own: a socket's timeout covers neither the name server nor several addresses.
    """
    answer: list[str | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS):
                answer.append(None)
        except urllib.error.HTTPError as error:
            answer.append(f"{url} answers {error.code} {error.reason}")
        except urllib.error.URLError as error:
            answer.append(f"{url} cannot be reached: {error.reason}")
        except (OSError, ValueError, http.client.HTTPException) as error:
            answer.append(f"{url} cannot be reached: {error}")

    thread = threading.Thread(target=ask, name="imagenet-reachable", daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    return answer[0] if answer else f"{url} did not answer within {PATIENCE_SECONDS:g} s"


def imagenet_tensors(weights: WeightsEnum) -> dict[str, Tensor]:
    """The tensors under torchvision's names, from its cache, else downloaded into it (and checked by their hash).

    Raises:
        DownloadError: they are not in the cache and cannot be downloaded.
        InputError: the cached file is not a weights file.
    """
    file = cached_file(weights)
    if file.is_file():
        return read_tensors(file)[0]
    if reason := why_unreachable(weights.url):
        raise DownloadError(reason)
    _log.info("downloading %s to %s", weights.url, file)
    try:
        # torch.hub reports to stdout, where commands put their results.
        with _stall_limit(), contextlib.redirect_stdout(sys.stderr):
            return dict(weights.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, weights_only=True))
    except (OSError, http.client.HTTPException, RuntimeError, pickle.UnpicklingError) as error:
        # OSError: no connection, no space; RuntimeError: another hash
        raise DownloadError(f"downloading {weights.url} failed: {error}") from error


@contextlib.contextmanager
def _stall_limit() -> Iterator[None]:
    """torch.hub downloads without a timeout: a connection that dies would hang it for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
