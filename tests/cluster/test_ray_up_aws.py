"""`ray up cluster.yaml` against moto's AWS, with stand-ins for ssh and rsync: what is started, sent and executed.

The stand-ins record each call, and rsync's puts what it is given into a folder that stands for the machine. From the
head's folder its autoscaler's own parts then start and set up a worker of each type, as they would there. What the
commands do on a machine is not tested here; that they are shell that can run is, in test_cluster_files.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
REGION = CONFIG["provider"]["region"]
TYPES = CONFIG["available_node_types"]
WORKERS = [name for name in TYPES if name != CONFIG["head_node_type"]]
TOKEN = "0123456789abcdef-a-token"

MISSING = [name for name in ("boto3", "moto", "flask") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed: pip install '.[cluster,dev]'"),
]

STAND_IN = '''\
#!{python} -I
"""Records the call; as rsync, also copies what is sent into the machine's folder."""
import json, os, shutil, sys
from pathlib import Path

words = sys.argv[1:]
target = next(word for word in words if word.startswith("ubuntu@"))
address = target.partition("@")[2].partition(":")[0]
with open(os.environ["STAND_IN_LOG"], "a") as log:
    log.write(json.dumps({{"tool": Path(sys.argv[0]).name, "address": address, "words": words}}) + "\\n")
if Path(sys.argv[0]).name == "rsync":
    source, remote = words[words.index(target) - 1], target.partition(":")[2]
    home = Path(os.environ["STAND_IN_MACHINES"]) / address
    local = home / remote.removeprefix("~/")
    excluded = [words[i + 1] for i, word in enumerate(words) if word == "--exclude"]
    local.parent.mkdir(parents=True, exist_ok=True)
    if source.endswith("/"):
        shutil.copytree(source, local, ignore=shutil.ignore_patterns(*excluded), dirs_exist_ok=True)
    else:
        shutil.copy2(source, local)
