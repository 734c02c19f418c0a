"""A search to its very end, in this process: what it compares, what it ships, and what a kill costs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from ray.train import TrainingFailedError

from raysearch.data.dataset import Dataset, Split
from raysearch.errors import InputError
from raysearch.pipeline.effort import smallest
from raysearch.pipeline.progress import Progress
from raysearch.predict import load_best
from raysearch.run import Run
from raysearch.training.checkpoint import load_tensors
from raysearch.tune import main
from raysearch.winner.unknown import Known, features
from raysearch.workers import training_job
from tests.in_process import KilledError, without_ray

CLASSES = ("blue", "green", "red")
SPACE = """
from ray import tune

from raysearch.space import Search

space = {
    "pooling": "avg",
    "schedule": [
        {"depth": 0, "epochs": 2, "learning_rate": 3e-3, "batch_size": 16, "keep": "last"},
        {
            "depth": 1,
            "learning_rate": tune.loguniform(1e-4, 1e-1),
            "batch_norm": tune.choice(["frozen", "train"]),
            "strength": 0.5,
            "batch_size": 16,
            "keep": "last",
        },
    ],
}
default = {"schedule": [{}, {"learning_rate": 1e-2, "batch_norm": "train"}]}
search = Search(sampler="random", heads=1)
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The flags of a small search."""
    root = tmp_path_factory.mktemp("final")
    random = np.random.default_rng(0)
    for channel, name in enumerate(reversed(CLASSES)):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(24):
            pixels = random.integers(0, 200, (16, 16, 3), dtype=np.uint8)
            pixels[..., channel] += 25
            Image.fromarray(pixels).save(root / "photos" / name / f"{number:02}.png")
    (root / "space.py").write_text(SPACE, encoding="utf-8")
    flags = ["--space", root / "space.py", "--data", root / "photos", "--backbone", "simple_cnn", "--weights", "random"]
    flags += ["--trials", 3, "--max-epochs", 2, "--refits", 2, "--folds", 2, "--quiet", "--cache", "off"]
    return [str(one) for one in [*flags, "--results", root / "results"]]


def searched(flags: list[str], name: str, *more: str) -> Run:
    with without_ray():
        assert main([*flags, "--run-name", name, *more]) == 0
    return Run.open(name, flags[flags.index("--results") + 1])


@pytest.fixture(scope="module")
def run(given) -> Run:
    return searched(given, "whole")


def events(run: Run, kind: str) -> list[dict]:
    return [event for event in run.events() if event["event"] == kind]


def test_the_default_is_compared_first_and_the_log_says_with_what_end(run):
    (finals,), (chosen,) = events(run, "finals"), events(run, "chosen")
    assert finals["finalists"][0] == chosen["default"] == "t0000"
    assert (finals["folds"], finals["refits"]) == (2, 2)
    assert chosen["trial"] in finals["finalists"]
    surely = {race["trial"] for race in events(run, "race") if race["folds"] == 2 and race["low"] > 0}
    assert chosen["trial"] in (surely or {"t0000"})


def test_what_is_shipped_is_the_mean_of_the_refits_tensors(given):
    run = searched(given, "averaged", "--ship", "averaged")
    (chosen,) = events(run, "chosen")
    refits = [f"refit-{chosen['trial']}-{seed}" for seed in (1000, 1001)]
    states = [load_tensors(run.folder / "checkpoints" / name / "best.safetensors")[0] for name in refits]
    shipped = run.best.network().state_dict()
    for name, tensor in states[0].items():
        if tensor.is_floating_point() and "running" not in name:
            torch.testing.assert_close(shipped[name], (tensor + states[1][name]) / 2)
    assert run.evaluation["shipped"]["kind"] == "averaged"


@pytest.mark.parametrize(("kind", "cost"), [("single", 1), ("mirror", 2), ("ensemble", 2)])
def test_another_kind_is_shipped_if_it_is_asked_for(given, kind, cost):
    run = searched(given, kind, "--ship", kind)
    shipped = run.evaluation["shipped"]
    assert (shipped["kind"], shipped["cost"]) == (kind, cost)
    best = load_best(run.folder)
    table = pd.read_parquet(run.folder / "predictions.parquet")
    on_test = table[table["split"] == "test"]
    data = decoded(run)
    answers = best.predict(np.asarray(data.test.pixels))
    found = answers[[f"p_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(found, np.stack(list(on_test["winner"])), atol=1e-5)


def decoded(run: Run) -> Dataset:
    """The images that the run has seen."""
    fingerprint = run.info["fingerprints"]["data"]
    headers = Path(os.environ["RAYSEARCH_CACHE"]).rglob("dataset.json")
    found = next(one.parent for one in headers if json.loads(one.read_text())["fingerprint"] == fingerprint)
    return Dataset.open(found)


def test_answers_to_validation_images_are_out_of_fold(run):
    table = pd.read_parquet(run.folder / "predictions.parquet")
    val = table[table["split"] == "val"]
    shares = np.stack(list(val["winner"]))
    assert not np.isnan(shares).any()
    accuracy = float((shares.argmax(axis=1) == val["label"]).mean())
    assert run.evaluation["shipped"]["out_of_fold"]["accuracy"] == pytest.approx(accuracy, abs=0.5)
    assert "val" not in run.evaluation, "it was trained on them"


@pytest.mark.parametrize("after", [1, 3, 6])
def test_a_killed_finish_goes_on_and_ends_with_the_same_choice(given, run, after, monkeypatch):
    train, left = training_job.train_one, [after]

    def killed(*arguments):
        if not left[0]:
            raise KilledError
        left[0] -= 1
        return train(*arguments)

    monkeypatch.setattr(training_job, "train_one", killed)
    name = f"killed-{after}"
    with pytest.raises(KilledError), without_ray():
        main([*given, "--run-name", name])
    broken = Run.open(name, given[given.index("--results") + 1])
    before = {path: path.stat().st_mtime_ns for path in broken.folder.glob("checkpoints/*/best.safetensors")}
    left[0] = 1000
    with without_ray():
        assert main(["--resume", name, "--quiet", "--results", given[given.index("--results") + 1]]) == 0
    resumed = Run.open(name, given[given.index("--results") + 1])
    assert all(path.stat().st_mtime_ns == at for path, at in before.items() if path.exists()), "trained once"
    assert resumed.evaluation["shipped"] == run.evaluation["shipped"]
    assert events(resumed, "chosen")[-1]["trial"] == events(run, "chosen")[-1]["trial"]


def test_a_job_that_is_lost_is_started_again_and_trains_what_was_missing(given, run, monkeypatch):
    train, asked = training_job.train_one, []

    def lost_at_the_third(bench, training, *where):
        asked.append(training.name)
        if len(asked) == 3:
            raise TrainingFailedError("worker 0 died: its machine was lost")
        return train(bench, training, *where)

    monkeypatch.setattr(training_job, "train_one", lost_at_the_third)
    again = searched(given, "lost")
    assert [event["reason"] for event in events(again, "refit_lost")] == ["worker 0 died: its machine was lost"]
    assert asked[3] == asked[2]
    assert len(asked) == len(set(asked)) + 1, "the others were trained once"
    assert again.evaluation["shipped"] == run.evaluation["shipped"]


def test_one_refit_is_shipped_as_it_is(given):
    at = given.index("--refits")
    run = searched([*given[:at], *given[at + 2 :], "--refits", "1"], "one")
    assert run.evaluation["shipped"]["kind"] == "single"
    assert [point["kind"] for point in run.evaluation["frontier"]] == ["single", "mirror"]


def test_what_is_unknown_is_known_out_of_fold(run):
    """Each labelled image was held out once; the features are those of what is shipped, of the images it trained on."""
    data, best = decoded(run), run.best
    labelled = Split.join(data.train, data.val)
    assert best.known.images == len(labelled)
    seen = features(best.network(), labelled.pixels, torch.device("cpu"))
    assert np.allclose(best.known.distances(seen), Known.of(seen, np.ones(1)).distances(seen), atol=1e-3)
    stranger = best.stranger(0.2)
    assert 0 < stranger(np.asarray(data.test.pixels)).mean() < 0.6


def test_without_folds_the_winner_is_refitted_and_nothing_is_claimed_out_of_fold(given):
    run = searched(given, "none", "--folds", "0")
    with pytest.raises(InputError, match="search with --folds 3"):
        run.best.stranger(0.1)
    assert run.evaluation["frontier"] == []
    assert run.evaluation["shipped"]["temperature"] == 1
    assert len(run.evaluation["test"]["accuracy"]["values"]) == 2


@pytest.mark.parametrize("kind", ["averaged", "mirror", "ensemble"])
@pytest.mark.parametrize("flag", [("--folds", "0"), ("--refit-on", "train")])
def test_what_is_made_of_folds_is_refused_where_there_are_none(given, capsys, kind, flag):
    at = given.index("--folds")
    assert main([*given[:at], *given[at + 2 :], *flag, "--ship", kind]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"--ship {kind}: it is made and judged of trainings on folds; leave out {' '.join(flag)}" in told


def test_what_cannot_be_shipped_for_want_of_time_is_said(given, capsys, monkeypatch):
    monkeypatch.setattr(Progress, "effort_in_time", lambda self: smallest(self._pace.effort))
    run = searched([one for one in given if one != "--quiet"], "no-time", "--ship", "averaged")
    assert run.evaluation["shipped"]["kind"] == "single"
    told = " ".join(capsys.readouterr().out.split())
    assert "--ship averaged cannot be made of these trainings, for which there are no folds; shipped: single" in told


def test_refits_on_the_training_images_are_as_they_were(given):
    at = given.index("--folds")
    run = searched([*given[:at], *given[at + 2 :], "--refit-on", "train"], "train")
    assert run.evaluation["shipped"]["kind"] == "single"
    assert len(run.evaluation["val"]["accuracy"]["values"]) == 2
    assert run.evaluation["optimism"] is not None


INHERITS = """
from raysearch.space import Search

