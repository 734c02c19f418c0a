"""What a run folder says of its search as a whole: figures and tables, for a tracker to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from raysearch.record.folder import RunFolder
from raysearch.record.info import Json
from raysearch.record.metric import tracked_name

PICTURES = ("augmentation", "curves")
"""Files of the run folder, .png, that are shown if they are there."""


def search_config(run: RunFolder) -> Json:
    """The settings of the search, and what it was run on."""
    info = run.info
    return {**info["settings"], **{key: info[key] for key in ("fingerprints", "classes", "versions") if key in info}}


def search_summary(run: RunFolder) -> Json:
    """How many trials ended how; once there is an evaluation, its test figures and those it is compared with."""
    counts = {f"trials_{state}": int(n) for state, n in run.trials["state"].value_counts().items()}
    document = run.evaluation
    if document is None:
        return counts
    metric = document["metric"]
    found = {
        **counts,
        "winner": document["trial"],
        tracked_name(f"val_{metric}"): document["best_validation"],
        "optimism": document["optimism"],
        "test_accuracy": document["test"]["accuracy"]["mean"],
        "test_accuracy_std": document["test"]["accuracy"]["std"],
        "test_macro_f1": document["test"]["macro_f1"]["mean"],
        **{f"test_accuracy_{name}": other["test"]["accuracy"]["mean"] for name, other in document["others"].items()},
    }
    return {key: value for key, value in found.items() if value is not None}


def per_class_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """Precision, recall, F1 and support of every class in each split of an evaluation, means over fresh seeds."""
    rows = []
    for split in ("train", "train_augmented", "val", "test"):
        for name, row in document.get(split, {}).get("per_class", {}).items():
            figures = {key: value["mean"] if isinstance(value, dict) else value for key, value in row.items()}
            rows.append({"split": split, "class": name, **figures})
    return pd.DataFrame(rows)
