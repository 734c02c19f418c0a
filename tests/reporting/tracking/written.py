"""A run folder with a log, as a search leaves it, and what a person's environment says of W&B."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from raysearch.run import Run
from tests.e2e.commands import ROOT
from tests.reporting.events import LOG

KEY = "0123456789abcdef" * 2 + "fedcba98"

SPACE = """
from ray import tune

space = {
    "schedule": [
        {"depth": 0, "epochs": 2},
        {"depth": 1, "learning_rate": tune.loguniform(1e-4, 1e-2), "strength": tune.quniform(0.0, 1.0, 0.25)},
    ]
}
default = {"schedule": [{}, {"learning_rate": 1e-3, "strength": 0.5}]}
"""


def spread(mean: float) -> dict[str, Any]:
    """A figure over fresh seeds."""
    return {"mean": mean, "std": 0.0, "values": [mean]}


def written_run(folder: Path, events: list[dict[str, Any]] = LOG, ended: bool = True, **settings: Any) -> Run:
    """A run with these events; with an evaluation and a best/, if it has ended."""
    given = {"wandb": None, "wandb_mode": None, "tensorboard": False, "metric": "accuracy", "head": None}
    recipe = {"backbone": "simple_cnn", "weights": "random", "image_size": 16, "fit": "squash", "seed": 0}
    run = Run.create(folder, given | recipe | settings)
    (folder / "space.py").write_text(SPACE)
    run.append(*events)
    if ended:
        (folder / "best").mkdir()
        (folder / "best" / "recipe.json").write_text('{"seed": 0}')
        (folder / "best" / "model.safetensors").write_bytes(b"tensors")
        row = {"precision": spread(0.5), "recall": spread(0.6), "f1": spread(0.55), "support": 5}
        split = {"accuracy": spread(0.75), "macro_f1": spread(0.7), "per_class": {"cat": row, "dog": row}}
        split["confusion"] = [[3, 2], [1, 4]]
        about = {"trial": "t0001", "metric": "accuracy", "best_validation": 0.8, "optimism": 0.05}
        others = {"head": {"trial": "h0000", "test": split}}
        run.write_json("evaluation.json", about | {"val": split, "test": split, "others": others})
    return run


def environment(home: Path, url: str | None = None) -> dict[str, str]:
    """That of a person who has logged in to W&B at `url`, or never has; nothing of the tests' own machine."""
    home.mkdir(exist_ok=True)
    mine = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    folders = {name: str(home) for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")}
    known = {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY} if url is not None else {}
    return mine | folders | known | {"NETRC": str(home / "netrc"), "PYTHONPATH": str(ROOT), "COLUMNS": "400"}


def wandb_variables(home: Path, url: str | None = None) -> dict[str, str]:
    """Those of `environment` that W&B reads, and nothing else."""
    names = ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_BASE_URL", "WANDB_API_KEY", "NETRC")
    mine = environment(home, url)
    return {name: mine[name] for name in names if name in mine}


def command(variables: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """python -m …, to its end."""
    line = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(line, env=variables, capture_output=True, text=True, timeout=150, check=False)
