"""A whole search that is after two metrics: its front, what is shipped of it, and another point asked for."""

from __future__ import annotations

import json

import optuna
import pytest

from raysearch.errors import InputError
from raysearch.pipeline.shipping import asked_for
from raysearch.record.folder import RunFolder
from raysearch.record.fronts import fronts
from raysearch.search.rules import Rules
from raysearch.search.state import SearchState
from raysearch.tune import main as tune
from tests.data.pictures import picture, put
from tests.in_process import without_ray

SPACE = """
from ray import tune
from raysearch.space import Search

space = {
    "schedule": [
        {"depth": 0, "epochs": 2},
        {"depth": 1, "learning_rate": tune.loguniform(1e-5, 1e-1), "class_weights": tune.choice([0.0, 1.0])},
    ],
}
default = {"schedule": [{}, {"learning_rate": 1e-3, "class_weights": 0.0}]}
search = Search(heads=2, reduction=2)
"""
METRICS = ["recall:ill", "precision:ill"]
FLAGS = """
--space rare.py --data scans --run-name r --backbone simple_cnn --weights random --image-size 16
--preset quick --trials 5 --max-epochs 2 --refits 1 --folds 2
"""


def test_the_front_is_told_and_any_point_of_it_can_be_shipped(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in range(120):
        kind = "ill" if number % 4 == 0 else "well"
        put(tmp_path / "scans" / kind / f"{number}.png", picture(number))
    (tmp_path / "rare.py").write_text(SPACE)
    flags = ["--metric", ", ".join(METRICS), *FLAGS.split()]
    with without_ray():
        assert tune([*flags, "--ship-point", "t0001"]) == 2
        assert "a trial can be named once it is there, with --resume" in " ".join(capsys.readouterr().err.split())
        assert tune([*flags, "--ship-point", "recall:ill"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    run = RunFolder.open("r")
    trials = run.trials.set_index("trial")
    done = trials[trials["state"] == "done"]
    figures = done[[f"val_{one}" for one in METRICS]]
    assert done["front"].tolist() == fronts(figures.to_numpy()).tolist()
    assert trials.loc[trials["state"] != "done", "front"].isna().all()
    assert list(trials["val_recall:ill,precision:ill"] ** 2) == pytest.approx(
        list(trials["val_recall:ill"] * trials["val_precision:ill"])
    )
    shipped = run.evaluation["trial"]
    assert done["val_recall:ill"][shipped] == done["val_recall:ill"].max()
    assert done["front"][shipped] == 1
    assert f"{shipped} is taken, as --ship-point asks" in said
    assert "The front of recall of ill and precision of ill" in said
    assert [one["metric"] for one in run.evaluation["objectives"]] == METRICS
    assert "By recall of ill, what is shipped is" in said
    assert "By precision of ill" in (run.folder / "best" / "README.md").read_text(encoding="utf-8")
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    drawn = json.loads(page.split('id="figure-front">')[1].split("</script>")[0])
    (front,) = (one for one in drawn["data"] if one["name"] == "on the front")
    assert set(front["text"]) == set(done.index[done["front"] == 1])
    assert next(one for one in drawn["data"] if one["name"] == "shipped")["text"] == [shipped]
    assert max(front["error_x"]["array"] + front["error_x"]["arrayminus"]) > 0
    study = optuna.load_study(study_name="r", storage=f"sqlite:///{run.folder / 'study.db'}")
    assert [one.name for one in study.directions] == ["MAXIMIZE", "MAXIMIZE"]
    stopped = next((name for name in trials.index if trials["state"][name] == "stopped"), "t9999")
    other = next(name for name in done.index if name != shipped)
    with without_ray():
        assert tune(["--resume", "r", "--ship-point", stopped]) == 2
        assert f"--ship-point {stopped} is" in capsys.readouterr().err
        assert tune(["--resume", "r", "--ship-point", "acuracy"]) == 2
        assert "give balance or recall:ill or precision:ill" in " ".join(capsys.readouterr().err.split())
        assert tune(["--resume", "r", "--ship-point", other]) == 0
        capsys.readouterr()
        assert tune(["--resume", "r"]) == 0
    assert "is finished" in capsys.readouterr().out
    assert RunFolder.open("r").evaluation["trial"] == other
    assert RunFolder.open("r").evaluation["test_reads"] == 2
    assert RunFolder.open("r").trials["front"].tolist() == pytest.approx(trials["front"].tolist(), nan_ok=True)


def test_a_metric_of_which_no_trial_was_trained_to_its_end_stops_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in range(60):
        put(tmp_path / "scans" / ("ill" if number % 4 == 0 else "well") / f"{number}.png", picture(number))
    (tmp_path / "rare.py").write_text(SPACE)
    monkeypatch.setattr(SearchState, "point", lambda state, wanted: None)  # as where time was up before
    flags = [*FLAGS.replace("--trials 5", "--trials 1").replace("--folds 2", "--folds 0").split()]
    with without_ray():
        assert tune([*flags, "--metric", ", ".join(METRICS), "--ship-point", "recall:ill"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "--ship-point recall:ill: no trial was trained to its end; what is shipped is chosen as without it" in told
    assert RunFolder.open("r").evaluation["trial"] == "t0000"


def test_a_trial_that_is_not_there_is_an_error():
    state = SearchState(Rules((1,), 2, "val_recall:ill,loss"))
    assert asked_for(state, "recall:ill") is None
    with pytest.raises(InputError, match="--ship-point t0007 is not of this run"):
        asked_for(state, "t0007")
