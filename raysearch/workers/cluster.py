"""What the Ray cluster has, and work of the search that is no trial but runs where trials run."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import ray
from ray._private import state
from ray.exceptions import ActorUnavailableError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysearch.workers.capacity import Cluster, Resources, needs

T = TypeVar("T")


class Call(Protocol):
    """Calls a function somewhere, with these arguments."""

    def __call__(self, work: Callable[..., T], *arguments: Any) -> T:
        """Its result; its errors are raised here."""


_LOOK_SECONDS = 1.0  # between two looks at the cluster's nodes
_TELL_SECONDS = 5.0  # until it is said that a machine is waited for
MACHINE_LOST = "its machine was lost"
_VERDICT_SECONDS = 60.0  # for Ray to find out why an actor does not answer
_LAUNCHED = Path("~/ray_bootstrap_config.yaml")
"""Where Ray's cluster launcher leaves its configuration on the head."""


def look_at_cluster() -> Cluster:
    """The nodes of the cluster that this process has joined, and what its launcher's autoscaler may add."""
    nodes = tuple(node["Resources"] for node in ray.nodes() if node["Alive"])
    path = _LAUNCHED.expanduser()
    if not path.is_file():
        return Cluster(nodes)
    return launched(nodes, json.loads(path.read_text(encoding="utf-8")))


def beside_driver() -> NodeAffinitySchedulingStrategy:
    """Puts an actor on the driver's own machine: a spot node would take the search along."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def lost_with_machine(error: RayActorError) -> bool:
    """Whether an actor died because its node did.

    At first Ray may only know that the actor does not answer, and call it dead, though it is its node that is gone,
    which it misses only after some seconds. So the node itself is asked.
    """
    if error.preempted or "node has died" in str(error):
        return True
    if not isinstance(error, ActorUnavailableError) or error.actor_id is None:
        return False
    # Ray has this in its State API too, which needs the dashboard.
    home, until = state.actors(error.actor_id).get("Address", {}).get("NodeID"), time.monotonic() + _VERDICT_SECONDS
    while time.monotonic() < until:
        if not any(node["NodeID"] == home and node["Alive"] and _answers(node) for node in ray.nodes()):
            return True
        if state.actors(error.actor_id).get("State") == "DEAD":
            return False
        time.sleep(0.2)
    return True  # cut off


def _answers(node: Mapping[str, Any]) -> bool:
    """Whether the node's own process of Ray can be reached."""
    with suppress(OSError), socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=5):
        return True
    return False


def launched(nodes: tuple[Resources, ...], config: Mapping[str, Any]) -> Cluster:
    """A cluster of Ray's launcher.

    Args:
        nodes: that are there.
        config: cluster.yaml as the launcher completed it. Machines that one has already are not described in it.
    """
    kinds = [kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]]
    counted = [kind for kind in kinds if kind.get("max_workers", config["max_workers"])]
    described = tuple(kind["resources"] for kind in counted if kind.get("resources"))
    return Cluster(
        nodes,
        described,
        more=max(0, config["max_workers"] - (len(nodes) - 1)),
        unknown=len(described) < len(counted),
    )


class Room:
    """How many trials the cluster holds at this moment; it is looked at no more often than once a second.

    Args:
        trial: what one needs; each of its workers, if there are several.
        at_most: trials at once, however many there is room for; None: no bound.
        workers: of a trial.
    """

    def __init__(self, trial: Resources, at_most: int | None, workers: int = 1) -> None:
        self.workers, self._trial, self._at_most = workers, trial, at_most
        self.needs = needs(trial) if workers == 1 else f"{workers} workers of {needs(trial)} each"
        """What a trial needs, for people."""
        self._looked, self._now, self._most = float("-inf"), 0, 0

    def now(self) -> int:
        """How many there is room for on the nodes that are there."""
        self._look()
        return self._now

    def wanted(self) -> int:
        """Trials to start: what waits for a node makes an autoscaler bring one. Never 0, or nobody would wait."""
        self._look()
        return max(1, min(self._most, self._at_most or self._most))

    def _look(self) -> None:
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        cluster, self._looked = look_at_cluster(), time.monotonic()
        self._now, self._most = (n // self.workers for n in (cluster.now(self._trial), cluster.most(self._trial)))


def call_here(work: Callable[..., T], *arguments: Any) -> T:
    """Calls it in this process."""
    return work(*arguments)


def on_worker(
    work: Callable[..., T], *arguments: Any, trial: Resources, tell: Callable[[str], None] = lambda message: None
) -> T:
    """Runs `work` as a Ray task with a trial's resources, and waits for it; its errors are raised here.

    A task whose machine or process dies is run again, as Ray does by itself. The process ends with the task, and gives
    back its GPU.

    Args:
        work: a function; it, what it takes and what it returns travel between machines.
        arguments: for it.
        trial: {"CPU": …, "GPU": …}.
        tell: called once if no machine has room for it soon.
    """
    began = time.monotonic()
    task = ray.remote(num_cpus=trial["CPU"], num_gpus=trial.get("GPU", 0.0), max_calls=1)(work).remote(*arguments)
    told = False
    try:
        while not ray.wait([task], timeout=0.5)[0]:
            if not told and time.monotonic() - began > _TELL_SECONDS and not look_at_cluster().now(trial):
                told = True
                tell(f"Waiting for a machine with {needs(trial)}")
    except KeyboardInterrupt:
        ray.cancel(task, force=True)
        raise
    result: T = ray.get(task)
    return result


def numerics(device: str) -> tuple[str, str]:
    """Type and precision of the device that trials get in this process; `device` is as of `choose_device`."""
    # torch takes seconds to import, and who only asks what a cluster has, or carries messages, needs none.
    from raysearch.training.numerics import choose_device, choose_precision

    chosen = choose_device(device)
    return chosen.type, choose_precision(chosen)
