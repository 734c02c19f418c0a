"""Flags become a job, or one error that says everything that is wrong with them."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysearch.errors import InputError
from raysearch.job.budget import FEW_IMAGES, spending
from raysearch.job.flags import Flags
from raysearch.job.job import Job
from raysearch.job.numbers import seconds
from raysearch.job.reopen import reopen
from raysearch.job.resolve import resolve
from raysearch.job.settings import PRESETS, Settings
from raysearch.recipe import SHARED, Recipe
from raysearch.run import Run
from raysearch.search.controller import Proposal
from raysearch.search.messages import Pack, PackHead
from raysearch.training.bench import Bench
from raysearch.workers.capacity import Cluster
from raysearch.workers.machine import choose_machine, share_cluster
from raysearch.workers.pack_work import PackWork
from tests.trained import CLASSES, write_pictures

SPACE = """
from ray import tune
from raysearch.space import Search
space = {
    # MORE
    "schedule": [
        {"depth": 0, "epochs": 9, "learning_rate": tune.loguniform(1e-4, 1e-2)},
        {"depth": tune.choice([1, 2]), "class_weights": {"red": 2.0}},
    ],
}
default = {"schedule": [{"learning_rate": 1e-3}, {"depth": 2}]}
search = Search(heads=4, reduction=2, first_rung_epochs=3)
"""

HEADS = """
from ray import tune
from raysearch.space import Search
space = {
    "pooling": tune.choice(["avg", "max"]),
    "schedule": [
        {
            "depth": 0,
            "epochs": 30,
            "learning_rate": tune.loguniform(1e-3, 1e-2),
            "dropout": tune.choice([0.0, 0.2, 0.4]),
        }
    ],
}
default = {"pooling": "avg", "schedule": [{"learning_rate": 1e-2, "dropout": 0.0}]}
search = Search(heads=20, pack=4)
"""
GRID = HEADS.replace("heads=20", 'heads=5, sampler="grid"').replace("loguniform(1e-3, 1e-2)", "choice([1e-2, 1e-3])")


TREE = """
from raysearch.space import Search
from ray import tune
rate = tune.loguniform(1e-4, 1e-2)
space = {"schedule": [{"depth": 0, "epochs": 2}, *({"depth": d, "learning_rate": rate} for d in (1, 2, 3))]}
default = {"schedule": [{}, *({"learning_rate": 1e-3} for d in (1, 2, 3))]}
search = Search(heads=2, beam=2)
"""
BY_HAND = TREE.replace('"learning_rate": rate', '"learning_rate": 1e-3').replace('{"learning_rate": 1e-3}', "{}")
BY_HAND = BY_HAND.replace("heads=2, beam=2", "heads=1, beam=1, levels=3")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> str:
    return str(write_pictures(tmp_path_factory.mktemp("photos") / "photos", 10))


@pytest.fixture
def flags(photos, tmp_path):
    """Flags of a sound search of our own space, with changes."""

    def flags(more: str = "", **changes) -> Flags:
        (tmp_path / "mine.py").write_text(SPACE.replace("# MORE", more), encoding="utf-8")
        given = {"space": str(tmp_path / "mine.py"), "data": photos, "backbone": "simple_cnn", "quiet": True}
        return Flags(**given | changes)

    return flags


def problems_of(flags: Flags, folder: Path | None = None) -> list[str]:
    with pytest.raises(InputError) as caught:
        resolve(flags, folder)
    return list(caught.value.problems)


# ---- durations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("90s", 90),
        ("30m", 1800),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (" 2d ", 172800),
        ("1d2h3m4.5s", 93784.5),
    ],
)
def test_durations_as_people_write_them(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "soon", "30x", "-5m", "0", "0m", "1h30", "5 5", "30m1h", "1h1h", "1e3", "nan", "inf", "9" * 400, "٣m x"],
)
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(InputError, match="--time-budget"):
        seconds(text)


@given(st.integers(0, 50), st.integers(0, 100), st.integers(1, 100))
def test_durations_add_up(h, m, s):
    assert seconds(f"{h}h{m}m{s}s") == 3600 * h + 60 * m + s


# ---- what a trial gets -------------------------------------------------------------------------------------------


def test_a_cpu_trial_has_one_thread_and_there_is_one_a_core():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = choose_machine("cpu", None, None)
    assert (machine.gpus, machine.address) == (0.0, None)
    assert 1 <= machine.concurrent <= cores
    assert machine.cpus * machine.concurrent <= cores
    assert choose_machine("cpu", 1, None).cpus == cores
    assert choose_machine("cpu", 10 * cores, None).cpus == 1


def test_gpus_are_shared_by_fractions(monkeypatch):
    """How many GPUs there are is the one thing that is made up: the arithmetic over it is ours."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1 << 40}))
    assert choose_machine("cuda", None, None).concurrent == 4
    assert choose_machine("cuda", None, 0.5).concurrent == 8
    assert choose_machine("cuda", None, 0.6).concurrent == 4, "a part lies on a single GPU"
    assert choose_machine("cuda", 9, 0.5).concurrent == 8, "as many as are asked for, but none that would wait"
    with pytest.raises(InputError, match=r"--gpus-per-trial 2: .* trains on one GPU; give --workers-per-trial 2"):
        choose_machine("cuda", None, 2)
    with pytest.raises(InputError, match="--gpus-per-trial 0: .* give --device cpu, or part of a GPU"):
        choose_machine("cuda", None, 0)
    assert choose_machine("cpu", 1, 0).gpus == 0
    with pytest.raises(InputError, match=r"--gpus-per-trial 5: this machine has 4 GPU"):
        choose_machine("cuda", None, 5)


