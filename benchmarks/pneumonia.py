"""PneumoniaMNIST: test accuracy, AUROC and recall of pneumonia, beside a recipe by hand and the published AutoML.

    python benchmarks/pneumonia.py --data PATH/TO/pneumoniamnist.npz [--arms by_hand fine_tune unfreeze_schedule]

Protocol: the benchmark's own splits. Every model trains on train; whatever is chosen (the winner, where a training
stops, which refit is kept) is chosen on val by --metric; the test split is read once a run, at its end, for models that
were named beforehand, and decides nothing. Each search's winner is trained again with --refits fresh seeds: its figures
are the mean and the standard deviation over those; then both over the search's seeds. Images of 28 px are seen at 32.
"by_hand" is what a person would write down on the same weights, through `raysearch.tune --recipe`: a head for 10 epochs
on the frozen features, then three blocks of DenseNet121 open (denseblock2 on) for 5 epochs, AdamW at 3e-4, one-cycle,
augmentation of half strength; as many seeds and refits. On one seed such a recipe once had 0.909. The published table's
best AutoML entry has 0.946 (MedMNIST v2: Google AutoML Vision, 28 px).
The weights were trained on CIFAR-100, no X-ray among it. Validation images are easier than the test images here (0.95
to 0.97 against 0.83 to 0.91), and fewer of them are normal.
Accuracy and recall are those of the likelier class. AUROC is raysearch's own of every fresh seed; "kept_auroc" is
scikit-learn's of the one model that is kept, from its probabilities in predictions.parquet. "kept_bound" is the
accuracy that this model would have at the threshold that is best on test: nobody may choose that one, but it says how
much of what is missing is the threshold's.

Each run is a whole process with an empty cache, one after the other. After each a line is added to --out; --go-on
takes from there what a broken-off benchmark had finished, with the same settings. Progress is on stderr; prints one
JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import machine
from peer import ROOT, WEIGHTS, Arms, Figures, Task, need_files, with_out
from schedules import over_seeds, search
from sklearn.metrics import roc_auc_score, roc_curve

DATA = ROOT.parent / "shared" / "data" / "pneumoniamnist.npz"
PNEUMONIA = "1"
"""Its label; the other class is normal."""
PUBLISHED = {
    "best_automl_accuracy": 0.946,
    "best_automl": "MedMNIST v2's table: Google AutoML Vision, 28 px",
    "by_hand_accuracy": 0.909,
    "by_hand": "notes of this project: three blocks open, 5 epochs, one seed",
}
PROTOCOL = (
    "own splits: trained on train, chosen on val; test is read once a run, at its end, and decides nothing; "
    "mean over fresh seeds of each winner, then over search seeds"
)
BY_HAND = {
    "backbone": "densenet121",
    "schedule": [
        {"depth": 0, "epochs": 10, "learning_rate": 1e-3, "course": "cosine"},
        {
            "depth": 3,
            "epochs": 5,
            "learning_rate": 3e-4,
            "course": "one_cycle",
            "strength": 0.5,
            "keep": "last",  # one-cycle ends at a low rate: no epoch is chosen
        },
    ],
}
FIGURES = ("accuracy", "auroc", "recall")


def run_searched(space: str, task: Task, options: argparse.Namespace) -> Figures:
    """A search, its winner measured."""
    given = {"space": space, "metric": options.metric, "trials": task.trials, "max-epochs": task.epochs}
    return search(given | shared_flags(task, options), figures_of)


def run_by_hand(task: Task, options: argparse.Namespace) -> Figures:
    """The recipe, trained as it is."""
    recipe = BY_HAND | {"image_size": options.image_size}
    with tempfile.TemporaryDirectory(prefix="raysearch-recipe-") as folder:
        file = Path(folder) / "recipe.json"
        file.write_text(json.dumps(recipe), encoding="utf-8")
        return search({"recipe": file} | shared_flags(task, options), figures_of)


def shared_flags(task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """Flags that search and recipe have in common."""
    return {
        "data": options.data,
        "weights": options.weights,
        "backbone": BY_HAND["backbone"],
        "image-size": options.image_size,
        "concurrent": task.concurrent,
        "refits": options.refits,
        "refit-on": "train",  # the protocol: what is chosen is chosen on val
        "seed": task.seed,
    }


def figures_of(folder: Path) -> Figures:
    """What a run folder says of its winner."""
    trials = pd.read_csv(folder / "trials.csv")
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    depth = trials.loc[trials["trial"] == evaluation["trial"], "depth"]
    predictions = pd.read_parquet(folder / "predictions.parquet")
    on_test = predictions[predictions["split"] == "test"]
    probabilities = np.stack(list(on_test["winner"]))[:, int(PNEUMONIA)]
    test = evaluation["test"]
    return {
        "trials": len(trials),
        "failed": int((trials["state"] == "failed").sum()),
        "winner_depth": 0 if depth.empty else int(depth.iloc[0]),
        "refits": evaluation["refits"],
        "test_reads": evaluation["test_reads"],
        "metric": evaluation["metric"],
        "best_validation": round(evaluation["best_validation"], 4),
        "validation": over_seeds(evaluation["val"]["accuracy"]["values"]),
        "accuracy": over_seeds(test["accuracy"]["values"]),
        "auroc": over_seeds(test["auroc"]["values"]),
        "recall": over_seeds(test["per_class"][PNEUMONIA]["recall"]["values"]),
        "kept_auroc": round(float(roc_auc_score(on_test["label"], probabilities)), 4),
        "kept_bound": round(best_accuracy(on_test["label"].to_numpy(), probabilities), 4),
    }


def best_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """At the best of all thresholds; labels are 0 or 1."""
    wrong, right, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    share = labels.mean()
    return float((right * share + (1 - wrong) * (1 - share)).max())


def summarize(rows: Sequence[Figures]) -> Figures:
    """An arm over the seeds, each seed's mean over its refits counting once."""
    found: Figures = {name: over_seeds([row[name]["mean"] for row in rows]) for name in ("validation", *FIGURES)}
    found["seconds"] = over_seeds([row["seconds"] for row in rows])
    return found


