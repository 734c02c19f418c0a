"""What one trial gets of this machine or of a cluster, and how many run at once."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import psutil
import torch

from raysearch.errors import InputError
from raysearch.training.numerics import DEVICES, choose_device
from raysearch.workers.capacity import Cluster, Resources, fitting, needs
from raysearch.workers.cluster import look_at_cluster, numerics, on_worker
from raysearch.workers.session import ray_session

logger = logging.getLogger(__name__)

_MOST_ON_CPU = 8  # trials at once; more would leave ASHA little to learn from
_TRIAL_BYTES = 2 << 30  # of memory, that one trial is taken to need when it is decided how many run at once


@dataclass(frozen=True)
class Machine:
    """What one trial gets, and how many run at once."""

    concurrent: int
    """How many trials run at once; on a cluster, the most that are expected: there are as many as it has room for."""
    cpus: int
    """Threads, and Ray's CPUs, of one worker."""
    gpus: float
    """GPUs of one worker."""
    address: str | None = None
    """A cluster's; None: trials run on this machine."""
    at_most: int | None = None
    """A bound that somebody set on how many run at once on a cluster."""
    workers: int = 1
    """Processes of one trial."""

    @property
    def trial(self) -> Resources:
        """What one trial, or each of its workers, gets, in Ray's words."""
        return {"CPU": float(self.cpus), "GPU": self.gpus}

    @property
    def elsewhere(self) -> bool:
        """Whether what needs a trial's device is none of the driver's business: it holds no GPU, and may have none."""
        return self.address is not None or self.gpus > 0


def find_machine(
    device: str,
    address: str | None,
    workers: int,
    *,
    concurrent: int | None,
    gpus: float | None,
    before: int | None = None,
) -> Machine:
    """What a trial gets, here or on the cluster.

    Args:
        device: as it was typed, or as a run has it.
        address: of the cluster; None: this machine.
        workers: processes of one trial.
        concurrent, gpus: trials at once, and GPUs of one trial, as they were typed, or None.
        before: trials at once where that was not typed, on this machine.

    Raises:
        InputError: no such device, no such cluster, or no room for a trial.
    """
    if address is None:
        return choose_machine(choose_device(device).type, concurrent or before, gpus, workers)
    if device not in DEVICES:
        raise InputError(f"device {device!r} is unknown; give one of {', '.join(DEVICES)}")
    with ray_session(address):
        return share_cluster(look_at_cluster(), device, concurrent, gpus, address, workers)


def ask_numerics(machine: Machine, device: str) -> tuple[str, str]:
    """The device's type, and the precision that it computes natively, asked where trials run."""
    if machine.address is None:
        return numerics(device)
    with ray_session(machine.address):
        return on_worker(numerics, "cuda" if machine.gpus else device, trial=machine.trial, tell=logger.warning)


def choose_machine(device: str, concurrent: int | None, gpus_per_trial: float | None, workers: int = 1) -> Machine:
    """How many trials run at once, and what each gets, on this machine.

    On a CPU, one thread a trial: networks of this size gain little from a second one, and trials do not wait for each
    other (DenseNet121 at 32 px on 2 cores: two trials of one thread train 1.5 times the images of one trial of two).

    Raises:
        InputError: more GPUs or workers a trial than there are, or workers that would have to share a GPU.
    """
    cores = _cores()
    gpus_here = torch.cuda.device_count() if device == "cuda" else 0
    gpus = gpus_per_trial if gpus_per_trial is not None else (float(workers) if device == "cuda" else 0.0)
    if workers > 1:
        _check_workers(device, workers, gpus, cores if device == "cpu" else None)
    if gpus > gpus_here:
        wanted = f"--workers-per-trial {workers}" if gpus_per_trial is None else f"--gpus-per-trial {gpus:g}"
        raise InputError(
            f"{wanted}: this machine has {gpus_here} GPU(s) that --device {device} can use, and no cluster was given; "
            "lower it, or join a cluster by --address auto"
        )
    _check_gpus(gpus, workers, device == "cuda")
    if concurrent is None:
        concurrent = max(1, fitting(gpus_here, gpus)) if gpus else max(1, min(cores, _MOST_ON_CPU) // workers)
        concurrent = min(concurrent, max(1, psutil.virtual_memory().available // (workers * _TRIAL_BYTES)))
        if device == "mps":  # one GPU, which Ray does not count
            concurrent = 1
    if gpus:  # others would wait, and be counted as if they ran
        concurrent = min(concurrent, max(1, fitting(gpus_here, gpus)))
    return Machine(concurrent, max(1, cores // (concurrent * workers)), gpus / workers, workers=workers)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_gpus(gpus: float, workers: int, on_gpus: bool) -> None:
    """Refuses a number of GPUs that a trial would not train on as it seems.

    Raises:
        InputError: none, though it trains on one, or several for a single process.
    """
    if on_gpus and not gpus:
        raise InputError(
            "--gpus-per-trial 0: trials would crowd onto a GPU that none has reserved; give --device cpu, or part of a "
            "GPU such as 0.5"
        )
    if gpus > 1 and workers == 1:
        raise InputError(
            f"--gpus-per-trial {gpus:g}: a trial of one process trains on one GPU; give --workers-per-trial {gpus:g}"
        )


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


def share_cluster(
    cluster: Cluster,
    device: str,
    concurrent: int | None,
    gpus_per_trial: float | None,
    address: str,
    workers: int = 1,
) -> Machine:
    """How many trials run at once, and what each gets, on a cluster.

    Args:
        cluster: what it has.
        device: as it was typed: auto takes GPUs where there are any, or may be.
        concurrent, gpus_per_trial: as they were typed, or None.
        address: of the cluster.
        workers: processes of one trial.

    Raises:
        InputError: no machine of it can hold a trial, and none that could may come.
    """
    with_gpus = device == "cuda" or (device == "auto" and cluster.most_gpus > 0)
    gpus = gpus_per_trial if gpus_per_trial is not None else float(with_gpus * workers)
    if gpus and not (with_gpus or device == "auto"):
        raise InputError(f"--gpus-per-trial {gpus:g}: trials with --device {device} use none; give --device cuda")
    if workers > 1:
        _check_workers("cuda" if gpus else device, workers, gpus, None)
        gpus /= workers
    cpus = cluster.cpus(gpus, None if concurrent is None else concurrent * workers)
    trial = {"CPU": float(cpus), "GPU": gpus}
    room = cluster.most(trial) // workers
    if not room and not cluster.unknown:
        each = "a trial" if workers == 1 else f"each of a trial's {workers} workers"
        advice = (
            f"lower --gpus-per-trial; the most that a machine has is {cluster.most_gpus:g}"
            if cluster.most_gpus
            else "give --device cpu, or join a cluster with GPUs"
            if gpus
            else "its nodes have no CPUs"
        )
        raise InputError(
            f"--address {address}: no node of this cluster has {needs(trial)} for {each}, and it has no autoscaler "
            f"that could bring one; {advice}"
        )
    _check_gpus(gpus, workers, with_gpus)
    most = max(1, room)
    return Machine(min(most, concurrent or most), cpus, gpus, address, concurrent, workers)
