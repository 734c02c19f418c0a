"""What every test stands on: a cache of its own, no network, one thread; and slow tests come first."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

REFUSES = "http://127.0.0.1:9"  # the discard port: a download fails at once, as on a machine without a network

settings.register_profile("raysearch", deadline=None)  # a shared machine pauses where it likes
settings.load_profile("raysearch")

# Set before torch is imported, and inherited by Ray's workers and by the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # who waits for another thread leaves the core to other tests
os.environ.update(
    http_proxy=REFUSES,
    https_proxy=REFUSES,
    no_proxy="localhost,127.0.0.1,::1",
    MPLBACKEND="agg",
    NO_ALBUMENTATIONS_UPDATE="1",
    RAY_AUTH_MODE="disabled",  # unset, Ray sets it in a process that starts one, for all after it
    RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_worker_niceness="0",  # at Ray's own 15, whatever another test process does makes a search wait
    WANDB_MODE="offline",
)


@pytest.fixture(scope="session", autouse=True)
def _own_caches() -> Iterator[None]:
    """Keeps the user's caches out of the tests, and the tests out of the user's caches.

    One folder for the whole session, so that the bundled images are decoded once.
    """
    with tempfile.TemporaryDirectory(prefix="raysearch-tests-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSEARCH_CACHE", str(Path(folder) / "raysearch"))
        patch.setenv("TORCH_HOME", str(Path(folder) / "torch"))
        yield


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Nothing that is imported here is garbage, and each look at a million objects takes part of a second."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that no process waits at the end for another's.

    With `--dist loadfile` a file's tests stay together, so what it makes once (its module fixtures) is made once.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where neither pillow-heif nor pydicom is installed."""
    for module in ("extras", "kinds"):
        monkeypatch.setattr(f"raysearch.data.{module}.is_installed", lambda library: False)
