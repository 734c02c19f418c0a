"""Searches whose checkpoints are in an S3 (moto's): the same results, resumed from there, and no secret anywhere."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.commands import Desk, contents, events, has_trained
from tests.e2e.conftest import Search, assert_same
from tests.s3 import BUCKET, S3, SECRET, running_s3

pytestmark = pytest.mark.slow

STORAGE = f"s3://{BUCKET}/searches"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with running_s3() as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, s3: S3) -> Desk:
    return Desk(tmp_path, s3.environment)


def named(flags: list[str], name: str) -> list[str]:
    return [*flags[: flags.index("--run-name")], "--run-name", name, "--cache", "off", "--storage", STORAGE]


def in_storage(s3: S3, run: str) -> dict[str, bytes]:
    """Files of a run there."""
    prefix = f"searches/{run}/"
    return {key.removeprefix(prefix): content for key, content in s3.objects(prefix).items()}


def test_a_search_lives_through_refusals_and_goes_on_from_its_storage(
    desk: Desk, s3: S3, flags: list[str], undisturbed: Search
) -> None:
    command, run = desk.start("-m", "raysearch.tune", *named(flags, "one")), desk.work / "results" / "one"
    command.until(has_trained(run, "t0000", 2))
    s3.refuses_writes.set()
    command.until(lambda: s3.refused > 6)
    s3.refuses_writes.clear()
    command.until(has_trained(run, "t0001", 1))
    command.interrupt()
    ended = command.wait(60)
    assert ended.code == 130, ended
    assert f"go on with: python -m raysearch.tune --resume {STORAGE}/one" in ended.out
    assert command.left_behind() == []
    assert not any(event["event"] in ("segment_lost", "failed") for event in events(run))
    assert not (run / "checkpoints" / "t0000").exists(), "workers write to the storage alone"
    there = in_storage(s3, "one")
    assert there["log.jsonl"] == (run / "log.jsonl").read_bytes()
    assert "checkpoints/t0001/last.pt" in there

    shutil.rmtree(desk.work / "results")
    resumed = desk.tune("--resume", f"{STORAGE}/one", "--concurrent", "1")
    assert resumed.code == 0, resumed
    assert_same(run, undisturbed.run)
    there = in_storage(s3, "one")
    here = contents(run)
    assert {name for name in here if not name.startswith("checkpoints/")} <= there.keys()
    assert all(there[name] == content for name, content in here.items() if not name.startswith("checkpoints/"))
    kept = contents(undisturbed.run / "checkpoints")
    assert {name for name in there if name.startswith("checkpoints/")} == {f"checkpoints/{name}" for name in kept}
    assert any(key.startswith("searches/.shared/pixels/") for key in s3.objects())

    shutil.rmtree(desk.work / "results")
    shown = desk.raysearch("show", f"{STORAGE}/one", "--csv")
    assert (shown.code, shown.err) == (0, "")
    assert "t0004" in shown.out
    reported = desk.raysearch("report", f"{STORAGE}/one")
    assert reported.code == 0, reported
    assert in_storage(s3, "one")["report.html"] == Path(reported.out.strip()).read_bytes()
    fetched = desk.raysearch("fetch", f"{STORAGE}/one")
    assert (fetched.code, fetched.out.strip()) == (0, "results/one"), fetched
    assert_same(run, undisturbed.run)
    assert contents(run).keys() >= {f"checkpoints/{name}" for name in kept}

    everything = {**contents(desk.folder), **s3.objects()}
    assert [name for name, content in everything.items() if SECRET.encode() in content] == []


def test_a_machine_lost_with_its_disk_costs_what_the_storage_did_not_have(
    desk: Desk, s3: S3, flags: list[str], undisturbed: Search
) -> None:
    """The log there is older than the checkpoints: epochs that it does not know of are told again, not trained."""
    command, run = desk.start("-m", "raysearch.tune", *named(flags, "two")), desk.work / "results" / "two"
    command.until(has_trained(run, "t0000", 7))
    os.kill(command.process.pid, signal.SIGKILL)
    assert command.wait(10).code == -signal.SIGKILL
    assert command.left_behind() == []
    assert len(in_storage(s3, "two").get("log.jsonl", b"")) < (run / "log.jsonl").stat().st_size
    assert "checkpoints/t0000/last.pt" in in_storage(s3, "two")
    shutil.rmtree(desk.work / "results")
    resumed = desk.tune("--resume", f"{STORAGE}/two", "--concurrent", "1")
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
    desk: Desk, flags: list[str], storage: str, says: str
) -> None:
    ended = desk.tune(*flags, "--storage", storage, "--trials", "0")
    assert ended.code == 2, ended
    assert says in ended.err
    assert "--trials 0: must be at least 1" in ended.err, "with all other problems"
    assert "hush" not in ended.err + ended.out
    assert not (desk.work / "results").exists()
