"""One whole search, as the command runs it: what it says, what it leaves, and that a model comes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from safetensors import safe_open

from raysearch.record.files import LOCK
from tests.e2e.commands import Desk, contents, events, left_behind
from tests.e2e.conftest import CLASSES, N_PER_CLASS, Search

pytestmark = pytest.mark.slow


def test_it_ends_well_and_says_what_a_person_wants_to_know(undisturbed: Search) -> None:
    ended = undisturbed.ended
    assert ended.code == 0, ended
    assert ended.err == ""
    for said in (
        "The best 5 of 5 recipes",
        "the winner",
        "the best head alone",
        "1 unreadable image",
        "red/broken.png",
    ):
        assert said in ended.out
    assert f"The run is in {Path('results') / 'tiny'}" in ended.out
    for noise in ("Warning", "ray::", "object at 0x", "Traceback", "INFO"):
        assert noise not in ended.out


def test_it_leaves_no_process_behind_and_nothing_in_the_home(undisturbed: Search) -> None:
    assert left_behind(undisturbed.mark) == []
    # Ray keeps the token there that other processes of the same user need to join.
    assert [path for path in contents(undisturbed.desk.home) if path != ".ray/auth_token"] == []
    assert [path.name for path in undisturbed.desk.work.iterdir()] == ["results"]


def test_the_run_folder_is_as_designed(undisturbed: Search) -> None:
    found = set(contents(undisturbed.run))
    whole = {"run.json", "space.py", "log.jsonl", "trials.csv", "heads.csv", "history.csv", "study.db"}
    whole |= {"evaluation.json", "predictions.parquet"}
    whole |= {f"best/{name}" for name in ("model.safetensors", "recipe.json", "labels.json", "README.md")}
    whole |= {"best/known.safetensors"}
    assert whole <= found
    rest = {path for path in found - whole if not path.startswith("checkpoints/")}
    assert {path for path in rest if not path.startswith("pictures/")} <= {"curves.png", "report.html", LOCK}, (
        "temporary files were left"
    )


def test_the_tables_tell_the_search(undisturbed: Search) -> None:
    trials, heads, history = (pd.read_csv(undisturbed.run / f"{name}.csv") for name in ("trials", "heads", "history"))
    assert list(trials["trial"]) == [f"t{number:04d}" for number in range(5)]
    assert list(heads["trial"]) == [f"h{number:04d}" for number in range(3)]
    assert set(heads["state"]) == {"done"}
    assert set(heads["depth"]) == {0}
    assert set(trials["state"]) <= {"stopped", "done"}
    assert trials["state"][0] == "done", "the default is trained to the end"
    assert trials["epochs"][0] == 9
    assert set(trials["parent"]) <= set(heads["trial"])
    assert trials["handover_delta"].abs().max() < 1e-4
    assert trials["val_accuracy"].between(0, 1).all()
    assert {"pooling", "schedule.1.learning_rate", "schedule.1.depth", "seed"} <= set(trials.columns)
    trained = history.groupby("trial")["epoch"].apply(list)
    for row in pd.concat([trials, heads]).itertuples():
        assert trained[row.trial] == list(range(1, row.epochs + 1))
    own = history.groupby("trial")["val_accuracy"].max()
    for row in trials.itertuples():  # best so far: of its own epochs, or of the head that it was handed
        assert row.val_accuracy >= own[row.trial]


def test_a_head_is_searched_for_every_pooling_and_a_trial_starts_from_its_own(undisturbed: Search) -> None:
    trials, heads = (pd.read_csv(undisturbed.run / f"{name}.csv").set_index("trial") for name in ("trials", "heads"))
    assert set(heads["pooling"]) == {"avg", "max"}
    for row in trials.itertuples():
        assert heads.loc[row.parent, "pooling"] == row.pooling
    best = heads.sort_values(["val_accuracy", "val_loss"], ascending=[False, True]).groupby("pooling").head(1)
    accuracies = heads.loc[trials["parent"], "val_accuracy"].to_numpy()
    assert (accuracies == best.set_index("pooling").loc[trials["pooling"], "val_accuracy"].to_numpy()).all()


def test_the_log_is_whole(undisturbed: Search) -> None:
    log = events(undisturbed.run)
    assert log[0]["event"] == "budget"
    assert log[-1]["event"] == "finished"
    times = [event["time"] for event in log]
    assert times == sorted(times)
    started = [event["segment"] for event in log if event["event"] == "segment"]
    assert len(started) == len(set(started)), "a segment ran twice"
    assert started == [event["segment"] for event in log if event["event"] == "segment_end"]
    assert [event["event"] for event in log].count("test_read") == 1


def test_the_study_opens_in_optuna(undisturbed: Search) -> None:
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{undisturbed.run / 'study.db'}")
    trials = pd.read_csv(undisturbed.run / "trials.csv")
    assert [trial.user_attrs["trial"] for trial in study.trials] == list(trials["trial"])
    assert [trial.value for trial in study.trials] == pytest.approx(list(trials["val_accuracy"]))
    assert [trial.params["schedule.1.learning_rate"] for trial in study.trials] == pytest.approx(
        list(trials["schedule.1.learning_rate"])
    )


def test_the_evaluation_is_what_the_predictions_say(undisturbed: Search) -> None:
    evaluation = json.loads((undisturbed.run / "evaluation.json").read_text())
    predictions = pd.read_parquet(undisturbed.run / "predictions.parquet")
    assert {"train", "train_augmented", "val", "test"} <= set(evaluation)
    assert set(evaluation["others"]) == {"default", "head"}
    assert evaluation["optimism"] is None, "without refits there are no fresh seeds"
    test = predictions[predictions["split"] == "test"]
    assert not test["path"].duplicated().any()
    for name, figures in (("winner", evaluation), *evaluation["others"].items()):
        probabilities = np.stack(test[name].to_list())
        assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
        accuracy = (probabilities.argmax(axis=1) == test["label"]).mean()
        assert figures["test"]["accuracy"]["mean"] == pytest.approx(accuracy)
        assert np.sum(figures["test"]["confusion"]) == len(test)
        assert set(figures["test"]["per_class"]) == set(CLASSES)
    seen = {split: set(predictions["path"][predictions["split"] == split]) for split in ("val", "test")}
    assert not seen["val"] & seen["test"]
    assert len(predictions) == pytest.approx(0.3 * len(CLASSES) * N_PER_CLASS, abs=3)


def test_the_unreadable_image_is_listed(undisturbed: Search) -> None:
    info = json.loads((undisturbed.run / "run.json").read_text())
    assert [one["path"] for one in info["skipped"]] == ["red/broken.png"]
    assert info["failures"] == []
    assert info["settings"]["trials"] == 5
    assert info["command"].endswith("--run-name tiny --cache off")


def test_checkpoints_are_suffixes_of_known_weights_and_few(undisturbed: Search) -> None:
    weights = json.loads((undisturbed.run / "run.json").read_text())["fingerprints"]["weights"]
    folders = {path.parent.name for path in (undisturbed.run / "checkpoints").rglob("*") if path.is_file()}
    trial = json.loads((undisturbed.run / "evaluation.json").read_text())["trial"]
    assert {trial, "t0000"} <= folders
    assert not list((undisturbed.run / "checkpoints").rglob("last.pt")), "nothing goes on from these"
    for path in (undisturbed.run / "checkpoints").rglob("best.safetensors"):
        with safe_open(path, framework="np") as file:
            assert json.loads(file.metadata()["signature"])["base"] == weights
            assert not any(name.startswith("block1.") for name in file.keys())  # noqa: SIM118 - not a mapping


def test_the_model_card_says_what_the_evaluation_says(undisturbed: Search) -> None:
    evaluation = json.loads((undisturbed.run / "evaluation.json").read_text())
    card = (undisturbed.run / "best" / "README.md").read_text()
    accuracy, trial = evaluation["shipped"]["test"]["accuracy"], evaluation["trial"]
    assert accuracy == evaluation["test"]["accuracy"]["mean"], "of one model"
    assert f"| shipped: the winner as the search trained it | {trial} | 1 | {accuracy:.4f} [" in card
    default = "the default recipe, as the search trained it"
    for label, name in ((default, "default"), ("the best head alone", "head")):
        assert f"| {label} | {evaluation['others'][name]['trial']} |" in card


def test_best_alone_predicts_elsewhere(undisturbed: Search, photos: Path, tmp_path: Path) -> None:
    elsewhere = Desk(tmp_path / "elsewhere", {"RAYSEARCH_CACHE": str(tmp_path / "no images here")})
    shutil.copytree(undisturbed.run / "best", elsewhere.work / "moved")
    image, folder = photos / "red" / "00.png", photos / "blue"
    there = elsewhere.raysearch("predict", "moved", image, folder, "--json")
    assert (there.code, there.err) == (0, "")
    answers = json.loads(there.out)
    assert len(answers) == 1 + N_PER_CLASS
    assert {one["label"] for one in answers[0]["top"]} == set(CLASSES)
    assert answers[0]["probability"] == max(one["probability"] for one in answers[0]["top"])
    here = undisturbed.desk.raysearch("predict", "tiny", image, folder, "--json")
    assert json.loads(here.out) == answers
    # The same images as in the evaluation have the same probabilities.
    frame = pd.read_parquet(undisturbed.run / "predictions.parquet").set_index("path")
    by_class = {one["image"]: {top["label"]: top["probability"] for top in one["top"]} for one in answers}
    shared = [path for path in frame.index if str(photos / path) in by_class]
    assert shared
    for path in shared:
        found = [by_class[str(photos / path)][name] for name in CLASSES]
        assert found == pytest.approx(list(frame.loc[path, "winner"]), abs=1e-5)


def test_evaluate_repeats_the_figure(undisturbed: Search) -> None:
    ended = undisturbed.desk.raysearch("evaluate", "tiny", "--json")
    assert (ended.code, ended.err) == (0, "")
    expected = json.loads((undisturbed.run / "evaluation.json").read_text())["test"]
    found = json.loads(ended.out)
    assert found["accuracy"] == expected["accuracy"]["mean"]
    assert found["loss"] == pytest.approx(expected["loss"]["mean"], rel=1e-5)
