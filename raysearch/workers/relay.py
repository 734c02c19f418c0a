"""The trial of several workers as Tune sees it: hands each step to its crew by the desk, and its results back.

It needs no torch, no CPU and no GPU; the crew has them.
"""

from __future__ import annotations

import uuid
from typing import Any

import ray
from ray import tune

from raysearch.workers.config import TuneDict
from raysearch.workers.desk import Answer

RESOURCES = {"cpu": 0, "node:__internal_head__": 0.001}
"""What a relay reserves: Tune wants something to reserve, and the head has this, whatever else it lacks."""


class CrewLostError(RuntimeError):
    """The crew died with a segment in hand, as the process of a trial of one worker may."""


class Relay(tune.Trainable):
    """Does tasks as `TrialActor` does, somewhere else."""

    def setup(self, config: TuneDict) -> None:
        """Find the desk.

        Args:
            config: {"desk": its name, "task": the first one, "place": see `Driver.place`}.
        """
        self._desk: Any = ray.get_actor(config["desk"])
        self.reset_config(config)

    def reset_config(self, new_config: TuneDict) -> bool:
        """Take another task."""
        self._place, self._task = new_config["place"], new_config["task"]
        self._work = uuid.uuid4().hex
        return True

    def step(self) -> TuneDict:
        """Have the crew train one epoch, or some short ones."""
        answer: Answer = ray.get(self._desk.step.remote(self._place, self._work, self._task))
        if "lost" in answer:
            raise CrewLostError(answer["lost"])
        return {"results": answer["results"]}
