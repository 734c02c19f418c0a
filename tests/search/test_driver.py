"""The driver between controller and workers: what it logs, whom it lets go on, and which checkpoints it keeps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random
from types import SimpleNamespace

import pandas as pd
import pytest

from raysearch.errors import StorageError
from raysearch.record.sync import RunSync
from raysearch.run import Run
from raysearch.search import driver as driver_module
from raysearch.search.controller import Controller
from raysearch.search.driver import Driver
from raysearch.search.messages import Failed, Pack, RatesFound, RateTest, Refused, Trained, Unsaved
from raysearch.search.rules import Rules
from raysearch.storage.remote import Storage
from tests.search.simulated import HEAD_EPOCHS, Proposals

RULES = Rules(rungs=(2, 6), reduction=3)


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path / "run", {})


def driver_of(run, heads=0, trials=3, concurrency=3, watch=lambda event: None, sync=None) -> Driver:
    """As a search starts or goes on: the controller is replayed from the log."""
    controller = Controller(replace(RULES, levels=(int(heads > 0),)), Proposals(6, heads=heads > 0, depths=1))
    controller.replay(run.events())
    driver = Driver(run, controller, concurrency, watch, sync=sync)
    if controller.trials_wanted != trials:
        driver.log({"event": "budget", "heads": heads, "trials": trials, "max_epochs": 6})
    return driver


def row(epoch, accuracy):
    return {"epoch": epoch, "val_accuracy": accuracy, "val_loss": 1.0, "seconds": 1.0}


def train(driver, worker, segment, accuracies, finished=False) -> bool:
    """Report an epoch after the other, as an actor does, and leave checkpoints as it does; the last answer."""
    folder = driver.checkpoints / segment.trial
    folder.mkdir(parents=True, exist_ok=True)
    go_on = False
    for epoch, accuracy in enumerate(accuracies, start=segment.from_epoch + 1):
        for name in ("best.safetensors", "last.pt"):
            (folder / name).write_bytes(b"tensors")
        best = row(epoch, max(accuracies))
        over = finished and epoch == segment.from_epoch + len(accuracies)
        go_on = driver.results(worker, [Trained(segment.trial, row(epoch, accuracy), best, over)])
    return go_on


def start(driver, worker):
    """What it is given, or None; of a pack, the only head."""
    task = driver.start(worker)
    if not isinstance(task, Pack):
        return task
    (head,) = task.heads
    return SimpleNamespace(trial=head.trial, from_epoch=0)


def kinds(run, trial=None):
    return [event["event"] for event in run.events() if trial in (None, event.get("trial"))]


def files(driver):
    paths = driver.checkpoints.rglob("*.*")
    return sorted(str(path.relative_to(driver.checkpoints)) for path in paths if path.is_file())


def test_those_that_work_at_once_have_a_place_each_and_a_newcomer_takes_a_free_one(run):
    driver = driver_of(run, trials=6)
    segments = {worker: start(driver, worker) for worker in ("w0", "w1", "w2")}
    assert [driver.place(worker) for worker in segments] == [0, 1, 2]
    assert not train(driver, "w1", segments["w1"], [0.1, 0.1], finished=True)
    driver.lost("w0", "its worker died")
    assert start(driver, "w3")
    assert start(driver, "w4")
    assert [driver.place(worker) for worker in ("w2", "w3", "w4")] == [2, 0, 1]


def test_who_goes_on_with_another_segment_keeps_its_place(run):
    driver = driver_of(run, trials=4)
    segments = {worker: start(driver, worker) for worker in ("w0", "w1", "w2")}
    assert not train(driver, "w0", segments["w0"], [0.1, 0.1], finished=True)
    assert not train(driver, "w1", segments["w1"], [0.2, 0.2])
    assert train(driver, "w2", segments["w2"], [0.9, 0.9]), "it is promoted at once"
    assert start(driver, "w3")
    assert (driver.place("w2"), driver.place("w3")) == (2, 0)


def test_a_segment_from_start_to_end_in_the_log(run):
    seen = []
    driver = driver_of(run, watch=seen.append)
    segment = start(driver, "w0")
    assert segment.trial == "t0000"
    assert (segment.stage, segment.from_epoch, segment.to_epoch, segment.parent) == (0, 0, 2, None)
    assert segment.recipe == driver.controller.trials["t0000"].recipe
    best = row(1, 0.5)
    assert driver.results("w0", [Trained("t0000", row(1, 0.5), best, finished=False, handover_delta=1e-7)])
    driver.results("w0", [Trained("t0000", row(2, 0.4), best, finished=False)])
    expected = ["budget", "trial", "segment", "handover", "epoch", "epoch", "segment_end", "promoted", "segment"]
    assert kinds(run) == expected
    assert [event["event"] for event in seen] == expected, "who watches sees what is logged"
    events = {event["event"]: event for event in run.events()}
    assert events["handover"]["delta"] == 1e-7
    end = events["segment_end"]
    assert (end["epoch"], end["finished"], end["best"], end["segment"]) == (2, False, best, "t0000.1")
    assert end["seconds"] >= 0
    assert (events["segment"]["from_epoch"], events["segment"]["to_epoch"]) == (2, 6)


def test_who_may_be_promoted_goes_on_in_place_and_others_make_room(run):
    driver = driver_of(run)
    segments = [start(driver, f"w{i}") for i in range(3)]
    assert [segment.trial for segment in segments] == ["t0000", "t0001", "t0002"]
    assert not train(driver, "w1", segments[1], [0.1, 0.2])
    assert not train(driver, "w2", segments[2], [0.1, 0.1])
    assert train(driver, "w0", segments[0], [0.1, 0.3]), "the default always goes on"
    assert not driver.done
    assert not train(driver, "w0", replace(segments[0], from_epoch=2), [0.4, 0.5, 0.6, 0.7], finished=True)
    assert driver.done
    assert driver.controller.counts() == {"waiting": 0, "running": 0, "stopped": 2, "done": 1, "failed": 0}


def test_no_more_run_at_once_than_allowed(run):
    driver = driver_of(run, concurrency=2)
    assert start(driver, "w0")
    assert start(driver, "w1")
    assert start(driver, "w2") is None
    assert kinds(run).count("segment") == 2


def test_nothing_starts_once_it_is_stopping_and_what_runs_is_paused(run):
    driver = driver_of(run)
    first, second = start(driver, "w0"), start(driver, "w1")
    driver.stop("Ctrl-C")
    driver.stop("the time budget is used up")
    assert start(driver, "w2") is None
    assert not train(driver, "w0", first, [0.1, 0.9]), "not even who would be promoted"
    assert not driver.done
    driver.close()
    assert driver.done
    paused = [event for event in run.events() if event["event"] == "segment_paused"]
    assert [(event["trial"], event["segment"], event["reason"]) for event in paused] == [
        ("t0001", second.name, "Ctrl-C")
    ]
    again = driver_of(run)
    assert start(again, "w0").trial == "t0001", "what was paused comes first"
    assert kinds(run).count("trial") == 2


def test_a_killed_driver_goes_on_where_the_log_ends(run):
    dead = driver_of(run)
    segment = start(dead, "w0")
    train(dead, "w0", segment, [0.1])
    again = driver_of(run)
    assert kinds(run, "t0000")[-1] == "segment_paused"
    resumed = start(again, "w0")
    assert (resumed.trial, resumed.from_epoch, resumed.name) == ("t0000", 0, "t0000.2")
    assert resumed.recipe == segment.recipe


def test_a_lost_segment_runs_again_until_it_was_lost_too_often(run):
    driver = driver_of(run, trials=1)
    for lost in range(RULES.max_failures + 1):
        assert start(driver, "w0").name == f"t0000.{lost + 1}"
        driver.lost("w0", "its worker died")
    assert kinds(run, "t0000").count("segment_lost") == 4
    assert driver.controller.trials["t0000"].state == "failed"
    assert "lost 4 times, the last time: its worker died" in run.events()[-1]["error"]
    assert driver.done


def test_a_worker_that_dies_after_its_last_result_has_lost_nothing(run):
    driver = driver_of(run)
    segments = [start(driver, f"w{i}") for i in range(3)]
    train(driver, "w1", segments[1], [0.1, 0.2])
    before = kinds(run)
    driver.lost("w1", "its worker died")
    assert kinds(run) == before


def test_a_failure_is_a_state_not_a_score(run):
    driver = driver_of(run, trials=2)
    segment = start(driver, "w0")
    train(driver, "w0", segment, [0.9])
    assert not driver.results("w0", [Failed("t0000", "NonFiniteLossError: step 3")])
    assert driver.controller.trials["t0000"].state == "failed"
    assert driver.controller.leader is None
    assert files(driver) == ["t0000/best.safetensors", "t0000/last.pt"], "the default's tensors stay"
    assert start(driver, "w0").trial == "t0001"


def test_checkpoints_are_few(run):
    """Kept: the leader, the default, the best that is done, and whoever may still be promoted."""
    driver = driver_of(run, trials=12, concurrency=1)
    most = 0
    accuracy = iter([0.30, 0.31, 0.10, 0.20, 0.40, 0.05, 0.50, 0.15, 0.25, 0.35, 0.45, 0.12])
    while not driver.done:
        segment = start(driver, "w")
        value = (
            next(accuracy)
            if segment.from_epoch == 0
            else driver.controller.rungs.score(driver.controller.trials[segment.trial])
        )
        goes_on = train(driver, "w", segment, [value, value])
        if goes_on:
            assert train(driver, "w", replace(segment, from_epoch=2), [value] * 4, finished=True) is False
        most = max(most, len({path.split("/")[0] for path in files(driver)}))
    trials = driver.controller.trials
    done = [trial.name for trial in trials.values() if trial.state == "done"]
    assert len(done) > 3
    left = files(driver)
    assert driver.controller.leader.name == "t0006"
    # Of the stopped, none can be promoted any more.
    assert left == ["t0000/best.safetensors", "t0006/best.safetensors"]
    assert most < 10
    dropped = {event["trial"] for event in run.events() if event["event"] == "dropped"}
    assert dropped == {trial.name for trial in trials.values() if trial.state == "stopped"}
    assert all(trials[name].dropped for name in dropped)


@pytest.mark.parametrize("resumed", [False, True])
def test_of_many_trials_the_folders_are_those_of_use(run, resumed):
    """It looks only at trials to which something happened; it must find what a look at every folder would."""
    random = Random(f"{resumed}/4")
    driver = driver_of(run, heads=3, trials=40, concurrency=4)
    work: dict[str, list[SimpleNamespace]] = {}

    def check() -> None:
        controller, keep = driver.controller, driver.controller.keepers()
        for folder in driver.checkpoints.iterdir():
            trial = controller.trials[folder.name]
            training = {controller.trials[one.trial].pack for segments in work.values() for one in segments}
            over = trial.state in ("done", "failed") or trial.dropped
            if trial.is_head:
                over = trial.pack not in training
            assert trial.name in keep or not over, f"{trial.name} has no use"
            if not trial.is_head and trial.state in ("done", "stopped"):
                assert (folder / "last.pt").exists() == (trial.state == "stopped")

    for step in range(10_000):
        for worker in ("a", "b", "c", "d"):
            if worker not in work and (task := driver.start(worker)) is not None:
                work[worker] = under_way(task)
        if not work:
            break
        worker = random.choice(sorted(work))
        fate = random.random()
        if fate < 0.05:
            del work[worker]
            driver.lost(worker, "its worker died")
        else:
            go_on = driver.results(worker, [step_of(driver, one, random, fate < 0.08) for one in work[worker]])
            if not go_on:
                del work[worker]
        check()
        if resumed and step % 20 == 19:
            work.clear()
            driver = driver_of(run, heads=3, trials=40, concurrency=4)
    assert driver.done


def under_way(task):
    """The segments of a task: where each is, where it ends, and whether it is a head's."""
    if isinstance(task, Pack):
        heads = [head for head in task.heads if not head.ended]
        return [SimpleNamespace(trial=head.trial, at=0, end=HEAD_EPOCHS, is_head=True) for head in heads]
    end = task.recipe.schedule[task.stage].epochs
    return [SimpleNamespace(trial=task.trial, at=task.from_epoch, end=end, is_head=False)]


