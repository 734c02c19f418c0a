"""A search that was broken off goes on as if nothing had been; a finished one only grows."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.e2e.commands import DeskHere, assert_same, contents, events, has_trained, table
from tests.e2e.conftest import Search

pytestmark = pytest.mark.slow


def test_ctrl_c_stops_cleanly_and_resume_gives_the_same_search(
    here: DeskHere, flags: list[str], undisturbed: Search
) -> None:
    command, run = here.start("-m", "raysearch.tune", *flags), here.work / "results" / "tiny"
    command.until(has_trained(run, "t0001", 1))  # in a first segment: the default is done
    command.interrupt()
    ended = command.wait(30)
    assert ended.code == 130, ended
    assert "go on with: python -m raysearch.tune --resume results/tiny" in ended.out
    assert ended.err == ""
    assert command.left_behind() == []
    log = events(run)
    assert log[-1]["event"] == "interrupted"
    assert not any(event["event"] == "finished" for event in log), "too late to be an interruption"
    trials = table(run, "trials")
    assert list(trials["trial"]) == ["t0000", "t0001"], "the tables are up to date"
    assert list(trials["state"]) == ["done", "waiting"]
    assert (run / "study.db").exists()
    assert not (run / "evaluation.json").exists(), "the test images are not read before the end"

    resumed = here.tune("--resume", "tiny", "--concurrent", "1")
    assert (resumed.code, resumed.err) == (0, "")
    assert_same(run, undisturbed.run)


def test_a_finished_run_says_so_and_stays_as_it_is(undisturbed: Search) -> None:
    before = contents(undisturbed.run)
    ended = undisturbed.desk.tune("--resume", "tiny")
    assert (ended.code, ended.err) == (0, "")
    assert "is finished" in ended.out
    assert contents(undisturbed.run) == before


def test_more_trials_are_added_to_a_finished_run(undisturbed: Search, here: DeskHere) -> None:
    run = here.work / "results" / "tiny"
    shutil.copytree(undisturbed.run, run)
    ended = here.tune("--resume", "tiny", "--trials", "7", "--concurrent", "1")
    assert (ended.code, ended.err) == (0, "")
    before, after = table(undisturbed.run, "trials"), table(run, "trials")
    assert list(after["trial"]) == [f"t{number:04d}" for number in range(7)]
    assert len(table(run, "heads")) == 3
    old = after.iloc[:5]
    assert (old["epochs"] >= before["epochs"]).all(), "what was done stays, though a trial may be promoted now"
    assert old["schedule.1.learning_rate"].equals(before["schedule.1.learning_rate"])
    assert json.loads((run / "evaluation.json").read_text())["test_reads"] == 2
    assert json.loads((run / "run.json").read_text())["settings"]["trials"] == 7