plateau = {"batch_size": 16, "course": "plateau"}
space = {
    "pooling": "avg",
    "schedule": [
        {"depth": 0, "epochs": 2, "learning_rate": 3e-3, **plateau},
        {"depth": 1, "learning_rate": 1e-2, **plateau},
        {"depth": 2, "inherit": 0.5, **plateau},
    ],
}
default: dict = {}
search = Search(heads=1, beam=1, levels=2)
"""


def test_a_stage_that_inherits_is_shipped_with_the_rate_of_the_search_and_its_recipe_can_be_trained_anew(
    given, tmp_path
):
    (tmp_path / "inherits.py").write_text(INHERITS, encoding="utf-8")
    flags = list(given)
    for flag, value in (("--space", tmp_path / "inherits.py"), ("--trials", 2), ("--max-epochs", 4), ("--refits", 1)):
        flags[flags.index(flag) + 1] = str(value)
    run = searched(flags, "inherits", "--folds", "0")
    ended = [event["lr"] for event in events(run, "epoch") if event["trial"] == "t0000"][-1]
    shipped = json.loads((run.folder / "best" / "recipe.json").read_text(encoding="utf-8"))["schedule"][2]
    assert (shipped["inherit"], shipped["learning_rate"]) == (None, ended / 2)
    again = [
        "--recipe",
        str(run.folder / "best" / "recipe.json"),
        *flags[flags.index("--data") : flags.index("--backbone")],
    ]
    assert main([*again, "--plan", "--results", str(tmp_path), "--quiet"]) == 0
