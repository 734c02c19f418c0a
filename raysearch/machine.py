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
    """Threads, and Ray's CPUs, of one trial."""
    gpus: float
    address: str | None


def choose_machine(device: str, concurrent: int | None, gpus_per_trial: float | None, address: str | None) -> Machine:
    """How many trials run at once, and what each gets, on this machine or (with `address`) on a cluster.

    On a CPU, one thread a trial: networks of this size gain little from a second one, and trials do not wait for each
    other (DenseNet121 at 32 px on 2 cores: two trials of one thread train 1.5 times the images of one trial of two).

    Raises:
        InputError: more GPUs a trial than there are.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus_here = torch.cuda.device_count() if device == "cuda" else 0
    gpus = gpus_per_trial if gpus_per_trial is not None else (1.0 if device == "cuda" else 0.0)
    if address is None and gpus > gpus_here:
        raise InputError(
            f"--gpus-per-trial {gpus:g}: this machine has {gpus_here} GPU(s) that --device {device} can use, and no "
            "cluster was given; lower it, or join a cluster by --address auto"
        )
    if concurrent is None:
        concurrent = max(1, math.floor(gpus_here / gpus)) if gpus else min(cores, _MOST_ON_CPU)
        if address is None:
            concurrent = min(concurrent, max(1, psutil.virtual_memory().available // _TRIAL_BYTES))
        if device == "mps":  # one GPU, which Ray does not count
            concurrent = 1
    return Machine(concurrent, max(1, cores // concurrent), gpus, address)