GPU_NODE = {"CPU": 4.0, "GPU": 1.0}


def test_on_a_cluster_it_is_the_cluster_that_has_gpus():
    """This machine has none: the head of a cluster seldom has."""
    machine = share_cluster(Cluster(({}, GPU_NODE, GPU_NODE)), "auto", None, None, "auto")
    assert (machine.concurrent, machine.cpus, machine.gpus) == (2, 4, 1.0)
    assert machine.elsewhere
    halves = share_cluster(Cluster(({}, GPU_NODE, GPU_NODE)), "cuda", None, 0.5, "auto")
    assert (halves.concurrent, halves.cpus, halves.gpus) == (4, 2, 0.5)
    with pytest.raises(InputError, match="--gpus-per-trial 0: "):
        share_cluster(Cluster(({}, GPU_NODE)), "auto", None, 0, "auto")


def test_a_cluster_that_can_grow_is_counted_as_it_may_become():
    empty = Cluster(({},), types=(GPU_NODE,), more=8)
    machine = share_cluster(empty, "auto", None, None, "auto")
    assert (machine.concurrent, machine.at_most, machine.gpus) == (8, None, 1.0)
    assert share_cluster(empty, "cuda", 3, None, "auto").concurrent == 3
    unknown = Cluster(({},), unknown=True)
    assert share_cluster(unknown, "cuda", None, None, "auto").concurrent == 1
    assert share_cluster(unknown, "auto", None, None, "auto").gpus == 0, "nobody knows of any"


def test_trials_of_a_cluster_on_its_cpus_have_one_each_or_their_share():
    nodes = Cluster(({"CPU": 2.0}, {"CPU": 6.0}))
    assert [share_cluster(nodes, "cpu", n, None, "x").cpus for n in (None, 8, 4, 2, 1)] == [1, 1, 2, 3, 6]
    assert share_cluster(nodes, "auto", None, None, "x").concurrent == 8


@pytest.mark.parametrize(
    ("device", "gpus", "says"),
    [
        ("cuda", None, r"no node of this cluster has 1 GPU and 1 CPU for a trial.*give --device cpu"),
        ("cpu", 1.0, r"--gpus-per-trial 1: trials with --device cpu use none"),
    ],
)
def test_what_no_node_can_hold_is_refused(device, gpus, says):
    with pytest.raises(InputError, match=says):
        share_cluster(Cluster(({"CPU": 2.0},)), device, None, gpus, "auto")
    with pytest.raises(InputError, match="lower --gpus-per-trial; the most that a machine has is 1"):
        share_cluster(Cluster((GPU_NODE,)), "cuda", None, 2, "auto")


