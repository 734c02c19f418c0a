"""The search as a state machine: whatever happens to segments, it stays consistent, keeps its budget, and ends."""

from __future__ import annotations

import copy
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from raysearch.errors import InputError
from raysearch.record.tables import heads_table, history_table, trials_table
from raysearch.search.asha import rungs_for
from raysearch.search.controller import Controller
from raysearch.search.rules import Rules
from tests.search.simulated import HEAD_EPOCHS, Play, Proposals, World, recipe


def search(max_epochs=12, reduction=3, heads=2, metric="val_accuracy", seed=0) -> Controller:
    rules = Rules(rungs_for(max_epochs, reduction), reduction, metric, metric != "val_loss", levels=(int(heads > 0),))
    return Controller(rules, Proposals(max_epochs, seed, heads=heads > 0))


@st.composite
def searches(draw, troubles=True):
    """A search, a world, and how they are played."""
    share = st.sampled_from([0.0, 0.05, 0.3]) if troubles else st.just(0.0)
    seed, heads = draw(st.integers(0, 10**6)), draw(st.integers(0, 3))
    metric = draw(st.sampled_from(["val_accuracy", "val_loss"]))
    shape = {"max_epochs": draw(st.integers(1, 30)), "reduction": draw(st.integers(2, 4)), "heads": heads}
    early = draw(st.sampled_from([0.0, 0.1]))
    world = World(seed, metric, early=early, fails=draw(share), lost=draw(share), crashes=draw(share))
    how = {"heads": heads, "trials": draw(st.integers(1, 25)), "concurrent": draw(st.integers(1, 5)), "seed": seed}
    return shape | {"metric": metric, "seed": seed}, world, how


def check_log(log, rules, heads, trials) -> None:
    """The invariants, from the log alone, with no help from the controller."""
    running, epochs, closed, segments = {}, Counter(), set(), set()
    rows, best, made = {}, {}, Counter()
    arrived: dict[tuple[int, int], dict[str, float]] = {}
    depth, reached, finished = {}, Counter(), set()
    out: set[str] = set()
    for event in log:
        name = event.get("trial")
        match event["event"]:
            case "trial":
                assert name not in depth, "a recipe is started once"
                made[name[0]] += 1
                depth[name], rows[name] = event["depth"], []
                if event["parent"]:
                    assert event["parent"] in finished, "a parent is trained to its end before its children start"
            case "promoted":
                assert name not in closed | running.keys()
                assert 0 < epochs[name] < rules.rungs[-1]
                rung = arrived[depth[name], reached[name]]
                place = sorted(rung, key=lambda one: (-rung[one], one)).index(name)
                in_top = place < len(rung) // rules.reduction
                winner = not running and best[name] == max(
                    best[one] for one in best if one[0] == "t" and one not in out
                )
                assert in_top or name == "t0000" or winner
            case "segment":
                assert name not in closed, "what is done, failed or dropped does not run"
                assert name not in running, "a trial runs once at a time"
                assert event["segment"] not in segments
                assert event["from_epoch"] == epochs[name] < event["to_epoch"], "goes on where it was"
                wanted = {HEAD_EPOCHS} if name[0] == "h" else set(rules.rungs)
                assert event["to_epoch"] in wanted
                if name[0] == "t" and epochs[name]:
                    assert event["to_epoch"] == rules.rungs[reached[name]], "from rung to rung"
                segments.add(event["segment"])
                running[name] = event["segment"]
            case "epoch":
                rows[name].append(rules.score(event))
            case "segment_end":
                assert running.pop(name) == event["segment"]
                assert event["epoch"] > epochs[name]
                epochs[name], best[name] = event["epoch"], rules.score(event["best"])
                reached[name] += 1
                if event["finished"]:
                    finished.add(name)
                    closed.add(name)
                last = len(rules.rungs) if event["finished"] else reached[name]
                for rung in range(reached[name], last + 1):
                    arrived.setdefault((depth[name], rung), {})[name] = max(rows[name])
            case "segment_lost" | "segment_paused":
                assert running.pop(name) == event["segment"]
            case "failed":
                running.pop(name, None)
                closed.add(name)
                out.add(name)
            case "dropped":
                assert name not in running.keys() | closed
                closed.add(name)
                out.add(name)
    assert not running
    assert made["h"] == heads
    no_head = heads and not any(name[0] == "h" for name in finished)
    assert made["t"] == (0 if no_head else trials)


