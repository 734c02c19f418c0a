"""A search that is shown in W&B and TensorBoard, resumed, and steered by W&B's agents."""

from __future__ import annotations

import json
import shlex
import sys

import pytest
import yaml

from raysearch.recipe import flatten
from raysearch.run import Run
from tests.e2e.commands import DeskHere, events
from tests.reporting.tracking.offline import offline_runs
from tests.reporting.tracking.written import wandb_variables

pytestmark = pytest.mark.slow


@pytest.fixture
def tracked_desk(tmp_path):
    """A desk at which W&B has never been used."""

    def sit(**variables: str) -> DeskHere:
        return DeskHere(tmp_path, wandb_variables(tmp_path / "home") | {"WANDB_MODE": "online"} | variables)

    return sit


def test_offline_files_and_tensorboard_are_beside_the_log_and_a_resume_goes_on_with_them(tracked_desk, flags):
    desk = tracked_desk()
    ended = desk.tune(*flags, "--wandb", "flowers", "--tensorboard")
    assert (ended.code, ended.err) == (0, "")
    assert "kept offline" in ended.out
    folder = desk.work / "results" / "tiny"
    assert_shown(Run.open(folder))
    found = offline_runs(folder)
    for media in ("trials", "heads", "per_class", "confusion", "augmentation", "curves"):
        assert any(key.startswith(f"{media}.") for key in found["tiny"].summary), media
    (best,) = [one for one in found["tiny"].artifacts if one.type == "model"]
    recipe = json.loads((folder / "best" / "recipe.json").read_text())
    assert json.loads(best.metadata)["recipe"] == recipe

    ended = desk.tune("--resume", "tiny", "--trials", 6)
    assert (ended.code, ended.err) == (0, "")
    assert "t0005" in offline_runs(folder)
    assert_shown(Run.open(folder))


def assert_shown(run: Run) -> None:
    """Every trial that trained an epoch has one offline run and one folder of TensorBoard's, with all of its epochs."""
    found, trials, history = offline_runs(run.folder), run.trials, run.history
    assert len(list(run.folder.glob("wandb/offline-run-*"))) == len(found)
    parents = {name for name in trials["parent"] if name is not None}
    assert set(found) == {*trials["trial"], *parents, run.name}
    assert {path.name for path in (run.folder / "tensorboard").iterdir()} == {*trials["trial"], *parents}
    for event in events(run.folder):
        if event["event"] == "trial" and event["trial"] in found:
            one, rows = found[event["trial"]], history[history["trial"] == event["trial"]]
            assert [line["epoch"] for line in one.history] == list(rows["epoch"])
            assert [line["val_loss"] for line in one.history] == list(rows["val_loss"])
            flat = flatten(one.config)
            assert {key: flat[key] for key in flatten(event["recipe"])} == flatten(event["recipe"])


def test_an_agent_of_a_sweep_trains_one_recipe(tracked_desk, photos, space):
    steered = {"WANDB_SWEEP_ID": "abc", "WANDB_RUN_ID": "run1", "WANDB_PROJECT": "flowers", "WANDB_MODE": "offline"}
    desk = tracked_desk(**steered, WANDB_SERVICE="3-1-unix-/gone")  # as from a process that has used W&B, too
    made = desk.raysearch(
        *("sweep", "--space", space, "--data", photos, "--backbone", "simple_cnn", "--weights", "random"),
        *("--max-epochs", 2, "--project", "flowers"),
    )
    assert made.code == 0, made.err
    sweep = yaml.safe_load((desk.work / "sweep.yaml").read_text())
    values = {"schedule": {"1": {"depth": 1, "learning_rate": 2e-3, "course": "plateau"}}}
    (desk.work / "args.json").write_text(json.dumps(values))
    stands_for = {"${env}": "/usr/bin/env", "${interpreter}": sys.executable, "${args_json_file}": "args.json"}
    command = [stands_for.get(part, part) for part in sweep["command"]]
    assert command[:2] == ["/usr/bin/env", sys.executable], shlex.join(command)
    assert command[2:4] == ["-m", "raysearch.tune"]
    ended = desk.tune(*command[4:])
    assert (ended.code, ended.err) == (0, "")
    (folder,) = (desk.work / "results").iterdir()
    (agent,) = offline_runs(folder).values()
    run = Run.open(folder)
    assert (agent.about.run_id, agent.about.sweep_id) == ("run1", "abc")
    assert list(run.trials["schedule.1.learning_rate"]) == [2e-3]
    assert list(run.trials["schedule.1.course"]) == ["plateau"]
    assert [(line["trial"], line["epoch"]) for line in agent.history] == [
        (name, epoch) for name, epoch in zip(run.history["trial"], run.history["epoch"], strict=True)
    ]
    assert agent.summary["val_accuracy"] == run.trials["val_accuracy"][0]
