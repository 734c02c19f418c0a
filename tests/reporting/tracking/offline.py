"""Reads a .wandb file: LevelDB's log format, as W&B's own client writes it, around W&B's own records."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK_BYTES, _HEADER = 32768, struct.Struct("<IHB")  # checksum, length, type
_FULL, _FIRST, _LAST = 1, 2, 4


@dataclass
class OfflineRun:
    """What one file holds."""

    path: Path
    about: Any = None
    """The run's own record: its id, group, sweep, …"""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    artifacts: list[Any] = field(default_factory=list)


def offline_runs(run: Path) -> dict[str, OfflineRun]:
    """Those of a run folder, by the names that people see."""
    read = [read_offline(path) for path in sorted(run.glob("wandb/offline-run-*/*.wandb"))]
    return {one.about.display_name: one for one in read}


def read_offline(path: Path) -> OfflineRun:
    """All of a file."""
    found = OfflineRun(path)
    for record in records(path):
        match record.WhichOneof("record_type"):
            case "run":
                found.about = record.run
                found.config |= {one.key: json.loads(one.value_json) for one in record.run.config.update}
            case "history":
                found.history.append(
                    {one.key or ".".join(one.nested_key): json.loads(one.value_json) for one in record.history.item}
                )
            case "summary":
                for one in record.summary.update:
                    found.summary[one.key or ".".join(one.nested_key)] = json.loads(one.value_json)
            case "exit":
                found.exit_code = record.exit.exit_code
            case "artifact":
                found.artifacts.append(record.artifact)
    found.config.pop("_wandb", None)
    return found


def records(path: Path) -> Iterator[Record]:
    """The records of a file, put together from the pieces that its blocks cut them into."""
    data, at, pieces = path.read_bytes(), 7, b""  # the first seven bytes are the file's own header
    while at + _HEADER.size <= len(data):
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        if left < _HEADER.size:
            at += left
            continue
        _, length, kind = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        pieces = data[at : at + length] if kind in (_FULL, _FIRST) else pieces + data[at : at + length]
        at += length
        if kind in (_FULL, _LAST):
            yield Record.FromString(pieces)
