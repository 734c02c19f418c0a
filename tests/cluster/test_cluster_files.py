"""cluster.yaml and cluster-local.yaml as Ray's launcher reads them, and what must not get lost in them. No network."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import ray
import tyro
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config, with_envs
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.schema import AutoscalerInstance
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import NodeState, NodeStatus
from ray.core.generated.instance_manager_pb2 import Instance, NodeKind
from ray.scripts.scripts import cli

from raysearch.job.flags import Flags

ROOT = Path(__file__).resolve().parents[2]
FILES = ["cluster.yaml", "cluster-local.yaml"]
TOKEN = "~/.ray/auth_token"


def written(file):
    return yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))


def loaded(file):
    """With Ray's defaults, as `ray up` takes it."""
    return prepare_config(written(file))


def head_and_workers():
    types = loaded("cluster.yaml")["available_node_types"]
    return types.pop("head"), types


def commands_with(config, words):
    return [line for key, lines in config.items() if key.endswith("commands") for line in lines if words in line]


@pytest.mark.parametrize("file", FILES)
def test_ray_accepts_it(file):
    validate_config(loaded(file))


def test_every_machine_gets_an_image_on_which_the_wheels_install():
    """Ray's own default is Ubuntu 18.04, whose glibc is too old for torch's wheels."""
    head, workers = head_and_workers()
    images = {kind["node_config"]["ImageId"] for kind in (head, *workers.values())}
    assert len(images) == 1  # one set of versions for all
    (image,) = images
    assert re.fullmatch(r"ami-[0-9a-f]{17}", image)
    defaults = Path(ray.__file__).parent / "autoscaler" / "_private" / "aws" / "config.py"
    assert image not in defaults.read_text(encoding="utf-8")
    assert "18.04" not in yaml.safe_dump(loaded("cluster.yaml"))
    assert loaded("cluster.yaml")["docker"] == {}  # nothing else brings a system of its own


@pytest.mark.parametrize("file", FILES)
def test_the_dashboard_is_on_localhost_only(file):
    config = loaded(file)
    (start,) = [line for line in config["head_start_ray_commands"] if "ray start" in line]
    assert "--dashboard-host=127.0.0.1" in shlex.split(start)
    assert "0.0.0.0" not in yaml.safe_dump(config)


@pytest.mark.parametrize("file", FILES)
def test_what_is_idle_goes(file):
    assert 0 < loaded(file)["idle_timeout_minutes"] <= 30


def test_workers_are_on_spot_from_none_up_and_the_head_is_on_demand():
    head, workers = head_and_workers()
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["max_workers"] == 0
    assert len(workers) > 1
    for kind in workers.values():
        assert kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert kind["min_workers"] == 0
        assert kind["max_workers"] == loaded("cluster.yaml")["max_workers"] > 1
        assert kind["resources"]["GPU"] == 1
    assert not loaded("cluster.yaml")["provider"]["cache_stopped_nodes"]  # a stopped machine's disk costs


def wanted_for(trials, unavailable=()):
    """Which workers Ray's autoscaler would start for so many trials of one GPU: {type: number}."""
    config = AutoscalingConfig(written("cluster.yaml"), skip_content_hash=True)
    trial = ResourceRequestUtil.make({"CPU": 4, "GPU": 1})
    head = AutoscalerInstance(
        cloud_instance_id="i-1",
        ray_node=NodeState(node_id=b"1", instance_id="i-1", ray_node_type_name="head", status=NodeStatus.RUNNING),
        im_instance=Instance(
            instance_id="1", instance_type="head", node_kind=NodeKind.HEAD, status=Instance.RAY_RUNNING
        ),
    )
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count([trial] * trials),
        current_instances=[head],
        cloud_resource_availabilities=dict.fromkeys(unavailable, 0.0),
        recoverable_resource_availabilities=dict.fromkeys(unavailable, 0.0),
    )
    return {one.instance_type: one.count for one in ResourceDemandScheduler().schedule(request).to_launch}


