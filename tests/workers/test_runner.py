"""Through Ray Tune, wherever temporary files go: workers are kept at work, and nobody who waits is passed over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray import tune

from raysearch.run import Run
from raysearch.search.controller import Controller
from raysearch.search.driver import Driver
from raysearch.search.messages import Task
from raysearch.search.rules import Rules
from raysearch.workers.runner import run_segments
from raysearch.workers.session import ray_session
from tests.search.simulated import Proposals

pytestmark = pytest.mark.slow
MAX_EPOCHS = 3


class Recorded(Driver):
    """A driver that notes which worker was given what."""

    def start(self, worker: str) -> Task | None:
        task = super().start(worker)
        self.given = [*getattr(self, "given", []), *((worker, trial) for trial in (task.trials if task else []))]
        return task


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray of its own, in the place of a long name that batch systems give each job for its temporary files.

    A path of Ray's sockets may have 107 bytes: they lie elsewhere then, and are gone afterwards.
    """
    long = tmp_path_factory.mktemp("x" * 90)
    before = short_folders()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(long))
        with ray_session(None, cpus=2):
            (own,) = short_folders() - before
            assert list(own.glob("session_*/sockets/*"))
            yield
    assert not own.exists()


def short_folders() -> set[Path]:
    """What `session.short_folder` has made."""
    return set(Path("/tmp").glob("rs-*"))


def trainable() -> type[tune.Trainable]:
    """Trains nothing, and fails where it should; defined here, so that workers need not import this module."""

    class Empty(tune.Trainable):
        def setup(self, config):
            self.reset_config(config)

        def reset_config(self, new_config):
            self.segment = new_config["task"]
            self.epoch = self.segment.from_epoch
            return True

        def step(self):
            import os

            from raysearch.search.messages import Failed, Trained

            trial = self.segment.trial
            if trial == "t0005" and self.segment.name == "t0005.1":
                os._exit(1)
            if trial == "t0006":
                return {"results": [Failed(trial, "loss is nan")]}
            self.epoch += 1
            row = {"epoch": self.epoch, "val_accuracy": 0.5, "val_loss": 1.0, "seconds": 0.0}
            return {"results": [Trained(trial, row, row, finished=self.epoch == 3)]}

    return Empty


def searched(run: Run, trials: int, concurrency: int) -> Recorded:
    rules = Rules((1, MAX_EPOCHS), levels=(0,))
    driver = Recorded(run, Controller(rules, Proposals(MAX_EPOCHS, heads=False, depths=1)), concurrency)
    driver.log({"event": "budget", "heads": 0, "trials": trials, "max_epochs": MAX_EPOCHS})
    run_segments(driver, trainable(), {}, {"cpu": 1})
    return driver


def test_a_worker_is_given_one_segment_after_the_other(ray, tmp_path):
    driver = searched(Run.create(tmp_path / "run", {}), trials=20, concurrency=1)
    assert driver.controller.finished
    assert driver.controller.counts()["failed"] == 1
    assert driver.controller.trials["t0005"].lost == 1
    assert len(driver.given) >= 21
    assert len({worker for worker, _ in driver.given}) == 2, "one, and one for it when it had died"


def test_who_waits_for_resources_is_not_passed_over(ray, tmp_path):
    driver = searched(Run.create(tmp_path / "run", {}), trials=20, concurrency=3)
    assert driver.controller.finished
    ended = [event["trial"] for event in driver.run.events() if event["event"] == "segment_end"]
    assert "t0002" in ended[:5], "it had to wait for one of the first two, and no longer"
