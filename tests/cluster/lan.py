"""A desk and machines on a network of their own, made of Linux namespaces (boot.sh). Root may make them.

A machine is its processes: mounts, interfaces and addresses end with them, and they end with the test, however it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

USER, UID = "ubuntu", 20100  # an id that nobody has
HOME = f"/home/{USER}"
PATH = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))
_NAMESPACES = ("--ipc", "--mount", "--net", "--pid", "--uts")
_TOOLS = ("ip", "nsenter", "pivot_root", "rsync", "setpriv", "ssh", "ssh-keygen", "sshd", "taskset", "tmux", "unshare")
_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"


def lacking():
    """Why there can be no such machines here; empty if there can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "needs root on Linux"
    if absent := [name for name in _TOOLS if shutil.which(name, path=PATH) is None]:
        return f"{', '.join(absent)} not installed: apt-get install iproute2 openssh-server rsync tmux"
    if sys.prefix == sys.base_prefix:
        return "needs a virtual environment, which the machines get copies of"
    tried = _run("unshare", *_NAMESPACES, "--fork", "mount", "-t", "tmpfs", "none", "/tmp", check=False)
    return f"root may make no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


def _run(*words, check=True, seconds=30.0):
    done = subprocess.run(
        [*map(str, words)],
        env={"PATH": PATH, "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert not check or done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done


@dataclass
class Machine:
    """One that runs.

    Args:
        name: of the host.
        pid: of its first process.
    """

    name: str
    pid: int

    def run(self, command, seconds=30.0):
        """What the user types on it, with ~/venv first in PATH; returns what it printed, errors last."""
        shell = ("env", "-i", f"HOME={HOME}", f"USER={USER}", f"PATH={HOME}/venv/bin:/usr/bin:/bin", "TERM=xterm")
        user = (f"--setuid={UID}", f"--setgid={UID}", "--", *shell, "bash", "-c", f"cd ~ && {command}")
        done = _run("nsenter", f"--target={self.pid}", *_NAMESPACES, *user, seconds=seconds)
        return done.stdout + done.stderr

    def put(self, file, place):
        """Copies a file of this machine into the user's home."""
        self.run(f"mkdir -p $(dirname {place})")
        shutil.copy(file, f"/proc/{self.pid}/root{HOME}/{place}")

    def processes(self):
        """The user's, as command lines."""
        found, here = [], _namespace(self.pid)
        for process in psutil.process_iter():
            try:
                if process.uids().real == UID and _namespace(process.pid) == here:
                    found.append(" ".join(process.cmdline()))
            except (psutil.NoSuchProcess, FileNotFoundError):  # it has ended
                continue
        return found


def _namespace(pid):
    return Path(f"/proc/{pid}/ns/pid").readlink()


@dataclass
class Lan:
    """192.0.2.0/24: a desk (.1), and machines whose only door is SSH.

    Args:
        folder: where the machines are built.
        shares: of the desk, as of `boot`.
    """

    folder: Path
    shares: list[tuple]
    desk: Machine = field(init=False)
    _started: list[subprocess.Popen] = field(default_factory=list)

    def __enter__(self):
        try:
            self.desk = self._start("desk", self.shares, "sleep", "infinity")
            self._ip(self.desk, "link", "add", "lan", "type", "bridge")
            self._ip(self.desk, "addr", "add", "192.0.2.1/24", "dev", "lan")
            self._ip(self.desk, "link", "set", "lan", "up")
            self.desk.run("mkdir -m 700 .ssh && ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        for process in self._started:
            process.kill()  # and with it what runs in its namespaces
        for process in self._started:
            process.wait(timeout=30)

    def boot(self, name, address, variables, shares):
        """Starts a machine of one core with sshd, which lets in the desk's user.

        Args:
            name, address: of the host.
            variables: the environment of who comes in.
            shares: folders of this machine that it has too: (source, target, "ro" or "rw").
        """
        environment = " ".join(f"{key}={value}" for key, value in variables.items())
        options = ("UsePAM=no", "PasswordAuthentication=no", f"SetEnv={environment}")
        sshd = ("/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-h", _HOST_KEY, *(f"-o{one}" for one in options))
        key = f"ssh-keygen -q -t ed25519 -N '' -f {_HOST_KEY}"
        machine = self._start(name, shares, "bash", "-c", f'{key} && exec "$@"', "bash", *sshd)
        self._ip(self.desk, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", machine.pid)
        self._ip(self.desk, "link", "set", name, "master", "lan", "up")
        self._ip(machine, "addr", "add", f"{address}/24", "dev", "eth0")
        self._ip(machine, "link", "set", "eth0", "up")
        self._ip(machine, "route", "add", "default", "via", "192.0.2.1")  # Ray takes its own address from the route
        public = self.desk.run("cat .ssh/id_ed25519.pub").strip()
        machine.run(f"mkdir -m 700 .ssh && echo '{public}' > .ssh/authorized_keys")
        return machine

    @staticmethod
    def _ip(machine, *words):
        _run("nsenter", f"--target={machine.pid}", "--net", "ip", *words)

    def _start(self, name, shares, *command):
        folder, log = self.folder / name, self.folder / f"{name}.log"
        folder.mkdir()
        cores = sorted(os.sched_getaffinity(0))
        core = cores[len(self._started) % len(cores)]
        lines = "\n".join(" ".join(map(str, share)) for share in [(sys.base_prefix, sys.base_prefix, "ro"), *shares])
        words = [
            *("setpriv", "--pdeathsig=KILL", "taskset", "--cpu-list", core),
            *("unshare", *_NAMESPACES, "--fork", "--kill-child"),
            *("bash", Path(__file__).with_name("boot.sh"), folder, name, USER, UID, sys.prefix, lines, *command),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*map(str, words)],
                env={"PATH": PATH, "LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._started.append(process)
        patience = time.monotonic() + 60
        while not (first := psutil.Process(process.pid).children()) or not _booted(first[0].pid):
            said = log.read_text(encoding="utf-8")
            assert process.poll() is None, said
            assert time.monotonic() < patience, said
            time.sleep(0.05)
        return Machine(name, first[0].pid)


def _booted(pid):
    return Path(f"/proc/{pid}/root/run/booted").exists()
