"""A run of an earlier version, which wrote recall_CLASS, opens in today's names."""

from __future__ import annotations

import json

from raysearch.record.folder import RunFolder
from raysearch.record.goal import Goal
from raysearch.search.rules import Rules


def test_a_run_that_says_recall_with_an_underscore_opens(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"settings": {"metric": "recall_no_ship"}}))
    (folder / "evaluation.json").write_text(json.dumps({"metric": "recall_no_ship", "trial": "t0000"}))
    row = {"val_loss": 1.0, "val_accuracy": 0.5, "val_recall_no_ship": 0.25, "cv_recall_no_ship_std": 0.1}
    events = [
        {"event": "trial", "trial": "t0000", "parent": None, "depth": 1, "params": {}, "recipe": {}, "stage": 0},
        {"event": "epoch", "trial": "t0000", "epoch": 1, "stage": 0, "seconds": 1.0, **row},
        {"event": "segment_end", "trial": "t0000", "segment": "t0000.1", "epoch": 1, "finished": True, "best": row},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    run = RunFolder.open(folder)
    metric = run.info["settings"]["metric"]
    assert metric == run.evaluation["metric"] == "recall:no_ship"
    _, epoch, end = run.events()
    assert epoch["val_recall:no_ship"] == end["best"]["val_recall:no_ship"] == 0.25
    assert Rules((1,), metric=f"val_{metric}").order(end["best"]) == (0.25, -1.0)
    assert Rules((1,), require=Goal.of("loss", ["recall:no_ship>=0.3"]).require).shortfall(epoch) == 0.3 - 0.25
    assert "cv_recall:no_ship_std" in epoch
    assert "recall_no_ship" in (folder / "run.json").read_text(), "nothing is rewritten"
