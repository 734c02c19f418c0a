"""The run folder: a log that survives being killed, tables derived from it, errors that say what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.errors import InputError
from raysearch.record.folder import locate
from raysearch.run import Run
from tests.full_disk import full_disk
from tests.reporting.events import LOG


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "results" / "one", {"space": "fine_tune", "results": tmp_path})


def test_a_new_run_says_what_it_was_made_with(run, tmp_path):
    info = json.loads((run.folder / "run.json").read_text())
    assert info["settings"] == {"space": "fine_tune", "results": str(tmp_path)}
    assert info["versions"]["torch"] != "not installed"
    assert info["command"]
    run.update_info(skipped=[{"path": "a.jpg", "reason": "truncated"}])
    assert Run.open(run.folder).info == {**info, "skipped": [{"path": "a.jpg", "reason": "truncated"}]}


def test_an_existing_folder_is_refused_and_left_alone(run):
    run.append({"event": "budget"})
    with pytest.raises(InputError, match="--resume"):
        Run.create(run.folder, {})
    assert len(run.events()) == 1


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        Run.create(tmp_path / "file" / "run", {})


def test_a_run_is_found_by_path_and_by_name(run, tmp_path, monkeypatch):
    assert Run.open(run.folder).folder == run.folder
    assert Run.open("one", results=tmp_path / "results").folder == run.folder
    monkeypatch.chdir(tmp_path)
    assert Run.open("one").name == "one"
    monkeypatch.chdir(run.folder)
    assert Run.open(".").name == "one"


@pytest.mark.parametrize(("name", "says"), [("onne", "did you mean 'one'"), ("", "neither a folder"), ("zzz", "one")])
def test_an_unknown_run_is_refused_with_the_nearest_name(run, tmp_path, name, says):
    with pytest.raises(InputError, match=says):
        locate(name, tmp_path / "results")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no run\.json"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        Run.open(tmp_path)


def test_events_come_back_in_order_with_a_time(run):
    for event in LOG:
        run.append(event)
    again = [{k: v for k, v in event.items() if k != "time"} for event in Run.open(run.folder).events()]
    assert again == LOG
    times = [event["time"] for event in run.events()]
    assert times == sorted(times)


def test_another_process_sees_what_was_appended_since(run):
    reader = Run.open(run.folder)
    assert reader.events() == []
    for i in range(3):
        run.append({"event": "x", "i": i})
        assert [event["i"] for event in reader.events()] == list(range(i + 1))


@given(st.floats(0, 1))
def test_a_log_torn_at_any_byte_loses_at_most_the_torn_event_and_goes_on_on_a_new_line(tmp_path_factory, share):
    run = Run.create(tmp_path_factory.mktemp("torn") / "run", {})
    for i in range(3):
        run.append({"event": "x", "i": i, "text": "größer\n"})
    log = run.folder / "log.jsonl"
    whole = log.read_bytes()
    cut = round(share * len(whole))
    log.write_bytes(whole[:cut])
    # An event is there as soon as its closing brace is, whether its line end was written or not.
    ends = [i for i in range(len(whole)) if whole[i : i + 2] == b"}\n"]
    survivors = sum(end < cut for end in ends)

    resumed = Run.open(run.folder)
    assert [event["i"] for event in resumed.events()] == list(range(survivors))
    resumed.append({"event": "x", "i": 99})
    resumed.append({"event": "x", "i": 100})
    expected = [*range(survivors), 99, 100]
    assert [event["i"] for event in resumed.events()] == expected  # the one that had read the torn line
    assert [event["i"] for event in Run.open(run.folder).events()] == expected  # and one that had not


def test_a_killed_writer_loses_nothing_that_it_had_appended(run):
    code = (
        "import os, sys; from raysearch.run import Run; run = Run.open(sys.argv[1])\n"
        "for i in range(50): run.append({'event': 'x', 'i': i})\n"
        "os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).resolve().parents[1]
    killed = subprocess.run([sys.executable, "-c", code, str(run.folder)], cwd=root, check=False, timeout=60)
    assert killed.returncode == -9
    assert [event["i"] for event in run.events()] == list(range(50))


def test_nan_reaches_the_log_as_null(run):
    run.append({"event": "epoch", "val_auroc": float("nan")})
    assert b"NaN" not in (run.folder / "log.jsonl").read_bytes()
    assert run.events()[0]["val_auroc"] is None


def test_the_tables_are_written_for_others_to_read(run):
    for event in LOG:
        run.append(event)
    run.derive()
    trials = pd.read_csv(run.folder / "trials.csv")
    assert trials["trial"].tolist() == run.trials["trial"].tolist()
    assert trials["state"].tolist() == run.trials["state"].tolist()
    assert len(pd.read_csv(run.folder / "heads.csv")) == 1
    assert len(pd.read_csv(run.folder / "history.csv")) == len(run.history)
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "heads.csv",
        "history.csv",
        "log.jsonl",
        "run.json",
        "trials.csv",
    ]


def test_a_run_without_an_end_has_no_evaluation_and_no_best(run):
    assert run.evaluation is None
    with pytest.raises(InputError, match=r"model\.safetensors"):
        _ = run.best
    run.write_json("evaluation.json", {"test": {}})
    assert run.evaluation == {"test": {}}


def test_start_refuses_a_flag_that_the_command_does_not_have():
    with pytest.raises(InputError, match="trails"):
        Run.start(space="fine_tune", trails=3)


def test_a_full_disk_takes_an_event_wholly_or_not_at_all(run):
    """A write that is cut short raises nothing: it must not pass for one that was done."""
    run.append({"event": "epoch", "trial": "t0000", "epoch": 1})
    before = (run.folder / "log.jsonl").read_bytes()
    with full_disk(len(before) + 20), pytest.raises(OSError, match="No space left|too large"):
        run.append({"event": "epoch", "trial": "t0000", "epoch": 2}, {"event": "epoch", "trial": "t0000", "epoch": 3})
    assert (run.folder / "log.jsonl").read_bytes() == before
    run.append({"event": "epoch", "trial": "t0000", "epoch": 2})
    assert [event["epoch"] for event in run.events()] == [1, 2]
