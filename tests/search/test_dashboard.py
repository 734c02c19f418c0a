"""Optuna's dashboard opens study.db as it is: asked as its own page asks it."""

from __future__ import annotations

import json
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna_dashboard import wsgi

from raysearch.search.asha import rungs_for
from raysearch.search.controller import Controller
from raysearch.search.rules import Rules
from raysearch.search.sampler import OptunaProposer
from raysearch.search.study_file import export_study
from raysearch.space.load import load_space
from tests.search.simulated import Play, World

FIXED = {"backbone": "densenet121", "weights": "random", "image_size": 32, "fit": "squash", "seed": 3}
MAX_EPOCHS = 6


def asked(app, path: str) -> dict:
    """What the dashboard's server answers."""
    environment = {"PATH_INFO": path, "QUERY_STRING": "after=0"}
    setup_testing_defaults(environment)
    statuses: list[str] = []
    body = b"".join(app(environment, lambda status, headers, error=None: statuses.append(status)))
    assert statuses == ["200 OK"], body
    return json.loads(body)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_dashboard_lists_our_trials_with_their_parameters(tmp_path):
    space = load_space("fine_tune", fixed=FIXED)
    rules = Rules(rungs=rungs_for(MAX_EPOCHS, 3, None), reduction=3)
    controller = Controller(rules, OptunaProposer(space, rules, 3, MAX_EPOCHS))
    Play(controller, World()).to_the_end(4, 8)
    export_study(tmp_path / "study.db", controller, space, "a run")
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    app = wsgi(storage)
    (study,) = asked(app, "/api/studies")["study_summaries"]
    assert study["study_name"] == "a run"
    assert study["directions"] == ["maximize"]
    listed = asked(app, f"/api/studies/{study['study_id']}")["trials"]
    trials = [trial for trial in controller.trials.values() if not trial.is_head]
    names = [one["value"] for trial in listed for one in trial["user_attrs"] if one["key"] == "trial"]
    assert names == [trial.name for trial in trials]
    for shown, trial in zip(listed, trials, strict=True):
        assert {one["name"] for one in shown["params"]} == set(trial.params)
        assert shown["values"] == [trial.best["val_accuracy"]]
    storage.remove_session()
    storage.engine.dispose()
