"""Faults under searches: is anything lost, run twice, or another winner found than undisturbed?

    python benchmarks/faults.py [--faults 50] [--seed 0] [--kinds worker node driver disk objects] [--out faults.jsonl]
    python benchmarks/faults.py --go-on --out faults.jsonl        (beside the searches that are there already)

Searches of 8 trials (simple_cnn, generated images, random proposals, every trial trained to its end, so that the order
of things decides nothing) run against a Ray cluster of fake nodes on this machine: a head without CPUs, two nodes of
one. Each suffers three seeded faults, at seeded epochs of its log and up to half a second later:
    worker    kill -9 of the process of a trial
    node      a node is removed without warning (one with a trial's process, if any has), and another comes some seconds
              later
    driver    kill -9 of the command, which is then resumed
    disk      the disk under the run folder is full for some seconds (a tmpfs, which takes the right to mount one)
    objects   every node's object store is flooded with three times what it holds, so that objects are evicted
Each search is compared with one that nothing disturbs: trials lost, segments that ended twice, the winner with its
figures and tensors, epochs that were trained again. Heads train in packs, which begin again when they are broken off;
their epochs are counted apart.
After each search a line is added to --out; --go-on takes from there what a broken-off campaign had finished with the
same settings, and the undisturbed search of any. Progress is on stderr; prints one JSON line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from machine import machine
from PIL import Image
from ray.cluster_utils import Cluster
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("worker", "node", "driver", "disk", "objects")
FAULTS_A_SEARCH = 3
TRIALS, EPOCHS = 8, 4
SPACE = f"""
from ray import tune
from raysearch.space import Search

space = {{
    "schedule": [
        {{"depth": 0, "epochs": 3, "learning_rate": tune.loguniform(1e-3, 1e-2), "batch_size": 32}},
        {{"depth": tune.choice([1, 2]), "learning_rate": tune.loguniform(1e-4, 1e-2), "batch_size": 32}},
    ]
}}
default = {{"schedule": [{{"learning_rate": 3e-3}}, {{"depth": 2, "learning_rate": 1e-3}}]}}
search = Search(sampler="random", heads=3, first_rung_epochs={EPOCHS})
"""
STORE_BYTES = 100 << 20
DISK_BYTES = 64 << 20
PATIENCE_SECONDS = 300
FLOOD = f"""
import sys
import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ray.init(address=sys.argv[1], log_to_driver=False)


