"""What the log says of a trial: the one place where the events of a trial become its state.

The controller, the tables, the display and the trackers all read this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from raysearch.recipe import Recipe, network_name
from raysearch.record.events import Event, Role, TrialMade, trial_of
from raysearch.record.info import Json
from raysearch.record.line import Row


class State(StrEnum):
    """How a trial stands."""

    WAITING = "waiting"
    """It has something to train, and does not train: no worker has it yet, or its worker waits for a machine."""
    RUNNING = "running"
    STOPPED = "stopped"
    """It came to a rung and goes on no further, unless it is promoted later."""
    DONE = "done"
    """It was trained to the end of its stage."""
    FAILED = "failed"

    @property
    def at_rest(self) -> bool:
        """Nothing more is known to come."""
        return self in (State.STOPPED, State.DONE, State.FAILED)


@dataclass
class Trial:
    """What the log says of one trial or head."""

    name: str
    parent: str | None
    depth: int
    params: Json
    """What was searched: a value by dotted path."""
    told_recipe: Recipe | Json
    """Its recipe, as it was proposed or as a line of the log has it."""
    stage: int
    """Index in its schedule of the stage that it trains."""
    pack: int | None = None
    """Which heads it is trained together with; None for a trial."""
    role: Role | None = None
    epochs: int = 0
    """Finished epochs: those of its last ended segment."""
    trained: int = 0
    """The epoch that it has come to; what was trained after a checkpoint that it began again from does not count."""
    rung: int = 0
    """Rungs it has finished."""
    target: int = 1
    """Rungs it was sent to finish."""
    segments: int = 0
    """Segments started."""
    lost: int = 0
    """Segments lost with their process; those lost with their machine are not the trial's fault."""
    seconds: float = 0.0
    """What its ended segments took."""
    running: str | None = None
    """The segment that it trains, or waits for a machine with."""
    needs: str | None = None
    """What its segment waits for before it can run."""
    finished: bool = False
    error: str | None = None
    """Why it failed."""
    dropped: bool = False
    handover_delta: float | None = None
    """The loss that it began with less the one that its parent ended with."""
    rate: float | None = None
    """Learning rate of its last step."""
    best: Row | None = None
    """The row of its best epoch in its ended segments; epoch 0, which it was handed, counts."""

    @classmethod
    def of(cls, made: TrialMade) -> Trial:
        """The trial that a "trial" event makes."""
        return cls(
            made["trial"],
            made["parent"],
            made["depth"],
            made["params"],
            made["recipe"],
            made["stage"],
            made.get("pack"),
            made.get("role"),
        )

    @property
    def recipe(self) -> Recipe:
        """What it trains."""
        return self.told_recipe if isinstance(self.told_recipe, Recipe) else self._checked_recipe

    @cached_property
    def _checked_recipe(self) -> Recipe:
        """What a line of the log says, checked when it is first asked for: whoever makes tables asks for none."""
        return Recipe.model_validate(self.told_recipe)

    @property
    def written_recipe(self) -> Json:
        """The same as JSON."""
        told = self.told_recipe
        return told.model_dump(mode="json") if isinstance(told, Recipe) else told

    @property
    def network(self) -> str:
        """What it trains, as `raysearch.recipe.network_name` has it.

        It is asked for at every rung, so the recipe is neither parsed nor written for it.
        """
        told = self.told_recipe
        if isinstance(told, Recipe):
            return told.network
        return network_name(told.get("backbone", "?"), told.get("weights", "auto"), told.get("image_size", "?"))

    @property
    def number(self) -> int:
        """Its place among the heads or the trials of the search, in the order in which they were made."""
        return int(self.name[1:])

    @property
    def is_head(self) -> bool:
        """Whether it belongs to the head search."""
        return self.name.startswith("h")

    @property
    def failed(self) -> bool:
        """Whether it ended with an error."""
        return self.error is not None

    @property
    def able(self) -> bool:
        """Whether its tensors are there to be used."""
        return not (self.failed or self.dropped)

    @property
    def state(self) -> State:
        """How it stands."""
        if self.error is not None:
            return State.FAILED
        if self.running is not None:
            return State.RUNNING if self.needs is None else State.WAITING
        if self.finished:
            return State.DONE
        return State.WAITING if self.rung < self.target else State.STOPPED

    def take(self, event: Event) -> None:
        """Become what an event of this trial makes of it; kinds that change no trial are passed over.

        A log of which a line is missing is read too, as well as it can be.
        """
        match event["event"]:
            case "epoch":
                self.trained, self.rate = event["epoch"], event.get("lr")
            case "segment":
                self.running, self.needs = event["segment"], None
                self.segments += 1
                self.trained = event["from_epoch"]
            case "segment_end":
                self._let_go()
                self.epochs = self.trained = event["epoch"]
                self.finished, self.best = event["finished"], event["best"]
                if self.rate is None:  # of another run's head there are no epochs
                    self.rate = (self.best or {}).get("lr")
                self.rung = self.target
                self.seconds += event["seconds"]
            case "promoted":
                self.target = self.rung + 1
            case "handover":
                self.handover_delta = event["delta"]
            case "waiting":
                self.needs = event["needs"]
            case "placed":
                self.needs = None
            case "segment_lost":
                self._let_go()
                self.lost += event["cause"] == "process"
            case "segment_paused" | "interrupted" | "finished":
                self._let_go()
            case "failed":
                self._let_go()
                self.error = event["error"]
            case "dropped":
                self.dropped = True

    def _let_go(self) -> None:
        self.running = self.needs = None


class Trials(dict[str, Trial]):
    """The heads and trials of a log by name, in the order in which they were made."""

    @classmethod
    def of(cls, events: Iterable[Event]) -> Trials:
        """As they stand after these events of a log."""
        trials = cls()
        for event in events:
            trials.take(event)
        return trials

    def _told_of(self, event: Event) -> list[Trial]:
        """The trials that an event changes, if there are any: all that run, where the driver says that it stops."""
        if event["event"] in ("interrupted", "finished"):
            return [trial for trial in self.values() if trial.running is not None]
        trial = self.get(trial_of(event) or "")
        return [] if trial is None else [trial]

    def take(self, event: Event, before: Callable[[Trial], None] = lambda trial: None) -> list[Trial]:
        """Take one event of the log, and give the trials that it changed; one of a trial that was never made is
        passed over.

        Args:
            event: of the log.
            before: called with each trial that is about to change.
        """
        if event["event"] == "trial":
            self[event["trial"]] = Trial.of(event)
            return [self[event["trial"]]]
        told = self._told_of(event)
        for trial in told:
            before(trial)
            trial.take(event)
        return told