def test_the_ladder_is_climbed_down_while_the_cloud_has_none_of_a_type():
    workers = head_and_workers()[1]
    ladder = sorted(workers, key=lambda name: -workers[name]["priority"])
    assert len({kind["priority"] for kind in workers.values()}) == len(ladder)
    for rung, name in enumerate(ladder):
        assert wanted_for(3, unavailable=ladder[:rung]) == {name: 3}


def test_no_more_workers_are_started_than_the_file_says():
    assert sum(wanted_for(100).values()) == loaded("cluster.yaml")["max_workers"]


@pytest.mark.parametrize("file", FILES)
def test_setup_installs_the_tested_versions_on_the_python_they_were_tested_on(file):
    config, constraints = loaded(file), (ROOT / "constraints.txt").read_text(encoding="utf-8")
    tested = re.search(r"\(Python (\d+\.\d+)\)", constraints)[1]
    for role in ("head", "worker"):
        (install,) = [line for line in config[f"{role}_setup_commands"] if "pip install" in line]
        words = shlex.split(install)
        for option in ("--constraints", "--build-constraints"):
            assert words[words.index(option) + 1] == "~/raysearch/constraints.txt"
        assert words[-1] == "$HOME/raysearch[cluster]"
        (venv,) = [line for line in config[f"{role}_setup_commands"] if "uv venv" in line]
        assert f"--python {tested}" in venv
    assert config["file_mounts"]["~/raysearch/constraints.txt"] == "constraints.txt"


@pytest.mark.parametrize("file", FILES)
def test_what_is_sent_is_enough_to_build_the_package_and_little_more(file):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        "pyproject.toml",
        project["project"]["readme"],
        *project["project"]["license-files"],
        *wheel["packages"],
        *wheel["force-include"],
    }
    sent = dict(loaded(file)["file_mounts"])
    assert sent.pop(TOKEN) == TOKEN
    assert set(sent.values()) == needed | {"constraints.txt"}
    for remote, local in sent.items():
        assert remote == f"~/raysearch/{local}"
        assert (ROOT / local).exists()
    assert "__pycache__" in loaded(file)["rsync_exclude"]


STAND_INS = {
    "curl": 'echo \'mkdir -p "$UV_UNMANAGED_INSTALL" && cp "$STAND_INS/uv" "$UV_UNMANAGED_INSTALL/uv"\'',
    "uv": 'if [ "$1" = venv ]; then mkdir -p ~/venv/bin && cp "$0" ~/venv/bin/python; fi',
    "dpkg": "exit 1",  # nothing is installed
    "mountpoint": '[ "$2" = /opt/dlami/nvme ]',  # the image's NVMe is there; ~/shared is not mounted
    "sudo": "",  # never the real one
    "ray": "env > ~/environment",
}
TOOLS = ["bash", "cat", "chmod", "cp", "env", "grep", "id", "mkdir", "sh", "sleep", "timeout", "touch"]


class Machine:
    """A home in which setup commands really run, with stand-ins for whatever reaches outside it."""

    def __init__(self, folder):
        self.home, self.tools = folder / "home", folder / "tools"
        self.home.mkdir()
        self.tools.mkdir()
        for name in TOOLS:
            (self.tools / name).symlink_to(shutil.which(name))
        for name, does in STAND_INS.items():
            script = self.tools / name
            script.write_text(f'#!/bin/sh\necho "{name} $*" >> "$CALLS"\n{does}\n', encoding="utf-8")
            script.chmod(0o755)
        token = self.home / ".ray" / "auth_token"
        token.parent.mkdir()
        token.write_text("a token", encoding="utf-8")
        token.chmod(0o644)  # as Ray writes it

    def run(self, command):
        environment = {
            "HOME": str(self.home),
            "PATH": str(self.tools),
            "STAND_INS": str(self.tools),
            "CALLS": str(self.home / "calls"),
            "RAY_HEAD_IP": "10.0.0.7",
        }
        shell = [shutil.which("bash"), "--noprofile", "--norc", "-c", command]
        done = subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    @property
    def calls(self):
        return (self.home / "calls").read_text(encoding="utf-8").splitlines()

    def variables(self):
        """What every later command finds in its environment."""
        return pairs(self.run("source ~/.bashrc; env"))


