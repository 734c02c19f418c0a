"""The last section of the report page: what was done, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from raysearch.record.events import Event
from raysearch.record.info import RunInfo
from raysearch.record.tables import cell
from raysearch.reporting.elements import Table
from raysearch.reporting.intake import Intake

_LISTED = 50  # skipped images and failures that are spelled out


class Record(TypedDict):
    """What the section shows."""

    facts: list[tuple[str, str]]
    settings: Table | None
    intake: Intake
    cache: list[str]
    """What was decided of the frozen work."""
    outcome: Table | None
    """What came of that, in seconds."""
    skipped: Table | None
    skipped_count: int
    failures: Table | None
    failures_count: int


def record_section(folder: Path, info: RunInfo, events: Sequence[Event]) -> Record:
    """What was done: the command and all that a result depends on, what went wrong, what was decided on the way."""
    weights = info.get("weights")
    facts = {
        "run": str(folder),
        "command": info.get("command"),
        "started": info.get("created"),
        "weights": f"{weights['origin']} ({weights['reason']})" if weights else None,
        "fingerprint of the images": info.get("fingerprints", {}).get("data"),
        "fingerprint of the weights": info.get("fingerprints", {}).get("weights"),
        "machine": ", ".join(f"{name} {value}" for name, value in info.get("machine", {}).items()),
        "versions": ", ".join(f"{name} {version}" for name, version in info.get("versions", {}).items()),
    }
    settings = [[name, cell(value)] for name, value in info.get("settings", {}).items()]
    skipped = [[one["path"], one["reason"]] for one in info.get("skipped", [])]
    failed = [event for event in events if event["event"] in ("failed", "segment_lost", "refit_failed")]
    failures = [
        [event.get("trial", ""), event["event"].replace("_", " "), str(event.get("error", event.get("reason", "")))]
        for event in failed
    ]
    cache = info.get("cache") or {}
    return {
        "facts": [(name, value) for name, value in facts.items() if value],
        "settings": Table(["setting", "value"], settings, frozenset({0, 1})) if settings else None,
        "intake": info.get("intake", {}),
        "cache": cache.get("lines", []),
        "outcome": _cache_outcome(cache.get("outcome") or {}),
        "skipped": Table(["image", "why"], skipped[:_LISTED], frozenset({0, 1})) if skipped else None,
        "skipped_count": len(skipped),
        "failures": Table(["trial", "what", "why"], failures[:_LISTED], frozenset({0, 1, 2})) if failures else None,
        "failures_count": len(failures),
    }


def _cache_outcome(outcome: Mapping[str, Mapping[str, Any]]) -> Table | None:
    keys = ("way", "epochs", "predicted_train_seconds", "train_seconds", "predicted_fill_seconds", "fill_seconds")
    if not outcome:
        return None
    rows = [[depth, *(cell(one.get(key)) for key in keys)] for depth, one in outcome.items()]
    return Table(["depth", *(key.replace("_", " ") for key in keys)], rows, frozenset({1}))
