"""A search submitted from a clone to a cluster that runs: what is sent, what comes back, and that it ends."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.commands import ROOT, Desk, events, free_port
from tests.trained import write_pictures

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


def asks_for_a_token(url: str) -> bool:
    """Whether anybody is there, who answers nothing without one."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
    raise AssertionError("the dashboard answers everybody")


@pytest.fixture
def desk(tmp_path):
    """A home with a token, in which ray and python are these ones."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {
        "PATH": path,
        "RAY_AUTH_MODE": "token",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # a head that is told to end waits for itself, as long as it may
    }
    with closing(Desk(tmp_path, variables)) as desk:
        token = desk.home / ".ray" / "auth_token"
        token.parent.mkdir()
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        yield desk


def ray(desk, *words):
    return desk.start("-m", "ray.scripts.scripts", *words)


@pytest.fixture
def head(desk):
    """The address of a cluster of one head, on ports that nobody has."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray-") as short:  # sockets lie there, whose paths must be short
        ports = ["--port", free_port(), "--dashboard-port", port, "--ray-client-server-port", free_port()]
        ports += ["--dashboard-agent-listen-port", free_port()]
        started = ray(desk, "start", "--head", "--block", "--temp-dir", short, *ports)
        try:
            started.until(lambda: asks_for_a_token(f"http://127.0.0.1:{port}/api/version"), 90)
            yield f"http://127.0.0.1:{port}"
        finally:
            started.process.terminate()
            started.wait()  # it ends its own processes one by one
            assert started.left_behind() == []


@pytest.fixture
def clone(desk):
    """The repository as git has it, with results of an earlier search that git ignores."""
    folder = desk.work / "clone"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=False, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git repository")
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "results" / "earlier").mkdir(parents=True, exist_ok=True)
    (folder / "results" / "earlier" / "run.json").write_text("{}")
    return folder


def test_a_submitted_search_runs_on_the_cluster_and_its_lines_come_back(desk, head, clone):
    photos, results = write_pictures(desk.folder / "photos", 20), desk.folder / "results"
    search = (
        "python -m raysearch.tune --space baseline --backbone simple_cnn --fast-dev-run --refits 0 --address auto "
        f"--concurrent 1 --data '{photos}' --results '{results}' --run-name sent"
    )
    look = "ls results && python -c 'import raysearch; print(raysearch.__file__)'"
    submitted = ray(
        desk,
        *("job", "submit", "--address", head, "--working-dir", clone, "--"),
        *("sh", "-c", f"{search} && {look}"),
    )
    ended = submitted.wait()
    assert ended.code == 0, ended
    assert "succeeded" in ended.out
    assert [event["event"] for event in events(results / "sent")][-1] == "finished"
    assert re.search(r"t0000 .*\n", ended.out), "progress is plain lines"
    assert "\x1b[2K" not in ended.out, "nothing is drawn over"
    assert "earlier" not in ended.out.splitlines(), "what git ignores is not sent"
    assert "README.md" in ended.out.splitlines()
    assert re.search(r"/_ray_pkg_\w+/raysearch/__init__\.py", ended.out), "the code is what was sent"