@ray.remote(num_cpus=0)
def flood():
    return len([ray.put(np.ones({STORE_BYTES} // 10, np.uint8)) for _ in range(30)])


nodes = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
ray.get([flood.options(scheduling_strategy=node).remote() for node in nodes])
"""

Event = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """One fault of a search."""

    kind: str
    epochs: int
    """After so many epochs of trials in the log."""
    delay: float
    """Seconds later."""
    seconds: float
    """That a node is missing, or the disk full."""


class Nodes:
    """The fake cluster: a head, and two nodes on which trials run."""

    def __init__(self) -> None:
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes: list[Any] = []
        self.address: str = self._cluster.address
        for _ in range(2):
            self.add()

    def add(self) -> None:
        """One more."""
        self._nodes.append(self._cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES))

    def remove(self, rng: random.Random) -> None:
        """One of them without warning; one with a trial's process, if there is any."""
        chosen = rng.choice([node for node in self._nodes if self._actors(node)] or self._nodes)
        self._nodes.remove(chosen)
        self._cluster.remove_node(chosen, allow_graceful=False)

    def actors(self) -> list[psutil.Process]:
        """Processes of trials."""
        return [one for node in self._nodes for one in self._actors(node)]

    @staticmethod
    def _actors(node: Any) -> list[psutil.Process]:
        found = []
        for raylet in node.all_processes.get("raylet", []):
            with suppress(psutil.Error):
                children = psutil.Process(raylet.process.pid).children(recursive=True)
                found += [one for one in children if "TrialActor" in " ".join(one.cmdline())]
        return found

    def close(self) -> None:
        """All of it."""
        self._cluster.shutdown()


class Search:
    """One search as a person runs it, from the command to its end, however often it is killed.

    Args:
        folder: to work in: space.py and photos/ are there.
        address: of the cluster.
        environment: of the command.
    """

    def __init__(self, folder: Path, address: str, environment: dict[str, str]) -> None:
        self.run, self._folder = folder / "results" / "run", folder
        self._address, self._environment = address, environment
        arguments = ["--space", "space.py", "--data", "photos", "--backbone", "simple_cnn", "--weights", "random"]
        arguments += ["--trials", str(TRIALS), "--max-epochs", str(EPOCHS), "--image-size", "32", "--cache", "off"]
        self._start([*arguments, "--refits", "0", "--concurrent", "2", "--run-name", "run"])

    def _start(self, arguments: list[str]) -> None:
        command = [sys.executable, "-m", "raysearch.tune", *arguments, "--address", self._address]
        with (self._folder / "said.txt").open("ab") as said:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=self._environment, stdout=said, stderr=said, start_new_session=True
            )

    @property
    def over(self) -> bool:
        """Whether the command has ended."""
        return self._process.poll() is not None

    def kill_and_resume(self) -> None:
        """kill -9, and again from where it was."""
        self._process.kill()
        self._process.wait()
        self._start(["--resume", "run"])

    def events(self) -> list[Event]:
        """The whole lines of its log."""
        log = self.run / "log.jsonl"
        return [json.loads(line) for line in log.read_text().split("\n")[:-1] if line] if log.exists() else []

    def epochs(self) -> int:
        """Of trials, that the log has; one that is told again counts once."""
        return len({(one["trial"], one["epoch"]) for one in self.events() if _is_epoch(one)})

    def wait(self) -> int:
        """Its exit code."""
        try:
            return self._process.wait(PATIENCE_SECONDS)
        finally:
            self._process.kill()

    def said(self) -> str:
        """The end of what it has printed."""
        return (self._folder / "said.txt").read_text(errors="replace")[-2000:]


def _is_epoch(event: Event) -> bool:
    return event["event"] == "epoch" and event["trial"].startswith("t")


def faults_of(seed: int, search: int, kinds: list[str], number: int) -> list[Fault]:
    """The faults of one search, in the order in which they strike."""
    rng = random.Random(f"{seed}/{search}")
    moments = sorted(rng.sample(range(1, TRIALS * EPOCHS - 2), number))
    return [Fault(rng.choice(kinds), at, rng.uniform(0, 0.5), rng.uniform(2, 15)) for at in moments]


def strike(fault: Fault, search: Search, nodes: Nodes, rng: random.Random) -> None:
    """One fault, to the end of it."""
    if fault.kind == "worker":
        until(lambda: nodes.actors() or search.over)
        with suppress(IndexError, psutil.Error):
            rng.choice(nodes.actors()).kill()
    elif fault.kind == "node":
        nodes.remove(rng)
        time.sleep(fault.seconds)
        nodes.add()
    elif fault.kind == "driver":
        search.kill_and_resume()
    elif fault.kind == "disk":
        filler = search.run.parent / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        time.sleep(fault.seconds)
        filler.unlink()
    elif fault.kind == "objects":
        flood(nodes.address)


def flood(address: str) -> None:
    """Twice at most: whoever joins may be sent to the process of a node that is gone, until the cluster has noticed."""
    for last in (False, True):
        done = subprocess.run([sys.executable, "-c", FLOOD, address], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        print(f"  the flood failed: {done.stderr[-1500:]}", file=sys.stderr, flush=True)
        if last:
            raise RuntimeError("the flood failed twice")
        time.sleep(20)


def until(condition: Any) -> None:
    """Waits for it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not so after {PATIENCE_SECONDS} s")
        time.sleep(0.02)


@contextmanager
def desk(kinds: list[str]) -> Iterator[Path]:
    """A folder with the space, the images, and results/ on a small disk if that is to fill up."""
    with tempfile.TemporaryDirectory(prefix="raysearch-faults-") as name:
        folder = Path(name)
        (folder / "space.py").write_text(SPACE)
        photos(folder / "photos")
        results = folder / "results"
        results.mkdir()
        mounted = "disk" in kinds
        if mounted:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(results)], check=True)
        try:
            yield folder
        finally:
            if mounted:
                subprocess.run(["umount", "-l", str(results)], check=True)


def photos(folder: Path) -> None:
    """Three classes of tinted noise."""
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir(parents=True)
        for number in range(200):
            pixels = rng.integers(0, 200, (32, 32, 3), dtype=np.uint8)
            pixels[..., channel] += 12
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")


def measured(events: list[Event], run: Path) -> dict[str, Any]:
    """What two runs of the same search must have in common."""
    ends = {}
    for event in events:
        if event["event"] == "segment_end" and event["trial"].startswith("t") and event["finished"]:
            ends[event["trial"]] = {key: value for key, value in event["best"].items() if not key.endswith("seconds")}
    evaluation = json.loads((run / "evaluation.json").read_text())
    digest = hashlib.sha256()  # not of the file, whose header has no order
    for name, tensor in sorted(load_file(run / "best" / "model.safetensors").items()):
        digest.update(name.encode() + tensor.tobytes())
    return {"ends": ends, "best": [evaluation["trial"], evaluation["test"], digest.hexdigest()]}


def one_search(index: int, faults: list[Fault], expected: dict[str, Any] | None, kinds: list[str]) -> dict[str, Any]:
    """Runs it under these faults, and says what came of it; without faults, what is expected."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    rng, began = random.Random(index), time.monotonic()
    nodes = Nodes()
    try:
        with desk(kinds) as folder:
            search = Search(folder, nodes.address, environment | {"RAYSEARCH_CACHE": str(folder / "cache")})
            struck = []
            for fault in faults:
                until(lambda at=fault.epochs: search.over or search.epochs() >= at)
                time.sleep(fault.delay)
                if search.over:
                    break
                print(f"  after {search.epochs()} epochs: {fault.kind}", file=sys.stderr, flush=True)
                strike(fault, search, nodes, rng)
                struck.append(fault.kind)
            if search.wait():
                raise RuntimeError(f"search {index} failed under {struck}: {search.said()}")
            events = search.events()
            found = measured(events, search.run)
            if expected is None:
                return found
            return judged(struck, events, found, expected) | {"seconds": round(time.monotonic() - began, 1)}
    finally:
        nodes.close()


def judged(struck: list[str], events: list[Event], found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """The figures of a search that faults struck."""
    ends = Counter((one["trial"], one["epoch"]) for one in events if one["event"] == "segment_end")
    seconds: dict[tuple[str, int], set[float]] = {}
    for event in events:
        if event["event"] == "epoch":  # one that is told again from a checkpoint took exactly as long
            seconds.setdefault((event["trial"], event["epoch"]), set()).add(event["seconds"])
    again = {key: len(values) - 1 for key, values in seconds.items()}
    return {
        "struck": struck,
        "trials_lost": sum(found["ends"].get(name) is None for name in expected["ends"]),
        "segments_run_twice": sum(number - 1 for number in ends.values()),
        "other_figures": sum(found["ends"].get(name) != row for name, row in expected["ends"].items()),
        "wrong_best": int(found["best"] != expected["best"]),
        "epochs_repeated": sum(number for (name, _), number in again.items() if name.startswith("t")),
        "head_epochs_repeated": sum(number for (name, _), number in again.items() if name.startswith("h")),
        "workers_lost": len({one["worker"] for one in events if one["event"] == "segment_lost"}),
        "drivers_lost": sum(kind == "driver" for kind in struck),
        "waited_for_a_machine": sum(one["event"] == "waiting" for one in events),
        "storage_refused": sum(one["event"] == "storage_refused" for one in events),
    }


def main() -> None:
    """Run the searches that are missing, and print what all of them found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out", type=Path, help="a line for each search")
    parser.add_argument("--go-on", action="store_true", help="take from --out what is there")
    options = parser.parse_args()
    settings = {"seed": options.seed, "kinds": options.kinds, "faults": options.faults}
    done: dict[int, dict[str, Any]] = {}
    if options.out and options.out.exists():
        if not options.go_on:
            sys.exit(f"{options.out} is there already: give --go-on, or another --out")
        lines = [json.loads(line) for line in options.out.read_text().splitlines()]
        done = {line["search"]: line["found"] for line in lines if line["settings"] == settings or not line["search"]}

    def keep(index: int, found: dict[str, Any]) -> None:
        done[index] = found
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps({"settings": settings, "search": index, "found": found}) + "\n")

    if 0 not in done:
        print("undisturbed", file=sys.stderr, flush=True)
        keep(0, one_search(0, [], None, options.kinds))
    while (left := options.faults - sum(len(done[index]["struck"]) for index in done if index)) > 0:
        index = len(done)
        print(f"search {index}, {left} faults left", file=sys.stderr, flush=True)
        faults = faults_of(options.seed, index, options.kinds, min(left, FAULTS_A_SEARCH))
        keep(index, one_search(index, faults, done[0], options.kinds))
    searches = [found for index, found in done.items() if index]
    kinds = Counter(kind for found in searches for kind in found["struck"])
    totals = {key: round(sum(found[key] for found in searches), 1) for key in searches[0] if key not in ("struck",)}
    result = {"faults": sum(kinds.values()), "by_kind": dict(kinds), "searches": len(searches), "trials": TRIALS}
    print(json.dumps({"benchmark": "faults", **settings, **result, **totals, "machine": machine()}))


if __name__ == "__main__":
    main()
