"""Files are replaced wholly or not at all, and JSON is strict."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from raysearch.errors import StorageError
from raysearch.storage import files
from raysearch.storage.files import insist, patient, plain, replace_json, replace_text, replace_with, replaced_folder
from tests.full_disk import full_disk


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "trials.csv"
    replace_text(path, "old")

    def break_down(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_with(path, break_down)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_file_lies_beside_the_target_and_keeps_its_suffix(tmp_path):
    seen = []
    replace_with(tmp_path / "plan.png", lambda path: (seen.append(path), path.write_bytes(b"x")))
    assert seen[0].parent == tmp_path
    assert seen[0].suffix == ".png"


def test_a_link_stays_one_and_what_it_names_is_replaced(tmp_path):
    (tmp_path / "on_another_disk").mkdir()
    link, named = tmp_path / "answers.csv", tmp_path / "on_another_disk" / "of_today.csv"
    link.symlink_to(named)
    for text in ("new", "newer"):
        replace_text(link, text)
        assert link.readlink() == named
        assert (named.read_text(), named.is_symlink()) == (text, False)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_the_standard_output_is_gone_on_with_though_it_is_a_file(tmp_path):
    file = tmp_path / "all.csv"
    file.write_text("before\n")
    script = "from raysearch.storage.files import replace_text; from pathlib import Path; print('first')\n"
    script += "replace_text(Path('/dev/stdout'), 'a,b\\n'); print('last')"
    with file.open("a") as output:
        subprocess.run([sys.executable, "-c", script], stdout=output, check=True)
    assert file.read_text() == "before\nfirst\na,b\nlast\n"


def test_a_mount_that_cannot_be_asked_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    asked, exists = [], Path.exists

    def once(path: Path) -> bool:
        if not asked:
            asked.append(path)
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return exists(path)

    monkeypatch.setattr(Path, "exists", once)
    monkeypatch.setattr("raysearch.storage.files.time.sleep", lambda seconds: None)
    with patient(lambda told: None):
        replace_text(tmp_path / "trials.csv", "new")
    assert (tmp_path / "trials.csv").read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="pipes of other systems are no files")
def test_a_pipe_or_a_device_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "answers.csv"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    replace_text(pipe, "path,label\n")
    assert os.read(reader, 100) == b"path,label\n"
    os.close(reader)
    assert [path.is_fifo() for path in tmp_path.iterdir()] == [True]
    (tmp_path / "nothing").symlink_to("/dev/null")
    replace_text(tmp_path / "nothing", "x")
    assert Path("/dev/null").is_char_device()
    assert (tmp_path / "nothing").is_symlink()


def test_a_folder_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "answers.csv").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_text(tmp_path / "answers.csv", "x")


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "pixels"

    def break_down() -> None:
        with replaced_folder(folder) as temporary:
            (temporary / "train.npy").write_bytes(b"half of")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        break_down()
    assert list(tmp_path.iterdir()) == []
    left = tmp_path / ".pixels.tmp"  # of a process that was killed
    left.mkdir()
    (left / "old.npy").write_bytes(b"x")
    with replaced_folder(folder) as temporary:
        (temporary / "train.npy").write_bytes(b"x")
        assert not folder.exists()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["pixels", "pixels/train.npy"]


def test_json_is_strict_and_takes_what_numpy_gives(tmp_path):
    tree = {
        "f": np.float32(0.5),
        "i": np.int64(3),
        "nan": float("nan"),
        "inf": [np.inf],
        "array": np.eye(2),
        "path": tmp_path,
        "pair": (1, True),
        5: None,
    }
    replace_json(tmp_path / "x.json", tree)

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse) == {
        "f": 0.5,
        "i": 3,
        "nan": None,
        "inf": [None],
        "array": [[1.0, 0.0], [0.0, 1.0]],
        "path": str(tmp_path),
        "pair": [1, True],
        "5": None,
    }


def test_what_has_no_plain_form_is_refused_by_name():
    with pytest.raises(TypeError, match="object"):
        plain({"x": object()})


# ---- storage that refuses ----------------------------------------------------------------------------------------


class Storage:
    """Refuses so many times."""

    def __init__(self, refusals: int, error: type[OSError] = OSError) -> None:
        self.left, self.error = refusals, error

    def __call__(self) -> str:
        self.left -= 1
        if self.left >= 0:
            raise self.error("No space left on device")
        return "written"


def test_storage_that_refuses_for_a_while_is_waited_for_and_both_are_said(monkeypatch):
    monkeypatch.setattr(files, "_PAUSE_SECONDS", 0.0)
    said: list[str] = []
    with patient(said.append, 60):
        assert insist(Storage(3)) == "written"
    assert said == [
        "The storage refuses to be written to (No space left on device); trying again for 60 s",
        "The storage is written to again",
    ]


def test_nobody_is_patient_who_was_not_asked_to_be():
    with pytest.raises(OSError, match="No space"):
        insist(Storage(1))


def test_patience_ends_and_what_follows_is_tried_once(monkeypatch):
    monkeypatch.setattr(files, "_PAUSE_SECONDS", 0.0)
    with patient(lambda message: None, 0.01):
        with pytest.raises(StorageError, match="the storage refuses to be written to: No space left"):
            insist(Storage(10**9))
        storage = Storage(2)
        with pytest.raises(StorageError):
            insist(storage)
        assert storage.left == 1, "tried once"
        assert insist(Storage(0)) == "written"
        assert insist(Storage(1)) == "written", "what was written has mended it"


def test_a_file_that_is_not_there_is_not_waited_for():
    with patient(lambda message: None, 60), pytest.raises(FileNotFoundError):
        insist(Storage(1, FileNotFoundError))


def test_a_file_is_written_once_the_disk_has_room(tmp_path, monkeypatch):
    """The disk has room again when it is said that it has none."""
    monkeypatch.setattr(files, "_PAUSE_SECONDS", 0.0)
    with ExitStack() as disk:
        disk.enter_context(full_disk(100))
        with patient(lambda message: disk.close(), 60):
            replace_text(tmp_path / "it.txt", "x" * 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["it.txt"]
    assert (tmp_path / "it.txt").stat().st_size == 1000
