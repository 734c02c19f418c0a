"""W&B online, against a stand-in for its server: what arrives there, and what happens when nothing answers."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from raysearch.cli.main import main as raysearch
from raysearch.recipe import flatten
from raysearch.record.tables import history_table
from raysearch.run import Run
from tests.reporting.events import LOG
from tests.reporting.tracking.wandb_server import ENTITY, Server
from tests.reporting.tracking.written import KEY, command, environment, written_run

pytestmark = pytest.mark.slow

NOBODY = "http://127.0.0.1:9"  # the discard port: refuses at once
UPLOAD = ("raysearch", "wandb")
FOLLOW = "raysearch.reporting.tracking"
PATIENCE_SECONDS = 120.0


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as listening:
        yield listening


def by_name(server: Server) -> dict:
    """The server's runs by the names that people see."""
    return {run.told("displayName"): run for run in server.runs.values()}


def assert_all_is_there(server: Server, run: Run) -> None:
    """Every trial with its epochs (once), config, summary and sweep."""
    history, trials, served = history_table(LOG), run.trials.set_index("trial"), by_name(server)
    assert sorted(served) == ["h0000", "run", "t0000", "t0001", "t0002", "t0003"]
    for name in ("h0000", "t0000", "t0001", "t0002", "t0003"):
        one, rows = served[name], history[history["trial"] == name]
        assert [line["_step"] for line in one.history] == list(rows["epoch"])
        assert [line["val_accuracy"] for line in one.history] == list(rows["val_accuracy"])
        made = next(event for event in LOG if event["event"] == "trial" and event["trial"] == name)
        flat = flatten(one.config)
        assert {key: flat[key] for key in flatten(made["recipe"])} == flatten(made["recipe"])
        assert one.told("groupName") == "run"
        assert one.told("sweep") == (None if name == "h0000" else "sweep1")
        assert one.exit_code == (1 if name == "t0002" else 0)
    for name in ("t0000", "t0001"):
        assert served[name].summary["val_accuracy"] == trials.loc[name, "val_accuracy"], "the best, not the last"
    assert server.unknown == [], "nothing that the stand-in does not stand in for"


def assert_the_key_is_nowhere(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_run_is_uploaded_as_a_sweep_and_a_second_time_adds_nothing(tmp_path, server):
    run = written_run(tmp_path / "run")
    variables = environment(tmp_path / "home", server.url)
    done = command(variables, *UPLOAD, run.folder, "--project", "flowers")
    assert done.returncode == 0, done.stderr
    assert f"6 runs at {server.url}/{ENTITY}/flowers/sweeps/sweep1" in done.stdout
    assert_all_is_there(server, run)
    assert f"Basic {base64.b64encode(f'api:{KEY}'.encode()).decode()}" in server.keys
    assert_the_key_is_nowhere(run.folder)

    (sweep,) = server.sweeps
    config = yaml.safe_load(sweep["config"])
    assert config["controller"] == {"type": "local"}
    assert config["metric"] == {"name": "val_accuracy", "goal": "maximize"}
    stage = config["parameters"]["schedule"]["parameters"]["1"]["parameters"]
    assert stage["learning_rate"] == {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}

    search = by_name(server)["run"]
    assert search.summary["test_accuracy"] == 0.75
    assert {"trials", "heads", "per_class", "confusion"} <= set(search.history[0])
    (best,) = [one for one in server.artifacts if one["artifactTypeName"] == "model"]
    assert best["artifactCollectionName"] == "run-best"
    assert {name.rpartition("/")[2] for name in server.uploads} >= {"model.safetensors", "recipe.json"}

    lines = {name: len(one.history) for name, one in by_name(server).items()}
    again = command(variables, *UPLOAD, run.folder, "--project", "flowers")
    assert again.returncode == 0, again.stderr
    assert {name: len(one.history) for name, one in by_name(server).items()} == lines
    assert len(server.sweeps) == 1
    assert len([one for one in server.artifacts if one["artifactTypeName"] == "model"]) == 1


def test_a_search_is_shown_while_it_runs_and_a_trial_goes_on_where_it_was(tmp_path, server):
    run = written_run(tmp_path / "run", LOG[:16], ended=False, wandb="flowers", wandb_mode="online")
    variables = environment(tmp_path / "home", server.url)
    tracker = subprocess.Popen(
        [sys.executable, "-m", FOLLOW, str(run.folder)], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    # t0001 rests after two epochs: what it has is there, and finished, while the search goes on.
    wait(lambda: "t0001" in by_name(server) and by_name(server)["t0001"].exit_code == 0, tracker)
    assert [line["epoch"] for line in by_name(server)["t0001"].history] == [1, 2]
    run.append(*LOG[16:])
    out, _ = tracker.communicate(timeout=PATIENCE_SECONDS)  # closes its input, by which it ends
    assert tracker.returncode == 0, out
    assert_all_is_there(server, run)


def test_where_nobody_answers_it_says_so_and_ends(tmp_path):
    run = written_run(tmp_path / "run", wandb="flowers", wandb_mode="online")
    done = command(environment(tmp_path / "home", NOBODY), *UPLOAD, run.folder)
    assert done.returncode == 1
    assert "W&B failed" in done.stdout
    assert f"raysearch wandb {run.folder}" in done.stdout
    assert_the_key_is_nowhere(run.folder)


def test_without_a_key_or_a_project_nothing_is_begun(tmp_path, capsys):
    run = written_run(tmp_path / "run")
    done = command(environment(tmp_path / "home"), *UPLOAD, run.folder, "--project", "flowers")
    assert (done.returncode, done.stdout) == (2, "")
    assert "wandb login" in done.stderr
    assert raysearch(["wandb", str(run.folder)]) == 2
    assert "--project PROJECT is missing" in capsys.readouterr().err
    assert not (run.folder / "wandb").exists()


def wait(condition, process) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < end
        time.sleep(0.05)
