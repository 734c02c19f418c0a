"""A search without networks: recipes and figures from seeds, and whatever can go wrong with a segment."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from raysearch.recipe import Head, Recipe, Stage
from raysearch.record.events import Event
from raysearch.record.metric import measured, parts
from raysearch.search.controller import Controller, Proposal
from raysearch.search.packs import Shape
from raysearch.search.state import SearchState

HEAD_EPOCHS = 5
POOLINGS = ("avg", "max")


@cache
def recipe(stages: tuple[tuple[int, int], ...], pooling: str = "avg") -> Recipe:
    """One of so many epochs at each depth."""
    schedule = tuple(Stage(depth=depth, epochs=epochs) for depth, epochs in stages)
    return Recipe(backbone="simple_cnn", image_size=16, pooling=pooling, schedule=schedule)


@dataclass(frozen=True)
class Proposals:
    """Recipes as a pure function of the number."""

    max_epochs: int
    seed: int = 0
    heads: bool = True
    depths: int = 3
    pack_size: int = 3

    def pack(self, number: int, at_most: int, state: SearchState) -> list[Proposal]:
        pooling = POOLINGS[len({trial.pack for trial in state.trials.values() if trial.is_head}) % 2]
        return [self._proposal(None, pooling, 0, 0) for _ in range(min(self.pack_size, at_most))]

    def trial(self, number: int, state: SearchState, *, level: int, role: str | None) -> Proposal:
        chance = zlib.crc32(f"{self.seed}/{number}".encode())
        pooling, depth = POOLINGS[chance % 2], 1 + chance // 2 % self.depths
        if not self.heads:
            return self._proposal(None, pooling, depth, 0)
        parent = state.best_head(Shape(recipe(((0, 1),)).network, pooling, Head())) or state.best_head()
        return self._proposal(parent.name, pooling, depth, 1)

    def _proposal(self, parent: str | None, pooling: str, depth: int, stage: int) -> Proposal:
        schedule = ((0, HEAD_EPOCHS), (depth, self.max_epochs))[: depth + 1]
        return Proposal(parent, {"pooling": pooling}, recipe(schedule if self.heads else schedule[1:], pooling), stage)


@dataclass(frozen=True)
class World:
    """What becomes of trials, and how often what goes wrong. Figures are coarse, so that there are ties."""

    seed: int = 0
    metric: str = "val_accuracy"
    early: float = 0.0
    fails: float = 0.0
    lost: float = 0.0
    crashes: float = 0.0
    verdicts: tuple[str, ...] = ()
    """On the levels of a tree, from the first."""

    def row(self, trial: str, epoch: int) -> Event:
        """The figures of an epoch: always the same for the same epoch of the same trial."""
        figures = {"val_loss": 1.0, self.metric: round(self._chance(trial, epoch), 1)}
        if len(several := parts(self.metric.removeprefix("val_"))) > 1:
            each = {one: round(self._chance(trial, epoch, one), 1) for one in several}
            figures |= {f"val_{one}": figure for one, figure in each.items()}
            figures[self.metric] = measured(each, ",".join(several))
        return {"epoch": epoch, **figures, "seconds": 1.0}

    def stops_early(self, trial: str, epoch: int) -> bool:
        """Whether early stopping ends the trial after this epoch."""
        return self._chance(trial, epoch, "early") < self.early

    def _chance(self, *what: Any) -> float:
        return zlib.crc32(repr((self.seed, *what)).encode()) / 2**32


def read_again(event: Event) -> Event:
    """An event as it is read from a log."""
    return json.loads(json.dumps(event, default=lambda recipe: recipe.model_dump(mode="json")))


class Play:
    """Plays a controller as the driver does, and keeps the log; every event goes through JSON as in a run."""

    def __init__(self, controller: Controller, world: World, *, log: list[Event] | None = None, drops: bool = True):
        self.controller, self.world, self.drops = controller, world, drops
        self.log: list[Event] = []
        self.writes: list[int] = []
        """Lengths of the log after each write: what is decided at once is written at once."""
        for event in log or []:
            self.emit(event)
        self.running: dict[str, Event] = {}
        for trial in controller.trials.values():
            if trial.running is not None:
                self.emit({"event": "segment_paused", "trial": trial.name, "segment": trial.running})

    def emit(self, *events: Event) -> None:
        for event in events:
            self.log.append(read_again(event))
            self.controller.apply(self.log[-1])
        self.writes.append(len(self.log))

    def to_the_end(self, heads: int, trials: int, *, concurrent: int = 1, steps: int = 10**9, seed: int = 0) -> Play:
        """Until nothing is left to run, or for so many steps."""
        if (self.controller.heads_wanted, self.controller.trials_wanted) != (heads, trials):
            self.emit({"event": "budget", "heads": heads, "trials": trials})
        random = Random(f"{seed}/order")
        for _ in range(steps):
            self._test_rates()
            while len(self.running) < concurrent and self.start():
                pass
            if self._judge():
                continue
            if not self.running:
                assert self.controller.finished
                break
            self._step(random.choice(list(self.running)), random)
        return self

    def _test_rates(self) -> None:
        if (due := self.controller.to_test) is not None:
            level, start = due
            depths = {str(depth): {"low": 1e-4, "high": 1e-3} for depth in range(4)}
            self.emit({"event": "lr_find", "level": level, "start": start.name, "depths": depths})

    def _judge(self) -> bool:
        """Whether a level was over, which now has its verdict."""
        due = self.controller.to_judge
        if due is None:
            return False
        leader, control = due
        place = self.controller.rules.levels.index(leader.stage)
        verdict = self.world.verdicts[place] if control is not None and self.world.verdicts else "untested"
        told = {"leader": leader.name, "control": control.name if control is not None else None}
        self.emit({"event": "level", "level": leader.stage, "verdict": verdict, **told})
        return True

    def start(self, prefer: str | None = None) -> str | None:
        """Begin what the controller decides; the trial that then runs."""
        events = self.controller.decide(prefer)
        if not events:
            return None
        self.emit(*events)
        # Heads of a pack come to their ends one by one, as if each had a worker of its own.
        self.running |= {event["trial"]: event for event in events if event["event"] == "segment"}
        return events[-1]["trial"]

    def _step(self, name: str, random: Random) -> None:
        """One running segment comes to whatever end it comes to."""
        segment, fate, world = self.running[name], random.random(), self.world
        end = segment["to_epoch"]
        if fate < world.fails + world.lost + world.crashes:
            end = random.randint(segment["from_epoch"], end - 1)
        stopped = False
        epoch = segment["from_epoch"]
        while epoch < end and not stopped:
            epoch += 1
            self.emit({"event": "epoch", "trial": name, "stage": segment["stage"], **world.row(name, epoch)})
            stopped = world.stops_early(name, epoch)
        if fate < world.crashes:
            for one in self.running.values():
                self.emit({"event": "segment_paused", "trial": one["trial"], "segment": one["segment"]})
            self.running.clear()
            return
        del self.running[name]
        trial = self.controller.trials[name]
        if fate < world.crashes + world.fails:
            self.emit({"event": "failed", "trial": name, "error": "loss is nan"})
        elif fate < world.crashes + world.fails + world.lost:
            lost = {"trial": name, "segment": segment["segment"], "worker": name, "reason": "gone"}
            self.emit({"event": "segment_lost", **lost, "cause": random.choice(("process", "machine"))})
            if trial.lost > self.controller.rules.max_failures:
                self.emit({"event": "failed", "trial": name, "error": "lost too often"})
        else:
            self._finish(segment, epoch, stopped)

    def _finish(self, segment: Event, epoch: int, stopped: bool) -> None:
        name, rules = segment["trial"], self.controller.rules
        trial = self.controller.trials[name]
        rows = [self.world.row(trial.parent, 0) | {"epoch": 0}] if trial.parent else []
        rows += [self.world.row(name, one) for one in range(1, epoch + 1)]
        finished = stopped or epoch == trial.recipe.schedule[trial.stage].epochs
        end: dict[str, Any] = {"event": "segment_end", "trial": name, "segment": segment["segment"], "epoch": epoch}
        self.emit(end | {"finished": finished, "seconds": 1.0, "best": max(rows, key=rules.score)})
        for hopeless in self.controller.droppable() if self.drops else []:
            self.emit({"event": "dropped", "trial": hopeless})
        if self.controller.may_go_on(name):
            self.start(prefer=name)