def pairs(environment):
    return dict(line.split("=", 1) for line in environment.splitlines() if "=" in line)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.mark.parametrize("role", ["head", "worker"])
@pytest.mark.parametrize("file", FILES)
def test_setup_runs_and_does_no_harm_the_second_time(file, role, machine):
    """Ray gives a worker its setup twice, and everybody theirs again with each `ray up`."""
    config = loaded(file)
    if file == "cluster-local.yaml" and role == "worker":
        machine.run("mkdir ~/shared && touch ~/shared/.raysearch-head")  # the head's folder
    for _ in range(2):
        for command in config[f"{role}_setup_commands"]:
            machine.run(command)
    assert stat.S_IMODE((machine.home / ".ray" / "auth_token").stat().st_mode) == 0o600
    assert stat.S_IMODE((machine.home / ".ray").stat().st_mode) == 0o700
    assert (machine.home / ".bashrc").read_text(encoding="utf-8") == "source ~/.raysearch.sh\n"
    assert [call.split()[0] for call in machine.calls].count("curl") == 1
    installs = [call for call in machine.calls if call.startswith("uv pip install")]
    assert len(installs) == 2
    assert f"--constraints {machine.home}/raysearch/constraints.txt" in installs[0]
    assert installs[0].endswith(f" {machine.home}/raysearch[cluster]")
    variables = machine.variables()
    assert variables["RAY_AUTH_MODE"] == "token"
    assert variables["PATH"].split(os.pathsep)[0] == f"{machine.home}/venv/bin"
    shared = f"{machine.home}/shared"
    if role == "head":
        assert variables["RAYSEARCH_CACHE"] == f"{shared}/cache"  # workers map the decoded images that it makes
    elif file == "cluster.yaml":
        assert variables["RAYSEARCH_CACHE"] == "/opt/dlami/nvme/raysearch"
        assert f"sudo mount -t nfs4 -o lookupcache=positive,actimeo=1 10.0.0.7:{shared} {shared}" in machine.calls
    else:
        assert variables["RAYSEARCH_CACHE"] == "/var/tmp/raysearch"


def test_a_worker_without_the_shared_folder_is_refused(machine):
    (check,) = commands_with(written("cluster-local.yaml"), "exit 1")
    machine.run("mkdir ~/shared")
    with pytest.raises(AssertionError, match="is not the head's"):
        machine.run(check)


def test_machines_that_are_there_are_joined_by_the_autoscaler_that_knows_their_head(machine):
    """`ray up` asks for the other one, which leaves workers out."""
    *_, start = with_envs(written("cluster-local.yaml")["head_start_ray_commands"], {"RAY_enable_autoscaler_v2": "1"})
    machine.run(start)
    assert pairs((machine.home / "environment").read_text(encoding="utf-8"))["RAY_enable_autoscaler_v2"] == "0"


@pytest.mark.parametrize("file", FILES)
def test_every_command_is_a_shell_command(file):
    lines = [line for key, value in loaded(file).items() if key.endswith("commands") for line in value]
    assert len(lines) > 10
    for line in lines:
        subprocess.run(["bash", "-n", "-c", line], check=True, timeout=30)


def documented():
    """The lines of the page's shell blocks."""
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    return [block.strip().splitlines() for block in re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)]


def test_the_way_from_nothing_to_a_finished_search_has_ten_commands():
    assert len(documented()[0]) == 10


@pytest.mark.parametrize("line", [line for block in documented() for line in block if line.startswith("ray ")])
def test_the_documented_commands_are_rays_and_ours(line):
    _, verb, *words = shlex.split(line)
    context = cli.commands[verb].make_context(f"ray {verb}", words)  # parses, runs nothing
    assert (ROOT / context.params["cluster_config_file"]).is_file()
    for command in (context.params.get("cmd") or "").split("; ")[0].split(" && "):
        if command.startswith("python -m raysearch.tune"):
            settings = tyro.cli(Flags, args=shlex.split(command)[3:], config=(tyro.conf.FlagCreatePairsOff,))
            assert settings.address == "auto"