def test_workers_of_a_trial_divide_what_there_is(monkeypatch):
    """How many cores and GPUs there are is made up, as above."""
    monkeypatch.setattr("raysearch.workers.machine._cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1 << 40}))
    on_cpu = choose_machine("cpu", None, None, workers=3)
    assert (on_cpu.concurrent, on_cpu.workers, on_cpu.cpus, on_cpu.gpus) == (2, 3, 1, 0.0)
    assert choose_machine("cpu", 1, None, workers=3).cpus == 2
    on_gpus = choose_machine("cuda", None, None, workers=2)
    assert (on_gpus.concurrent, on_gpus.gpus) == (2, 1.0), "each worker has one"
    assert choose_machine("cuda", None, 2, workers=2) == on_gpus
    many = share_cluster(Cluster((GPU_NODE,) * 48), "cuda", 3, None, "auto", workers=16)
    assert (many.concurrent, many.gpus, many.cpus) == (3, 1.0, 4)


@pytest.mark.parametrize(
    ("device", "gpus", "says"),
    [
        ("cpu", None, "--workers-per-trial 9: this machine has 8 core(s); lower it, or join"),
        ("cuda", None, "--workers-per-trial 9: this machine has 4 GPU(s)"),
        ("cuda", 4, "--gpus-per-trial 4 with --workers-per-trial 9: each worker needs a GPU of its own; give 9"),
        ("mps", None, "--workers-per-trial 9: --device mps has one GPU, which workers cannot share"),
    ],
)
def test_workers_that_there_is_no_room_for_are_refused(monkeypatch, device, gpus, says):
    monkeypatch.setattr("raysearch.workers.machine._cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(InputError, match=re.escape(says)):
        choose_machine(device, None, gpus, workers=9)


# ---- a new search ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fills_in_what_was_not_said(flags, preset):
    settings = resolve(flags(preset=preset)).settings
    wanted = spending(preset, 60)
    named = {field.name: getattr(wanted, field.name) for field in fields(wanted)}
    named["fold_seeds"] = named.pop("seeds")
    assert {key: getattr(settings, key) for key in named} == named
    assert settings.rungs[-1] == wanted.max_epochs
    assert 3 <= settings.rungs[0] < 6, "the space wants 3 or more, and halves"
    assert (settings.heads, settings.reduction) == (4, 2)


def test_few_images_are_compared_on_more_folds_and_for_as_long_as_for_good(flags):
    few, many = spending("quick", FEW_IMAGES - 1), spending("quick", FEW_IMAGES)
    assert many == spending("quick", None) == PRESETS["quick"]
    assert (few.folds, few.fold_length) == (4, few.final_length)
    assert replace(few, folds=many.folds, fold_length=many.fold_length) == many
    assert spending("best", 50) == PRESETS["best"], "which has more folds, each as long, anyway"
    assert resolve(flags(preset="quick", folds=2)).settings.folds == 2, "what is said wins"


def test_what_is_said_wins_over_the_preset(flags):
    said = {
        "trials": 5,
        "max_epochs": 4,
        "refits": 0,
        "seed": 7,
        "fit": "pad",
        "metric": "recall:red",
        "require": ("precision:red>=0.5", "loss<=2"),
        "image_size": 24,
    }
    settings = resolve(flags(preset="best", time_budget="1h", **said)).settings
    assert {key: getattr(settings, key) for key in said} == said
    assert settings.time_budget == 3600


def test_defaults_need_no_flag_but_the_space(flags):
    settings = resolve(replace(flags(), space="fine_tune", data=None, backbone=None, weights="random")).settings
    assert (settings.data, settings.image_size, settings.metric) == ("cifar10-mini", 32, "accuracy")
    assert (settings.backbone, settings.fit, settings.seed, settings.preset) == ("densenet121", "squash", 0, "default")


def test_the_job_is_what_the_flags_say(flags, photos):
    job = resolve(flags(metric="loss", seed=3))
    assert job.dataset.classes == CLASSES
    assert job.dataset.source == photos
    assert (job.rules.metric, job.rules.larger_is_better, job.rules.rungs) == ("val_loss", False, job.settings.rungs)
    recipe = job.space.recipe({}, job.settings.max_epochs)
    assert (recipe.backbone, recipe.weights, recipe.seed) == ("simple_cnn", "random", 3)
    assert (recipe.image_size, recipe.fit) == (job.dataset.image_size, job.dataset.fit)
    assert job.weights.again == recipe.weights, "auto is what auto found"


def test_a_quick_look_does_everything_once(flags):
    job = resolve(flags(fast_dev_run=True))
    settings = job.settings
    assert (settings.trials, settings.heads, settings.max_epochs, settings.refits) == (1, 1, 1, 1)
    assert settings.rungs == (1,)
    assert settings.max_batches == 2
    assert [stage.epochs for stage in job.space.recipe({}, settings.max_epochs).schedule] == [1, 1]


def test_heads_that_would_all_be_the_same_are_trained_once(flags, tmp_path):
    given = flags()
    path = tmp_path / "mine.py"
    path.write_text(
        SPACE.replace("tune.loguniform(1e-4, 1e-2)", "1e-3").replace(
            '{"learning_rate": 1e-3}, {"depth": 2}', '{}, {"depth": 2}'
        )
    )
    assert resolve(given).settings.heads == 1


def test_what_a_space_fixes_is_used_for_data_and_weights_too(flags):
    job = resolve(flags(more='"image_size": 24, "fit": "crop", "seed": 5,'))
    assert (job.dataset.image_size, job.dataset.fit) == (24, "crop")
    assert (job.settings.image_size, job.settings.fit, job.settings.seed) == (24, "crop", 5)
    assert job.space.recipe({}, 1).seed == 5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"trials": 0}, "--trials 0: must be at least 1"),
        ({"trials": -3}, "--trials -3: must be at least 1"),
        ({"max_epochs": 0}, "--max-epochs 0: must be at least 1"),
        ({"max_epochs": -1}, "--max-epochs -1: must be at least 1"),
        ({"image_size": 0}, "--image-size 0: must be at least 8"),
        ({"image_size": 5000}, "image size must be 8 to 4096 pixels, got 5000"),
        ({"refits": -1}, "--refits -1: must be at least 0"),
        ({"concurrent": 0}, "--concurrent 0: must be at least 1"),
        ({"refit_workers": 0}, "--refit-workers 0: must be at least 1"),
        ({"workers_per_trial": 0}, "--workers-per-trial 0: must be at least 1"),
        ({"workers_per_trial": 4096, "device": "cpu"}, "--workers-per-trial 4096: this machine has"),
        ({"seed": -1}, "--seed -1: must be at least 0"),
        ({"seed": 2**32}, "--seed 4294967296: must be below 2**32"),
        ({"gpus_per_trial": -1.0}, "--gpus-per-trial -1.0: must be a fraction from 0 to 1, or a whole number"),
        ({"gpus_per_trial": 1.5}, "--gpus-per-trial 1.5: must be a fraction from 0 to 1, or a whole number"),
        ({"gpus_per_trial": float("nan")}, "--gpus-per-trial nan: must be a fraction"),
        ({"gpus_per_trial": 64.0}, "--gpus-per-trial 64: this machine has"),
        ({"time_budget": ""}, "--time-budget : not a duration"),
        ({"time_budget": "soon"}, "--time-budget soon: not a duration"),
        ({"metric": "acuracy"}, "metric 'acuracy' is unknown; did you mean 'accuracy'?"),
        ({"metric": "recall:rot"}, "metric 'recall:rot': there is no class 'rot'; did you mean 'recall:red'?"),
        ({"metric": "recall_red"}, "metric 'recall_red' is written 'recall:red' now"),
        ({"metric": "recall:red,precision:rot"}, "metric 'precision:rot': there is no class 'rot'"),
        ({"metric": "accuracy,accuracy"}, "names accuracy twice"),
        ({"require": ("recall:rot>=0.9",)}, "there is no class 'rot'; did you mean 'recall:red'?"),
        ({"require": ("recall:red=0.9",)}, "--require 'recall:red=0.9': write METRIC>=NUMBER"),
        ({"require": ("recall:red<=0.9",)}, "recall:red is better higher; write recall:red>=0.9"),
        ({"require": ("recall:red>=97",)}, "recall:red is from 0 to 1; 97 % is 0.97"),
        ({"require": ("loss<=low",)}, "'low' is no number"),
        ({"device": "tpu"}, "tpu"),
        ({"backbone": "simple_cn"}, "unknown backbone 'simple_cn': did you mean simple_cnn?"),
        ({"space": None}, "--space NAME is missing"),
        ({"space": "fine_tun"}, "did you mean fine_tune?"),
        ({"data": "nowhere/at/all"}, "nowhere/at/all"),
        ({"weights": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"weights": "imagenet"}, "weights imagenet: simple_cnn has none"),
        ({"image_size": 8}, "image size 8: simple_cnn needs at least 16 px"),
    ],
)
def test_one_bad_flag_is_one_clear_problem(flags, changes, says):
    (found,) = problems_of(flags(**changes))
    assert says in found


