"""The trial actor: one process that opens a segment, trains it an epoch a step, and keeps its checkpoint.

Tune reuses the actor for other segments, so data, base weights and activations are opened once.
"""

from __future__ import annotations

from typing import cast

from ray import tune

from raysearch.workers.config import TuneDict, WorkplaceConfig
from raysearch.workers.gpu import keep_to_share_of_gpu
from raysearch.workers.workplace import Workplace


class TrialActor(tune.Trainable):
    """Does tasks; a step returns {"results": what it came to}."""

    def setup(self, config: TuneDict) -> None:
        """Open what every segment needs.

        Args:
            config: a `WorkplaceConfig`, and "task": the first one.
        """
        keep_to_share_of_gpu()
        self._workplace = Workplace.open(cast(WorkplaceConfig, config))
        self._workplace.take(config["task"])

    def reset_config(self, new_config: TuneDict) -> bool:
        """Take another task."""
        self._workplace.take(new_config["task"])
        return True

    def step(self) -> TuneDict:
        """Train one epoch, or some short ones."""
        try:
            return {"results": self._workplace.step()}
        except (ValueError, RuntimeError) as error:
            return {"results": self._workplace.failed(error)}

    def cleanup(self) -> None:
        """The actor ends."""
        self._workplace.close()