'''


@dataclass
class Desk:
    """The home of who types `ray up`, and what the stand-ins leave behind."""

    folder: Path
    endpoint: str

    @property
    def home(self):
        return self.folder / "home"

    @property
    def log(self):
        return self.folder / "calls.jsonl"

    def environment(self, home):
        return {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.endpoint,
            "HOME": str(home),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "STAND_IN_LOG": str(self.log),
            "STAND_IN_MACHINES": str(self.folder / "machines"),
            "TMPDIR": str(self.folder / "tmp"),  # Ray keeps what it resolved there
        }

    def ray(self, *words):
        """Run `ray`, in the repository's root as the page says; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", *words],
            cwd=ROOT,
            env={**os.environ, **self.environment(self.home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def machine(self, address):
        return self.folder / "machines" / address

    def sent(self, address):
        """Files that the machine was sent, by path: their contents."""
        home = self.machine(address)
        return {path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*") if path.is_file()}

    def executed(self, address):
        """Commands that the machine was given, in order, without what Ray puts around each."""
        found = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            call = json.loads(line)
            if call["tool"] == "ssh" and call["address"] == address:
                remote = " ".join(call["words"][call["words"].index(f"ubuntu@{address}") + 1 :])
                *shell, command = shlex.split(remote)
                assert shell == ["bash", "--login", "-c", "-i"]
                found.append(re.fullmatch(r"source ~/\.bashrc; export [^&]*&& \((.*)\)", command, re.DOTALL)[1])
        return found

    def client(self, service):
        import boto3

        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def instances(self, kind=None):
        """All that there are and that were, or those of a node type."""
        filters = []
        if kind is not None:
            filters.append({"Name": "tag:ray-user-node-type", "Values": [kind]})
        found = self.client("ec2").describe_instances(Filters=filters)["Reservations"]
        return [instance for reservation in found for instance in reservation["Instances"]]


PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
STACK = (ROOT / "cluster-stack.yaml").read_text(encoding="utf-8")


def answers(url):
    try:
        urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    """moto's server, which knows our image."""
    folder = tmp_path_factory.mktemp("moto")
    image = {
        "ami_id": TYPES["head"]["node_config"]["ImageId"],
        "name": "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 20261006",
        "owner_id": "898082745236",
        "architecture": "x86_64",
        "root_device_name": "/dev/sda1",
        "root_device_type": "ebs",
        "virtualization_type": "hvm",
        "state": "available",
        "public": True,
        "description": "",
        "hypervisor": "xen",
        "image_location": "amazon/dlami",
        "image_type": "machine",
        "platform": None,
        "sriov": "simple",
    }
    (folder / "amis.json").write_text(json.dumps([image]), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            env={**os.environ, "MOTO_AMIS_PATH": str(folder / "amis.json")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            patience = time.monotonic() + 60
            while not answers(url):
                assert server.poll() is None, (folder / "log").read_text(encoding="utf-8")
                assert time.monotonic() < patience, "moto does not answer"
                time.sleep(0.2)
            yield url
        finally:
            server.terminate()
            server.wait(timeout=30)


@pytest.fixture(scope="module")
def desk(tmp_path_factory, endpoint):
    """An account with the documented stack, a token, and the stand-ins first in PATH."""
    desk = Desk(tmp_path_factory.mktemp("desk"), endpoint)
    for name in ("bin", "home/.ray", "machines", "tmp"):
        (desk.folder / name).mkdir(parents=True)
    token = desk.home / ".ray" / "auth_token"
    token.write_text(TOKEN, encoding="utf-8")
    token.chmod(0o600)
    for name in ("ssh", "rsync"):
        script = desk.folder / "bin" / name
        script.write_text(STAND_IN.format(python=sys.executable), encoding="utf-8")
        script.chmod(0o755)
    desk.client("cloudformation").create_stack(
        StackName="raysearch", TemplateBody=STACK, Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    return desk


@pytest.fixture(scope="module")
def head(desk):
    """The instance that `ray up cluster.yaml` starts."""
    desk.ray("up", "-y", "cluster.yaml")
    (instance,) = desk.instances()
    return instance


@pytest.fixture(scope="module")
def workers(desk, head):
    """A worker of each type, as the head's autoscaler starts and sets it up, from what the head was sent: by type."""
    from ray.autoscaler._private.providers import _get_node_provider
    from ray.autoscaler.v2.instance_manager.config import FileConfigReader
    from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter
    from ray.autoscaler.v2.instance_manager.ray_installer import RayInstaller
    from ray.core.generated.instance_manager_pb2 import Instance, NodeKind

    home = desk.machine(head["PublicIpAddress"])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in desk.environment(home).items():
            patch.setenv(name, value)
        reader = FileConfigReader(str(home / "ray_bootstrap_config.yaml"))
        config = reader.get_cached_autoscaling_config()
        provider = _get_node_provider(config.get_provider_config(), config.get_config("cluster_name"))
        cloud = NodeProviderAdapter(provider, reader)
        cloud.launch(dict.fromkeys(WORKERS, 1), "a request")
        patience = time.monotonic() + 60
        while len(nodes := cloud.get_non_terminated()) < 1 + len(WORKERS):
            assert not (errors := cloud.poll_errors()), errors
            assert time.monotonic() < patience, nodes
            time.sleep(0.2)
        for node in nodes.values():
            if node.node_kind == NodeKind.WORKER:
                instance = Instance(
                    instance_id=f"the {node.node_type}",
                    cloud_instance_id=node.cloud_instance_id,
                    instance_type=node.node_type,
                    node_kind=NodeKind.WORKER,
                )
                RayInstaller(provider, config).install_ray(instance, head["PrivateIpAddress"])
    return {name: desk.instances(name) for name in WORKERS}


def tags(instance):
    return {tag["Key"]: tag["Value"] for tag in instance["Tags"]}


def disk(desk, instance):
    (mapping,) = instance["BlockDeviceMappings"]
    (volume,) = desk.client("ec2").describe_volumes(VolumeIds=[mapping["Ebs"]["VolumeId"]])["Volumes"]
    return mapping["DeviceName"], volume["Size"], volume["VolumeType"]


def as_written(config, role):
    """What the file has a machine do before Ray starts."""
    return config["setup_commands"] + config[f"{role}_setup_commands"]


def test_the_head_is_one_small_instance_on_demand(desk, head):
    wanted = TYPES["head"]["node_config"]
    assert head["InstanceType"] == wanted["InstanceType"]
    assert head["ImageId"] == wanted["ImageId"]
    assert "InstanceLifecycle" not in head  # on demand
    assert head["IamInstanceProfile"]["Arn"].endswith(":instance-profile/raysearch-head")
    assert disk(desk, head) == ("/dev/sda1", 150, "gp3")
    assert tags(head)["ray-cluster-name"] == "raysearch"
    assert tags(head)["ray-node-type"] == "head"
    assert tags(head)["ray-node-status"] == "up-to-date"
    ends = desk.client("ec2").describe_instance_attribute(
        InstanceId=head["InstanceId"], Attribute="instanceInitiatedShutdownBehavior"
    )
    assert ends["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"


def test_nobody_but_the_cluster_gets_in_except_through_ssh(desk, head):
    (group,) = [one["GroupId"] for one in head["SecurityGroups"]]
    rules = desk.client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
    from_outside = [(rule["FromPort"], rule["ToPort"]) for rule in rules if rule["IpRanges"]]
    assert from_outside == [(22, 22)]
    inside = [rule for rule in rules if not rule["IpRanges"]]
    assert [pair["GroupId"] for rule in inside for pair in rule["UserIdGroupPairs"]] == [group]


def test_the_private_key_is_its_owners_alone(desk, head):
    key = desk.home / ".ssh" / f"{head['KeyName']}.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert desk.sent(head["PublicIpAddress"])["ray_bootstrap_key.pem"] == key.read_bytes()


def expected_files():
    """The package as it is here, at its place there."""
    found = {}
    for remote, local in CONFIG["file_mounts"].items():
        place = remote.removeprefix("~/")
        if local.startswith("~"):
            continue
        path = ROOT / local
        for file in [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]:
            if "__pycache__" not in file.parts:
                found[f"{place}/{file.relative_to(path)}" if path.is_dir() else place] = file.read_bytes()
    return found


def test_the_head_is_sent_the_repository_the_token_and_what_it_starts_workers_with(desk, head):
    sent = desk.sent(head["PublicIpAddress"])
    assert sent.pop(".ray/auth_token") == TOKEN.encode()
    bootstrap = json.loads(sent.pop("ray_bootstrap_config.yaml"))
    assert bootstrap["available_node_types"].keys() == TYPES.keys()
    assert bootstrap["file_mounts"].keys() == CONFIG["file_mounts"].keys()
    del sent["ray_bootstrap_key.pem"]
    assert sent == expected_files()


def test_the_head_executes_the_file_in_order_and_then_starts_ray(desk, head):
    executed = desk.executed(head["PublicIpAddress"])
    assert executed[0] == "uptime"
    first = next(i for i, command in enumerate(executed) if not command.startswith(("uptime", "mkdir -p ")))
    assert {command.partition(" ")[0] for command in executed[:first]} == {"uptime", "mkdir"}  # files come before all
    *setup, stop, start = executed[first:]
    assert setup == CONFIG["initialization_commands"] + as_written(CONFIG, "head")
    assert stop.endswith("ray stop")
    assert start.endswith(CONFIG["head_start_ray_commands"][-1])
    assert "--dashboard-host=127.0.0.1" in shlex.split(start)
    assert override(start)["CPU"] == 0  # no trial runs there


def override(start):
    """The resources that Ray is told a machine has."""
    value = re.search(r"export RAY_OVERRIDE_RESOURCES=('[^']*'|\S+);", start)[1]
    return json.loads(shlex.split(value)[0])


@pytest.mark.parametrize("kind", WORKERS)
def test_a_worker_is_one_gpu_instance_on_spot(desk, workers, kind):
    (worker,) = workers[kind]
    assert worker["InstanceType"] == TYPES[kind]["node_config"]["InstanceType"]
    assert worker["ImageId"] == TYPES["head"]["node_config"]["ImageId"]
    assert worker["InstanceLifecycle"] == "spot"
    assert worker["IamInstanceProfile"]["Arn"].endswith(":instance-profile/raysearch-worker")
    assert disk(desk, worker) == ("/dev/sda1", 150, "gp3")
    assert tags(worker)["ray-cluster-name"] == "raysearch"
    assert tags(worker)["ray-node-status"] == "up-to-date"


@pytest.mark.parametrize("kind", WORKERS)
def test_a_worker_is_in_the_heads_group_and_network(head, workers, kind):
    (worker,) = workers[kind]
    assert worker["SecurityGroups"] == head["SecurityGroups"]
    assert worker["VpcId"] == head["VpcId"]


@pytest.mark.parametrize("kind", WORKERS)
def test_a_worker_is_sent_the_same_package_and_token_and_no_key(desk, workers, kind):
    (worker,) = workers[kind]
    sent = desk.sent(worker["PrivateIpAddress"])
    assert sent.pop(".ray/auth_token") == TOKEN.encode()
    assert sent == expected_files()


@pytest.mark.parametrize("kind", WORKERS)
def test_a_worker_executes_the_file_in_order_and_then_joins_the_head(desk, head, workers, kind):
    (worker,) = workers[kind]
    executed = desk.executed(worker["PrivateIpAddress"])
    address = f"export RAY_HEAD_IP={head['PrivateIpAddress']}; "
    first = next(i for i, command in enumerate(executed) if not command.startswith(("uptime", "mkdir -p ")))
    *setup, stop, start = executed[first:]
    # Ray puts the common commands in front when it reads the file, here and again on the head.
    wanted = CONFIG["initialization_commands"] + CONFIG["setup_commands"] + as_written(CONFIG, "worker")
    assert setup == [address + command for command in wanted]
    assert stop.endswith("ray stop")
    assert address in start
    assert start.endswith(CONFIG["worker_start_ray_commands"][-1])
    told = override(start)
    assert (told["CPU"], told["GPU"]) == (4, 1)


def test_the_token_is_in_no_command_and_no_configuration(desk, head, workers):
    assert TOKEN not in desk.log.read_text(encoding="utf-8")
    assert TOKEN.encode() not in desk.sent(head["PublicIpAddress"])["ray_bootstrap_config.yaml"]


def test_every_machine_gets_the_token_for_its_owner_alone(desk, head, workers):
    machines = [head["PublicIpAddress"], *(worker["PrivateIpAddress"] for (worker,) in workers.values())]
    for address in machines:
        path = desk.machine(address) / ".ray" / "auth_token"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        given = desk.executed(address)
        closes = next(i for i, command in enumerate(given) if "chmod 600 ~/.ray/auth_token" in command)
        starts = next(i for i, command in enumerate(given) if "ray start" in command)
        assert closes < starts


@pytest.mark.parametrize("line", re.findall(r"^ray exec --tmux .*\bcluster\.yaml .*", PAGE, re.MULTILINE))
def test_the_documented_search_runs_on_the_head_without_us(desk, head, line):
    words = shlex.split(line)
    desk.ray(*words[1:])
    *tmux, command = shlex.split(desk.executed(head["PublicIpAddress"])[-1])
    assert tmux == ["tmux", "new", "-d", "bash", "-c"]
    assert command.startswith(words[-1])
    assert ("sudo shutdown" in command) == ("--stop" in words)


def test_ray_down_leaves_nothing_running(desk, workers):
    assert [one["State"]["Name"] for one in desk.instances()] == ["running"] * (1 + len(WORKERS))
    desk.ray("down", "-y", "cluster.yaml")
    assert {one["State"]["Name"] for one in desk.instances()} == {"terminated"}  # a stopped one's disk would cost
