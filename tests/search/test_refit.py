"""The refit job, through Ray Train: what is left when it is lost more often than allowed."""

from __future__ import annotations

import pytest
import torch

from raysearch.recipe import Recipe, Stage
from raysearch.record.folder import BEST
from raysearch.training.checkpoint import save_tensors
from raysearch.workers.refit import refit
from raysearch.workers.session import ray_session

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")  # Ray Train sets Ray Data's own defaults
def test_a_job_that_is_lost_too_often_costs_what_it_had_not_trained(tmp_path):
    recipe = Recipe(backbone="simple_cnn", weights="random", image_size=32, schedule=(Stage(depth=0, epochs=1),))
    trained, untrained = (recipe.model_copy(update={"seed": seed}) for seed in (1000, 1001))
    row = {"epoch": 1, "val_loss": 0.5}
    file = tmp_path / "checkpoints" / "refit-t0001-1000" / BEST
    save_tensors(file, {"bias": torch.ones(3)}, {"row": row, "seconds": 2.0})
    gone = tmp_path / "gone"  # every worker fails over it, as it would on a machine that loses its disk
    bench = {"dataset": str(gone), "backbone": "simple_cnn", "weights": "random", "seed": 0, "device": "cpu"}
    bench |= {"precision": "fp32", "metric": "accuracy"}
    with ray_session(None, cpus=2):
        found = refit(
            tmp_path,
            "t0001",
            bench,
            [trained, untrained],
            on="train",
            workers=2,
            gpus=0.0,
        )
    assert found[0] == {"seed": 1000, "recipe": trained.model_dump(mode="json"), "best": row, "seconds": 2.0}
    assert found[1]["seed"] == 1001
    assert str(gone) in found[1]["error"]
