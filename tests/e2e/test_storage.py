"""Searches whose checkpoints are in an S3 (moto's): the same results, resumed from there, and no secret anywhere."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from raysearch.record.files import LOCK
from tests.e2e.commands import Desk, DeskHere, assert_same, contents, events, has_trained
from tests.e2e.conftest import Search
from tests.in_process import once
from tests.s3 import BUCKET, S3, SECRET, running_s3

pytestmark = pytest.mark.slow

STORAGE = f"s3://{BUCKET}/searches"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with running_s3() as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, s3: S3) -> Iterator[Desk]:
    with closing(Desk(tmp_path, s3.environment)) as desk:
        yield desk


@pytest.fixture
def here(tmp_path: Path, s3: S3) -> DeskHere:
    return DeskHere(tmp_path, s3.environment)


def named(flags: list[str], name: str) -> list[str]:
    return [*flags[: flags.index("--run-name")], "--run-name", name, "--cache", "off", "--storage", STORAGE]


def in_storage(s3: S3, run: str) -> dict[str, bytes]:
    """Files of a run there."""
    prefix = f"searches/{run}/"
    return {key.removeprefix(prefix): content for key, content in s3.objects(prefix).items()}


def test_a_search_lives_through_refusals_and_goes_on_from_its_storage(
    here: DeskHere, s3: S3, flags: list[str], undisturbed: Search
) -> None:
    run = here.work / "results" / "one"

    def refuse_some() -> None:
        s3.refuses_writes.set()
        threading.Thread(target=_let_in_after, args=(s3, 6), daemon=True).start()

    refusals = once(has_trained(run, "t0000", 2), refuse_some)
    ctrl_c = once(has_trained(run, "t0001", 1), lambda: os.kill(os.getpid(), signal.SIGINT))
    ended = here.tune(*named(flags, "one"), before_step=lambda: [refusals(), ctrl_c()])
    assert ended.code == 130, ended
    assert f"go on with: python -m raysearch.tune --resume {STORAGE}/one" in ended.out
    assert s3.refused > 6
    assert not any(event["event"] in ("segment_lost", "failed") for event in events(run))
    assert not (run / "checkpoints" / "t0000").exists(), "workers write to the storage alone"
    there = in_storage(s3, "one")
    assert there["log.jsonl"] == (run / "log.jsonl").read_bytes()
    assert "checkpoints/t0001/last.pt" in there

    shutil.rmtree(here.work / "results")
    resumed = here.tune("--resume", f"{STORAGE}/one", "--concurrent", "1")
    assert resumed.code == 0, resumed
    assert_same(run, undisturbed.run)
    there = in_storage(s3, "one")
    local = {name: content for name, content in contents(run).items() if name != LOCK}  # of this machine's processes
    assert {name for name in local if not name.startswith("checkpoints/")} <= there.keys()
    assert all(there[name] == content for name, content in local.items() if not name.startswith("checkpoints/"))
    kept = contents(undisturbed.run / "checkpoints")
    assert {name for name in there if name.startswith("checkpoints/")} == {f"checkpoints/{name}" for name in kept}
    assert any(key.startswith("searches/.shared/pixels/") for key in s3.objects())

    shutil.rmtree(here.work / "results")
    shown = here.raysearch("show", f"{STORAGE}/one", "--csv")
    assert (shown.code, shown.err) == (0, "")
    assert "t0004" in shown.out
    reported = here.raysearch("report", f"{STORAGE}/one")
    assert reported.code == 0, reported
    assert in_storage(s3, "one")["report.html"] == Path(reported.out.strip()).read_bytes()
    fetched = here.raysearch("fetch", f"{STORAGE}/one")
    assert (fetched.code, fetched.out.strip()) == (0, "results/one"), fetched
    assert_same(run, undisturbed.run)
    assert contents(run).keys() >= {f"checkpoints/{name}" for name in kept}

    assert SECRET not in ended.out + ended.err + resumed.out + resumed.err
    everything = {**contents(here.folder), **s3.objects()}
    assert [name for name, content in everything.items() if SECRET.encode() in content] == []


def _let_in_after(s3: S3, refusals: int) -> None:
    while s3.refused <= refusals:
        time.sleep(0.03)
    s3.refuses_writes.clear()


def test_kill_9_and_a_disk_that_is_lost_too_cost_what_the_storage_did_not_have(
    desk: Desk, here: DeskHere, s3: S3, flags: list[str], undisturbed: Search
) -> None:
    """The log there is older than the checkpoints: epochs that it does not know of are told again, not trained."""
    command, run = desk.start("-m", "raysearch.tune", *named(flags, "two")), desk.work / "results" / "two"
    command.until(has_trained(run, "t0000", 7))
    os.kill(command.process.pid, signal.SIGKILL)
    assert command.wait(10).code == -signal.SIGKILL
    # Ray's agents try for a minute to tell of their raylet's end, if whom they tell is gone before.
    assert command.left_behind(90) == [], "Ray's processes end with the driver"
    assert not any(event["event"] == "finished" for event in events(run))
    assert len(in_storage(s3, "two").get("log.jsonl", b"")) < (run / "log.jsonl").stat().st_size
    assert "checkpoints/t0000/last.pt" in in_storage(s3, "two")
    shutil.rmtree(desk.work / "results")
    resumed = here.tune("--resume", f"{STORAGE}/two", "--concurrent", "1")
    assert resumed.code == 0, resumed
    assert_same(run, undisturbed.run)


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ("s3://no-such-bucket/searches", "NO_SUCH_BUCKET"),
        ("s3://AKIAIOSFODNN7EXAMPLE:hush@bucket/searches", "credentials do not belong into the URI"),
    ],
)
def test_a_storage_that_will_not_do_is_told_before_anything_starts(
    here: DeskHere, flags: list[str], storage: str, says: str
) -> None:
    ended = here.tune(*flags, "--storage", storage, "--trials", "0")
    assert ended.code == 2, ended
    assert says in ended.err
    assert "--trials 0: must be at least 1" in ended.err, "with all other problems"
    assert "hush" not in ended.err + ended.out
    assert not (here.work / "results").exists()