@pytest.mark.parametrize(
    ("more", "changes", "says"),
    [
        ('"backbone": "simple_cnn",', {"backbone": "vgg19", "weights": "random"}, "--backbone vgg19: the space"),
        ('"image_size": 24,', {"image_size": 32}, "--image-size 32: the space"),
        ('"seed": 1,', {"seed": 2}, "fixes it at 1"),
        ('"weights": "random",', {"weights": "auto"}, "--weights auto: the space"),
    ],
)
def test_a_flag_cannot_change_what_the_space_fixes(flags, more, changes, says):
    (found,) = problems_of(flags(more, **changes))
    assert says in found


def test_class_weights_name_classes_of_the_data(flags, tmp_path):
    given = flags()
    path = tmp_path / "mine.py"
    path.write_text(
        SPACE.replace('{"red": 2.0}', 'tune.choice([{"red": 2.0}, {"rad": 3.0}])').replace(
            '{"depth": 2}', '{"depth": 2, "class_weights": {"red": 2.0}}'
        )
    )
    (found,) = problems_of(given)
    assert "schedule.1.class_weights of the space mine names the class 'rad'" in found
    assert "did you mean red?" in found


@pytest.mark.parametrize("name", SHARED)
def test_what_all_trials_share_is_a_flag_a_setting_and_a_field_of_the_recipe(name):
    assert name in Recipe.model_fields
    assert name in Settings.model_fields
    assert hasattr(Flags(), name)
    assert Settings.model_fields[name].annotation == Recipe.model_fields[name].annotation


def test_everything_that_is_wrong_is_said_at_once_before_an_image_is_decoded(flags, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    bad = {"trials": 0, "max_epochs": -2, "image_size": 0, "concurrent": 0, "refit_workers": -1, "time_budget": "soon"}
    bad |= {"metric": "acuracy", "backbone": "vgg91", "gpus_per_trial": -1.0, "seed": -1, "refits": -1}
    (tmp_path / "run").mkdir()
    found = problems_of(flags('"poling": "avg",', **bad), tmp_path / "run")
    pieces = [
        "--trials 0",
        "--max-epochs -2",
        "--image-size 0",
        "--concurrent 0",
        "--refit-workers -1",
        "soon",
        "acuracy",
    ]
    pieces += ["vgg91", "--gpus-per-trial -1.0", "--seed -1", "--refits -1", "poling", "is there already"]
    for piece in pieces:
        assert sum(piece in problem for problem in found) == 1, (piece, found)
    assert len(found) == len(pieces)
    assert not (tmp_path / "cache" / "pixels").exists()


def test_bad_data_is_said_beside_bad_flags(flags):
    found = problems_of(flags(data="nowhere", trials=0, metric="acuracy", space="zzz", weights="nowhere.pt"))
    assert len(found) == 5


def test_a_storage_is_tried_before_an_image_is_decoded_and_left_as_it_was(flags, tmp_path, monkeypatch):
    there = tmp_path / "there"
    job = resolve(flags(storage=f"{there.as_uri()}/"), tmp_path / "one")
    assert job.settings.storage == job.storage.uri == there.as_uri()
    assert list(there.iterdir()) == []
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "file").write_text("")
    found = problems_of(flags(storage=(tmp_path / "file").as_uri(), trials=0))
    assert [problem.split(":")[0] for problem in found] == ["--trials 0", "--storage file"]
    assert "cannot be written, read and deleted in" in found[1]
    assert not (tmp_path / "cache").exists()


