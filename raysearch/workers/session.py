"""A Ray to run in: one of its own, or a cluster's."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray

from raysearch.errors import InputError

_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our log is the record; Tune's CSV, JSON and TensorBoard files are not
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_THRESHOLD_S": "5",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own experiment state is never read
    "TUNE_FORCE_TRIAL_CLEANUP_S": "1",  # a stopped actor may be in the middle of an epoch that nobody waits for
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

_LONGEST_SOCKET = 107
"""Bytes that the path of a Unix socket may have."""
_RAYS_OWN = len("/ray/session_2000-01-01_00-00-00_000000_1234567/sockets/plasma_store_123456")
"""What Ray adds to the folder that it is given."""


@contextmanager
def ray_session(address: str | None, cpus: int | None = None) -> Iterator[None]:
    """Ray, started here or joined at `address`, and left as it was found.

    Raises:
        InputError: there is no cluster at `address`, or it does not take the caller's token.
    """
    os.environ.update(_QUIET)
    # A process more for each crew or job of Ray Train, to be warned of a machine that goes; what is lost with one is
    # trained again anyway, from an epoch ago or, after the search, a training.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    ours = not ray.is_initialized()
    at_the_end = ExitStack()
    if ours:
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address is None:
            options |= {"include_dashboard": False, "num_cpus": cpus}
            if (short := short_folder()) is not None:
                at_the_end.callback(shutil.rmtree, short, ignore_errors=True)
                options["_temp_dir"] = short
        try:
            ray.init(address=address or "local", **options)
        except ray.exceptions.AuthenticationError as error:
            raise InputError(
                f"--address {address}: RAY_AUTH_MODE=token, but there is no token to show; copy the cluster's "
                "~/.ray/auth_token to this machine, or give it as RAY_AUTH_TOKEN"
            ) from error
        except ConnectionError as error:  # Ray's answer to a wrong token, too
            raise InputError(
                f"--address {address}: no Ray cluster answers there ({error}); if it asks for a token, "
                "the same one must be in ~/.ray/auth_token here"
            ) from error
    try:
        yield
    finally:
        if ours:
            ray.shutdown()
        at_the_end.close()


def short_folder() -> str | None:
    """A new folder for Ray's sockets where the one for temporary files has too long a name for them; None elsewhere.

    Batch systems give each job a folder of its own, of a hundred letters.

    Raises:
        InputError: there is no folder of a short name that can be written.
    """
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or tempfile.gettempdir()
    if len(os.fsencode(usual)) + _RAYS_OWN <= _LONGEST_SOCKET and Path(usual).is_dir() and os.access(usual, os.W_OK):
        return None
    for place in ("/tmp", "/var/tmp", "/dev/shm", str(Path.home())):
        try:
            return tempfile.mkdtemp(prefix="rs-", dir=place)
        except OSError:
            continue
    raise InputError(
        f"TMPDIR={usual} is too long a name for Ray's sockets, or cannot be written, and so are /tmp, /var/tmp and "
        "/dev/shm: set TMPDIR to a folder with a short name"
    )
