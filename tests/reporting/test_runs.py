"""raysearch compare: paired on the same images, however they are named and ordered, and refused on others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raysearch.cli.main import main
from raysearch.intervals import mean_interval, share_interval
from raysearch.recipe import Recipe, Stage
from raysearch.record.folder import RunFolder

N = 40
CLASSES = ("cat", "dog")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")


def finished(name: str, wrong: set[int], *, prefix: str = "", order: int = 1, depth: int = 2, **changed: int) -> Path:
    """A run that is wrong on these of its test images, which lie in `prefix`; `changed` gives images other labels."""
    run = RunFolder.create(Path("results") / name, {"metric": "accuracy"})
    run.update_info(classes=list(CLASSES), intake={"counts": {"train": {"cat": 60, "dog": 61}}})
    labels = np.array([changed.get(f"i{i}", i % 2) for i in range(N)])
    answers = np.array([label ^ (i in wrong) for i, label in enumerate(labels)])
    frame = pd.DataFrame(
        {
            "split": "test",
            "path": [f"{prefix}test/{CLASSES[i % 2]}/{i}.png" for i in range(N)],
            "label": labels,
            "winner": list(np.eye(2)[answers]),
        }
    )[::order]
    val = frame.head(3).assign(split="val", path=["val/1.png", "val/2.png", "val/3.png"])
    pd.concat([val, frame]).to_parquet(run.folder / "predictions.parquet", index=False)
    run.write_json("evaluation.json", {"trial": "t0000", "metric": "accuracy"})
    recipe = Recipe(backbone="densenet121", image_size=32, schedule=(Stage(depth=depth, epochs=1),))
    (run.folder / "best").mkdir()
    (run.folder / "best/recipe.json").write_text(recipe.model_dump_json())
    return run.folder


def test_the_interval_is_paired_image_by_image(capsys):
    finished("one", {0, 1, 2, 3, 4, 5})
    finished("two", {0, 1, 20}, prefix="../photos/", order=-1, depth=0)
    assert main(["compare", "one", "two", "--json", "--out", "c.html"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["accuracy"] for row in rows] == pytest.approx([34 / 40, 37 / 40])
    assert [row["trained"] for row in rows] == ["fine-tuned, 2 blocks", "head alone, avg pooling"]
    differences = np.zeros(N)
    differences[[2, 3, 4, 5]], differences[20] = 1, -1
    mean, low, high = mean_interval(differences, 0.95)
    assert rows[1]["against_first"] == {"difference": pytest.approx(mean), "interval": pytest.approx([low, high])}
    assert rows[0]["against_first"] is None
    page = Path("c.html").read_text(encoding="utf-8")
    assert "2 runs on the same 40 test images" in page
    assert "+7.5" in page


def test_where_images_are_of_patients_these_are_counted(capsys):
    """Ten patients of four images: all four are told right by the second run, or none is."""
    for name, wrong in (("one", set(range(12))), ("two", set(range(8, 12)))):
        file = finished(name, wrong) / "predictions.parquet"
        frame = pd.read_parquet(file)
        numbers = frame["path"].str.extract(r"([0-9]+)[.]png")[0].astype(int)
        frame.assign(group=np.where(frame["split"] == "val", 100, numbers // 4)).to_parquet(file)
    assert main(["compare", "one", "two", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["interval"] == pytest.approx(share_interval(np.arange(40) >= 12, np.arange(40) // 4))
    low, high = second["against_first"]["interval"]
    assert low < 0 < high, "two of ten patients"
    for name in ("one", "two"):
        file = Path("results") / name / "predictions.parquet"
        pd.read_parquet(file).drop(columns="group").to_parquet(file)
    assert main(["compare", "one", "two", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[1]["against_first"]["interval"][0] > 0


def test_a_table(capsys):
    finished("one", set(range(20)))
    finished("two", set())
    assert main(["compare", "one", "two"]) == 0
    shown = capsys.readouterr().out
    assert "+50.0 points" in shown
    assert "better" in shown
    assert "121" in shown


def test_different_test_images_are_refused_and_named(capsys):
    finished("one", set())
    finished("two", set(), i3=0)
    table = Path("results/one/predictions.parquet")
    other = finished("three", set())
    frame = pd.read_parquet(table)
    frame[frame["path"] != "test/cat/8.png"].to_parquet(other / "predictions.parquet", index=False)
    assert main(["compare", "one", "two", "three"]) == 2
    errors = capsys.readouterr().err
    assert "one and two were measured on different test images: 1 under another label (dog/3.png)" in errors
    assert "one and three were measured on different test images: 1 only in one (cat/8.png)" in errors


def test_what_else_is_refused(capsys):
    finished("one", set())
    RunFolder.create(Path("results/begun"), {"metric": "accuracy"})
    assert main(["compare", "one", "begun"]) == 2
    assert "begun is not finished" in capsys.readouterr().err
    assert main(["compare", "one", "--out", "c.png"]) == 2
    errors = capsys.readouterr().err
    assert "name two runs or more, got 1" in errors
    assert "--out c.png: give a name that ends in .html or .htm" in errors