def read_options() -> argparse.Namespace:
    """The flags, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="MedMNIST's pneumoniamnist.npz")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="of DenseNet121, a safetensors file")
    parser.add_argument("--image-size", type=int, default=32, help="px")
    parser.add_argument("--arms", nargs="+", default=["by_hand", "fine_tune"], help="by_hand, or spaces")
    parser.add_argument("--metric", default="accuracy", help="what the search maximises on validation")
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--max-epochs", type=int, default=12, help="of a trial, after the head's")
    parser.add_argument("--refits", type=int, default=3, help="fresh seeds of each winner")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--concurrent", type=int, default=2)
    options = with_out(parser)
    need_files(parser, options, ("data", "weights"))
    return options


def run_arm(arm: str, task: Task, options: argparse.Namespace) -> Figures:
    """The recipe by hand, or a search of the space that the arm names."""
    return run_by_hand(task, options) if arm == "by_hand" else run_searched(arm, task, options)


def main() -> None:
    """Run every arm of every seed, then print the table."""
    options = read_options()
    settings = {name: getattr(options, name) for name in ("image_size", "metric", "refits")}
    words = [options.data.name, options.weights.name, *(f"{name} {value}" for name, value in settings.items())]
    tasks = [
        Task(options.trials, seed, options.max_epochs, options.concurrent, ", ".join(words)) for seed in options.seeds
    ]
    arms = Arms(options.out)
    arms.fill(options.arms, tasks, lambda arm, task: run_arm(arm, task, options), go_on=options.go_on)
    summary = {
        "benchmark": "pneumonia",
        "protocol": PROTOCOL,
        "data": options.data.name,
        "weights": options.weights.name,
        **settings,
        "trials": options.trials,
        "max_epochs": options.max_epochs,
        "seeds": options.seeds,
        "published": PUBLISHED,
        "arms": {arm: summarize([arms.there[arm, task] for task in tasks]) for arm in options.arms},
        "machine": machine(),
        "runs": [{"seed": task.seed} | {arm: arms.there[arm, task] for arm in options.arms} for task in tasks],
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
