"""raysearch data, and what commands say of images that are odd."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from raysearch.cli.main import main
from raysearch.data.pixels import load
from raysearch.errors import Problems
from raysearch.job.flags import Flags
from raysearch.job.intake import checked, class_doubts
from raysearch.job.resolve import resolve
from raysearch.record.goal import Goal
from raysearch.reporting.intake import caveats
from raysearch.tune import main as tune
from raysearch.winner.answers import find_images
from raysearch.winner.best_files import write_best
from raysearch.winner.shipment import Shipment
from raysearch.workers.session import short_folder
from tests.data.pictures import fill, picture, put
from tests.trained import CLASSES, RECIPE, classifier, write_pictures


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def leaky(tmp_path: Path, no_extras: None) -> Path:
    """Splits with two training images that are test images, too."""
    root = fill(tmp_path / "d", {f"{s}/{c}": 8 for s in ("train", "val", "test") for c in ("cat", "猫[red]")})
    for number in range(2):
        shutil.copy(root / f"test/cat/{number:03}.png", root / f"train/cat/c{number}.png")
    put(root / "train/cat/x.heic", b"")
    return root


def test_the_account_as_a_table(leaky: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "d"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "2 classes in train/, val/ and test/.",
        "Images: all of 12 x 10 px; 50 RGB.",
        "Passed over: 1 HEIC photos (train/cat/x.heic)",
        "warning: Copies of images lie in several splits: 2 of train are in test too",
    ):
        assert line in shown
    assert "猫[red]" in shown
    assert [word for word in shown.split() if word.isdigit()][:2] == ["8", "8"], "the copies are not counted"


def test_the_account_as_json_and_a_contact_sheet(leaky: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "d", "--json", "--out", "sheet.png"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"]["train"] == {"cat": 8, "猫[red]": 8}
    assert told["copies"]["removed"] == {"train": 2}
    assert told["passed_over"][0] | {"remedy": ""} == {
        "what": "HEIC photos", "count": 1, "examples": ["train/cat/x.heic"], "remedy": "",
    }  # fmt: skip
    with Image.open("sheet.png") as sheet:
        assert sheet.size[0] > 300
    assert main(["data", "d", "--json", "--keep-copies"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["train"]["cat"] == 10


def test_what_is_probably_wrong_is_refused_if_asked(leaky: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "d", "--strict"]) == 2
    assert "--strict" in capsys.readouterr().err
    search = ["--space", "baseline", "--data", "d", "--quiet", "--strict"]
    assert tune(search) == 2
    assert "--strict: Copies of images lie in several splits" in capsys.readouterr().err
    assert not Path("results").exists()


def test_what_is_certainly_wrong_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "d", {"a/cat": 4, "a/dog": 4, "b/cat": 4, "b/dog": 4})
    assert main(["data", "d"]) == 2
    assert "can be read in several ways" in capsys.readouterr().err
    assert main(["data", "nothing"]) == 2
    capsys.readouterr()
    assert main(["data", "d", "--out", "sheet.txt", "--seed", "-1"]) == 2
    told = capsys.readouterr().err
    assert "--out sheet.txt: give a name that ends in .png or .jpg or .jpeg" in told
    assert "--seed must be 0 or more, got -1" in told


def test_the_plan_shows_the_account(leaky: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--space", "baseline", "--backbone", "simple_cnn", "--data", "d", "--image-size", "16", "--plan"]
    assert tune(arguments) == 0
    shown = capsys.readouterr().out
    assert "2 classes in train/, val/ and test/." in shown
    assert "warning: Copies of images" in shown


def test_small_classes_are_told_before_a_search(tmp_path: Path) -> None:
    """Case 37."""
    data = load(str(fill(tmp_path / "d", {"healthy": 150, "ill": 3})), image_size=16, progress=False)
    problems = Problems()
    doubts = "\n".join(doubt.line() for doubt in checked(data, Goal("accuracy"), False, problems).account.doubts)
    assert "ill has 1 validation image." in doubts
    assert "--metric balanced_accuracy" in doubts
    assert "who always answers healthy is right in 99%" in doubts
    assert problems.found == []
    checked(data, Goal("accuracy"), True, problems)
    assert problems.found[0].startswith("--strict: ill has 1 validation image")
    assert class_doubts({"train": {"a": 60, "b": 50}, "val": {"a": 9, "b": 9}, "test": {"a": 9, "b": 9}}, "loss") == []


def test_auroc_needs_both_classes_in_validation(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"train/a": 8, "train/b": 8, "val/a": 8, "test/a": 8, "test/b": 8})
    problems = Problems()
    checked(load(str(root), image_size=16, progress=False), Goal.of("auroc", ["f1:b>=0.5"]), False, problems)
    assert problems.found == [
        "metric 'auroc' needs validation images of b, of which there are none",
        "metric 'f1:b' needs validation images of b, of which there are none",
    ]


def test_a_metric_that_test_images_cannot_measure_is_told_before_a_search(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"train/a": 8, "train/b": 8, "val/a": 8, "val/b": 8, "test/a": 8})
    data, problems = load(str(root), image_size=16, progress=False), Problems()
    told = [doubt.what for doubt in checked(data, Goal.of("accuracy", ["auroc>=0.9"]), False, problems).account.doubts]
    assert "auroc will not be measured on test: there are no images of b." in told
    assert problems.found == []


def test_the_end_says_what_the_figures_hide() -> None:
    rows = {"well": (30, 0.9), "ill": (1, 0.0), "other": (0, 0.0)}
    per_class = {name: {"support": n, "recall": {"mean": recall}} for name, (n, recall) in rows.items()}
    kept = {"leaks": True, "copies": {"across": {"train-test": 7}, "removed": {}}}
    said = caveats(kept, {"test": {"per_class": per_class}})
    assert "7 of train that test has too" in said[0]
    assert said[1:] == [
        "No test image of ill was recognised: its recall is 0.",
        "There are no test images of other: nothing is known of how well it does on them.",
    ]
    removed = {"copies": {"across": {"train-test": 7}, "removed": {"train": 7}}, "leaks": False}
    told = caveats(removed, {"test": {"per_class": {}}})
    assert told == ["Left out, as copies of images that are measured on: 7 images of train."]


@pytest.mark.parametrize("where", ["/proc/nope", "file", "file/below"])
def test_a_cache_that_cannot_be_written(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Case 16."""
    fill(tmp_path / "d", {"cat": 8, "dog": 8})
    put(tmp_path / "file", b"")
    monkeypatch.setenv("RAYSEARCH_CACHE", where)
    assert main(["data", "d"]) == 2
    assert f"The cache {where} cannot be written" in capsys.readouterr().err
    assert tune(["--space", "baseline", "--backbone", "simple_cnn", "--data", "d", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "set RAYSEARCH_CACHE" in said
    assert "Traceback" not in said


def test_results_that_are_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Case 38."""
    put(tmp_path / "file", b"")
    for results in ("file", "file/below"):
        assert tune(["--space", "baseline", "--results", results, "--run-name", "x", "--trials", "0", "--quiet"]) == 2
        said = capsys.readouterr().err
        assert f"--results {results}: file is a file; name a folder" in said
        assert "--resume" not in said
    assert tune(["--resume", "x", "--results", "file"]) == 2
    assert "--results file is a file" in capsys.readouterr().err


def test_a_short_folder_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 17."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp")
    assert short_folder() is None
    (tmp_path / ("x" * 90)).mkdir()
    for unusable in (str(tmp_path / ("x" * 90)), "/nowhere"):
        monkeypatch.setenv("TMPDIR", unusable)
        short = short_folder()
        assert short is not None
        assert len(short) < 30
        Path(short).rmdir()


class TestMeasuring:
    """What a finished classifier is measured on need not be fit to train on."""

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("runs") / "one"
        write_best(folder / "best", Shipment.of(classifier(), RECIPE), CLASSES, "abc", "")
        return folder

    def told(self, run: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
        capsys.readouterr()
        assert main(["evaluate", str(run), "--data", "new", *arguments, "--json"]) == 0
        told: dict[str, object] = json.loads(capsys.readouterr().out)
        return told

    def test_a_test_folder_alone(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Case 5, and 21: a class is missing."""
        write_pictures(Path("new/test"), 2, ("red", "blue"), first_seed=50)
        for split in ("test", "all"):
            told = self.told(run, capsys, "--split", split)
            assert (told["images"], told["accuracy"], told["missing"]) == (4, 1.0, ["green"])
        assert main(["evaluate", str(run), "--data", "new"]) == 0
        assert "There are no images of green: nothing is known of them here" in capsys.readouterr().out

    def test_one_class_and_one_image(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_pictures(Path("new"), 1, ("red",), first_seed=50)
        assert self.told(run, capsys, "--split", "all")["images"] == 1
        assert main(["evaluate", str(run), "--data", "new"]) == 2
        assert "--split all takes every image" in capsys.readouterr().err

    def test_copies_are_measured_as_they_are(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_pictures(Path("new/train"), 2, first_seed=50)
        shutil.copytree("new/train", "new/test")
        assert self.told(run, capsys, "--split", "all")["images"] == 12

    def test_a_class_that_is_unknown_is_refused_with_a_way_out(self, run: Path, capsys) -> None:
        write_pictures(Path("new"), 2, ("red",))
        write_pictures(Path("more"), 2, ("red",))
        shutil.move("more/red", "new/violet")
        assert main(["evaluate", str(run), "--data", "new", "--split", "all"]) == 2
        said = capsys.readouterr().err
        assert "does not know: violet" in said
        assert "Take their images away" in said

    def test_classes_are_matched_by_what_people_mean(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_pictures(Path("new"), 2, first_seed=50)
        shutil.move("new/red", "new/Red ")
        assert self.told(run, capsys, "--split", "all")["accuracy"] == 1.0

    @pytest.mark.usefixtures("no_extras")
    def test_predict_takes_of_a_folder_what_training_takes(self, run: Path, capsys, caplog) -> None:
        """Case 18."""
        put(Path("new/a/1.jpg"), picture(1, "JPEG"))
        put(Path("new/2"), picture(2))
        for name in ("a/._1.jpg", ".ipynb_checkpoints/1.jpg", "a/@eaDir/1.jpg/T.jpg"):
            put(Path("new") / name, picture(9))
        put(Path("new/3.HEIC"), b"")
        assert find_images("new") == [Path("new/2"), Path("new/a/1.jpg")]
        assert "1 HEIC photos (3.HEIC)" in caplog.text
        assert main(["predict", str(run), "new"]) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["new/2", "new/a/1.jpg"]


def test_settings_have_the_whole_path(tmp_path: Path) -> None:
    """Case 25: a run that is resumed from another folder finds its images."""
    write_pictures(tmp_path / "photos", 8)
    job = resolve(Flags(space="baseline", backbone="simple_cnn", data="photos", image_size=16, quiet=True))
    assert job.settings.data == str(tmp_path / "photos")
    assert job.settings.keep_copies is False
    assert job.dataset.source == "photos"