def step_of(driver, segment, random, fails):
    """An epoch of a trial, or a whole head, that leaves its files; or it fails."""
    folder = driver.checkpoints / segment.trial
    folder.mkdir(parents=True, exist_ok=True)
    segment.at = segment.end if segment.is_head else segment.at + 1
    for name in ("best.safetensors", *(() if segment.is_head else ("last.pt",))):
        (folder / name).write_bytes(b"tensors")
    if fails:
        return Failed(segment.trial, "loss is nan")
    figures = row(segment.at, random.random())
    return Trained(segment.trial, figures, figures, finished=segment.at == segment.end)


@pytest.mark.parametrize(("pauses", "written"), [(0.0, 4), (1e9, 1)])
def test_tables_are_not_written_so_often_that_it_takes_the_time(run, monkeypatch, pauses, written):
    monkeypatch.setattr(driver_module, "_DERIVE_SECONDS", 0.0)
    monkeypatch.setattr(driver_module, "_DERIVE_PAUSES", pauses)
    driver, files = driver_of(run, trials=4, concurrency=1), [None]
    for _ in range(4):
        trial = start(driver, "w").trial
        driver.results("w", [Failed(trial, "loss is nan")])
        files.append((run.folder / "trials.csv").stat().st_ino)
    assert sum(before != after for before, after in pairwise(files)) == written


