"""`--unlabelled DIR`, in this process: a student is trained, judged out of fold, and shipped if asked for."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raysearch.cli.learning_curve import chosen_recipe
from raysearch.errors import InputError
from raysearch.job.flags import Flags, refuse_changes
from raysearch.job.reopen import reopen
from raysearch.job.resolve import resolve
from raysearch.pipeline.entry import search
from raysearch.predict import load_best
from raysearch.recipe import Recipe
from raysearch.run import Run
from raysearch.tune import main
from tests.in_process import without_ray

CLASSES = ("blue", "green", "red")
SPACE = """
space = {
    "pooling": "avg",
    "schedule": [
        {"depth": 0, "epochs": 2, "learning_rate": 3e-3, "batch_size": 16, "keep": "last"},
        {"depth": 1, "learning_rate": 1e-2, "batch_norm": "train", "strength": 0.5, "batch_size": 16, "keep": "last"},
    ],
}
default: dict = {"schedule": [{}, {}]}
"""


def picture(number: int, channel: int) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 200, (16, 16, 3), dtype=np.uint8)
    pixels[..., channel] += 40
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The flags of a small search, and the folder in which it is."""
    root = tmp_path_factory.mktemp("students")
    for channel, name in enumerate(reversed(CLASSES)):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(20):
            picture(100 * channel + number, channel).save(root / "photos" / name / f"{number:02}.png")
    (root / "loose").mkdir()
    for number in range(40):
        picture(1000 + number, number % 3).save(root / "loose" / f"{number:02}.png")
    shutil.copy(root / "photos" / "red" / "00.png", root / "loose" / "known.png")
    (root / "space.py").write_text("from raysearch.space import Search\n" + SPACE + "search = Search(heads=1)\n")
    flags = ["--space", root / "space.py", "--data", root / "photos", "--backbone", "simple_cnn", "--weights", "random"]
    flags += ["--trials", 1, "--max-epochs", 2, "--refits", 2, "--folds", 2, "--quiet", "--cache", "off"]
    flags += ["--results", root / "results", "--unlabelled", root / "loose"]
    return root, [str(one) for one in flags]


@pytest.fixture(scope="module")
def run(given) -> Run:
    root, flags = given
    with without_ray():
        assert main([*flags, "--run-name", "taught", "--ship", "student"]) == 0
    return Run.open("taught", root / "results")


def events(run: Run, kind: str) -> list[dict]:
    return [event for event in run.events() if event["event"] == kind]


def test_a_learning_curve_is_of_the_recipe_that_was_chosen_and_not_of_the_student(run):
    """With many images without labels a student's stages are shorter than those of what taught it."""
    chosen = Recipe.model_validate(events(run, "refit")[-1]["recipe"])
    assert chosen_recipe(run) == chosen != run.best.recipe


def test_a_student_is_trained_without_each_fold_and_on_everything(run):
    students = events(run, "student")
    assert [one["fold"] for one in students] == [1, 2, None]
    last = students[-1]
    assert last["teachers"] == [one["name"] for one in events(run, "refit")]
    assert last["unlabelled"] == 40, "the one that has a label is none of them"
    assert run.evaluation["unlabelled"] == last["unlabelled"]
    kinds = {one["kind"]: one for one in run.evaluation["frontier"]}
    assert kinds["student"]["cost"] == 1
    assert kinds["student"]["out_of_fold"]["low"] <= kinds["student"]["out_of_fold"]["accuracy"]


def test_what_is_shipped_is_the_student(run):
    best = load_best(run.folder)
    assert (best.shipment().kind, best.shipment().cost) == ("student", 1)
    table = pd.read_parquet(run.folder / "predictions.parquet")
    test = table[table["split"] == "test"]
    photos = run.info["settings"]["data"]
    found = best.predict([f"{photos}/{path}" for path in test["path"]])
    shares = found[[f"p_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(shares, np.stack(list(test["winner"])), atol=1e-5)
    single = np.stack(list(test["shipped_single"]))
    assert not np.allclose(np.stack(list(test["shipped_student"])), single, atol=1e-3)
    assert json.loads((run.folder / "best" / "labels.json").read_text())["known"]["images"] > 0
    card = (run.folder / "best" / "README.md").read_text(encoding="utf-8")
    assert "more images without labels" in card
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "images without labels: out of fold its accuracy is" in page


def test_off_without_the_flag(given):
    root, flags = given
    at = flags.index("--unlabelled")
    with without_ray():
        assert main([*flags[:at], *flags[at + 2 :], "--run-name", "alone", "--folds", "2"]) == 0
    alone = Run.open("alone", root / "results")
    assert events(alone, "student") == []
    assert "unlabelled" not in alone.evaluation
    assert "unlabelled" not in alone.info["fingerprints"]
    assert alone.info["settings"]["unlabelled"] is None


def test_images_that_changed_are_refused_when_a_run_goes_on(given, run, tmp_path):
    kept = given[0] / "loose" / "39.png"
    shutil.move(kept, tmp_path / "39.png")
    try:
        with pytest.raises(InputError, match="the images without labels of .*loose are not those"):
            search(Flags(resume=str(run.folder), trials=2, quiet=True))
    finally:
        shutil.move(tmp_path / "39.png", kept)


def test_images_that_are_elsewhere_now_are_named_when_a_run_goes_on(given, run, tmp_path):
    shutil.move(given[0] / "loose", tmp_path / "elsewhere")
    try:
        with pytest.raises(InputError, match="loose: no such folder"):
            reopened(run)
        job = reopened(run, unlabelled=tmp_path / "elsewhere")
        assert job.settings.unlabelled == str(tmp_path / "elsewhere")
        assert job.unlabelled.fingerprint == run.info["fingerprints"]["unlabelled"]
    finally:
        shutil.move(tmp_path / "elsewhere", given[0] / "loose")


def reopened(run: Run, **flags):
    typed = Flags(resume=str(run.folder), quiet=True, **flags)
    refuse_changes(typed)
    return reopen(run.info, run.folder / "space.py", typed)


def test_a_run_without_such_images_gets_none_when_it_goes_on(run, tmp_path):
    without = {**run.info, "settings": {**run.info["settings"], "unlabelled": None}}
    with pytest.raises(InputError, match="--unlabelled .*: the run was started without; start a new one"):
        reopen(without, run.folder / "space.py", Flags(resume=str(run.folder), unlabelled=tmp_path, quiet=True))


def refused(given, **flags) -> str:
    root, _ = given
    typed = {"space": str(root / "space.py"), "data": str(root / "photos"), "backbone": "simple_cnn"}
    typed |= {"weights": "random", "results": root / "results", "quiet": True, **flags}
    with pytest.raises(InputError) as error:
        resolve(Flags(**typed))
    return "\n".join(error.value.problems)


def test_what_nobody_could_judge_is_refused(given):
    loose = given[0] / "loose"
    assert "ask for --folds 2 or more" in refused(given, unlabelled=loose, folds=0)
    assert "ask for --folds 2 or more" in refused(given, unlabelled=loose, refit_on="train")
    assert "--ship student: it learns from --unlabelled DIR" in refused(given, ship="student")
    assert "no such folder" in refused(given, unlabelled=given[0] / "nowhere")
