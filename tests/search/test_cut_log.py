"""A search that dies wherever its log may end goes on to the tables, and the tensors, of one that never died.

What is decided at once is written at once, all or none of it; where a crash tears that apart, a search still comes to a
proper end, but may ask for other recipes. `test_controller` holds both of many searches that train nothing.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.e2e.commands import DeskHere, assert_same, events
from tests.trained import write_pictures

SPACE = """
from ray import tune

from raysearch.space import Search

space = {
    "pooling": tune.choice(["avg", "max"]),
    "schedule": [
        {"depth": 0, "epochs": 3, "learning_rate": tune.loguniform(1e-3, 1e-2), "batch_size": 8},
        {
            "depth": tune.choice([1, 2]),
            "learning_rate": tune.loguniform(1e-4, 1e-2),
            "course": tune.choice(["one_cycle", "plateau"]),
            "strength": tune.quniform(0.0, 1.0, 0.5),
            "dropout": 0.2,
            "batch_norm": "train",
            "batch_size": 8,
        },
    ],
}
default = {
    "pooling": "avg",
    "schedule": [
        {"learning_rate": 3e-3},
        {"depth": 2, "learning_rate": 1e-3, "course": "one_cycle", "strength": 0.5},
    ],
}
search = Search(sampler="tpe", heads=3, pack=2, reduction=2)
"""


@dataclass(frozen=True)
class Whole:
    """A search that never died, and its folder as it was before each step."""

    desk: DeskHere
    before: list[Path]

    @property
    def run(self) -> Path:
        """Its folder at its end."""
        return self.desk.work / "results" / "whole"

    @property
    def ends(self) -> list[int]:
        """Where the log may have ended: after every write, whose events have one time."""
        times = [event["time"] for event in events(self.run)]
        return [cut for cut in range(1, len(times)) if times[cut - 1] != times[cut]]

    def died_after(self, cut: int, folder: Path) -> Path:
        """Makes the folder of a search that died when its log had so many events: with the checkpoints of the step."""
        lines = (self.run / "log.jsonl").read_bytes().splitlines(keepends=True)[:cut]
        known = [one for one in self.before if len(events(one)) >= cut]
        shutil.copytree(known[0] if known else self.run, folder)
        (folder / "log.jsonl").write_bytes(b"".join(lines))
        return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    desk, before = DeskHere(tmp_path_factory.mktemp("whole")), []
    (desk.work / "tiny.py").write_text(SPACE)
    write_pictures(desk.work / "photos", 12)

    def keep() -> None:
        """Hard links will do: what a search writes anew is another file, but for the log, which is cut anyway."""
        before.append(desk.folder / "before" / str(len(before)))
        shutil.copytree(desk.work / "results" / "whole", before[-1], copy_function=os.link)
        log = before[-1] / "log.jsonl"
        content = log.read_bytes()
        log.unlink()
        log.write_bytes(content)

    ended = desk.tune(
        *("--space", "tiny.py", "--data", "photos", "--backbone", "simple_cnn", "--weights", "random"),
        *("--trials", 4, "--max-epochs", 4, "--concurrent", 1, "--refits", 0, "--cache", "off", "--run-name", "whole"),
        before_step=keep,
    )
    assert (ended.code, ended.err) == (0, "")
    return Whole(desk, before)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=6)
def test_a_real_search_goes_on_from_any_write_to_the_same_end(whole, data):
    cut = data.draw(st.sampled_from(whole.ends), label="events in the log")
    run = whole.died_after(cut, whole.desk.work / "results" / "died")
    try:
        resumed = whole.desk.tune("--resume", "died", "--concurrent", 1, "--quiet")
        assert (resumed.code, resumed.err) == (0, "")
        assert_same(run, whole.run)
    finally:
        shutil.rmtree(run)