def test_checkpoints_in_a_storage_are_as_few(run, tmp_path):
    run.storage = Storage((tmp_path / "there").as_uri()) / "run"
    sync = RunSync(run, pytest.fail)
    driver = driver_of(run, trials=6, concurrency=1, sync=sync)
    for accuracy in (0.3, 0.31, 0.1, 0.2, 0.4, 0.05):
        segment = start(driver, "w")
        for name in ("best.safetensors", "last.pt"):
            (run.storage / "checkpoints" / segment.trial).put(tmp_path / "run" / "run.json", name)
        train(driver, "w", segment, [accuracy] * 2, finished=True)
        sync.copy()
        assert sorted(run.storage.files("checkpoints")) == [f"checkpoints/{name}" for name in files(driver)]
    assert files(driver) == ["t0000/best.safetensors", "t0004/best.safetensors"]


def test_a_head_of_a_pack_that_is_trained_again_is_not_deleted_for_what_it_was_before(run, tmp_path):
    run.storage = Storage((tmp_path / "there").as_uri()) / "run"
    sync = RunSync(run, pytest.fail)
    driver = driver_of(run, heads=3, trials=1, sync=sync)
    driver.results("w0", pack_results(driver.start("w0").heads, 2, [0.1, 0.2, 0.3], stopped=["h0000"]))
    driver.lost("w0", "its worker died")
    driver.start("w1")
    run.storage.put(run.folder / "run.json", "checkpoints/h0000/best.safetensors")
    sync.copy()
    assert run.storage.exists("checkpoints/h0000/best.safetensors")


