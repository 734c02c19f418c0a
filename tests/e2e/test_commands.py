"""The other ways to start a search: planned, in a hurry, in bad input, within a time, with refits, from Python."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.e2e.commands import Desk, DeskHere, events, table
from tests.e2e.conftest import CLASSES, Search
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
    desk = Desk(tmp_path, wandb_variables(tmp_path / "home", NOBODY) | {"WANDB_MODE": "online"})
    command = desk.start(
        *("-m", "raysearch.tune", "--space", "baseline", "--data", photos, "--fast-dev-run", "--run-name", "fast"),
        *("--serve", 0, "--wandb", "flowers", "--wandb-mode", "online"),
    )
    command.until(lambda: "http://127.0.0.1:" in command.said)
    [address] = re.findall(r"http://127\.0\.0\.1:\d+/", command.said)
    with urlopen(address) as page:
        assert b"This page follows the search" in page.read()
    ended = command.wait()
    assert (ended.code, ended.err) == (0, "")
    assert command.left_behind() == []
    with pytest.raises(URLError):
        urlopen(address)
    run = desk.work / "results" / "fast"
    assert [event["event"] for event in events(run)].count("refit") == 1
    assert events(run)[-1]["event"] == "finished"
    assert list(table(run, "trials")["epochs"]) == [1]
    assert len(json.loads((run / "evaluation.json").read_text())["test"]["accuracy"]["values"]) == 1
    index = json.loads((run / "pictures" / "pictures.json").read_text())
    pictures = [one for kind in ("augmented", "mistakes", "classes") for one in index[kind]]
    assert len(index["classes"]) == len(CLASSES)
    assert (run / "report.html").read_text().count('src="data:image/webp') == len(pictures)

    assert "W&B failed" in ended.out
    assert f"raysearch wandb {run.relative_to(desk.work)}" in ended.out
    assert NOBODY in (run / "tracking.log").read_text()
    for path in run.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path

    assert DeskHere(tmp_path).raysearch("predict", "fast", photos / "red" / "00.png", "--explain", "why").code == 0
    assert (desk.work / "why" / "00.png").is_file()


def test_refits_are_shared_by_two_workers_and_stopped_by_ctrl_c(desk: Desk, photos: Path) -> None:
    workers = ["--concurrent", 2, "--refit-workers", 2]
    command = desk.start(
        *("-m", "raysearch.tune", "--space", "baseline", "--data", photos, "--trials", 1, "--max-epochs", 2),
        *("--refits", 3, "--refit-on", "train+val", "--folds", 0, "--run-name", "refits", *workers),
    )
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


SCRIPT = """
import sys

import numpy as np
import torch

from raysearch.run import Run

if __name__ == "__main__":
    space, data = sys.argv[1:]
    run = Run.start(
        space=space, data=data, backbone="simple_cnn", weights="random", trials=5, max_epochs=9, concurrent=1, refits=0,
        run_name="python", quiet=True, cache="off",
    )
    again = Run.open("python")
    assert again.trials.equals(run.trials)
    assert len(run.trials) == 5 and len(run.heads) == 3 and len(run.history) > 15
    assert run.evaluation["test"]["accuracy"]["mean"] >= 0
    model = again.best.model()
    assert isinstance(model, torch.nn.Module) and not model.training
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    from_array = run.predict(np.zeros((40, 30, 3), dtype=np.uint8))
    assert from_array["label"][0] in again.best.labels
    table = again.predict([f"{data}/red/00.png", f"{data}/blue"])
    assert len(table) == 21 and table["error"].isna().all()
    print("fine")
"""


def test_python_does_what_the_command_does_and_a_seed_gives_one_search(
    desk: Desk, photos: Path, space: Path, undisturbed: Search
) -> None:
    """The same search, started a second time by other means: all tables are the same, times aside."""
    (desk.work / "script.py").write_text(SCRIPT)
    command = desk.start("script.py", space, photos)
    ended = command.wait()
    assert (ended.code, ended.err) == (0, ""), ended
    assert ended.out.endswith("fine\n")
    for name in ("trials", "heads", "history"):
        pd.testing.assert_frame_equal(table(desk.work / "results" / "python", name), table(undisturbed.run, name))
    assert command.left_behind() == []
