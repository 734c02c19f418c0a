"""`ray up cluster-local.yaml` over SSH, for real: the page's commands, typed at a desk, on three machines of our own.

The machines (lan.py) have the addresses that the file has, so that it is taken as it is. Its setup runs as on any other
machine, but that uv, and all that it is to install, is there already: nothing is downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.cluster.lan import HOME, PATH, UID, Lan, lacking
from tests.e2e.commands import events
from tests.trained import write_pictures

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "cluster-local.yaml").read_text(encoding="utf-8"))
HEAD, *WORKERS = CONFIG["provider"]["head_ip"], *CONFIG["provider"]["worker_ips"]
UV = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), PATH)))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(bool(reason := lacking()), reason=reason),
    pytest.mark.skipif(UV is None, reason="uv is not installed: pip install '.[dev]'"),
]

VARIABLES = {
    "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": 80_000_000,
    "RAY_USAGE_STATS_ENABLED": 0,
    "RAY_gcs_rpc_server_reconnect_timeout_s": 5,  # a worker misses its head for so long; a minute, if it isn't set
    "UV_NO_BUILD_ISOLATION": 1,
    "UV_OFFLINE": 1,
}

# As long a trial as it takes to start the others' workers, several times over.
SPACE = """
from ray import tune

from raysearch.space import Search

space = {"backbone": "simple_cnn", "weights": "random", "schedule": [{"depth": 4, "weight_decay": tune.uniform(0, 1)}]}
default = {"schedule": [{"weight_decay": 0.0}]}
search = Search(sampler="random", heads=0, first_rung_epochs=60)
"""
SEARCH = "--space long.py --data photos --image-size 64 --address auto --device cpu --max-epochs 60 --refits 0"
TOGETHER = "--space long.py --data photos --image-size 32 --address auto --device cpu --max-epochs 3 --refits 0"


def documented(start):
    """The line of the page that starts so, for these machines."""
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith(start) and "cluster-local.yaml" in line]
    return line


def wait(condition, seconds, otherwise):
    """Asks once a second: each look costs the machines' processor, which is the tests' own."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, otherwise()
        time.sleep(1.0)


def has_raylet(machine):
    """Whether Ray has been started there."""
    return any(line.partition(" ")[0].endswith("/raylet") for line in machine.processes())


class Site:
    """A desk with a clone and images, a head, its workers, and the folder that these share."""

    def __init__(self, lan, folder):
        self.desk, self.shared, self.clone = lan.desk, folder / "shared", folder / "clone"
        (self.shared / "long.py").write_text(SPACE, encoding="utf-8")
        os.chown(self.shared, UID, UID)
        self.machines = {}
        for address in (HEAD, *WORKERS):
            name = "head" if address == HEAD else f"worker-{len(self.machines)}"
            self.machines[name] = lan.boot(name, address, VARIABLES, [(self.shared, f"{HOME}/shared", "rw")])
            self.machines[name].put(UV, ".local/bin/uv")

    @property
    def head(self):
        return self.machines["head"]

    def type(self, command, seconds=120.0):
        """At the desk, in the clone."""
        return self.desk.run(f"cd clone && {command}", seconds)

    def status(self):
        return self.type(documented("ray exec cluster-local.yaml 'ray status'"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Nothing is started yet."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "shared").mkdir()
    clone = folder / "clone"
    clone.mkdir()
    for name in ("cluster-local.yaml", *CONFIG["file_mounts"].values()):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).is_file():
            shutil.copy(ROOT / name, clone / name)
    write_pictures(clone / "photos", 30)
    (clone / "results").mkdir()
    os.chown(clone / "results", UID, UID)
    with Lan(folder, [(clone, f"{HOME}/clone", "rw")]) as lan:
        yield Site(lan, folder)


@pytest.fixture(scope="module")
def cluster(site):
    """What `ray up` makes of the machines; the head sets the workers up after it has returned."""
    site.type("(umask 077 && ray get-auth-token --generate > /dev/null)")
    said = site.type(f"RAY_USAGE_STATS_ENABLED=0 {documented('ray up')}", seconds=240)
    assert "Ray runtime started" in said
    wait(lambda: all(has_raylet(machine) for machine in site.machines.values()), 200, site.status)
    # Only then: to ask is two commands' start, at the desk and on the head, which are on the workers' own processors.
    wait(lambda: f"/{1 + len(WORKERS)}.0 CPU" in site.status(), 60, site.status)
    return site


def searched(cluster, name, flags, process):
    """Searches in the head's tmux, to the end: the run folder, and the machines on which such a process was seen."""
    cluster.type(re.sub(r"--space [^']*", f"{flags} --run-name {name}", documented("ray exec --tmux")))
    run, seen = cluster.shared / "results" / name, set()

    def finished():
        for machine in cluster.machines.values():
            if any(line.startswith(process) for line in machine.processes()):
                seen.add(machine.name)
        # The page is made after the log has ended.
        return any(one["event"] == "finished" for one in events(run)) and (run / "report.html").is_file()

    wait(finished, 240, lambda: cluster.head.run("tmux capture-pane -p"))
    return run, seen


def epochs_of(run):
    """Of each segment that was trained."""
    return [one["epoch"] for one in events(run) if one["event"] == "segment_end"]


@pytest.fixture(scope="module")
def search(cluster):
    """A finished one."""
    cluster.type(documented("ray rsync-up"))
    flags = f"{SEARCH} --trials {len(cluster.machines)} --concurrent {len(cluster.machines)}"
    return searched(cluster, "ours", flags, "ray::TrialActor")


def test_each_machine_has_what_was_sent_and_nobody_else_reads_the_token(cluster):
    token = cluster.desk.run("cat .ray/auth_token")
    for machine in cluster.machines.values():
        said = machine.run("stat -c %a .ray .ray/auth_token && cat .ray/auth_token && hostname")
        assert said == f"700\n600\n{token}{machine.name}\n"
        package = Path(machine.run("cd / && python -c 'import raysearch; print(raysearch.__file__)'").strip()).parent
        assert package.is_relative_to(f"{HOME}/venv/lib")
        assert machine.run(f"diff -r --exclude=__pycache__ raysearch/search_spaces {package}/search_spaces") == ""


def test_the_search_trains_on_every_machine(cluster, search):
    run, seen = search
    assert seen == set(cluster.machines)
    assert epochs_of(run) == [60] * len(cluster.machines)


def test_machines_of_one_cpu_each_train_a_trial_together(cluster, search):
    flags = f"{TOGETHER} --workers-per-trial {len(cluster.machines)} --trials 2"
    run, seen = searched(cluster, "together", flags, "ray::RayTrainWorker")
    assert seen == set(cluster.machines)
    assert epochs_of(run) == [3, 3]


def test_the_results_come_back(cluster, search):
    cluster.type(documented("ray rsync-down"))
    run, back = search[0], cluster.clone / "results" / "ours"
    for name in ("log.jsonl", "trials.csv", "evaluation.json", "best/model.safetensors", "report.html"):
        assert (back / name).read_bytes() == (run / name).read_bytes()


def test_ray_down_leaves_nothing_running(cluster, search):
    # What a person types who is done looking.
    cluster.head.run("for one in $(tmux list-sessions -F '#S'); do tmux send-keys -t $one: exit Enter; done")
    assert all(machine.processes() for machine in cluster.machines.values())
    cluster.type(documented("ray down"))

    def left():
        return {machine.name: found for machine in cluster.machines.values() if (found := machine.processes())}

    wait(lambda: not left(), 150, lambda: f"still there: {left()}")