def test_that_a_storage_refused_is_in_the_log_before_the_epoch(run):
    driver = driver_of(run)
    segment = start(driver, "w0")
    trained = Trained("t0000", row(1, 0.5), row(1, 0.5), finished=False)
    driver.results("w0", [Refused("t0000", 63.21, "Slow down"), trained])
    assert segment.trial == "t0000"
    assert kinds(run, "t0000")[-2:] == ["storage_refused", "epoch"]
    (told,) = [event for event in run.events() if event["event"] == "storage_refused"]
    assert (told["seconds"], told["error"]) == (63.2, "Slow down")


def pack_results(heads, epoch, accuracies, stopped=()):
    """What the worker of a pack tells of one epoch."""
    return [
        Trained(
            head.trial,
            row(epoch, accuracy),
            row(epoch, accuracy),
            finished=epoch == HEAD_EPOCHS,
            stopped=head.trial in stopped,
        )
        for head, accuracy in zip(heads, accuracies, strict=True)
    ]


def test_a_pack_is_one_workers_and_each_of_its_heads_has_an_end_of_its_own(run):
    driver = driver_of(run, heads=3, trials=1, concurrency=1)
    heads = driver.start("w0").heads
    assert [(head.trial, head.ended) for head in heads] == [("h0000", False), ("h0001", False), ("h0002", False)]
    assert {driver.controller.trials[head.trial].pack for head in heads} == {0}
    assert driver.start("w1") is None, "a pack counts as one that runs"
    assert driver.results("w0", pack_results(heads, 1, [0.1, 0.2, 0.3], stopped=["h0000"]))
    assert driver.results("w0", [Failed("h0001", "loss is nan"), *pack_results(heads[2:], 2, [0.4])])
    for epoch in (3, 4):
        assert driver.results("w0", pack_results(heads[2:], epoch, [0.4]))
    assert not driver.results("w0", pack_results(heads[2:], 5, [0.5]))
    states = {name: trial.state for name, trial in driver.controller.trials.items()}
    assert states == {"h0000": "stopped", "h0001": "failed", "h0002": "done"}
    assert start(driver, "w0").parent == "h0002"


