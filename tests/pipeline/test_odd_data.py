"""Whole searches on data as people have it: no name, no output and no folder brings one down at its end."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from raysearch.cli.main import main as raysearch
from raysearch.tune import main as tune
from tests.data.pictures import fill
from tests.in_process import without_ray

CLASSES = (b"caf\xe9", "猫".encode(), b"[red]", b"nan", b"a\nb", b"007", b'q"u|o,te')
SHORT = ["--space", "baseline", "--backbone", "simple_cnn", "--image-size", "16", "--fast-dev-run"]


def names(kind: bytes, split: str) -> str:
    return os.fsdecode(split.encode() + b"/" + kind)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Classes of any name; two test images are training images under other names."""
    sizes = {"train": 8, "val": 3, "test": 3}
    root = fill(tmp_path / "d", {names(kind, split): n for split, n in sizes.items() for kind in CLASSES})
    for number in range(2):
        copy = os.fsdecode(b"train/nan/\xe9t\xe9\n%d.png" % number)
        shutil.copy(root / f"test/nan/{number:03}.png", root / copy)
    return root


def test_any_name_comes_through_a_whole_search(odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases 1, 2 and 19: the output is of a code page that has no letter of some classes."""
    monkeypatch.chdir(tmp_path)
    western = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(western, encoding="cp1252", write_through=True))
    with without_ray():
        assert tune([*SHORT, "--data", "d", "--run-name", "r", "--tensorboard"]) == 0
    said = western.getvalue().decode("cp1252")
    assert "2 of train are in test too" in said
    assert "Left out, as copies of images that are measured on: 2 images of train." in said
    run = tmp_path / "results" / "r"
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert set(info["classes"]) == {"caf\\xe9", "猫", "[red]", "nan", "a\nb", "007", 'q"u|o,te'}
    assert info["intake"]["copies"]["removed"] == {"train": 2}
    assert info["intake"]["copies"]["examples"][0].startswith("train/nan/\\xe9t\\xe9\n0.png is test/nan/")
    assert set(pd.read_parquet(run / "predictions.parquet")["path"]) > {"test/caf\\xe9/000.png", "test/猫/000.png"}
    page = (run / "report.html").read_text(encoding="utf-8")
    card = (run / "best" / "README.md").read_text(encoding="utf-8")
    for text in (page, card):
        assert "Left out, as copies of images that are measured on: 2 images of train." in text
    for verb in (
        ["evaluate", "r"], ["predict", "r", "d/test"], ["predict", "r", "d/test", "--csv", "p.csv"], ["show", "r"],
        ["predict", "r", "d/test", "--json"], ["evaluate", "r", "--json"], ["report", "r"], ["data", "d"],
    ):  # fmt: skip
        assert raysearch(verb) == 0, verb
    assert "\\u732b" in western.getvalue().decode("cp1252"), "a letter that the code page lacks is escaped"


def test_kept_copies_make_no_claim(odd: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    with without_ray():
        assert tune([*SHORT, "--data", "d", "--run-name", "r", "--keep-copies"]) == 0
    said = capsys.readouterr().out
    run = tmp_path / "results" / "r"
    assert "nothing has seen before" not in said
    assert "Copies were kept (2 of train that test has too)" in said
    assert "never saw" not in (run / "best" / "README.md").read_text(encoding="utf-8")
    assert "Copies were kept (2 of train that test has too)" in (run / "report.html").read_text(encoding="utf-8")
    assert raysearch(["evaluate", "r", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 21, "its own images are taken as the search took them"


def test_images_that_moved_are_known_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Case 25."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "photos", {"cat": 10, "dog": 10})
    with without_ray():
        assert tune([*SHORT, "--data", "photos", "--run-name", "r"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resume = ["--resume", "../results/r"]
    assert tune(resume) == 0, "from another folder"
    (tmp_path / "photos").rename(tmp_path / "moved")
    capsys.readouterr()
    assert tune(resume) == 2
    assert "say where by --data" in capsys.readouterr().err
    assert tune([*resume, "--data", "../moved"]) == 0
    fill(tmp_path / "others", {"cat": 10, "dog": 10}, start=500)
    assert tune([*resume, "--data", "../others"]) == 2
    assert "are not those that the run was started with" in capsys.readouterr().err


def test_a_run_from_before_copies_were_looked_for_goes_on(odd: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Its settings say nothing of copies, which were trained on: the same images are taken again."""
    monkeypatch.chdir(tmp_path)
    with without_ray():
        assert tune([*SHORT, "--data", "d", "--run-name", "r", "--keep-copies"]) == 0
        file = tmp_path / "results/r/run.json"
        info = json.loads(file.read_text(encoding="utf-8"))
        del info["settings"]["keep_copies"], info["intake"]
        file.write_text(json.dumps(info), encoding="utf-8")
        capsys.readouterr()
        assert tune(["--resume", "r"]) == 0
        assert raysearch(["evaluate", "r", "--json"]) == 0
        assert '"images": 21' in capsys.readouterr().out
        assert raysearch(["report", "r"]) == 0
        info["settings"]["keep_copies"] = False
        file.write_text(json.dumps(info), encoding="utf-8")
        assert tune(["--resume", "r"]) == 2
    assert "are not those that the run was started with" in capsys.readouterr().err
