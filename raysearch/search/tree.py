"""The levels of a search: how many trials each gets, what they start from, who leads, and what a level brought.

A level is a stage of the schedule that is searched. Pure state, as the controller is: it follows from the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from raysearch.record.events import Role
from raysearch.record.level_events import LevelJudged, RatesTested
from raysearch.record.trial import Trial
from raysearch.search.rules import Rules


@dataclass
class Tree:
    """Every trial of the search, by level.

    Args:
        rules: of the search.
        wanted: trials of the whole search, controls included.
    """

    rules: Rules
    wanted: int = 0
    verdicts: dict[int, LevelJudged] = field(default_factory=dict)
    """The "level" event of each level that was judged, the last one of each."""
    rate_bounds: dict[int, dict[int, tuple[float, float]]] = field(default_factory=dict)
    """The bounds between which learning rates are drawn, by level and depth, where a range test was made."""
    leaders: dict[int, Trial] = field(default_factory=dict)
    """The best of each level, controls aside."""
    _trials: dict[int, list[Trial]] = field(default_factory=dict)
    """The trials of each level, in order."""
    _regular: dict[int, int] = field(default_factory=dict)
    """How many of them are no controls."""
    _beams: dict[int, list[Trial]] = field(default_factory=dict)
    """The best of each level that were trained to the end, best first."""
    _with_a_role: list[Trial] = field(default_factory=list)

    # ---- what happens --------------------------------------------------------------------------------------------

    def add(self, trial: Trial) -> None:
        """A trial was made."""
        self._trials.setdefault(trial.stage, []).append(trial)
        self._regular[trial.stage] = self._regular.get(trial.stage, 0) + (trial.role != "control")
        if trial.role is not None:
            self._with_a_role.append(trial)

    def reached(self, trial: Trial) -> None:
        """A trial has a new best so far."""
        leader = self.leaders.get(trial.stage)
        if trial.finished:
            ends = [*self._beams.get(trial.stage, []), trial]
            ends.sort(key=lambda one: one.number)
            ends.sort(key=lambda one: self.rules.order(one.best or {}), reverse=True)
            self._beams[trial.stage] = ends[: self.rules.beam]
        if trial.role == "control":
            return
        if leader is trial:  # a stage that keeps its last epoch may have become worse
            self._elect(trial.stage)
        elif leader is None or self.rules.better(trial, leader):
            self.leaders[trial.stage] = trial

    def gone(self, trial: Trial) -> None:
        """A trial has failed: what it was before is not a result."""
        if trial is self.leaders.get(trial.stage):
            self._elect(trial.stage)

    def _elect(self, level: int) -> None:
        self.leaders.pop(level, None)
        if (best := self.rules.best(trial for trial in self.of_level(level) if trial.able)) is not None:
            self.leaders[level] = best

    def note_verdict(self, event: LevelJudged) -> None:
        """A "level" event."""
        self.verdicts[event["level"]] = event

    def note_rates(self, event: RatesTested) -> None:
        """An "lr_find" event."""
        bounds = {int(depth): (one["low"], one["high"]) for depth, one in event["depths"].items()}
        self.rate_bounds[event["level"]] = bounds

    # ---- which level, and what of it comes next ------------------------------------------------------------------

    @property
    def level(self) -> int:
        """The level whose trials are being started: the first, or the one after the last that was left behind."""
        at, levels = 0, self.rules.levels
        while at + 1 < len(levels) and self._left_behind(levels[at]):
            at += 1
        return levels[at]

    def _left_behind(self, level: int) -> bool:
        verdict = self.verdicts.get(level)
        return verdict is not None and verdict["verdict"] != "none" and self.share(level + 1) > 0

    def share(self, level: int) -> int:
        """How many trials a level gets, its control included: what the levels before left, in equal parts."""
        before = sum(len(trials) for other, trials in self._trials.items() if other < level)
        at = self.rules.levels.index(level)
        share = -(-max(0, self.wanted - before) // (len(self.rules.levels) - at))
        return int(min(share, self.rules.most[at] + self.rules.tested))

    def to_start(self, level: int) -> int:
        """How many trials of a level are still to come, its control aside."""
        share = self.share(level)
        regular = share - 1 if self.rules.tested and share > 1 else share
        return max(0, regular - self.begun_at(level))

    def next_role(self) -> Role | None:
        """The role of the next new trial of the level."""
        if self.to_start(self.level) == 0:
            return "control"
        return None if self._trials.get(self.level) else "default"

    def wants_control(self) -> bool:
        """Whether the level, all of whose trials are over, still lacks a control for its leader."""
        level, leader = self.level, self.leaders.get(self.level)
        if not self.rules.tested or self.share(level) < 2 or leader is None or self.judged(level):
            return False
        return not any(one.params == leader.params for one in self._controls(level))

    def control(self, level: int) -> Trial | None:
        """What the level's leader is held to: the control that was trained for it, if it did not fail."""
        leader = self.leaders.get(level)
        ours = (one for one in self._controls(level) if leader is not None and one.params == leader.params)
        return next((one for one in ours if not one.failed), None)

    def _controls(self, level: int) -> Iterator[Trial]:
        return (trial for trial in self._trials.get(level, []) if trial.role == "control")

    def judged(self, level: int) -> bool:
        """Whether there is a verdict on the level's leader as it is now."""
        verdict, leader = self.verdicts.get(level), self.leaders.get(level)
        return verdict is not None and leader is not None and verdict["leader"] == leader.name

    # ---- reading -------------------------------------------------------------------------------------------------

    @property
    def begun(self) -> bool:
        """Whether the level has a trial."""
        return bool(self._trials.get(self.level))

    def beam(self, level: int) -> list[Trial]:
        """The trials that the next level's start from, best first: of those of `level` that were trained to the end."""
        return list(self._beams.get(level, []))

    def of_level(self, level: int) -> list[Trial]:
        """All trials of a level, controls aside, in order."""
        return [trial for trial in self._trials.get(level, []) if trial.role != "control"]

    def latest_first(self, level: int) -> Iterator[Trial]:
        """All trials of a level, controls aside, the last first."""
        return (trial for trial in reversed(self._trials.get(level, [])) if trial.role != "control")

    def begun_at(self, level: int) -> int:
        """How many trials of a level were made, controls aside."""
        return self._regular.get(level, 0)

    def going(self) -> list[Trial]:
        """The trials of the level that are trained to the end whatever their rivals do: default first, control last."""
        trials = self._trials.get(self.level, [])
        ends = (*trials[:1], *trials[-1:])
        return [trial for trial in ends if trial.role is not None]

    def with_a_role(self) -> list[Trial]:
        """Defaults and controls of all levels."""
        return list(self._with_a_role)

    def needed(self) -> list[Trial]:
        """The trials whose tensors a later level may start from or be judged by, and those that may win."""
        beams = [one for level in self._trials for one in self.beam(level)] if len(self.rules.levels) > 1 else []
        return [*self.leaders.values(), *self.with_a_role(), *beams]

    @property
    def gained(self) -> int | None:
        """The last level whose verdict was a gain."""
        return max((level for level, one in self.verdicts.items() if one["verdict"] == "gain"), default=None)

    @property
    def stopped(self) -> bool:
        """Whether a verdict has stopped the search before all its levels."""
        return any(verdict["verdict"] == "none" for verdict in self.verdicts.values())

    def may_win(self, trial: Trial) -> bool:
        """Whether the verdicts leave it to a trial: not of a level without gain, nor of what a gain left behind."""
        gained = -1 if self.gained is None else self.gained
        if trial.role == "control":  # it belongs with the level before
            return trial.stage > gained
        return trial.stage >= gained and not self._brought_nothing(trial.stage)

    def _brought_nothing(self, level: int) -> bool:
        return level in self.verdicts and self.verdicts[level]["verdict"] == "none"
