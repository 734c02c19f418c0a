"""Runs that are in a storage: a copy to look at, or the run folder brought back to go on with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from raysearch.errors import InputError, StorageError
from raysearch.record.files import CHECKPOINTS, LOG
from raysearch.record.worked_on import worked_on
from raysearch.storage.cache import cache_root
from raysearch.storage.files import replace_json
from raysearch.storage.remote import Entry, Storage

_BROUGHT = ".brought.json"  # what a copy has: name -> bytes and time of what was copied


def copy_to_read(uri: str) -> Path:
    """A copy of a run folder in this machine's cache, without checkpoints, as it is there at this moment.

    Raises:
        InputError: there is no run, or it cannot be read.
    """
    storage, there = _listed(uri)
    here = cache_root() / "runs" / hashlib.sha256(uri.encode()).hexdigest()[:16] / storage.name
    brought = here / _BROUGHT
    had = json.loads(brought.read_text(encoding="utf-8")) if brought.exists() else {}
    has = {name: [entry.bytes, entry.modified] for name, entry in there.items() if not _is_checkpoint(name)}
    _get(storage, [name for name in has if had.get(name) != has[name]], here)
    for name in had.keys() - has.keys():
        (here / name).unlink(missing_ok=True)
    replace_json(brought, has)
    return here


def bring(uri: str, results: Path, *, checkpoints: bool) -> Path:
    """The run folder, under `results` by its name; one that is there already is brought up to date.

    Args:
        uri: of the run.
        results: where run folders are.
        checkpoints: whether those of the trials come too. A search that goes on fetches what it needs itself.

    Raises:
        InputError: there is no run, it cannot be read, another one of that name is in the way, or a process works on
            the one that is there.
    """
    storage, there = _listed(uri)
    folder = results / storage.name
    log = folder / LOG
    with worked_on(folder) if folder.exists() else nullcontext():
        if folder.exists():
            theirs, ours = _log_there(storage, there), log.read_bytes() if log.exists() else b""
            if theirs != ours and ours.startswith(theirs):  # the driver was here, and its last events are not there
                there = {name: entry for name, entry in there.items() if name.startswith(f"{CHECKPOINTS}/")}
            elif not theirs.startswith(ours):
                raise InputError(f"{folder} is there already and is not the run {uri}: choose another --results")
        wanted = [name for name in there if checkpoints or not _is_checkpoint(name)]
        # The log last: whoever finds it finds what it speaks of.
        _get(storage, sorted(wanted, key=lambda name: name == LOG), folder)
    return folder


def _listed(uri: str) -> tuple[Storage, dict[str, Entry]]:
    storage = Storage(uri, patience_seconds=10.0)
    try:
        there = storage.files()
    except StorageError as error:
        raise InputError(f"the run {uri} cannot be read: {error}") from error
    if "run.json" not in there:
        runs = sorted({name.split("/")[0] for name in there if name.endswith("/run.json")})
        hint = f"; runs there: {', '.join(runs)}" if runs else ""
        raise InputError(f"no run at {uri}: it has no run.json{hint}")
    return storage, there


def _log_there(storage: Storage, there: dict[str, Entry]) -> bytes:
    if LOG not in there:
        return b""
    with TemporaryDirectory(prefix="raysearch-") as scratch:
        _get(storage, [LOG], Path(scratch))
        return (Path(scratch) / LOG).read_bytes()


def _get(storage: Storage, names: Iterable[str], into: Path) -> None:
    try:
        for name in names:
            storage.get(name, into / name)
    except StorageError as error:
        raise InputError(f"the run {storage.uri} cannot be read: {error}") from error


def _is_checkpoint(name: str) -> bool:
    """Whether it is a trial's; those of refits are few, and a search that goes on asks for them by their path."""
    return name.startswith((f"{CHECKPOINTS}/t", f"{CHECKPOINTS}/h"))
