"""Offline files of W&B, read back: every trial, epoch and config is in them, once."""

from __future__ import annotations

import json

import pytest

from raysearch.errors import InputError
from raysearch.recipe import flatten
from raysearch.record.metric import tracked_name
from raysearch.record.tables import history_table
from raysearch.reporting.tracking.follow import show_now
from raysearch.reporting.tracking.wandb_runs import BEST_HEADS, WandbRuns
from tests.reporting.events import LOG, end, epoch, recipe, row, segment, trial
from tests.reporting.tracking.offline import offline_runs
from tests.reporting.tracking.written import written_run


@pytest.fixture(autouse=True)
def _of_its_own(monkeypatch, tmp_path):
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


def shown(run) -> list[str]:
    """What is said when the run is shown offline."""
    said: list[str] = []
    assert show_now(run, WandbRuns(run, "flowers", "offline"), said.append)
    return said


def test_every_trial_epoch_and_config_is_in_the_files(tmp_path):
    run = written_run(tmp_path / "run")
    (said,) = shown(run)
    found = offline_runs(run.folder)
    # The one without an epoch has nothing to show yet; the head is there, as trials start from it.
    assert sorted(found) == ["h0000", "run", "t0000", "t0001", "t0002", "t0003"]
    assert "6 runs kept offline" in said
    assert f"raysearch wandb {run.folder}" in said
    history = history_table(LOG)
    for name in ("h0000", "t0000", "t0001", "t0002", "t0003"):
        one, rows = found[name], history[history["trial"] == name]
        assert [line["_step"] for line in one.history] == list(rows["epoch"])
        for column in ("epoch", "lr", "train_loss", "val_loss", "val_accuracy", "val_recall:cat"):
            assert [line[tracked_name(column)] for line in one.history] == list(rows[column])
        made = next(event for event in LOG if event["event"] == "trial" and event["trial"] == name)
        flat = flatten(one.config)
        assert {key: flat[key] for key in flatten(made["recipe"])} == flatten(made["recipe"])
        assert one.about.run_group == "run"
        assert one.about.job_type == ("head" if name == "h0000" else "trial")
        assert one.exit_code == (1 if name == "t0002" else 0)
    assert found["t0000"].summary["val_accuracy"] == 0.6, "the best, not the last"


def test_the_search_has_a_run_with_tables_pictures_and_the_best_model(tmp_path):
    run = written_run(tmp_path / "run")
    shown(run)
    search = offline_runs(run.folder)["run"]
    assert search.summary["test_accuracy"] == 0.75
    assert search.summary["trials.nrows"] == 5
    assert search.summary["per_class.nrows"] == 4
    assert search.summary["confusion._type"] == "image-file"
    (best,) = [one for one in search.artifacts if one.type == "model"]
    assert best.name == "run-best"
    assert {entry.path for entry in best.manifest.contents} == {"recipe.json", "model.safetensors"}
    assert json.loads(best.metadata)["winner"] == "t0001"


def test_what_goes_on_later_is_there_once_with_all_of_it(tmp_path):
    run = written_run(tmp_path / "run", LOG[:16], ended=False)
    shown(run)
    before = offline_runs(run.folder)
    written = before["t0000"].path.stat().st_mtime_ns
    assert [line["epoch"] for line in before["t0001"].history] == [1, 2]
    run.append(*LOG[16:])
    shown(run)
    after = offline_runs(run.folder)
    assert len(list(run.folder.glob("wandb/offline-run-*"))) == len(after)
    assert [line["epoch"] for line in after["t0001"].history] == [1, 2, 3, 4]
    assert after["t0001"].about.run_id == before["t0001"].about.run_id
    assert after["t0000"].path == before["t0000"].path, "nothing new: left alone"
    assert after["t0000"].path.stat().st_mtime_ns == written, "nor written again within the second that names it"


def test_heads_that_no_trial_starts_from_are_rows_of_a_table(tmp_path):
    heads = [event for n in range(BEST_HEADS + 5) for event in head(f"h{n:04d}", n / 100)]
    run = written_run(tmp_path / "run", [*heads, trial("t0000", "h0003"), segment("t0000"), epoch("t0000", 1, 0.5)])
    shown(run)
    found = offline_runs(run.folder)
    assert sorted(found) == ["h0003", "run", "t0000"]
    assert found["run"].summary["heads.nrows"] == BEST_HEADS + 5


def test_of_a_search_of_heads_alone_the_best_have_runs(tmp_path):
    heads = [event for n in range(BEST_HEADS + 5) for event in head(f"h{n:04d}", n / 100)]
    run = written_run(tmp_path / "run", heads)
    shown(run)
    assert sorted(offline_runs(run.folder)) == [*(f"h{n:04d}" for n in range(5, BEST_HEADS + 5)), "run"]


def test_of_many_classes_all_but_a_picture_of_their_confusion_is_shown(tmp_path):
    run, many = written_run(tmp_path / "run"), 300
    document = json.loads((run.folder / "evaluation.json").read_text())
    for split in ("val", "test"):
        row = document[split]["per_class"]["cat"]
        document[split] |= {"per_class": {f"c{i}": row for i in range(many)}, "confusion": [[1] * many] * many}
    run.write_json("evaluation.json", document)
    shown(run)
    search = offline_runs(run.folder)["run"]
    assert search.summary["per_class.nrows"] == 2 * many
    assert "confusion._type" not in search.summary
    assert [one.type for one in search.artifacts if one.type == "model"] == ["model"]


def test_two_processes_do_not_show_one_run_at_once(tmp_path):
    run = written_run(tmp_path / "run")
    first = WandbRuns(run, "flowers", "offline")
    with pytest.raises(InputError, match="by another process"):
        WandbRuns(run, "flowers", "offline")
    show_now(run, first, lambda line: None)
    WandbRuns(run, "flowers", "offline")


def head(name: str, accuracy: float) -> list[dict[str, object]]:
    """A head, trained to its end."""
    made = {"event": "trial", "trial": name, "parent": None, "depth": 0, "stage": 0, "params": {}, "recipe": recipe()}
    return [made, segment(name), epoch(name, 1, accuracy), end(name, 1, row(1, accuracy), 1, finished=True)]


@pytest.mark.parametrize("name", ["猫", "caf\\xe9", "[red]", "a\nb", "007", 'q"u|o,te', "a.b", "nan", "a/b", r"$\x$"])
def test_classes_of_any_name_are_in_the_files(tmp_path, name):
    """As folders, tables and arrays may have them."""
    text = json.dumps(LOG)
    events = json.loads(text.replace("val_recall:cat", f"val_recall:{json.dumps(name)[1:-1]}"))
    run = written_run(tmp_path / "run", events)
    document = json.loads((run.folder / "evaluation.json").read_text())
    for split in ("val", "test"):
        document[split]["per_class"] = {
            name: document[split]["per_class"]["cat"],
            "dog": document[split]["per_class"]["dog"],
        }
    run.write_json("evaluation.json", document)
    shown(run)
    found = offline_runs(run.folder)
    rows = history_table(events)
    rows = rows[rows["trial"] == "t0000"]
    assert [line[f"val_recall_{name}"] for line in found["t0000"].history] == list(rows[f"val_recall:{name}"])
    assert found["run"].summary["per_class.nrows"] == 4
