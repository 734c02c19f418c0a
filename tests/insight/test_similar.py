"""raysearch embed and similar: the nearest images are of the same colour, from files, from the index and by a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from raysearch.activations.upkeep import list_entries
from raysearch.cli.main import main
from raysearch.data.reading import Reading
from raysearch.data.source import list_source
from raysearch.insight import embedder
from raysearch.insight.embedder import Embedder
from raysearch.insight.index import Index, measure
from raysearch.models.boundary import build_classifier
from raysearch.models.weights import load_weights
from raysearch.recipe import Recipe, Stage
from raysearch.run import Run
from raysearch.winner.best import load_best
from raysearch.winner.best_files import write_best
from raysearch.winner.shipment import Shipment
from tests.insight.photos import LOOK, arrays, splits
from tests.trained import CLASSES, RECIPE, classifier, picture
from tests.training.bench import decoded


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def index(tmp_path: Path) -> str:
    splits(tmp_path / "photos")
    assert main(["embed", "--data", "photos", "--out", "f.parquet", *LOOK]) == 0
    return "f.parquet"


def test_an_index_as_a_table(index):
    table = pd.read_parquet(index)
    assert list(table) == ["path", "label", "split", "vector"]
    assert len(table) == 3 * (12 + 4 + 4)
    assert all(
        path.startswith(f"{split}/{label}/")
        for path, label, split in zip(table.path, table.label, table.split, strict=True)
    )
    assert len({len(vector) for vector in table.vector}) == 1


def test_the_nearest_are_of_the_same_class_and_in_order(index, capsys):
    capsys.readouterr()
    Image.fromarray(picture("green", 999)).save("new.png")
    assert main(["similar", index, "new.png", "--k", "9", "--json", "--out", "sheet.png"]) == 0
    with Image.open("sheet.png") as sheet:
        assert sheet.size[0] > 300
    rows = json.loads(capsys.readouterr().out)
    assert [row["label"] for row in rows] == ["green"] * 9
    similarities = [row["similarity"] for row in rows]
    assert similarities == sorted(similarities, reverse=True)
    assert -1 <= similarities[-1] <= similarities[0] <= 1.0001


def test_an_image_of_the_index_is_not_its_own_neighbour(index, capsys):
    capsys.readouterr()
    assert main(["similar", index, "train/red/003.png", "--k", "100", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 59
    assert "train/red/003.png" not in {row["path"] for row in rows}


def test_a_file_has_the_vector_that_it_has_in_the_index(index, tmp_path):
    opened = Index.read(Path(index))
    place = opened.paths.index("val/blue/002.png")
    again = opened.vector_of(str(tmp_path / "photos/val/blue/002.png"))
    assert np.allclose(again[0], opened.vectors[place], rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("pooling", [None, "max"])
def test_an_index_of_arrays_by_a_run(tmp_path, capsys, pooling):
    arrays(splits(tmp_path / "photos"), tmp_path / "p.npz")
    write_best(tmp_path / "results/one/best", Shipment.of(classifier(), RECIPE), CLASSES, "abc", "")
    given = ["--pooling", pooling] if pooling else []
    assert main(["embed", "--data", "p.npz", "--run", "one", *given]) == 0
    opened = Index.read(Path("features.parquet"))
    assert (opened.maker.image_size, opened.maker.pooling) == (16, pooling or RECIPE.pooling)
    capsys.readouterr()
    assert main(["similar", "features.parquet", "test/0", "--k", "4", "--out", "s.png"]) == 0
    assert capsys.readouterr().out.count("  0  ") == 4
    assert Path("s.png").is_file()


@pytest.mark.parametrize("kind", ["pattern", "column"])
def test_an_index_of_a_runs_own_images_has_its_splits(tmp_path, kind):
    root = splits(tmp_path / "photos") / "train"
    files = sorted(root.rglob("*.png"))
    lines = [f"{file},{file.parent.name},{file.parent.name}{int(file.stem) // 2}" for file in files]
    Path("p.csv").write_text("\n".join(["path,label,patient", *lines]))
    told = {
        "pattern": {"data": str(root), "group_by": "([a-z]+/00[0-2])"},
        "column": {"data": str(tmp_path / "p.csv"), "columns": "group=patient"},
    }[kind]
    run = Run.create(tmp_path / "results/one", {"seed": 5} | told)
    write_best(run.folder / "best", Shipment.of(classifier(), RECIPE), CLASSES, "abc", "")
    for seed, typed in ((5, []), (6, ["--seed", "6"])):
        own = list_source(told["data"], seed=seed, reading=Reading.of_run(run.info["settings"]))
        assert main(["embed", "--data", told["data"], "--run", "one", *typed]) == 0
        index = Index.read(Path("features.parquet"))
        assert dict(zip(index.paths, index.splits, strict=True)) == dict(zip(own.paths, own.splits, strict=True))


def test_precision_of_clouds_and_of_noise():
    generator = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c", "d"], 150)
    centres = 6 * np.eye(4, 16)[np.repeat(np.arange(4), 150)]

    def index_of(vectors):
        return Index(tuple(map(str, range(600))), labels, np.array(["train"] * 600), vectors.astype(np.float32), None)

    apart, noise = (
        measure(index_of(v)) for v in (centres + generator.normal(size=(600, 16)), generator.normal(size=(600, 16)))
    )
    assert [(one.images, one.first) for one in apart] == [
        (256, 10),
        (256, 20),
        (512, 10),
        (512, 20),
        (600, 10),
        (600, 20),
    ]
    assert all(one.precision > 0.99 for one in apart)
    assert all(abs(one.precision - one.chance) < 0.03 and abs(one.chance - 0.25) < 0.01 for one in noise)


def test_measure_as_a_table(index, capsys):
    capsys.readouterr()
    assert main(["similar", index, "--measure"]) == 0
    assert "of the same class" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["similar", "no.parquet", "a.png"], "no.parquet cannot be read as an index"),
        (["similar", "f.parquet"], "give one IMAGE, or --measure"),
        (["similar", "f.parquet", "no.png"], "no.png is no file, and no path of the index"),
        (["similar", "f.parquet", "bad.png"], "bad.png cannot be read"),
        (["similar", "f.parquet", "bad.png", "--k", "0", "--out", "x.gif"], "--k must be at least 1, got 0"),
        (["embed", "--data", "photos", "--out", "f.csv"], "--out f.csv: give a name that ends in .parquet"),
        (["embed", "--data", "photos", "--run", "no"], "no"),
        (
            ["embed", "--data", "photos", "--run", "no", "--backbone", "resnet18"],
            "--backbone resnet18: it is the run's",
        ),
        (["embed", "--data", "photos", "--run", "no", "--weights", "random"], "--weights random: it is the run's own"),
        (["embed", "--data", "photos", "--run", "no", "--image-size", "64"], "--image-size 64: it is the run's own"),
        (["embed", "--data", "photos", "--seed", "-1"], "--seed must be 0 or more, got -1"),
    ],
)
def test_what_is_refused(index, capsys, given, told):
    Path("bad.png").write_bytes(b"no image")
    assert main(given) == 2
    assert told in capsys.readouterr().err


def test_only_training_images_are_embedded_in_the_precision_of_training(tmp_path, monkeypatch):
    """As a search stores them: it finds these, and vectors of validation and test images are exact."""
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedder, "choose_precision", lambda device: "bf16")
    data = decoded(tmp_path)
    weights = load_weights("simple_cnn", "random", 0)
    made = Embedder.of_backbone("simple_cnn", weights, 32, "squash", "avg", torch.device("cpu"))
    vectors = made.of_dataset(data)
    kept = {entry.about["key"]["split"]: entry.about["key"]["precision"] for entry in list_entries()}
    assert kept == {"train": "bf16", "val": "fp32", "test": "fp32"}
    val = np.asarray(data.val.pixels)
    np.testing.assert_allclose(made.of_pixels(val), vectors[len(data.train) :][: len(val)], rtol=1e-5)


def test_another_pooling_of_a_network_of_tokens_is_of_its_tokens(tmp_path):
    pytest.importorskip("timm")
    named = {"backbone": "timm/vit_tiny_patch16_224", "weights": "random", "image_size": 32}
    recipe = Recipe(**named, schedule=(Stage(depth=0, epochs=1),))
    write_best(tmp_path / "best", Shipment.of(build_classifier(recipe, 3).eval(), recipe), CLASSES, "abc", "")
    best, images = load_best(tmp_path), np.stack([picture("red", seed, (32, 32)) for seed in range(2)])
    own, avg, most = (
        Embedder.of_best(best, pooling, torch.device("cpu")).of_pixels(images) for pooling in (None, "avg", "max")
    )
    np.testing.assert_array_equal(avg, own)  # the class token
    assert most.shape == own.shape
    assert not np.array_equal(most, own)