def test_a_run_that_is_in_the_storage_is_not_overwritten(flags, tmp_path):
    uri = (tmp_path / "there").as_uri()
    (tmp_path / "there" / "one").mkdir(parents=True)
    (tmp_path / "there" / "one" / "run.json").write_text("{}")
    (found,) = problems_of(flags(storage=uri), tmp_path / "one")
    assert f"the run {uri}/one is there already: go on with it by --resume {uri}/one" in found
    assert resolve(flags(storage=uri), tmp_path / "two").storage is not None


# ---- heads alone -------------------------------------------------------------------------------------------------


@pytest.fixture
def head_flags(flags, tmp_path):
    """Flags of a search for heads alone, in a space of this text."""

    def head_flags(text: str = HEADS, **changes) -> Flags:
        (tmp_path / "heads.py").write_text(text, encoding="utf-8")
        return flags(space=str(tmp_path / "heads.py"), **changes)

    return head_flags


@pytest.mark.parametrize("preset", PRESETS)
def test_a_search_for_heads_has_the_spaces_budget_whatever_the_preset(head_flags, preset):
    job = resolve(head_flags(preset=preset))
    assert (job.settings.heads, job.settings.trials) == (20, 0)
    assert job.settings.max_epochs == 30, "epochs of heads are cheap: a preset's are for trials"
    assert [stage.epochs for stage in job.space.recipe({}, job.settings.max_epochs).schedule] == [30]
    assert job.head_rungs == (10, 30)
    assert job.settings.refits == PRESETS[preset].refits


def test_heads_train_as_long_as_the_space_says(head_flags):
    job = resolve(head_flags(HEADS.replace('"epochs": 30', '"epochs": 60')))
    assert (job.settings.max_epochs, job.head_rungs[-1]) == (60, 60)
    assert [stage.epochs for stage in job.space.recipe({}, job.settings.max_epochs).schedule] == [60]


def test_more_folds_than_a_class_has_images_are_refused_before_the_search(head_flags):
    (found,) = problems_of(head_flags(HEADS.replace("heads=20", "heads=20, folds=50")))
    assert "50 folds need 50 training images of every class" in found


def test_of_a_search_for_heads_trials_are_heads_and_epochs_can_be_fewer(head_flags):
    job = resolve(head_flags(trials=7, max_epochs=12))
    assert (job.settings.heads, job.settings.trials) == (7, 0)
    assert [stage.epochs for stage in job.space.recipe({}, job.settings.max_epochs).schedule] == [12]
    assert job.head_rungs == (4, 12)


@pytest.mark.parametrize(("text", "trials", "heads"), [(GRID, None, 12), (GRID, 5, 5), (GRID, 50, 12), (HEADS, 50, 50)])
def test_a_grid_has_no_more_heads_than_points(head_flags, text, trials, heads):
    assert resolve(head_flags(text, trials=trials)).settings.heads == heads


def test_a_grid_has_no_more_trials_than_points(flags, tmp_path):
    given = flags(trials=50)
    text = SPACE.replace("heads=4", 'heads=4, sampler="grid"')
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    settings = resolve(given).settings
    assert (settings.heads, settings.trials) == (4, 2), "the heads' own learning rates are drawn as ever"


def test_a_quick_look_at_heads_trains_one_for_an_epoch(head_flags):
    job = resolve(head_flags(fast_dev_run=True, trials=9))
    assert (job.settings.heads, job.settings.trials, job.head_rungs) == (1, 0, (1,))
    assert [stage.epochs for stage in job.space.recipe({}, job.settings.max_epochs).schedule] == [1]


def test_a_search_for_heads_without_anything_to_search_trains_one(head_flags):
    text = HEADS.replace("tune.loguniform(1e-3, 1e-2)", "1e-2").replace("tune.choice([0.0, 0.2, 0.4])", "0.2")
    text = text.replace('tune.choice(["avg", "max"])', '"avg"').split("default =")[0] + "default = {}\n"
    assert resolve(head_flags(text, trials=9)).settings.heads == 1


