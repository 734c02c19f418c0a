"""A Ray to run in: one of its own, or a cluster's."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def ray_session(address: str | None, cpus: int | None = None) -> Iterator[None]:
    """Ray, started here or joined at `address`, and left as it was found.

    Raises:
        InputError: there is no cluster at `address`, or it does not take the caller's token.
    """
    os.environ.update(_QUIET)
    # Workers of several threads would otherwise burn a busy machine's cores by waiting for each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    ours = not ray.is_initialized()
    if ours:
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address is None:
            options |= {"include_dashboard": False, "num_cpus": cpus}
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
