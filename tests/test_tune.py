"""The command as it is typed: what it refuses, and how it says so."""

from __future__ import annotations

import dataclasses
import os

import pytest

from raysearch.errors import InputError
from raysearch.job.flags import _ON_RESUME, Flags
from raysearch.pipeline.entry import job_of, plan, search
from raysearch.recipe import Recipe, Stage
from raysearch.record.worked_on import worked_on
from raysearch.run import Run
from raysearch.tune import main
from tests.full_disk import full_disk
from tests.trained import write_pictures


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> str:
    return str(write_pictures(tmp_path_factory.mktemp("photos") / "photos", 10))


def flag_of(field: dataclasses.Field) -> str:
    """As it is typed; what Python keeps for itself has an underscore behind it."""
    return f"--{field.name.rstrip('_').replace('_', '-')}"


def refused(capsys, *arguments: str) -> str:
    """What the command says on stderr when it exits with code 2, with no traceback."""
    try:
        code = main(arguments)
    except SystemExit as exit_:  # tyro's own
        code = exit_.code
    out, err = capsys.readouterr()
    assert code == 2
    assert "Traceback" not in out + err
    return err


def test_help_mentions_every_flag_with_what_it_does(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    for field in dataclasses.fields(Flags):
        assert flag_of(field) in said
    for piece in ("quick = 6 trials of 6 epochs", "default = 18 of 12", "best = 100 of at most 30"):
        assert piece in " ".join(said.replace("│", " ").split()), "as raysearch.job.resolve has it"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--trials", "0"], "--trials 0: must be at least 1"),
        (["--max-epochs", "-1"], "--max-epochs -1: must be at least 1"),
        (["--image-size", "0"], "--image-size 0: must be at least 8"),
        (["--metric", "acuracy"], "did you mean 'accuracy'"),
        (["--backbone", "vgg91"], "did you mean vgg19"),
        (["--backbone", "densenet121"], "--backbone densenet121"),
        (["--refits", "-1"], "--refits -1: must be at least 0"),
        (["--gpus-per-trial", "64"], "--gpus-per-trial 64: this machine has"),
        (["--space", "baselin"], "did you mean baseline"),
        (["--data", "nowhere"], "nowhere"),
        (["--device", "tpu"], "--device"),
        (["--preset", "fast"], "--preset"),
        (["--trails", "3"], "--trials"),
        (["--trials", "three"], "--trials"),
    ],
)
@pytest.mark.parametrize("planning", [False, True])
def test_a_bad_flag_exits_with_2_and_says_why(capsys, photos, tmp_path, arguments, says, planning):
    plan_flag = ["--plan"] if planning else []
    sound = ["--space", "baseline", "--data", photos, "--results", str(tmp_path), "--quiet", *plan_flag]
    assert says in refused(capsys, *sound, *arguments)
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


def test_all_problems_are_told_together(capsys, tmp_path):
    said = refused(capsys, "--trials", "0", "--data", "nowhere", "--run-name", "x", "--results", str(tmp_path))
    assert said.count("error: ") == 3
    for piece in ("--space NAME is missing", "--trials 0", "nowhere"):
        assert piece in said


def test_a_run_that_is_there_is_not_overwritten(capsys, photos, tmp_path):
    (tmp_path / "mine").mkdir()
    said = refused(
        capsys,
        "--space",
        "baseline",
        "--data",
        photos,
        "--results",
        str(tmp_path),
        "--run-name",
        "mine",
        "--trials",
        "0",
    )
    assert f"--resume {tmp_path / 'mine'}" in said
    assert "--trials 0" in said
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_resume_of_nothing_is_refused_with_what_there_is(capsys, tmp_path):
    Run.create(tmp_path / "fine_tune-1", {})
    said = refused(capsys, "--resume", "fine_tun-1", "--results", str(tmp_path))
    assert "did you mean 'fine_tune-1'" in said
    assert "neither a folder nor a name" in refused(capsys, "--resume", "", "--results", str(tmp_path))


def test_nothing_is_served_of_a_run_that_is_not_there(capsys, tmp_path):
    assert main(["--resume", "nothing", "--results", str(tmp_path), "--serve", "0"]) == 2
    assert "live" not in capsys.readouterr().out


def test_a_disk_that_is_full_before_the_run_begins_is_no_traceback(capsys, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))  # where the images would be decoded to
    with full_disk(1000):
        code = main(["--space", "baseline", "--data", photos, "--results", str(tmp_path), "--quiet"])
    said = capsys.readouterr().err
    assert code == 1
    assert "error: " in said
    assert "make room" in said


def test_a_run_that_never_began_cannot_be_resumed(capsys, tmp_path):
    Run.create(tmp_path / "it", {})
    assert "broke off before it began" in refused(capsys, "--resume", "it", "--results", str(tmp_path))


def test_a_run_that_another_process_works_on_is_left_alone(capsys, tmp_path):
    run = Run.create(tmp_path / "it", {})
    with worked_on(run.folder):
        said = refused(capsys, "--resume", "it", "--results", str(tmp_path))
        assert f"{run.folder} is being worked on by another process (process {os.getpid()} on " in said
    assert "broke off before it began" in refused(capsys, "--resume", "it", "--results", str(tmp_path))


def changed(field: dataclasses.Field) -> object:
    """A value that is not the default."""
    if isinstance(field.default, bool):
        return not field.default
    return {"preset": "best", "refit_on": "train", "fit": "pad"}.get(field.name, "other")


@pytest.mark.parametrize("field", [one for one in dataclasses.fields(Flags) if one.name not in _ON_RESUME])
def test_a_resumed_run_keeps_its_own_settings(field, tmp_path):
    settings = Flags(resume="nothing", results=tmp_path, **{field.name: changed(field)})
    with pytest.raises(InputError) as caught:
        search(settings)
    flag = flag_of(field)
    assert caught.value.problems[0].startswith(f"{flag} cannot change when a run is resumed")
    assert "no run 'nothing'" in caught.value.problems[1]


def test_a_plan_is_of_a_new_search():
    with pytest.raises(InputError, match="--plan shows a new search"):
        plan(Flags(resume="it"))


def test_a_recipe_is_a_search_of_one_path_with_another_seed_if_asked(photos, tmp_path):
    schedule = (Stage(depth=0, epochs=7), Stage(depth=1, epochs=5), Stage(depth=2, epochs=3))
    recipe = Recipe(backbone="simple_cnn", weights="random", image_size=32, schedule=schedule, seed=3)
    (tmp_path / "best.json").write_text(recipe.model_dump_json())
    given = Flags(recipe=tmp_path / "best.json", data=photos, quiet=True)
    job = job_of(given, None)
    assert (job.settings.heads, job.settings.trials, job.settings.refits, job.settings.seed) == (1, 3 - 1, 0, 3)
    assert [stage.epochs for stage in job.space.recipe({}, job.settings.max_epochs).schedule] == [7, 5, 3]
    assert job.settings.space == str(tmp_path / "best.json")
    assert job_of(dataclasses.replace(given, seed=7), None).settings.seed == 7
    with pytest.raises(InputError, match="--max-epochs cannot be used with --recipe"):
        job_of(dataclasses.replace(given, max_epochs=2), None)