def test_a_pack_that_was_broken_off_runs_again(run):
    driver = driver_of(run, heads=3, trials=1)
    heads = driver.start("w0").heads
    driver.results("w0", pack_results(heads, 1, [0.1, 0.2, 0.3]))
    driver.results("w0", pack_results(heads, 2, [0.1, 0.2, 0.3], stopped=["h0000"]))
    driver.lost("w0", "its worker died")
    assert kinds(run).count("segment_lost") == 2
    again = driver.start("w1")
    assert [(head.trial, head.ended) for head in again.heads] == [
        ("h0000", True),
        ("h0001", False),
        ("h0002", False),
    ], "the pack is trained whole, but what had ended is not told again"
    assert again.trials == ["h0001", "h0002"]
    begun = [event for event in run.events() if event["event"] == "segment"][-2:]
    assert [(event["segment"], event["from_epoch"]) for event in begun] == [("h0001.2", 0), ("h0002.2", 0)]
    assert driver.controller.best_head() is None, "of a pack that is not complete nothing may be wanted"
    resumed = driver_of(run, heads=3, trials=1)
    assert [head.ended for head in resumed.start("w0").heads] == [True, False, False]
    assert [event["segment"] for event in run.events()[-2:]] == ["h0001.3", "h0002.3"]


def test_heads_that_nothing_starts_from_any_more_are_deleted_and_parents_stay(run):
    driver = driver_of(run, heads=6, trials=2, concurrency=2)
    for accuracies in ([0.5, 0.7, 0.6], [0.6, 0.4, 0.3]):  # of two shapes
        heads = driver.start("w").heads
        for head in heads:
            folder = driver.checkpoints / head.trial
            folder.mkdir(parents=True)
            (folder / "best.safetensors").write_bytes(b"tensors")
        for epoch in range(1, 6):
            driver.results("w", pack_results(heads, epoch, accuracies))
    assert files(driver) == ["h0001/best.safetensors", "h0003/best.safetensors"]
    assert start(driver, "w0").parent in ("h0001", "h0003")


def test_folders_that_are_not_a_trials_are_left_alone(run):
    driver = driver_of(run)
    mine = driver.checkpoints / "t0-my-own"
    mine.mkdir(parents=True)
    driver_segment = start(driver, "w0")
    driver.results("w0", [Failed("t0000", "x")])
    assert driver_segment.trial == "t0000"
    assert mine.is_dir()


def test_the_tables_are_derived(run):
    driver = driver_of(run, heads=1, trials=1, concurrency=1)
    train(driver, "w", start(driver, "w"), [0.4] * 5, finished=True)
    assert len(pd.read_csv(run.folder / "heads.csv")) == 1, "while it runs"
    train(driver, "w", start(driver, "w"), [0.6])
    driver.close()
    trials = pd.read_csv(run.folder / "trials.csv")
    assert trials["trial"].tolist() == ["t0000"]
    assert trials["parent"].tolist() == ["h0000"]
    assert len(pd.read_csv(run.folder / "history.csv")) == 6


# ---- machines that come and go, storage that refuses ---------------------------------------------------------------


def test_a_machine_that_is_lost_is_no_failure_of_the_trial(run):
    driver = driver_of(run, trials=1)
    for _ in range(2 * RULES.max_failures):
        start(driver, "w0")
        driver.lost("w0", "its machine was lost", "machine")
    trial = driver.controller.trials["t0000"]
    assert (trial.state, trial.lost) == ("waiting", 0)
    for _ in range(RULES.max_failures + 1):
        start(driver, "w0")
        driver.lost("w0", "its process died")
    assert trial.state == "failed"


def test_workers_beyond_the_room_there_is_wait_and_say_for_what(run):
    driver = driver_of(run)
    for worker in ("w0", "w1", "w2"):
        start(driver, worker)
    driver.placed("w0")
    driver.waits(2, "1 GPU")
    driver.waits(2, "1 GPU")
    waiting = [event for event in run.events() if event["event"] == "waiting"]
    assert [(event["trial"], event["needs"]) for event in waiting] == [("t0002", "1 GPU")], "said once"
    states = [trial.state for trial in driver.controller.trials.values()]
    assert states == ["running", "running", "waiting"]
    assert list(run.trials["state"]) == states
    driver.placed("w2")
    assert kinds(run)[-1] == "placed"
    assert driver.controller.trials["t0002"].state == "running"
    assert list(run.trials["state"]) == ["running"] * 3


