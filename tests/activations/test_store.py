"""Files of the cache are whole or absent, within the budget, and nobody loses what he is reading."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from raysearch.activations.store import HEADER_BYTES, Store, default_limit, remove
from raysearch.activations.upkeep import clear, grouped, list_entries, verify
from tests.activations.cached import IMAGES, cached

ROOT = Path(__file__).resolve().parents[2]
ALL = np.arange(IMAGES)


def write(store, name, rows=10, view=0):
    """An entry of `rows` kibibytes of numbers, at boundary `name`."""
    key = {"view": view, "backbone": "net"}
    with store.turn(key, 1.0):
        writers = store.writers(key, {name: (rows, 256)}, "fp32")
        if writers is None:
            return None
        writers[name].write(np.full((rows, 256), view, np.float32))
        writers[name].commit()
    return store.folder(key) / f"{name}.act"


def run(function, *arguments):
    code = f"from tests.activations.cached import {function}; {function}(*{arguments!r})"
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def finish(process):
    process.stdin.close()
    process.stdout.close()
    return process.wait(60)


def unfinished(root):
    return list(root.glob("*/*.tmp"))


def test_what_was_written_is_mapped_and_cannot_be_changed(tmp_path):
    store = Store(tmp_path)
    write(store, "block1")
    rows = store.open({"view": 0, "backbone": "net"}, "block1")
    assert isinstance(rows, np.memmap)
    assert rows.offset == HEADER_BYTES
    assert np.array_equal(rows, np.zeros((10, 256)))
    assert not rows.flags.writeable
    assert store.open({"view": 1, "backbone": "net"}, "block1") is None
    assert store.open({"view": 0, "backbone": "net"}, "block2") is None


def test_a_writer_killed_in_the_middle_leaves_nothing_half_valid(tmp_path):
    process = run("fill_slowly", str(tmp_path), 0.3)
    for _ in range(2):
        assert process.stdout.readline() == "chunk\n"
    os.kill(process.pid, signal.SIGKILL)
    assert finish(process) == -signal.SIGKILL
    assert len(unfinished(tmp_path)) == 1, "it was really in the middle"
    assert list_entries(tmp_path) == []
    began = time.monotonic()
    fillings: list[float] = []
    found = cached(tmp_path, 1, strength=0.5, filled=fillings.append)
    fresh = cached(tmp_path / "fresh", 1, strength=0.5)
    torch.testing.assert_close(found.batch(ALL, 0), fresh.batch(ALL, 0))
    assert time.monotonic() - began < 30, "nobody waits for the dead"
    assert [seconds > 0 for seconds in fillings] == [True]
    assert unfinished(tmp_path) == []
    assert len(list_entries(tmp_path)) == 1
    assert verify(tmp_path) == []


def test_who_waits_takes_over_from_a_killed_writer(tmp_path):
    writer = run("fill_slowly", str(tmp_path), 60.0)
    assert writer.stdout.readline() == "chunk\n"
    waiting = run("fill_slowly", str(tmp_path), 0.0)
    os.kill(writer.pid, signal.SIGKILL)
    finish(writer)
    assert waiting.stdout.read().splitlines()[-1] == "filled"
    assert finish(waiting) == 0
    assert len(list_entries(tmp_path)) == 1


def test_of_two_processes_one_fills_and_the_other_reads(tmp_path):
    both = [run("fill_slowly", str(tmp_path), 0.1) for _ in range(2)]
    outputs = [process.stdout.read().splitlines() for process in both]
    assert [finish(process) for process in both] == [0, 0]
    assert sorted(map(len, outputs)) == [1, 1 + IMAGES // 2], "one has not a chunk of its own"


def test_what_killed_writers_left_is_swept_up_with_the_next_entry(tmp_path):
    dead = Store(tmp_path).writers({"view": 9}, {"block1": (10, 256)}, "fp32")
    dead["block1"]._file.close()
    assert len(unfinished(tmp_path)) == 1
    write(Store(tmp_path), "block1")
    assert unfinished(tmp_path) == []


def test_the_least_recently_used_goes_first(tmp_path):
    size = HEADER_BYTES + 10 * 1024
    store = Store(tmp_path, limit_bytes=3 * size)
    paths = [write(store, "block1", view=view) for view in range(3)]
    for age, path in zip((300, 200, 100), paths, strict=True):
        os.utime(path, (time.time() - age,) * 2)
    store.open({"view": 0, "backbone": "net"}, "block1")  # and closed at once, but used last
    gc.collect()
    paths.append(write(store, "block1", view=3))
    assert [path.exists() for path in paths] == [True, False, True, True]
    assert not paths[1].parent.exists()
    paths.append(write(store, "block1", rows=20, view=4))
    assert [path.exists() for path in paths] == [False, False, False, True, True]


def test_never_one_in_use(tmp_path):
    size = HEADER_BYTES + 10 * 1024
    store = Store(tmp_path, limit_bytes=2 * size)
    oldest = write(store, "block1", view=0)
    rows = Store(tmp_path).open({"view": 0, "backbone": "net"}, "block1")
    os.utime(oldest, (0, 0))
    newer = write(store, "block1", view=1)
    write(store, "block1", view=2)
    assert (oldest.exists(), newer.exists()) == (True, False)
    assert not remove(oldest)
    assert write(store, "block1", rows=20, view=3) is None, "no room is made at a reader's cost"
    del rows
    gc.collect()
    assert remove(oldest)


def test_another_processs_entry_is_in_use_until_it_dies(tmp_path):
    cached(tmp_path, 2).batch(ALL, 0)
    gc.collect()
    process = run("hold", str(tmp_path), 2)
    assert process.stdout.readline() == "holding\n"
    assert clear(tmp_path).in_use == 1
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    assert clear(tmp_path).files == 1
    assert list_entries(tmp_path) == []


def test_an_entry_larger_than_the_budget_costs_nobody_anything(tmp_path):
    store = Store(tmp_path, limit_bytes=2 * (HEADER_BYTES + 10 * 1024))
    path = write(store, "block1")
    assert write(store, "block2", rows=100) is None
    assert path.exists()


def test_room_is_counted_for_what_others_are_writing(tmp_path):
    store = Store(tmp_path, limit_bytes=3 * (HEADER_BYTES + 10 * 1024))
    key = {"view": 9}
    with store.turn(key, 1.0):
        writers = store.writers(key, {"block1": (20, 256)}, "fp32")
        assert write(store, "block1") is not None
        assert write(store, "block2", rows=20) is None
        writers["block1"].abandon()


def test_the_default_budget_is_a_share_of_the_disk(tmp_path):
    import shutil

    assert default_limit(tmp_path) == pytest.approx(shutil.disk_usage(tmp_path).free / 4, rel=0.05)


def test_an_entry_that_is_not_whole_is_not_put_in_place(tmp_path):
    store = Store(tmp_path)
    writers = store.writers({}, {"block1": (10, 256)}, "fp32")
    writers["block1"].write(np.zeros((9, 256), np.float32))
    with pytest.raises(ValueError, match="was to have"):
        writers["block1"].commit()
    writers["block1"].abandon()
    assert list(tmp_path.glob("*/*.*")) == list(tmp_path.glob("locks/*.lock"))


def test_verify_finds_every_damage_and_deletes_it(tmp_path):
    store = Store(tmp_path)
    good, flipped, short, foreign = (write(store, "block1", view=view) for view in range(4))
    for path, damage in ((flipped, lambda data: data[:-1] + b"!"), (short, lambda data: data[:-9])):
        path.write_bytes(damage(path.read_bytes()))
    foreign.write_bytes(b"not ours")
    assert {path for path, _ in verify(tmp_path)} == {flipped, short, foreign}
    assert [path.exists() for path in (good, flipped, short, foreign)] == [True, False, False, False]
    assert verify(tmp_path) == []


def test_the_list_says_what_is_there_the_last_used_first(tmp_path):
    store = Store(tmp_path)
    old, new = write(store, "block1", view=0), write(store, "block2", view=1)
    os.utime(old, (0, 0))
    entries = list_entries(tmp_path)
    assert [entry.path for entry in entries] == [new, old]
    assert [entry.bytes for entry in entries] == [HEADER_BYTES + 10240] * 2
    json.dumps(entries[0].about)
    assert list_entries(tmp_path / "nowhere") == []
    assert clear(tmp_path / "nowhere").files == 0


def test_views_are_listed_together(tmp_path):
    cached(tmp_path, 2).batch(ALL, 0)
    moving = cached(tmp_path, 2, strength=0.5, views=3)
    for view in range(3):
        moving.batch(ALL, view)
    groups = {group.what[3]: group for group in grouped(list_entries(tmp_path))}
    assert (groups["0"].views, groups["0.5"].views) == (1, 3)
    assert groups["0.5"].what[:3] == ("simple_cnn", "block2", f"{IMAGES} train ? px")