@pytest.fixture
def head_run(head_flags, tmp_path):
    """A run of two heads, as the search leaves it."""
    job = resolve(head_flags(trials=2, max_epochs=2))
    run = Run.create(tmp_path / "heads", job.settings.model_dump(mode="json"))
    fingerprints = {"data": job.dataset.fingerprint, "weights": job.weights.digest}
    run.update_info(fingerprints=fingerprints, classes=list(job.dataset.classes))
    bench = Bench(job.dataset, job.weights, torch.device("cpu"), "fp32")
    rates = (1e-2, 1e-3)
    recipes = [job.space.recipe({"schedule.0.learning_rate": rate}, 2) for rate in rates]
    heads = tuple(PackHead(f"h{n:04d}", recipe) for n, recipe in enumerate(recipes))
    for head in heads:
        begun = {"segment": "1", "stage": 0, "from_epoch": 0, "to_epoch": 2, "pack": 0}
        run.append(Proposal(None, {}, head.recipe, stage=0).made(head.trial) | {"pack": 0})
        run.append({"event": "segment", "trial": head.trial, **begun})
    work = PackWork(bench, run.folder / "checkpoints", Pack(heads), folds=0, reduction=3, first_rung_epochs=None)
    while work.running:
        for result in work.step():
            if result.finished:
                end = {"trial": result.trial, "segment": "1", "epoch": 2, "finished": True, "best": result.best}
                run.append({"event": "segment_end", "seconds": 1.0, **end})
    return run


FITTING = '"pooling": tune.choice(["avg", "max"]),'


def test_a_search_may_start_from_the_head_of_a_run(flags, head_run, tmp_path):
    given = flags(FITTING, head=str(head_run.folder), trials=3)
    path = Path(given.space)
    path.write_text(path.read_text().replace("default = {", 'default = {"pooling": "max", '), encoding="utf-8")
    job = resolve(given)
    assert (job.settings.heads, job.settings.trials, job.settings.head) == (1, 3, str(head_run.folder))
    assert job.head is not None
    recipe = job.space.recipe({}, 5)
    assert (recipe.pooling, recipe.schedule[0]) == ("avg", job.head.recipe.schedule[0])
    assert job.space.head_paths() == []
    # A resume knows it from run.json alone.
    info = {
        "settings": json.loads(json.dumps(job.settings.model_dump(mode="json"))),
        "fingerprints": {"data": job.dataset.fingerprint, "weights": job.weights.digest},
        "head": {"trial": job.head.trial, "recipe": job.head.recipe.model_dump(mode="json")},
    }
    resumed = reopen(info, path, Flags(resume="it"))
    assert resumed.settings == job.settings
    assert resumed.space.recipe({}, 5) == recipe
    assert resumed.space.distributions == job.space.distributions


AVG = '"pooling": "avg",'


def met(problems: list[str]) -> list[str]:
    """Those of a head that knows images; another seed draws other random weights, too."""
    return [one for one in problems if "was trained on, or chosen by" in one]


def test_a_head_that_does_not_fit_is_said_beside_all_else(flags, head_run, tmp_path):
    found = problems_of(
        flags('"pooling": "max",', head=str(head_run.folder), weights="random", seed=3, metric="acuracy")
    )
    assert sum("--head" in problem and "the base weights" in problem for problem in found) == 1
    assert sum("--head" in problem and "the pooling is avg, here max" in problem for problem in found) == 1
    assert len(met(found)) == 1
    assert sum("'acuracy'" in problem for problem in found) == 1
    assert len(found) == 4
    found = problems_of(flags(head="nowhere", trials=0))
    assert len(found) == 2
    assert any("no run 'nowhere'" in problem for problem in found)


def test_a_head_that_was_trained_on_what_is_held_out_here_is_refused(flags, head_run, tmp_path):
    (found,) = met(problems_of(flags(AVG, head=str(head_run.folder), seed=7)))
    assert re.search(
        r"heads was trained on, or chosen by, \d+ of the validation images and \d+ of the test images", found
    )
    assert "with --seed 0), or go on with that run: --continue" in found
    other = str(write_pictures(tmp_path / "other", 10, first_seed=500))
    assert not any(
        "--head" in doubt.what
        for doubt in resolve(flags(AVG, head=str(head_run.folder), data=other)).dataset.account.doubts
    )


def test_a_part_of_the_same_split_trains_a_head_for_all_of_it(head_flags, flags, head_run):
    half = resolve(head_flags(fraction=0.5))
    head_run.update_info(
        settings=half.settings.model_dump(mode="json"),
        fingerprints={"data": half.dataset.fingerprint, "weights": half.weights.digest},
    )
    job = resolve(flags(AVG, head=str(head_run.folder)))
    assert job.dataset.fingerprint != half.dataset.fingerprint
    assert not any("--head" in doubt.what for doubt in job.dataset.account.doubts)


def test_a_head_of_which_nobody_knows_the_images_is_warned_of(flags, head_run):
    settings = head_run.info["settings"] | {"data": "gone"}
    head_run.update_info(settings=settings, fingerprints=head_run.info["fingerprints"] | {"data": "0" * 64})
    job = resolve(flags(AVG, head=str(head_run.folder)))
    (told,) = [doubt.line() for doubt in job.dataset.account.doubts if "--head" in doubt.what]
    assert "nobody can tell whether h000" in told
    (found,) = [one for one in problems_of(flags(AVG, head=str(head_run.folder), strict=True)) if "--head" in one]
    assert found == f"--strict: {told}"


