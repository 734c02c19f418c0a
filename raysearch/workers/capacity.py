"""How many trials machines can hold, and with how many CPUs each: arithmetic over what each of them has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import floor

Resources = Mapping[str, float]
"""What a machine has, or a trial needs, in Ray's words: {"CPU": 4.0, "GPU": 1.0}; what is not named is not there."""

_ROUNDING = 1e-6  # ten trials of 0.1 GPU fit on one


@dataclass(frozen=True)
class Cluster:
    """The machines of a Ray cluster."""

    nodes: tuple[Resources, ...]
    """Those that are there now."""
    types: tuple[Resources, ...] = ()
    """Those that its autoscaler may bring, one of each kind."""
    more: int = 0
    """How many of these it may bring together."""
    unknown: bool = False
    """Whether machines may come of which nothing is known beforehand."""

    @property
    def most_gpus(self) -> float:
        """The most GPUs that one machine has, or may have."""
        return max((machine.get("GPU", 0.0) for machine in (*self.nodes, *self.types)), default=0.0)

    def now(self, trial: Resources) -> int:
        """How many trials the machines that are there hold together."""
        return room(self.nodes, trial)

    def most(self, trial: Resources) -> int:
        """How many trials there can be at once, when everything has come that may come."""
        return self.now(trial) + self.more * max((room([kind], trial) for kind in self.types), default=0)

    def cpus(self, gpus: float, concurrent: int | None) -> int:
        """CPUs of one trial: as many as can be had without leaving a GPU idle; without GPUs, one, or a share.

        Args:
            gpus: of one trial.
            concurrent: trials at once, if somebody said how many.
        """
        machines = (*self.nodes, *self.types) if gpus else (*self.nodes, *self.types * self.more)
        if gpus:
            return most_cpus(machines, max(1, room(machines, {"CPU": 1, "GPU": gpus})), gpus)
        return most_cpus(machines, concurrent, gpus) if concurrent else 1

    def share(self, workers: int, gpus: float) -> tuple[int, int]:
        """How many of so many workers of one job there is room for, and the CPUs of each, so that none waits for ever.

        Args:
            workers: wanted.
            gpus: of each.
        """
        one = {"CPU": 1, "GPU": gpus}
        machines = self.nodes if self.now(one) else self.types * self.more
        workers = max(1, min(workers, room(machines, one)))
        return workers, most_cpus(machines, workers, gpus)


def room(machines: Iterable[Resources], trial: Resources) -> int:
    """How many trials the machines hold together; no trial is spread over two."""
    wanted = {name: amount for name, amount in trial.items() if amount}
    return sum(min(fitting(machine.get(name, 0.0), amount) for name, amount in wanted.items()) for machine in machines)


def fitting(there: float, amount: float) -> int:
    """How many trials a machine has enough of something for, each of which takes this much: more than 0.

    A part of a GPU lies on a single one: of two GPUs, 0.6 are there twice and not three times. CPUs are taken whole.
    """
    if amount < 1:
        return floor(there) * floor(1 / amount + _ROUNDING)
    return floor(there / amount + _ROUNDING)


def most_cpus(machines: Iterable[Resources], workers: int, gpus: float = 0.0) -> int:
    """The most CPUs that each of so many workers can have at the same time; 1 if not even that is there.

    Args:
        machines: to share.
        workers: at once.
        gpus: of each.
    """
    machines = tuple(machines)
    largest = floor(max((machine.get("CPU", 0.0) for machine in machines), default=0.0))
    fit = (cpus for cpus in range(largest, 1, -1) if room(machines, {"CPU": cpus, "GPU": gpus}) >= workers)
    return next(fit, 1)


def needs(trial: Resources) -> str:
    """What a trial needs, for people: "1 GPU and 4 CPUs"."""
    parts = [
        f"{trial[name]:g} {name}{'' if trial[name] <= 1 else 's'}" for name in ("GPU", "CPU") if trial.get(name, 0.0)
    ]
    return " and ".join(parts)
