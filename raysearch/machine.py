"""What one trial gets of this machine, and how many run at once."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import psutil
import torch

from raysearch.errors import InputError

_MOST_ON_CPU = 8  # trials at once; more would leave ASHA little to learn from
_TRIAL_BYTES = 2 << 30  # of memory, that one trial is taken to need when it is decided how many run at once


@dataclass(frozen=True)
class Machine:
    """What one trial gets, and how many run at once."""

    concurrent: int
    cpus: int
    """Threads, and Ray's CPUs, of one worker."""
    gpus: float
    """Of one worker."""
    address: str | None
    workers: int = 1
    """Processes of one trial."""


def choose_machine(
    device: str, concurrent: int | None, gpus_per_trial: float | None, address: str | None, workers: int = 1
) -> Machine:
    """How many trials run at once, and what each gets, on this machine or (with `address`) on a cluster.

    On a CPU, one thread a trial: networks of this size gain little from a second one, and trials do not wait for each
    other (DenseNet121 at 32 px on 2 cores: two trials of one thread train 1.5 times the images of one trial of two).

    Raises:
        InputError: more GPUs or workers a trial than there are, or workers that would have to share a GPU.
    """
    cores = _cores()
    gpus_here = torch.cuda.device_count() if device == "cuda" else 0
    gpus = gpus_per_trial if gpus_per_trial is not None else (float(workers) if device == "cuda" else 0.0)
    if workers > 1:
        _check_workers(device, workers, gpus, cores if address is None and device == "cpu" else None)
    if address is None and gpus > gpus_here:
        wanted = f"--workers-per-trial {workers}" if gpus_per_trial is None else f"--gpus-per-trial {gpus:g}"
        raise InputError(
            f"{wanted}: this machine has {gpus_here} GPU(s) that --device {device} can use, and no cluster was given; "
            "lower it, or join a cluster by --address auto"
        )
    if concurrent is None:
        concurrent = max(1, math.floor(gpus_here / gpus)) if gpus else max(1, min(cores, _MOST_ON_CPU) // workers)
        if address is None:
            concurrent = min(concurrent, max(1, psutil.virtual_memory().available // (workers * _TRIAL_BYTES)))
        if device == "mps":  # one GPU, which Ray does not count
            concurrent = 1
    return Machine(concurrent, max(1, cores // (concurrent * workers)), gpus / workers, address, workers)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_workers(device: str, workers: int, gpus: float, cores: int | None) -> None:
    """Refuses workers that could not train together.

    Raises:
        InputError: see `choose_machine`.
    """
    if device == "mps":
        raise InputError(f"--workers-per-trial {workers}: --device mps has one GPU, which workers cannot share; take 1")
    if device == "cuda" and gpus != workers:
        raise InputError(
            f"--gpus-per-trial {gpus:g} with --workers-per-trial {workers}: each worker needs a GPU of its own; give "
            f"{workers}, or leave it out"
        )
    if cores is not None and workers > cores:
        raise InputError(
            f"--workers-per-trial {workers}: this machine has {cores} core(s); lower it, or join a cluster by "
            "--address auto"
        )