def test_crews_begin_when_there_is_room_for_them(run):
    driver = driver_of(run)
    for worker in ("w0", "w1"):
        start(driver, worker)
    driver.waits(0, "2 GPUs", crews=True)
    states = [trial.state for trial in driver.controller.trials.values()]
    assert states == ["waiting", "waiting"]
    driver.waits(1, "2 GPUs", crews=True)
    states = [trial.state for trial in driver.controller.trials.values()]
    assert states == ["running", "waiting"]
    driver.waits(1, "2 GPUs", crews=True)
    assert kinds(run)[-3:] == ["waiting", "waiting", "placed"], "said once"


def test_a_worker_that_does_not_start_waits_whatever_room_there_seems_to_be(run, monkeypatch):
    driver = driver_of(run)
    start(driver, "w0")
    driver.waits(3, "1 CPU")
    assert "waiting" not in kinds(run)
    monkeypatch.setattr(driver_module, "_START_SECONDS", 0.0)
    driver.waits(3, "1 CPU")
    assert kinds(run)[-1] == "waiting"


def test_the_seconds_of_a_segment_do_not_count_the_waiting_for_its_machine(run, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(driver_module.time, "monotonic", lambda: now[0])
    driver = driver_of(run)
    segment = start(driver, "w0")
    now[0] = 100.0
    driver.placed("w0")
    now[0] = 103.0
    train(driver, "w0", segment, [0.1, 0.2])
    (end,) = (event for event in run.events() if event["event"] == "segment_end")
    assert end["seconds"] == 3.0


def test_more_run_when_there_is_more_room(run):
    driver = driver_of(run, concurrency=1)
    assert start(driver, "w0")
    assert start(driver, "w1") is None
    driver.concurrency = 2
    assert start(driver, "w1")


def test_storage_that_refuses_is_logged_once_and_given_up_when_it_lasts(run, monkeypatch):
    driver = driver_of(run)
    segment = start(driver, "w0")
    refused = [Unsaved("t0000", "No space left on device")]
    assert driver.results("w0", refused)
    assert driver.results("w0", refused)
    assert (kinds(run).count("storage_refuses"), kinds(run).count("storage_refused")) == (1, 0)
    train(driver, "w0", segment, [0.1])
    over = next(event for event in run.events() if event["event"] == "storage_refused")
    assert (over["trial"], over["error"]) == ("t0000", "No space left on device")
    assert over["seconds"] >= 0
    assert driver.results("w0", refused)
    assert kinds(run).count("storage_refuses") == 2, "another time"
    monkeypatch.setattr(driver_module, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(StorageError, match="refuses to be written to: No space left on device"):
        driver.results("w0", refused)
    driver.close()
    assert kinds(run)[-1] == "segment_paused", "it can be resumed"


def range_tested(run) -> Driver:
    """A driver whose level begins with a range test."""
    rules = replace(RULES, levels=(1,), lr_find=True)
    controller = Controller(rules, Proposals(6, heads=True, depths=1))
    driver = Driver(run, controller, 3, range_test=lambda level, start: {"1": start.recipe})
    driver.log({"event": "budget", "heads": 1, "trials": 2, "max_epochs": 6})
    train(driver, "w0", start(driver, "w0"), [0.4] * 5, finished=True)
    return driver


def test_a_range_test_is_work_that_nothing_of_its_level_precedes(run):
    driver = range_tested(run)
    recipe = driver.controller.trials["h0000"].recipe
    assert start(driver, "w0") == RateTest("h0000", stage=1, recipes={"1": recipe})
    assert start(driver, "w1") is None
    assert not driver.done
    found = {"1": {"low": 1e-4, "high": 1e-2}}
    assert not driver.results("w0", [RatesFound("h0000", found)])
    event = next(event for event in run.events() if event["event"] == "lr_find")
    assert (event["level"], event["start"], event["depths"]) == (1, "h0000", found)
    assert start(driver, "w1").trial == "t0000"


def test_a_range_test_that_is_lost_is_made_again_and_one_that_fails_bounds_nothing(run):
    driver = range_tested(run)
    for _ in range(RULES.max_failures + 1):
        assert isinstance(start(driver, "w0"), RateTest)
        assert "lr_find" not in kinds(run)
        driver.lost("w0", "its process died")
    event = run.events()[-1]
    assert (event["event"], event["depths"], event["error"]) == ("lr_find", {}, "its process died")
    assert start(driver, "w1").trial == "t0000"