def check_end(controller, log) -> None:
    """What a person may rely on when a search has ended."""
    assert controller.finished
    assert controller.decide() == []
    trials = [trial for trial in controller.trials.values() if not trial.is_head]
    assert {trial.state for trial in trials} <= {"done", "stopped", "failed"}
    first = controller.trials.get("t0000")
    assert first is None or first.state in ("done", "failed"), "the default is trained to the end"
    leader = controller.leader
    scored = [trial for trial in trials if trial.state == "done"]
    assert (leader is None) == (not scored)
    if leader is not None:
        assert leader.state == "done", "the winner is trained to the end"
        score = controller.rules.score
        assert score(leader.best) == max(score(trial.best) for trial in scored)
        assert {leader.name, "t0000"} <= controller.keepers()
    assert sum(controller.counts().values()) == max(len(trials), controller.trials_wanted)


@given(searches())
@settings(max_examples=150, deadline=None)
def test_whatever_happens_it_keeps_its_budget_runs_nothing_twice_and_ends(case):
    shape, world, how = case
    controller = search(**shape)
    play = Play(controller, world).to_the_end(**how)
    check_log(play.log, controller.rules, how["heads"], how["trials"])
    check_end(controller, play.log)


@given(searches(), st.data())
@settings(max_examples=60, deadline=None)
def test_any_prefix_of_the_log_gives_the_same_state_and_the_same_next_decision(case, data):
    shape, world, how = case
    log = Play(search(**shape), world).to_the_end(**how).log
    cuts = set(data.draw(st.lists(st.integers(0, len(log)), max_size=6)))
    live = search(**shape)
    for k in range(len(log) + 1):
        if k in cuts:
            before, replayed = copy.deepcopy(live), search(**shape)
            replayed.replay(log[:k])
            assert replayed == live
            assert replayed.decide() == live.decide()
            assert (replayed.counts(), replayed.keepers()) == (live.counts(), live.keepers())
            assert live == before, "to decide changes nothing"
        if k < len(log):
            live.apply(log[k])


