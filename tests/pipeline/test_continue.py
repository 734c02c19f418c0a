"""`--continue RUN --data SOURCE`, in this process: where it begins, and what it says of what was known before."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest

from raysearch.cli.main import main as raysearch
from raysearch.data.continued import EarlierImages
from raysearch.errors import InputError
from raysearch.job.earlier import Earlier, grown
from raysearch.job.images import images_of, settings_of
from raysearch.pipeline.entry import search
from raysearch.pipeline.first_head import trained_head
from raysearch.pipeline.forgetting import changes
from raysearch.predict import load_best
from raysearch.record.evaluation import Change
from raysearch.reporting.continued import continued_sentences
from raysearch.run import Run
from raysearch.space.load import load_space
from raysearch.training.checkpoint import load_tensors
from raysearch.tune import main
from tests.in_process import without_ray

SPACE = """
from ray import tune

from raysearch.space import Search

space = {
    "pooling": tune.choice(["avg", "max"]),
    "schedule": [
        {"depth": 0, "epochs": 2, "learning_rate": 3e-3, "batch_size": 16, "keep": "last"},
        {"depth": 1, "learning_rate": tune.loguniform(1e-4, 1e-1), "batch_size": 16, "keep": "last"},
    ],
}
default = {"pooling": "avg", "schedule": [{}, {"learning_rate": 1e-4}]}
search = Search(sampler="random", heads=2)
"""
COLORS = {"blue": (0, 0, 40), "green": (0, 40, 0), "red": (40, 0, 0)}


def write(folder, names, numbers):
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            random = np.random.default_rng([number, *name.encode()])
            pixels = random.integers(0, 200, (16, 16, 3)) + np.array(COLORS[name])
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:02}.png")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """Flags of a small search, and the finished run of one on two classes."""
    root = tmp_path_factory.mktemp("continue")
    write(root / "photos", ("blue", "red"), range(24))
    write(root / "more", ("blue", "green"), range(10, 40))
    write(root / "more", ("red",), range(10))
    (root / "space.py").write_text(SPACE, encoding="utf-8")
    more = ["--trials", "2", "--max-epochs", "2", "--refits", "1", "--folds", "0", "--quiet", "--cache", "off"]
    more += ["--results", str(root / "results")]
    flags = ["--space", str(root / "space.py"), "--data", str(root / "photos"), "--backbone", "simple_cnn"]
    with without_ray():
        assert main([*flags, "--weights", "random", "--seed", "3", *more, "--run-name", "first"]) == 0
    return root, more


@pytest.fixture(scope="module")
def second(desk) -> Run:
    root, more = desk
    flags = ["--continue", "first", "--data", str(root / "more"), *more, "--run-name", "second"]
    with without_ray():
        assert main(flags) == 0
    return Run.open("second", root / "results")


def earlier_of(desk) -> Earlier:
    return Earlier.open("first", desk[0] / "results")


def test_the_recipe_of_the_run_is_the_default(desk, second):
    chosen = earlier_of(desk).recipe
    assert (chosen.backbone, chosen.seed) == ("simple_cnn", 3)
    default = next(event for event in second.events() if event["event"] == "trial" and event["trial"] == "t0000")
    assert default["role"] == "default"
    assert default["recipe"]["schedule"][1]["learning_rate"] == chosen.schedule[1].learning_rate
    assert default["recipe"]["pooling"] == chosen.pooling
    space = load_space(str(second.folder / "space.py"), fixed=settings_of(second).shared)
    assert space.default["schedule.1.learning_rate"] == chosen.schedule[1].learning_rate


def test_the_recipe_is_the_default_where_its_network_has_ranges_of_its_own(desk):
    root, _ = desk
    shutil.copytree(root / "results" / "first", root / "results" / "own")
    file = root / "results" / "own" / "space.py"
    wider = '{"simple_cnn": {"schedule.1.learning_rate": tune.loguniform(1e-5, 1.0)}}'
    file.write_text(SPACE.replace("heads=2", f"heads=2, per_backbone={wider}"), encoding="utf-8")
    earlier = Earlier.open("own", root / "results")
    (root / "own.py").write_text(earlier.space_text(), encoding="utf-8")
    default = load_space(str(root / "own.py"), fixed=earlier.settings.shared).only("simple_cnn").default
    assert default["schedule.1.learning_rate"] == pytest.approx(earlier.recipe.schedule[1].learning_rate)
    assert default["pooling"] == earlier.recipe.pooling


def test_the_head_begins_with_the_rows_of_the_classes_that_are_the_same(desk, second):
    earlier = earlier_of(desk)
    same = {"blue": "blue", "red": "red"}
    tensors = grown(earlier.head, ("blue", "green", "red"), same)
    before = earlier.head.tensors
    weight, bias = tensors["head.linear.weight"], tensors["head.linear.bias"]
    assert torch.equal(weight[[0, 2]], before["head.linear.weight"])
    assert torch.equal(bias[[0, 2]], before["head.linear.bias"])
    bound = weight.shape[1] ** -0.5  # of torch's own initialisation
    assert 0 < weight[1].abs().max() <= bound
    swapped = grown(earlier.head, ("red", "blue"), same)
    assert torch.equal(swapped["head.linear.weight"], before["head.linear.weight"][[1, 0]])
    events = second.events()
    assert [event["trial"] for event in events if event["event"] == "trial" and event["stage"] == 0] == ["h0000"]
    kept, about = load_tensors(second.folder / "checkpoints" / "h0000" / "best.safetensors")
    assert kept["head.linear.weight"].shape == weight.shape
    assert about["epoch"] == 2


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_warm_head_without_an_epoch_answers_as_before(desk, keep):
    earlier, settings = earlier_of(desk), earlier_of(desk).settings
    recipe = earlier.head.recipe
    still = recipe.schedule[0].model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0, "keep": keep})
    told = {"dataset": str(earlier.dataset.folder), "backbone": "simple_cnn", "weights": "random", "seed": 3}
    told |= {"device": "cpu", "precision": "fp32", "metric": "accuracy", "max_batches": None, "halves": False}
    tensors = grown(earlier.head, earlier.dataset.classes, {name: name for name in earlier.dataset.classes})
    _, about = trained_head(told, None, recipe.model_copy(update={"schedule": (still,)}), tensors)
    assert about["row"]["lr"] > 0, "a stage may inherit it, whichever epoch is kept"
    assert about["val_loss"] == pytest.approx(earlier.head.about["val_loss"], abs=1e-5)
    assert settings.seed == 3


def test_forgetting_is_measured_on_the_earlier_test_images(desk, second):
    earlier, found = earlier_of(desk), second.evaluation["continued"]
    images = images_of(settings_of(second))
    assert images.fingerprint == second.info["fingerprints"]["data"]
    places = EarlierImages.of(images.folder).places
    assert found["images"] == len(places) == len(earlier.dataset.test)
    assert 0 < found["found_again"] < found["images"]
    assert (found["run"], found["new"], found["gone"]) == ("first", ["green"], [])

    split = images.test.take(places)

    def right(run: Run) -> np.ndarray:
        best = load_best(run.folder)
        answers = best.predict(np.asarray(split.pixels))["label"]
        return answers.to_numpy() == np.array(images.classes)[split.labels]

    before, after = right(Run(earlier.run.folder)), right(second)
    assert found["accuracy"]["before"] == pytest.approx(before.mean())
    assert found["accuracy"]["after"] == pytest.approx(after.mean())
    assert found["accuracy"]["change"] == pytest.approx(after.mean() - before.mean())
    assert found["accuracy"]["low"] <= found["accuracy"]["change"] <= found["accuracy"]["high"]
    assert sum(one["images"] for one in found["per_class"].values()) == found["images"]
    page = (second.folder / "report.html").read_text(encoding="utf-8")
    assert "What was known before" in page
    assert "test images of first" in page


def test_its_own_test_images_are_measured_again_by_the_command(second, capsys):
    assert raysearch(["evaluate", str(second.folder)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"{second.evaluation['shipped']['test']['accuracy']:.4f}" in told


def test_it_is_resumed_with_the_same_images(second, desk):
    with without_ray():
        assert main(["--resume", str(second.folder), "--quiet", "--trials", "3"]) == 0
    assert len(Run.open(second.folder).trials) == 3


def refused(desk, **flags) -> str:
    from raysearch.job.flags import Flags

    given = {"continue_": "first", "data": str(desk[0] / "more"), "results": desk[0] / "results", "quiet": True}
    with pytest.raises(InputError) as error:
        search(Flags(**{**given, **flags}))
    return "\n".join(error.value.problems)


def test_what_cannot_be_continued_is_refused_with_a_reason(desk):
    root, _ = desk
    assert "--data SOURCE is missing" in refused(desk, data=None)
    assert "--space cannot be used with --continue" in refused(desk, space="fine_tune")
    assert "--continue nothing" in refused(desk, continue_="nothing")
    assert "backbone is simple_cnn, here resnet18; give --backbone simple_cnn" in refused(
        desk, backbone="resnet18", weights="random"
    )
    assert "--continue goes on with one network; name one" in refused(desk, backbone="simple_cnn@16,simple_cnn@32")
    assert "the image size is 32, here 40; give --image-size 32" in refused(desk, backbone="simple_cnn@40")
    assert "the image size is 32, here 40; give --image-size 32" in refused(desk, image_size=40)
    write(root / "others", ("green",), range(20))
    shutil.copytree(root / "others" / "green", root / "others" / "grass")
    for number, path in enumerate(sorted((root / "others" / "grass").iterdir())):
        Image.fromarray(np.full((16, 16, 3), number, np.uint8)).save(path)
    assert "no class is the same: first has blue, red" in refused(desk, data=str(root / "others"))


def test_of_several_networks_and_sizes_the_one_that_won_is_continued(desk):
    root, more = desk
    file = root / "sizes.py"
    sized = SPACE.replace("space = {", 'space = {"image_size": tune.choice([16, 24]),')
    file.write_text(sized.replace("default = {", 'default = {"image_size": 16, '), encoding="utf-8")
    flags = ["--data", str(root / "photos"), "--backbone", "simple_cnn", "--weights", "random", "--seed", "3"]
    with without_ray():
        assert (
            main(["--space", str(file), *flags, *more, "--run-name", "sizes", "--trials", "5", "--metric", "loss"]) == 0
        )
    earlier = Earlier.open("sizes", root / "results")
    assert earlier.dataset.image_size == earlier.recipe.image_size
    assert earlier.recipe.image_size != earlier.settings.image_size, "so that the size is not the search's first"
    assert {one["image_size"] for one in earlier.run.info["networks"]} == {16, 24}
    with without_ray():
        assert main(["--continue", "sizes", "--data", str(root / "more"), *more, "--run-name", "sizes-on"]) == 0
    run = Run.open("sizes-on", root / "results")
    settings = settings_of(run)
    assert settings.networks == ()
    assert settings.image_size == earlier.recipe.image_size
    assert images_of(settings).fingerprint == run.info["fingerprints"]["data"]
    assert run.evaluation["continued"]["images"] == len(earlier.dataset.test)


def test_an_unfinished_run_and_one_without_best_are_refused(desk):
    root, _ = desk
    broken = root / "results" / "broken"
    shutil.copytree(root / "results" / "first", broken)
    shutil.rmtree(broken / "best")
    assert "model.safetensors" in refused(desk, continue_="broken")
    log = (broken / "log.jsonl").read_text(encoding="utf-8").splitlines()
    (broken / "log.jsonl").write_text("\n".join(line for line in log if '"finished"' not in line), encoding="utf-8")
    assert f"that run is not finished; go on with it first: --resume {broken}" in refused(desk, continue_="broken")


def test_images_that_grew_in_place_are_known_from_the_cache_and_others_are_refused(desk, monkeypatch, tmp_path):
    root, _ = desk
    grown_run = root / "results" / "grown"
    shutil.copytree(root / "results" / "first", grown_run)
    write(root / "photos", ("blue",), range(40, 44))
    try:
        found = Earlier.open("grown", root / "results").dataset
        assert found.fingerprint == Run.open(grown_run).info["fingerprints"]["data"]
        monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path))
        with pytest.raises(InputError, match="put those of .* back as they were, and what is new into a folder"):
            Earlier.open("grown", root / "results")
    finally:
        for number in range(40, 44):
            (root / "photos" / "blue" / f"{number:02}.png").unlink()


def answers(*counts: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right before, right after and the label of images: for each class how many were lost, won and kept."""
    states = np.repeat([(True, False), (False, True), (True, True)] * len(counts), np.ravel(counts), axis=0)
    return states[:, 0], states[:, 1], np.repeat(np.arange(len(counts)), np.sum(counts, axis=1))


