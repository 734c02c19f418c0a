"""The other ways to start a search: planned, in a hurry, in bad input, within a time, with refits."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from raysearch.workers import training_job
from tests.e2e.commands import Desk, DeskHere, events, free_port, left_behind, table
from tests.e2e.conftest import CLASSES, Search
from tests.in_process import KilledError, once
from tests.reporting.tracking.written import KEY, wandb_variables

pytestmark = pytest.mark.slow

NOBODY = "http://127.0.0.1:9"  # the discard port: refuses at once


def test_plan_shows_and_trains_nothing(here: DeskHere, flags: list[str]) -> None:
    ended = here.tune(*flags, "--plan")
    assert (ended.code, ended.err) == (0, "")
    assert [path.name for path in here.work.iterdir()] == ["plan.png"]
    with Image.open(here.work / "plan.png") as sheet:
        assert min(sheet.size) > 100
    for said in (*CLASSES, "block1", "learning_rate", "simple_cnn"):
        assert said in ended.out


def test_fast_dev_run_does_everything_once_with_a_live_page_and_does_not_notice_that_wandb_is_down(
    tmp_path: Path, photos: Path
) -> None:
    desk = DeskHere(tmp_path, wandb_variables(tmp_path / "home", NOBODY) | {"WANDB_MODE": "online"})
    port, pages = free_port(), []

    def look() -> None:
        with urlopen(address) as page:
            pages.append(page.read())

    address = f"http://127.0.0.1:{port}/"
    ended = desk.tune(
        *("--space", "baseline", "--data", photos, "--fast-dev-run", "--run-name", "fast"),
        *("--serve", port, "--wandb", "flowers", "--wandb-mode", "online"),
        before_step=once(lambda: True, look),
    )
    assert (ended.code, ended.err) == (0, "")
    assert f"The report page, live: {address}" in ended.out
    assert b"This page follows the search" in pages[0]
    assert left_behind(desk.mark) == []
    with pytest.raises(URLError):
        urlopen(address)
    run = desk.work / "results" / "fast"
    assert [event["event"] for event in events(run)].count("refit") == 1
    assert events(run)[-1]["event"] == "finished"
    assert list(table(run, "trials")["epochs"]) == [1]
    assert len(json.loads((run / "evaluation.json").read_text())["test"]["accuracy"]["values"]) == 1
    index = json.loads((run / "pictures" / "pictures.json").read_text())
    pictures = [one for kind in ("augmented", "mistakes", "classes", "learned") for one in index[kind]]
    assert len(index["classes"]) == len(CLASSES)
    assert (run / "report.html").read_text().count('src="data:image/webp') == len(pictures)

    assert "W&B failed" in ended.out
    assert f"raysearch wandb {run.relative_to(desk.work)}" in ended.out
    assert NOBODY in (run / "tracking.log").read_text()
    for path in run.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path

    assert desk.raysearch("predict", "fast", photos / "red" / "00.png", "--explain", "why").code == 0
    assert (desk.work / "why" / "00.png").is_file()


def test_refits_are_shared_by_two_workers_and_stopped_by_ctrl_c(
    desk: Desk, here: DeskHere, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = ["--concurrent", 2, "--refit-workers", 2]
    monkeypatch.setattr(training_job, "train_one", killed)  # the search itself is none of Ray's business here
    with pytest.raises(KilledError):
        here.tune(
            *("--space", "baseline", "--data", photos, "--backbone", "simple_cnn", "--weights", "random", *workers),
            *("--trials", 1, "--max-epochs", 2, "--refits", 3, "--refit-on", "train+val", "--folds", 0),
            *("--run-name", "refits"),
        )
    command = desk.start("-m", "raysearch.tune", "--resume", "refits", *workers)
    command.until(lambda: "again with 3 fresh seeds" in command.said)  # Ray Train takes seconds from here
    command.interrupt()
    ended = command.wait(30)
    assert (ended.code, ended.err) == (130, "")
    assert "go on with" in ended.out
    assert command.left_behind() == []

    ended = desk.tune("--resume", "refits", *workers)
    assert (ended.code, ended.err) == (0, "")
    run = desk.work / "results" / "refits"
    evaluation = json.loads((run / "evaluation.json").read_text())
    accuracy = evaluation["test"]["accuracy"]
    assert len(accuracy["values"]) == 3
    assert accuracy["mean"] == pytest.approx(np.mean(accuracy["values"]))
    assert accuracy["std"] == pytest.approx(np.std(accuracy["values"], ddof=1))
    losses = evaluation["test"]["loss"]["values"]
    assert len(set(losses)) == 3, "fresh seeds give different models"
    assert "val" not in evaluation, "the refits were trained on it"
    refits = [event for event in events(run) if event["event"] == "refit"]
    assert len({event["seed"] for event in refits}) == 3
    assert "±" in ended.out


def killed(*arguments: object) -> None:
    """What breaks a search off at its first refit."""
    raise KilledError


def test_a_time_budget_ends_with_an_evaluation(here: DeskHere, photos: Path) -> None:
    ended = here.tune(
        *("--space", "baseline", "--data", photos, "--trials", 5000, "--max-epochs", 9, "--refits", 0),
        *("--time-budget", "8s", "--run-name", "short"),
    )
    assert (ended.code, ended.err) == (0, "")
    run = here.work / "results" / "short"
    log = events(run)
    assert log[-1]["time"] - log[0]["time"] < 8 + 10
    assert 1 <= len(table(run, "trials")) < 5000
    assert (run / "evaluation.json").exists()
    assert (run / "best" / "model.safetensors").exists()


# All problems of one command are said at once.
BAD = {
    "names and numbers": (
        "--space fine_tun --data nowhere --trials 0 --max-epochs -1 --image-size 0 --backbone vgg91 "
        "--time-budget soon --seed -1",
        ["fine_tune", "nowhere", "--trials 0", "--max-epochs -1", "--image-size 0", "vgg19", "soon", "--seed -1"],
    ),
    "files": (
        "--space WRONG_SPACE --data PHOTOS --backbone simple_cnn --weights WEIGHTS --trials -3 --refits -1",
        ["learning_rat", "weight_decay", "weights.safetensors", "--trials -3", "--refits -1"],
    ),
    "a resume of nothing with other settings": (
        "--resume nothing --seed 3 --metric loss",
        ["nothing", "--seed", "--metric"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_at_once(desk: Desk, here: DeskHere, photos: Path, case: str) -> None:
    arguments, expected = BAD[case]
    (desk.work / "weights.safetensors").write_bytes(b"these are not weights")
    wrong = 'space = {"schedule": [{"depth": 0, "learning_rat": 1.0, "weight_decay": -1.0}]}\ndefault = {}\n'
    (desk.work / "wrong.py").write_text(wrong)
    stands_for = {"PHOTOS": photos, "WEIGHTS": "weights.safetensors", "WRONG_SPACE": "wrong.py"}
    typed = [stands_for.get(one, one) for one in arguments.split()]
    ended = (desk if case == "names and numbers" else here).tune(*typed)  # a process of its own, for one of them
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err + ended.out
    for part in expected:
        assert part in ended.err
    assert not (desk.work / "results").exists()
    assert all(line.startswith("error: ") for line in ended.err.splitlines()), ended.err


def test_a_run_that_is_there_is_not_run_over(undisturbed: Search, flags: list[str]) -> None:
    ended = undisturbed.desk.tune(*flags)
    assert ended.code == 2
    assert "--resume" in ended.err