@given(searches(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_search_killed_anywhere_goes_on_to_a_proper_end(case, data):
    shape, world, how = case
    log = Play(search(**shape), world).to_the_end(**how).log
    controller = search(**shape)
    resumed = Play(controller, world, log=log[: data.draw(st.integers(0, len(log)))])
    resumed.to_the_end(**how | {"seed": how["seed"] + 1})
    check_log(resumed.log, controller.rules, how["heads"], how["trials"])
    check_end(controller, resumed.log)


@given(searches(troubles=False), st.data())
@settings(max_examples=60, deadline=None)
def test_killed_after_any_write_one_at_a_time_the_tables_end_as_if_nothing_had_been(case, data):
    shape, world, how = case
    how |= {"concurrent": 1}
    whole = Play(search(**shape), world).to_the_end(**how)
    cut = data.draw(st.sampled_from([0, *whole.writes]))
    resumed = Play(search(**shape), world, log=whole.log[:cut]).to_the_end(**how)
    made, expected = ([event for event in log if event["event"] == "trial"] for log in (resumed.log, whole.log))
    assert made == expected, "the same recipes are asked for"
    for table in (trials_table, heads_table, history_table):
        assert_frame_equal(table(resumed.log), table(whole.log), obj=table.__name__)


@given(searches(troubles=False))
@settings(max_examples=60, deadline=None)
def test_what_is_dropped_would_never_have_been_needed(case):
    shape, world, how = case
    log = Play(search(**shape), world).to_the_end(**how).log
    kept = Play(search(**shape), world, drops=False).to_the_end(**how).log
    assert [event for event in log if event["event"] != "dropped"] == kept


@given(searches(), st.integers(1, 15))
@settings(max_examples=60, deadline=None)
def test_a_finished_search_goes_on_with_more_trials(case, more):
    shape, world, how = case
    controller = search(**shape)
    play = Play(controller, world).to_the_end(**how)
    how["trials"] += more
    play.to_the_end(**how)
    check_log(play.log, controller.rules, how["heads"], how["trials"])
    check_end(controller, play.log)


def test_ten_thousand_trials():
    controller = search(max_epochs=27, heads=4)
    play = Play(controller, World(early=0.02, fails=0.01, lost=0.01)).to_the_end(4, 10_000, concurrent=16)
    check_end(controller, play.log)
    trained = Counter(trial.rung for trial in controller.trials.values() if not trial.is_head)
    assert sum(trained.values()) == 10_000
    assert 0.28 < sum(count for rung, count in trained.items() if rung > 1) / 10_000 < 0.5


def test_trials_wait_for_all_heads():
    controller = search(heads=2)
    play = Play(controller, World()).to_the_end(2, 5, concurrent=4, steps=1)
    assert list(controller.trials) == ["h0000", "h0001"]
    assert len(play.running) == 1
    assert controller.decide() == []
    assert not controller.finished


def test_without_any_head_that_trains_nothing_starts_from_nothing():
    controller = search(heads=2)
    Play(controller, World(fails=1.0)).to_the_end(2, 5)
    assert [trial.state for trial in controller.trials.values()] == ["failed", "failed"]
    assert controller.finished
    assert controller.leader is None


def started(heads=0, **shape):
    """A search of three running trials of one depth."""
    controller = search(heads=heads, **shape)
    controller.proposer = Proposals(12, heads=False, depths=1)
    play = Play(controller, World())
    play.to_the_end(0, 3, concurrent=3, steps=0)
    for _ in range(3):
        play.start()
    return controller, play


def end(play, name, accuracy, own=None, epoch=4, finished=False):
    segment = play.controller.trials[name].running
    row = {"trial": name, "epoch": epoch, "val_accuracy": accuracy if own is None else own}
    play.emit({"event": "epoch", **row})
    best = {"epoch": epoch if own is None else 0, "val_accuracy": accuracy, "val_loss": 1.0}
    play.emit(
        {
            "event": "segment_end",
            "trial": name,
            "segment": segment,
            "epoch": epoch,
            "finished": finished,
            "seconds": 1.0,
            "best": best,
        }
    )


def test_a_winner_that_fails_hands_over_to_the_next_best():
    controller, play = started()
    end(play, "t0000", 0.5)
    end(play, "t0001", 0.9)
    end(play, "t0002", 0.7, finished=True)
    assert controller.leader.name == "t0001"
    assert {"t0001", "t0002"} <= controller.keepers(), "the best that is done leads if the leader fails"
    play.start(prefer="t0001")
    play.emit({"event": "failed", "trial": "t0001", "error": "loss is nan"})
    assert controller.leader.name == "t0002"
    assert "t0001" not in controller.keepers()


def test_a_leader_low_in_its_rung_is_trained_to_the_end_all_the_same():
    controller, play = started()
    end(play, "t0000", 0.5)
    end(play, "t0001", 0.9, own=0.1)  # leads by what it was handed; has only spoilt it since
    end(play, "t0002", 0.7)
    assert controller.leader.name == "t0001"
    assert "t0001" not in controller.droppable()
    gone_on = []
    while name := play.start():
        gone_on.append(name)
        end(play, name, controller.trials[name].best["val_accuracy"], own=0.0, epoch=12, finished=True)
    assert gone_on == ["t0000", "t0002", "t0001"]


def test_rungs_compare_what_a_trial_trained_itself():
    controller, play = started()
    end(play, "t0001", 0.9, own=0.1)
    end(play, "t0002", 0.7)
    end(play, "t0000", 0.5)
    assert controller.may_go_on("t0002")
    assert not controller.may_go_on("t0001")


def test_the_default_goes_on_wherever_it_stands():
    controller, play = started()
    end(play, "t0001", 0.9)
    end(play, "t0002", 0.7)
    end(play, "t0000", 0.1)
    assert controller.may_go_on("t0000")
    assert "t0000" not in controller.droppable()


def test_a_result_for_a_segment_that_does_not_run_is_refused():
    _, play = started()
    with pytest.raises(ValueError, match=r"t0001\.9"):
        play.emit({"event": "segment_end", "trial": "t0001", "segment": "t0001.9", "epoch": 4})


def test_a_log_that_two_drivers_wrote_is_refused_by_its_name():
    _, play = started()
    end(play, "t0001", 0.9)
    with pytest.raises(InputError, match=rf"it/log\.jsonl contradicts itself at its event {len(play.log) + 1} "):
        search(heads=0).replay([*play.log, play.log[-1]], "it/log.jsonl")


def test_what_was_running_when_the_driver_stopped_runs_again_said_to_be_paused_or_not():
    """A driver that is killed while it stops may say so before it says what it broke off, which the next one does."""
    controller, play = started()
    play.emit({"event": "interrupted", "reason": "Ctrl-C"})
    assert {trial.state for trial in controller.trials.values()} == {"waiting"}
    play.emit({"event": "segment_paused", "trial": "t0001", "segment": "t0001.1", "reason": "the driver ended"})
    (again,) = controller.decide()
    assert (again["trial"], again["segment"]) == ("t0000", "t0000.2")


def test_rungs_are_met_in_order():
    controller, play = started()
    play.to_the_end(0, 12)
    ends = [event["to_epoch"] for event in play.log if event["event"] == "segment" and event["trial"] == "t0000"]
    assert tuple(ends) == controller.rules.rungs
    assert all(a < b for a, b in pairwise(ends))


def head_of(accuracy):
    """A log of one head that came to this accuracy."""
    born = {
        "event": "trial",
        "trial": "h0000",
        "parent": None,
        "depth": 0,
        "params": {},
        "recipe": recipe(((0, 5),)).model_dump(mode="json"),
        "stage": 0,
        "pack": 0,
    }
    segment = {"event": "segment", "trial": "h0000", "segment": "h0000.1", "stage": 0, "from_epoch": 0, "to_epoch": 5}
    best = {"epoch": 5, "val_accuracy": accuracy, "val_loss": 1.0}
    end = {"event": "segment_end", "epoch": 5, "finished": True, "seconds": 1.0, "best": best}
    return [born, segment, {**segment, **end}]


@pytest.mark.parametrize(("head", "winner"), [(0.5, "t0002"), (0.7, "t0002"), (0.8, "h0000")])
def test_the_winner_was_trained_to_the_end_and_a_head_wins_only_if_it_is_better(head, winner):
    controller, play = started()
    for event in head_of(head):
        play.emit(event)
    end(play, "t0000", 0.6)
    end(play, "t0001", 0.9)
    assert controller.winner.name == "t0001", "nothing has been trained to the end yet"
    end(play, "t0002", 0.7, finished=True)
    assert controller.winner.name == winner


def test_a_leader_that_keeps_its_last_epoch_and_becomes_worse_no_longer_leads():
    controller, play = started()
    end(play, "t0000", 0.5)
    end(play, "t0001", 0.9)
    end(play, "t0002", 0.7)
    play.start(prefer="t0001")
    end(play, "t0001", 0.6, epoch=12, finished=True)
    assert controller.leader.name == "t0002"
