"""`--space similarity` in one piece: led by retrieval, shipped as a classifier, searched in by its embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from raysearch.cli.main import main as raysearch
from raysearch.insight.index import Index
from raysearch.record.folder import RunFolder
from raysearch.tune import main as tune
from raysearch.winner.best import load_best
from tests.in_process import without_ray
from tests.insight.photos import splits

FLAGS = ["--space", "similarity", "--data", "photos", "--backbone", "simple_cnn", "--image-size", "16"]


@pytest.fixture(autouse=True)
def _photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)


def test_a_search_for_embeddings_ends_in_an_index_by_them(capsys):
    with without_ray():
        assert tune([*FLAGS, "--trials", "4", "--fast-dev-run", "--run-name", "s"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "by validation precision_at_10" in said
    assert "of the first 10 results" in said
    run = RunFolder.open("s")
    assert run.info["settings"]["metric"] == "precision_at_10", "the space says what leads it"
    assert "val_precision_at_20" in run.heads.columns
    winner = max(run.heads.to_dict("records"), key=lambda row: (row["val_precision_at_10"], -row["val_loss"]))
    finals = [event for event in run.events() if event["event"] == "finals"]
    assert finals[0]["finalists"] == [winner["trial"]], "the best by it is shipped, and held against nothing"
    evaluation = run.evaluation
    assert evaluation["trial"] == winner["trial"]
    assert 0 < evaluation["test"]["precision_at_10"]["mean"] <= 1
    assert "of the first 10 results" in (run.folder / "report.html").read_text(encoding="utf-8")
    assert raysearch(["embed", "--data", "photos", "--run", "s"]) == 0
    index = Index.read(Path("features.parquet"))
    assert index.vectors.shape[1] == load_best(run.folder).recipe.head.dimensions
    assert np.allclose(np.linalg.norm(index.vectors, axis=1), 1, atol=1e-5)
    file = "photos/test/red/001.png"
    np.testing.assert_allclose(
        index.vector_of(file)[0], index.vectors[index.paths.index("test/red/001.png")], atol=1e-3
    )
    capsys.readouterr()
    assert raysearch(["similar", "features.parquet", file, "--k", "5", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 5
    assert raysearch(["predict", "s", file, "--unknown", "0.3", "--known", "features.parquet"]) == 0
    assert raysearch(["embed", "--data", "photos", "--run", "s", "--pooling", _another(index.maker.pooling)]) == 2
    assert "the embeddings of this run are made of what is pooled by" in capsys.readouterr().err


def _another(pooling: str) -> str:
    return "max" if pooling == "avg" else "avg"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--metric", "precision_at_10,loss"], "precision_at_10 leads a search alone"),
        (["--require", "accuracy>=0.5"], "--require: precision_at_10 is of embeddings"),
        (["--metric", "accuracy", "--require", "precision_at_10>=0.5"], "--require: precision_at_10 is of embeddings"),
        (["--metric", "precision_at_5"], "did you mean 'precision_at_"),
        (["--backbone", "simple_cnn=random@16,simple_cnn=random@24"], "search each network by itself"),
    ],
)
def test_what_answers_cannot_say_is_refused(capsys, given, told):
    assert tune([*FLAGS, *given]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
