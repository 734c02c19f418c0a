"""What went wrong around a search, and that nothing was lost by it: a sentence each, from the events of its log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def incidents(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """Workers that died, storage that refused, refits that began again; empty where nothing of the kind happened."""
    lost: dict[str, str] = {}  # a pack of heads has one worker
    refused: list[str] = []
    refits = 0
    for event in events:
        match event["event"]:
            case "segment_lost":
                lost[event["worker"]] = event["cause"]
            case "storage_refused":
                refused.append(event["error"])
            case "refit_lost":
                refits += 1
    found = []
    if lost:
        machines = sum(cause == "machine" for cause in lost.values())
        which = f" ({machines} with the machine)" if machines else ""
        verb, whose = ("was", "its last checkpoint") if len(lost) == 1 else ("were", "their last checkpoints")
        found.append(f"{_count(len(lost), 'worker')} {verb} lost{which}; what ran there went on from {whose}")
    if refused:
        found.append(f"The storage refused to be written to {_count(len(refused), 'time')}, e.g. {refused[0]}")
    if refits:
        found.append(f"The refits were lost {_count(refits, 'time')}; those that had not ended began again")
    return found


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
