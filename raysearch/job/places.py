"""Where a search computes, and where it keeps what it must not lose: the machine and the storage of its flags."""

from __future__ import annotations

from raysearch.errors import InputError
from raysearch.job.flags import Flags
from raysearch.storage.remote import Storage
from raysearch.workers.machine import Machine, find_machine


def machine_for(device: str, flags: Flags, workers: int, before: int | None = None) -> Machine:
    """What a trial gets, as the flags ask for it.

    Args:
        device: where networks run.
        flags: of the command.
        workers: processes of one trial.
        before: trials at once, where the flags do not say.

    Raises:
        InputError: see `find_machine`.
    """
    return find_machine(
        device, flags.address, workers, concurrent=flags.concurrent, gpus=flags.gpus_per_trial, before=before
    )


def storage_at(uri: str, new_run: str | None = None) -> Storage:
    """The storage, once it has let itself be written and read.

    Args:
        uri: of the storage.
        new_run: a name that no run there has yet.

    Raises:
        InputError: it cannot be used, or the run is there.
    """
    storage = Storage(uri)
    storage.check()
    if new_run is not None and (storage / new_run).exists("run.json"):
        there = (storage / new_run).uri
        raise InputError(f"the run {there} is there already: go on with it by --resume {there}, or choose a --run-name")
    return storage
