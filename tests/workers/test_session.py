"""A Ray of its own starts wherever temporary files are to go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_CODE = """
import ray, os
from raysearch.workers.session import ray_session
before = {name for name in os.listdir("/tmp") if name.startswith("rs-")}
with ray_session(None, 1):
    print(ray.get(ray.remote(lambda: 42).remote()))
print({name for name in os.listdir("/tmp") if name.startswith("rs-")} - before or "nothing is left")
"""


@pytest.mark.slow
def test_a_long_name_for_temporary_files_is_no_trouble_for_sockets(tmp_path: Path) -> None:
    """Case 17: batch systems give each job such a folder."""
    long = tmp_path / ("x" * 90)
    long.mkdir()
    environment = os.environ | {"TMPDIR": str(long), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", _CODE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["42", "nothing is left"]