def test_a_head_knows_the_images_of_the_run_that_trained_it_and_of_no_run_that_took_it_over(flags, head_run, tmp_path):
    other = resolve(flags(seed=7))
    second = Run.open(shutil.copytree(head_run.folder, tmp_path / "second"))
    second.update_info(
        settings=other.settings.model_dump(mode="json") | {"head": str(head_run.folder)},
        fingerprints=head_run.info["fingerprints"] | {"data": other.dataset.fingerprint},
    )
    (found,) = met(problems_of(flags(AVG, head=str(second.folder), seed=7)))
    assert "Split the images as heads did" in found
    resolve(flags(AVG, head=str(second.folder)))


def test_heads_of_a_space_for_heads_alone_start_from_none(head_flags, head_run):
    (found,) = problems_of(head_flags(head=str(head_run.folder)))
    assert found == "--head cannot be used with the space heads: it searches heads itself"


def test_what_is_no_run_with_heads_cannot_be_started_from(flags, tmp_path):
    empty = Run.create(tmp_path / "empty", {"metric": "accuracy"})
    (found,) = problems_of(flags(head=str(empty.folder)))
    assert "--head empty: that run has no trained head" in found


# ---- a run that is resumed ---------------------------------------------------------------------------------------


@pytest.fixture
def saved(flags, tmp_path):
    """A job, and what its run folder would say of it."""
    job = resolve(flags(time_budget="1h", trials=6, max_epochs=4, seed=2))
    info = {
        "settings": json.loads(json.dumps(job.settings.model_dump(mode="json"))),
        "fingerprints": {"data": job.dataset.fingerprint, "weights": job.weights.digest},
    }
    (tmp_path / "space.py").write_text(job.space.source, encoding="utf-8")
    return job, info, tmp_path / "space.py"


def again(saved, **flags) -> Job:
    return reopen(saved[1], saved[2], Flags(resume="it", **flags))


def reopen_problems(saved, **flags) -> list[str]:
    with pytest.raises(InputError) as caught:
        again(saved, **flags)
    return list(caught.value.problems)


@pytest.mark.parametrize("short", [False, True])
def test_a_resumed_job_is_the_same_job(flags, tmp_path, saved, short):
    job = resolve(flags(fast_dev_run=True)) if short else saved[0]
    saved[1]["settings"] = job.settings.model_dump(mode="json")
    saved[1]["fingerprints"] = {"data": job.dataset.fingerprint, "weights": job.weights.digest}
    resumed = again(saved)
    assert resumed.settings == job.settings.model_copy(update={"time_budget": None})
    assert resumed.rules == job.rules
    assert resumed.dataset.fingerprint == job.dataset.fingerprint
    params = {"schedule.1.depth": 1, "schedule.0.learning_rate": 5e-3}
    assert resumed.space.recipe(params, 4) == job.space.recipe(params, 4)
    assert resumed.space.distributions == job.space.distributions


def test_a_resume_may_add_trials_and_time(saved):
    assert again(saved, trials=40).settings.trials == 40
    assert again(saved, time_budget="5m").settings.time_budget == 300
    assert again(saved, trials=6).settings.trials == 6


def test_a_resume_may_take_other_workers_and_then_divides_the_machine_anew(saved, monkeypatch):
    monkeypatch.setattr("raysearch.workers.machine._cores", lambda: 8)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1 << 40}))
    saved[1]["settings"] |= {"concurrent": 5, "cpus_per_trial": 3}
    as_before, others = again(saved).machine, again(saved, workers_per_trial=4).machine
    assert (as_before.workers, as_before.concurrent, as_before.cpus) == (1, 5, 3)
    assert (others.workers, others.concurrent, others.cpus) == (4, 2, 1)


def test_what_a_resume_cannot_do_is_said_at_once(saved, flags):
    assert reopen_problems(saved, trials=5) == ["--trials 5: the run has 6 already; it can only grow"]
    found = reopen_problems(saved, trials=0, time_budget="soon", concurrent=0, refit_workers=0, gpus_per_trial=-1.0)
    assert len(found) == 5


def test_other_images_or_weights_are_not_the_same_run(saved):
    saved[1]["fingerprints"] = {"data": "0", "weights": "0"}
    found = reopen_problems(saved, trials=2)
    assert [("images" in problem, "weights" in problem) for problem in found[1:]] == [(True, False), (False, True)]
    assert len(found) == 3


@pytest.mark.parametrize("info", [{}, {"settings": {"space": "x"}, "fingerprints": {}}])
def test_a_run_that_broke_off_before_it_began_is_refused(saved, info):
    with pytest.raises(InputError, match="broke off before it began"):
        reopen(info, saved[2], Flags(resume="it"))
    with pytest.raises(InputError, match="broke off before it began"):
        reopen({"settings": saved[1]["settings"]}, saved[2], Flags(resume="it"))


