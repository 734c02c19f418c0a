"""What a worker has in hand, and what its results are in the words of the log."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from raysearch.record.events import (
    Event,
    HandedOver,
    SegmentEnded,
    SegmentPaused,
    SegmentStarted,
    StorageRefused,
    TrialFailed,
    epoch_trained,
)
from raysearch.record.level_events import RatesTested
from raysearch.search.messages import Failed, RatesFound, RateTest, Refused, Result, Trained, Unsaved


@dataclass
class Hand:
    """What a worker has in hand: segments, or a range test."""

    segments: dict[str, SegmentStarted] = field(default_factory=dict)
    """Open ones, by trial: many of a pack of heads, none of a range test."""
    test: RateTest | None = None
    began: float = field(default_factory=time.monotonic)
    """The moment at which its segments were decided, or it began with them."""
    placed: bool = False
    """Whether it has begun."""
    waiting: bool = False
    """Whether it was said to wait for a machine."""
    refused: tuple[float, Unsaved] | None = None
    """The time from which the disk refuses what it writes, and what was said of it."""

    def __post_init__(self) -> None:
        self._size = len(self.segments)

    def told(self, result: Result) -> list[Event]:
        """The events that a result comes to."""
        match result:
            case Trained():
                return self._trained(result)
            case RatesFound():
                return [self.rates_tested(result)]
            case Failed():
                if self.test is not None:
                    return [self.rates_tested(result)]
                return [TrialFailed(event="failed", trial=result.trial, error=result.error)]
            case Refused():
                return [_refused(result.trial, result.seconds, result.error)]
            case Unsaved():
                return []

    def ends(self, result: Result) -> bool:
        """Whether the segment of a trial ends with a result."""
        match result:
            case Trained():
                return result.ended or result.row["epoch"] == self.segments[result.trial]["to_epoch"]
            case _:
                return isinstance(result, Failed)

    def saved(self) -> list[StorageRefused]:
        """The disk takes again what is written: for how long it did not, if it ever did not."""
        if self.refused is None:
            return []
        (since, told), self.refused = self.refused, None
        return [_refused(told.trial, time.monotonic() - since, told.error)]

    def rates_tested(self, found: RatesFound | Failed) -> RatesTested:
        """The end of the range test; if it failed, nothing bounds the learning rates but the space."""
        assert self.test is not None
        event = RatesTested(event="lr_find", level=self.test.stage, start=self.test.start, depths={})
        if isinstance(found, Failed):
            event["error"] = found.error
        else:
            event["depths"] = found.depths
        return event

    def _trained(self, result: Trained) -> list[Event]:
        segment, events = self.segments[result.trial], list[Event]()
        stage, delta = segment["stage"], result.handover_delta
        if delta is not None:
            events.append(HandedOver(event="handover", trial=result.trial, stage=stage, delta=delta))
        events.append(epoch_trained(result.trial, stage, result.row))
        if self.ends(result):
            seconds = time.monotonic() - self.began
            if "pack" in segment:  # its share
                seconds /= self._size
            events.append(
                SegmentEnded(
                    event="segment_end",
                    trial=result.trial,
                    segment=segment["segment"],
                    epoch=int(result.row["epoch"]),
                    finished=result.finished,
                    seconds=round(seconds, 3),
                    best=result.best,
                )
            )
        return events


def paused(trial: str, segment: str, reason: str) -> SegmentPaused:
    """The event of a segment that was broken off."""
    return SegmentPaused(event="segment_paused", trial=trial, segment=segment, reason=reason)


def _refused(trial: str, seconds: float, error: str) -> StorageRefused:
    return StorageRefused(event="storage_refused", trial=trial, seconds=round(seconds, 1), error=error)
