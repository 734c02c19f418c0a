"""One process works on a run at a time, and a process that is killed lets go of it."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from raysearch.errors import InputError
from raysearch.record.worked_on import worked_on

HOLD = (
    "import sys, pathlib; from raysearch.record.worked_on import worked_on\nwith worked_on(pathlib.Path(sys.argv[1])): "
)


def test_a_second_one_is_told_of_the_first_until_that_is_killed(tmp_path: Path):
    command = [sys.executable, "-c", HOLD + "print('held', flush=True); input()", str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        for _ in range(2):
            with pytest.raises(InputError, match=rf"process {holder.pid} on .*wait for its end"), worked_on(tmp_path):
                pass
        holder.kill()
    with worked_on(tmp_path):
        pass


def test_it_leaves_nothing_but_an_empty_hidden_file_however_it_ends(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), worked_on(tmp_path):
        raise ZeroDivisionError
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(".lock", b"")]


@pytest.mark.skipif(sys.platform == "win32", reason="flock is of POSIX")
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.filterwarnings("ignore:flock not supported")
def test_where_nothing_can_be_locked_work_goes_on_with_a_warning(tmp_path, monkeypatch, caplog, code):
    def refuse(*_: object) -> None:
        raise OSError(code, "no locks")

    with worked_on(tmp_path):
        pass
    monkeypatch.setattr("fcntl.flock", refuse)
    for _ in range(2):
        caplog.clear()
        with worked_on(tmp_path):
            assert "see that no other process works on it" in caplog.text
