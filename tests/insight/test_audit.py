"""raysearch audit, as a person runs it: what it writes is right, and what it leaves is a source."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from raysearch.cli.main import main
from raysearch.data.pixels import load
from raysearch.data.reading import Reading
from raysearch.data.source import list_source
from raysearch.data.subset import Thinning
from raysearch.errors import InputError
from tests.insight.photos import LOOK, arrays, copy, scene, splits, with_wrong_labels, zipped


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_an_audit_writes(tmp_path, capsys):
    root, wrong = with_wrong_labels(tmp_path / "photos")
    copy(root / "test/blue/000.png", root / "train/blue/leak.png")
    copy(root / "train/red/000.png", root / "train/green/twice.png")
    Image.new("RGB", (24, 20), "blue").save(root / "train/blue/blank.png")
    (root / "train/red/broken.png").write_bytes(b"no image")
    assert main(["audit", "--data", "photos", "--out", "a", "--write", "a/cleaned.csv", *LOOK, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    errors = pd.read_csv("a/label_errors.csv")
    assert list(errors)[:4] == ["path", "label", "suggested", "confidence"]
    assert errors["confidence"].is_monotonic_decreasing
    # The copy under two labels is the third: the intake says so as well.
    assert wrong <= set(errors["path"]) <= {*wrong, "train/green/twice.png", "train/blue/blank.png"}
    named = errors.set_index("path")["suggested"]
    assert named["train/red/wrong.png"] == "blue"
    pairs = pd.read_csv("a/duplicates.csv")
    assert list(pairs)[:4] == ["path", "other", "kind", "across_splits"]
    exact = pairs[pairs["kind"] == "exact"]
    assert {(row.path, row.other, row.across_splits) for row in exact.itertuples()} == {
        ("train/blue/leak.png", "test/blue/000.png", True),
        ("train/green/twice.png", "train/red/000.png", False),
    }
    images = pd.read_csv("a/images.csv").set_index("path")
    assert images.loc["train/blue/blank.png", "blank"] in (True, "True")
    assert "UnidentifiedImageError" in images.loc["train/red/broken.png", "unreadable"]
    assert (told["blank"], told["unreadable"], told["duplicates"]["exact"]) == (1, 1, 2)
    left = set(pd.read_csv("a/cleaned.csv")["path"])
    gone = {"../photos/train/blue/leak.png", "../photos/train/blue/blank.png", "../photos/train/red/wrong.png"}
    assert not left & gone
    assert sum("/test/" in path for path in left) == 12
    page = Path("a/audit.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"?https?:", page)
    assert 'value="train/red/wrong.png"' in page
    assert "data:image/webp;base64," in page
    assert (root / "train/red/wrong.png").exists()


@pytest.mark.parametrize("kind", ["folder", "zip", "npz"])
def test_what_is_left_is_a_source(tmp_path, capsys, kind):
    root = splits(tmp_path / "photos")
    made = {"zip": zipped, "npz": arrays}
    source = made[kind](root, tmp_path / f"p.{kind}") if kind in made else root
    whole = list_source(str(source))
    dropped = [whole.paths[row] for row in np.flatnonzero(whole.splits == "train")[[0, 20]]]
    test = next(path for path, split in zip(whole.paths, whole.splits, strict=True) if split == "test")
    Path("drop.csv").write_text("\n".join(["path", *dropped, test]))
    Path("out").mkdir()
    given = ["audit", "--data", str(source.relative_to(tmp_path)), "--drop", "drop.csv", "--write", "out/cleaned.csv"]
    assert main(given) == 0
    assert "without 2 training images; 1 validation or test images stay" in capsys.readouterr().out
    left = list_source("out/cleaned.csv")
    assert len(left) == len(whole) - 2
    assert left.classes == whole.classes
    dataset, before = load("out/cleaned.csv", progress=False), load(str(source), progress=False)
    assert (dataset.test.pixels == before.test.pixels).all()
    assert (dataset.test.labels == before.test.labels).all()
    assert len(dataset.train) == len(before.train) - 2
    assert dataset.fingerprint != before.fingerprint


def test_splits_that_were_cut_stay_as_they_were(tmp_path):
    root = splits(tmp_path / "photos") / "train"
    Path("drop.csv").write_text("path\nred/000.png\n")
    before = load(str(root), progress=False, seed=3)
    assert main(["audit", "--data", str(root), "--drop", "drop.csv", "--write", "c.csv", "--seed", "3"]) == 0
    after = load("c.csv", progress=False)
    assert (after.val.pixels == before.val.pixels).all()
    assert (after.test.pixels == before.test.pixels).all()


def test_a_manifest_of_a_zip_can_be_cleaned_again(tmp_path):
    zipped(splits(tmp_path / "photos"), tmp_path / "p.zip")
    for step, (source, name) in enumerate((("p.zip", "red/000.png"), ("c0.csv", "red/001.png"))):
        Path("drop.csv").write_text(f"path\ntrain/{name}\n")
        assert main(["audit", "--data", source, "--drop", "drop.csv", "--write", f"c{step}.csv"]) == 0
    assert len(list_source("c1.csv")) == 3 * (12 + 4 + 4) - 2


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_belongs_together_does_so_in_what_is_left(tmp_path, kind):
    root = splits(tmp_path / "photos") / "train"
    files = sorted(root.rglob("*.png"))
    patients = [f"{file.parent.name} {int(file.stem) // 2}" for file in files]
    table = pd.DataFrame({"label": [file.parent.name for file in files], "patient": ["", *patients[1:]]})
    if kind == "csv":
        table.assign(path=[str(file.relative_to(tmp_path)) for file in files]).to_csv("p.csv", index=False)
    else:
        table.assign(image=[file.read_bytes() for file in files]).to_parquet("p.parquet")
    whole = list_source(f"p.{kind}", reading=Reading.of("group=patient", None))
    gone = int(np.flatnonzero(whole.splits == "train")[-1])
    Path("drop.csv").write_text(f"path\n{whole.paths[gone]}\n")
    given = ["audit", "--data", f"p.{kind}", "--columns", "group=patient", "--drop", "drop.csv", "--write", "c.csv"]
    assert main(given) == 0
    assert whole.group_names is not None
    assert list_source("c.csv").group_names == (*whole.group_names[:gone], *whole.group_names[gone + 1 :])


def test_images_of_one_patient_do_not_confirm_each_other(tmp_path, capsys):
    lines = ["path,label,group"]
    for number in range(96):  # each patient has a look of its own, and no class has any
        patient = number // 8
        Image.blend(scene(patient, 32), scene(100 + number, 32), 0.4).save(f"{number}.png")
        lines.append(f"{number}.png,{'ab'[patient % 2]},{patient}")
    Path("p.csv").write_text("\n".join(lines))
    assert main(["audit", "--data", "p.csv", *LOOK, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["heads_balanced_accuracy"] < 0.7
    assert not any(one["found"] for one in told["shortcuts"].values())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--threshold", "2"], ["--threshold must be in (0, 1], got 2.0", "--threshold is about --write FILE.csv"]),
        (["--write", "c.txt"], ["--write c.txt: give a name that ends in .csv"]),
        (["--drop", "drop.csv"], ["--drop is about --write FILE.csv: name it"]),
        (["--drop", "drop.csv", "--write", "c.csv"], ["names 1 images that photos does not have: train/no.png"]),
        (["--drop", "all.csv", "--write", "c.csv"], ["no training image of red would be left"]),
        (["--backbone", "resnet"], ["resnet"]),
        (["--seed", "-1", "--write", "c.txt"], ["--seed must be 0 or more, got -1", "--write c.txt"]),
    ],
)
def test_what_is_refused(tmp_path, capsys, given, told):
    splits(tmp_path / "photos")
    Path("drop.csv").write_text("path\ntrain/no.png\n")
    Path("all.csv").write_text("\n".join(["path", *(f"train/red/{n:03}.png" for n in range(12))]))
    assert main(["audit", "--data", "photos", *given]) == 2
    shown = capsys.readouterr().err
    assert all(line in shown for line in told)
    assert not Path("c.csv").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--data", "photos/images.csv", "--out", "photos"], "--out photos/images.csv is read by this command"),
        (["--data", "photos", "--out", "photos"], "photos/images.csv lies among the images, and is of no earlier"),
        (["--data", "photos/images.csv", "--write", "./photos/images.csv"], "--write photos/images.csv is read by"),
        (["--data", "photos", "--drop", "d.csv", "--write", "d.csv"], "--write d.csv is read by this command"),
        (
            ["--data", "photos", "--out", "a", "--drop", "a/label_errors.csv", "--write", "c.csv"],
            "--out a/label_errors.csv is read by this command",
        ),
        (["--data", "photos", "--out", "a", "--write", "a/images.csv"], "--write a/images.csv is a file of --out too"),
        (["--data", "photos", "--out", "d.csv/a"], "d.csv is no folder"),
    ],
)
def test_nothing_that_is_read_is_written_over(tmp_path, capsys, given, told):
    splits(tmp_path / "photos")
    Path("a").mkdir()
    tables = [Path("photos/images.csv"), Path("d.csv"), Path("a/label_errors.csv")]
    for file in tables:
        file.write_text("path,label\ntrain/red/000.png,red\n")
    assert main(["audit", *given, *LOOK]) == 2
    assert told in capsys.readouterr().err
    assert {file.read_text() for file in tables} == {"path,label\ntrain/red/000.png,red\n"}


def test_what_was_found_is_told_also_where_it_cannot_be_written(tmp_path, capsys, monkeypatch):
    splits(tmp_path / "photos")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left", "a/images.csv")

    monkeypatch.setattr("raysearch.insight.audit_files.write_tables", full)
    assert main(["audit", "--data", "photos", "--out", "a", *LOOK, "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["images"] == 60
    assert "a/images.csv: no space left" in shown.err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train/red/000.png,red,train,no.zip", "no.zip is no folder, no file and no known name"),
        ("train/red/999.png,red,train,p.zip", "lists 1 images that"),
        ("train/red/000.png,red,train,", "raysearch_source must name one source"),
    ],
)
def test_a_manifest_that_chooses_what_is_not_there(tmp_path, capsys, line, told):
    zipped(splits(tmp_path / "photos"), tmp_path / "p.zip")
    Path("c.csv").write_text(f"path,label,split,raysearch_source\n{line}\n")
    assert main(["data", "c.csv"]) == 2
    assert told in capsys.readouterr().err


def test_a_manifest_that_chooses_is_thinned_and_grouped_as_any_other(tmp_path):
    zipped(splits(tmp_path / "photos"), tmp_path / "p.zip")
    Path("drop.csv").write_text("path\ntrain/red/000.png\n")
    assert main(["audit", "--data", "p.zip", "--drop", "drop.csv", "--write", "c.csv"]) == 0
    thin = Reading.of(None, None, thin=Thinning(0.5))
    half, whole = list_source("c.csv", reading=thin), list_source("c.csv")
    assert half.counts()["train"] == {"blue": 6, "green": 6, "red": 5}
    assert half.counts()["test"] == whole.counts()["test"]
    assert set(half.paths) < set(whole.paths)
    assert half.reader.read(9) == whole.reader.read(whole.paths.index(half.paths[9]))
    grouped = list_source("c.csv", reading=Reading.of(None, None, group_by="([0-9])[.]png"))
    assert grouped.group_names == tuple(path[-5] for path in whole.paths)
    for flag, reading in (("--columns", Reading.of("label=label", None)), ("--images", Reading.of(None, tmp_path))):
        with pytest.raises(InputError, match=f"^{flag}: c.csv says itself where its images are"):
            list_source("c.csv", reading=reading)


def test_copies_are_found_when_they_are_no_exact_ones(tmp_path, capsys):
    root = tmp_path / "photos"
    for number in range(30):
        file = root / ("train", "val", "test")[number % 3] / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        scene(number).save(file)
    ImageOps.mirror(scene(2)).save(root / "train/a/mirrored.png")
    scene(2).save(root / "train/a/again.jpg", quality=60)
    assert main(["audit", "--data", "photos", "--out", "a", *LOOK]) == 0
    pairs = pd.read_csv("a/duplicates.csv")
    assert {(row.path, row.other, row.kind) for row in pairs.itertuples()} >= {
        ("train/a/mirrored.png", "test/a/2.png", "mirrored"), ("train/a/again.jpg", "test/a/2.png", "near"),
    }  # fmt: skip
    assert "pairs show one picture" in capsys.readouterr().out