@pytest.fixture
def saved_heads(head_flags, tmp_path):
    """As `saved`, of a search for heads alone in a space of this text."""

    def saved_heads(text: str = HEADS, **changes):
        job = resolve(head_flags(text, **changes))
        info = {
            "settings": json.loads(json.dumps(job.settings.model_dump(mode="json"))),
            "fingerprints": {"data": job.dataset.fingerprint, "weights": job.weights.digest},
        }
        return job, info, tmp_path / "heads.py"

    return saved_heads


def test_a_resumed_search_for_heads_is_the_same_and_may_only_grow(saved_heads):
    saved = saved_heads(trials=9)
    assert again(saved).settings == saved[0].settings
    assert again(saved).head_rungs == saved[0].head_rungs
    grown = again(saved, trials=30).settings
    assert (grown.heads, grown.trials) == (30, 0)
    assert reopen_problems(saved, trials=8) == ["--trials 8: the run has 9 already; it can only grow"]


def test_a_resumed_grid_has_no_more_heads_than_points(saved_heads):
    saved = saved_heads(GRID, trials=9)
    assert again(saved, trials=12).settings.heads == 12
    (found,) = reopen_problems(saved, trials=50)
    assert found == "--trials 50: the space has 12 combinations; widen it and start a new run"


# ---- trees -------------------------------------------------------------------------------------------------------


@pytest.fixture
def resolved(photos, tmp_path):
    """A job of one of the spaces above."""

    def resolved(text: str, **changes):
        (tmp_path / "other.py").write_text(text, encoding="utf-8")
        given = {"space": str(tmp_path / "other.py"), "data": photos, "backbone": "simple_cnn", "quiet": True}
        return resolve(Flags(**given | changes))

    return resolved


def test_a_tree_shares_trials_and_epochs_among_its_levels(resolved):
    job = resolved(TREE, trials=20, max_epochs=12)
    assert job.settings.trials == 20
    assert job.rules.levels == (1, 2, 3)
    assert job.rules.tested
    assert job.rules.beam == 2
    assert job.settings.rungs[-1] == 4, "a path has 12 epochs, a level of three 4"
    assert resolved(TREE, fast_dev_run=True).settings.trials == 6, "of each level a trial and its control"


def test_a_schedule_by_hand_trains_each_stage_once(resolved):
    job = resolved(BY_HAND)
    assert (job.settings.heads, job.settings.trials) == (1, 3)
    assert not job.rules.tested
    assert resolved(BY_HAND, fast_dev_run=True).settings.trials == 3


@pytest.mark.parametrize("space", ["unfreeze_schedule", "keras_report"])
def test_the_shipped_trees_open_blocks_one_by_one(photos, space):
    job = resolve(Flags(space=space, data=photos, quiet=True, weights="random"))
    depths = [stage.depth for stage in job.space.recipe({}, 12).schedule]
    assert depths == [0, 1, 2, 3]
    assert job.rules.tested == (space == "unfreeze_schedule")


def test_a_table_and_its_folder_are_found_again_by_a_resume(flags, tmp_path, photos, monkeypatch):
    """Names without an ending, and images in another folder: both flags are kept, the folder in full."""
    listed = tmp_path / "elsewhere"
    listed.mkdir()
    rows = []
    for file in sorted(Path(photos).rglob("*.png")):
        shutil.copy(file, listed / f"{file.parent.name}{file.stem}.png")
        rows.append(f"{file.parent.name}{file.stem},{file.parent.name},x")
    (tmp_path / "list.csv").write_text("code,kind,label\n" + "\n".join(rows))
    monkeypatch.chdir(tmp_path)
    said = {"data": "list.csv", "images": Path("elsewhere"), "columns": "path=code,label=kind"}
    job = resolve(flags(**said))
    assert job.dataset.classes == CLASSES
    saved = {
        "settings": json.loads(json.dumps(job.settings.model_dump(mode="json"))),
        "fingerprints": {"data": job.dataset.fingerprint, "weights": job.weights.digest},
    }
    (tmp_path / "space.py").write_text(job.space.source, encoding="utf-8")
    monkeypatch.chdir("/")
    assert reopen(saved, tmp_path / "space.py", Flags(resume="it")).dataset.fingerprint == job.dataset.fingerprint
    listed.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"--images .*elsewhere is no folder"):
        reopen(saved, tmp_path / "space.py", Flags(resume="it"))
    moved = Flags(resume="it", images=tmp_path / "moved")
    assert reopen(saved, tmp_path / "space.py", moved).dataset.fingerprint == job.dataset.fingerprint
    del saved["settings"]["images"], saved["settings"]["columns"]  # as a run from before wrote them
    assert Settings.model_validate(saved["settings"]).images is None


def test_columns_that_are_not_written_so_are_a_problem_among_others(flags):
    found = problems_of(flags(columns="file", trials=0, images=Path("nowhere")))
    assert sum("--columns file" in problem or "--images nowhere" in problem for problem in found) == 2
    assert len(found) == 3