def told(found: dict[str, Change]) -> str:
    figures = {"run": "r", "images": 1, "found_again": 1, "new": [], "gone": [], "accuracy": found["a"]}
    return " ".join(continued_sentences({"continued": figures | {"per_class": found}}))


@pytest.mark.parametrize(
    ("counts", "surely"),
    [
        ([(2, 0, 0)], False),  # both were right, both are wrong: two coins fall so one time in two
        ([(6, 0, 0)], True),
        ([(6, 0, 20)], True),
        ([(6, 0, 20)] + [(0, 0, 20)] * 19, False),  # one class of twenty loses as much by chance
        ([(12, 0, 20)] + [(0, 0, 20)] * 19, True),
        ([(0, 8, 4)], False),
    ],
)
def test_a_class_is_surely_worse_only_beyond_chance(counts, surely):
    before, after, labels = answers(*counts)
    found = changes(before, after, labels, [chr(97 + number) for number in range(len(counts))])
    assert ("Told surely worse than before: a." in told(found)) == surely
    lost, won, kept = counts[0]
    assert (found["a"]["low"] is None) == (not kept and not (lost and won))
    p = binomtest(lost, lost + won).pvalue
    assert found["a"]["p"] == pytest.approx(min(1, p * len(counts)))


def test_changes_of_runs_from_before_the_test_are_told_by_their_intervals():
    change = {"images": 9, "before": 0.9, "after": 0.4, "change": -0.5, "low": -0.8, "high": -0.2}
    assert "Told surely worse than before: a." in told({"a": change})
    assert "something was forgotten" in told({"a": change})
    assert "surely" not in told({"a": change | {"low": -1.0, "high": -1.0}})
