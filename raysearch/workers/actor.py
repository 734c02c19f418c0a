"""The trial actor: one process that opens a segment, trains it an epoch a step, and keeps its checkpoint.

Tune reuses the actor for other segments, so data, base weights and activations are opened once.
"""

from __future__ import annotations

import logging
from typing import Any

from ray import tune

from raysearch.workers.workplace import Workplace

logger = logging.getLogger(__name__)


class TrialActor(tune.Trainable):
    """Runs segments; a step returns {"results": what `Driver.results` takes}."""

    def setup(self, config: dict[str, Any]) -> None:
        """Open what every segment needs.

        Args:
            config: of `Workplace.open`, and "segments": as of `Driver.start`.
        """
        self._workplace = Workplace.open(config)
        self._workplace.take(config["segments"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take other segments."""
        self._workplace.take(new_config["segments"])
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch, or some short ones."""
        try:
            return {"results": self._workplace.step()}
        except (ValueError, RuntimeError) as error:
            return {"results": self._workplace.failed(error)}

    def cleanup(self) -> None:
        """The actor ends."""
        self._workplace.close()
