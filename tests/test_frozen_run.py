"""A run folder that an earlier version left opens, is shown, and is gone on with, to the figures of then.

`frozen/searched` was made by the commit before packages were given an order; of it, report, pictures, study, the winner
and the trials' tensors were left out for their size, and the command's path. `frozen/images.npz` are its images.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from raysearch.record.files import LOCK
from raysearch.record.metric import current_name
from raysearch.run import Run
from tests.e2e.commands import DeskHere, contents, events

FROZEN = Path(__file__).parent / "frozen"


@pytest.fixture
def here(tmp_path: Path) -> DeskHere:
    """A desk with a copy of it."""
    desk = DeskHere(tmp_path)
    shutil.copytree(FROZEN / "searched", desk.work / "results" / "searched")
    shutil.copy(FROZEN / "images.npz", desk.work)
    return desk


@pytest.fixture
def run(here: DeskHere) -> Run:
    return Run.open(here.work / "results" / "searched")


def frozen(name: str) -> pd.DataFrame:
    """A table as it was written then."""
    return pd.read_csv(FROZEN / "searched" / f"{name}.csv")


def test_its_tables_are_those_that_were_written_then(run: Run) -> None:
    run.derive()
    for name in ("trials", "heads", "history"):
        found = pd.read_csv(run.folder / f"{name}.csv")
        written = frozen(name).rename(columns=current_name)  # it says val_recall_0 for val_recall:0
        pd.testing.assert_frame_equal(found[list(written)], written, check_exact=True)


def test_what_was_measured_is_read(run: Run) -> None:
    assert run.evaluation is not None
    assert run.evaluation["trial"] in set(frozen("trials")["trial"]) | set(frozen("heads")["trial"])
    predictions = pd.read_parquet(run.folder / "predictions.parquet")
    test = predictions[predictions["split"] == "test"]
    right = [row.winner.argmax() == row.label for row in test.itertuples()]
    assert run.evaluation["test"]["accuracy"]["mean"] == pytest.approx(sum(right) / len(right))


def test_it_is_shown(here: DeskHere) -> None:
    listed = here.raysearch("show", "searched")
    assert (listed.code, listed.err) == (0, "")
    trials = frozen("trials")
    assert f"{len(trials)} of {len(trials)} trials" in listed.out
    for trial in trials["trial"]:
        assert trial in listed.out
    assert "undecided" in listed.out, "the verdicts"
    assert "test accuracy: the winner" in listed.out
    last = trials["trial"].iloc[-1]
    one = here.raysearch("show", "searched", last)
    assert (one.code, one.err) == (0, "")
    assert f"val_accuracy {trials['val_accuracy'].iloc[-1]:.4f}" in one.out


def test_its_page_is_made(here: DeskHere, run: Run) -> None:
    ended = here.raysearch("report", "searched")
    assert (ended.code, ended.err) == (0, "")
    page = (run.folder / "report.html").read_text()
    for trial in frozen("trials")["trial"]:
        assert trial in page


def test_it_is_known_to_be_finished(here: DeskHere, run: Run) -> None:
    before = contents(run.folder)
    ended = here.tune("--resume", "searched")
    assert (ended.code, ended.err) == (0, "")
    assert "is finished" in ended.out
    assert contents(run.folder) == before | {LOCK: b""}, "by which one process at a time works on a run"


def test_where_its_images_are_now_is_kept_though_it_is_finished(here: DeskHere, run: Run) -> None:
    (here.work / "images.npz").rename(here.work / "moved.npz")
    before = run.info
    ended = here.tune("--resume", "searched", "--data", "moved.npz")
    assert (ended.code, ended.err) == (0, "")
    after = run.info
    assert after["settings"].pop("data") == str(here.work / "moved.npz")
    assert before["settings"].pop("data") != "moved.npz"
    assert {name: value for name, value in after["settings"].items() if value is not None} == {
        name: value for name, value in before["settings"].items() if value is not None
    }


def test_without_its_images_it_is_not_gone_on_with(here: DeskHere) -> None:
    (here.work / "images.npz").unlink()
    ended = here.tune("--resume", "searched", "--trials", "9")
    assert ended.code == 2
    assert "images.npz" in ended.err
    assert "Traceback" not in ended.err


def test_broken_off_after_its_heads_it_goes_on_from_their_tensors_to_the_figures_of_then(
    here: DeskHere, run: Run
) -> None:
    log = events(run.folder)
    first = next(number for number, event in enumerate(log) if event.get("trial") == "t0000")
    lines = (run.folder / "log.jsonl").read_text().splitlines(keepends=True)
    (run.folder / "log.jsonl").write_text("".join(lines[:first]))
    (run.folder / "evaluation.json").unlink()
    ended = here.tune("--resume", "searched", "--concurrent", "1")
    assert (ended.code, ended.err) == (0, "")
    assert (run.folder / "best" / "model.safetensors").exists()
    columns = ["lr", "train_loss", "val_loss", "val_accuracy"]
    found, then = (table.set_index(["trial", "epoch"]) for table in (run.history, frozen("history")))
    assert found.index.equals(then.index)
    for trial in ("h0000", "t0000"):  # the known-good recipe's; another processor rounds differently
        assert found.loc[trial, columns].to_numpy() == pytest.approx(then.loc[trial, columns].to_numpy(), rel=2e-2)
    assert (run.trials["handover_delta"].abs() < 1e-4).all()
