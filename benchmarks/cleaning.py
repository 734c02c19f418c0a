"""How much of the accuracy that wrong labels cost is won back by leaving out what an audit finds, or by the search.

    python benchmarks/cleaning.py [--data cifar10-mini] [--seeds 0 1 2] [--share 0.05] [--trials 1] [--out FILE.jsonl]

For each seed, this share of the training images is given a wrong label at random; validation and test images keep
theirs. "clean" trains on the images as they are, "errors" on those with wrong labels, "audited" on what
`raysearch audit --write` left of these (at --threshold), "dropped" on these with `drop_label_errors` at the share that
was planted in every stage after the head's. Beside them "oracle" leaves out exactly what was planted: nobody can do
better by leaving out. With --trials 1 the default recipe of fine_tune is trained --refits times with fresh seeds on
the training images, and its mean counts; with more, a search is made each time, and its winner counts.

"recovered" is the share of the lost accuracy that comes back, (arm - errors) / (clean - errors), of the means over
seeds; wanted is a half. Where a point is lost, on a thousand test images, it is a rough figure: the accuracies stand
beside it.

After each run a line is added to --out; --go-on takes from there what is there already. Run it alone on the machine.
Progress is on stderr; prints one JSON line.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import machine
from numpy.typing import NDArray
from peer import ROOT, WEIGHTS, Arms, Figures, Task, run, with_out
from schedules import over_seeds, search

from raysearch.data.chosen import COLUMN
from raysearch.data.listing import Listing
from raysearch.data.source import in_full, list_source

ARMS = ("clean", "errors", "audited", "dropped", "oracle")


def planted(listing: Listing, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The labels of all images, of which some of the training images' are wrong, and the places of these."""
    generator, labels = np.random.default_rng(seed), np.array(listing.labels)
    train = np.flatnonzero(np.asarray(listing.splits) == "train")
    wrong = generator.choice(train, round(share * len(train)), replace=False)
    classes = len(listing.classes)
    labels[wrong] = (labels[wrong] + generator.integers(1, classes, len(wrong))) % classes
    return labels, np.sort(wrong)


def write_manifest(
    file: Path, source: str, listing: Listing, labels: NDArray[np.int64], without: NDArray[np.int64]
) -> None:
    """The images of a source with these labels, without some."""
    gone = set(without.tolist())
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["path", "label", "split", COLUMN])
        for place, (path, label, split) in enumerate(zip(listing.paths, labels, listing.splits, strict=True)):
            if place not in gone:
                writer.writerow([path, listing.classes[label], split, source])


def data_of(arm: str, task: Task, options: argparse.Namespace, folder: Path) -> tuple[str, Figures]:
    """What an arm trains on, and what was left out of it."""
    source = in_full(options.data)
    listing = list_source(source, seed=task.seed)
    true, none = np.array(listing.labels), np.zeros(0, np.int64)
    given, wrong = planted(listing, options.share, task.seed)
    file = folder / "images.csv"
    write_manifest(file, source, listing, true if arm == "clean" else given, wrong if arm == "oracle" else none)
    if arm != "audited":
        return str(file), {}
    left = folder / "cleaned.csv"
    words = ["audit", "--data", str(file), "--write", str(left), "--threshold", str(options.threshold)]
    words += ["--weights", str(options.weights), "--backbone", options.backbone, "--json"]
    words += ["--seed", str(task.seed), "--image-size", str(options.image_size)] if options.image_size else []
    ended = run([sys.executable, "-m", "raysearch", *words], folder, folder / "cache")
    with left.open(encoding="utf-8", newline="") as opened:
        kept = {row["path"] for row in csv.DictReader(opened)}
    gone = np.array([path not in kept for path in listing.paths])
    return str(left), {
        "left_out": int(gone.sum()),
        "of_them_planted": int(gone[wrong].sum()),
        "planted": len(wrong),
        "audit_seconds": round(ended.seconds, 1),
    }


def space_of(arm: str, options: argparse.Namespace, folder: Path) -> str:
    """The space that an arm searches."""
    if arm != "dropped":
        return "fine_tune"
    text = (ROOT / "search_spaces" / "fine_tune.py").read_text(encoding="utf-8")
    stage = "fine = {\n"
    assert text.count(stage) == 1
    file = folder / "fine_tune_dropping.py"
    file.write_text(text.replace(stage, f'{stage}    "drop_label_errors": {options.share},\n'), encoding="utf-8")
    return str(file)


def run_arm(arm: str, task: Task, options: argparse.Namespace) -> Figures:
    """One search, or the default recipe alone, on what the arm trains on."""
    with tempfile.TemporaryDirectory(prefix="raysearch-cleaning-") as scratch:
        data, about = data_of(arm, task, options, Path(scratch))
        flags = {
            "space": space_of(arm, options, Path(scratch)),
            "data": data,
            "weights": options.weights,
            "backbone": options.backbone,
            "trials": task.trials,
            "max-epochs": task.epochs,
            "concurrent": task.concurrent,
            "refits": options.refits,
            "refit-on": "train",
            "folds": 0,
            "seed": task.seed,
        }
        flags |= {"image-size": options.image_size} if options.image_size else {}
        if flags["trials"] == 1:  # not a search of one, whose winner may be the head alone
            (Path(scratch) / "default.json").write_text("{}", encoding="utf-8")
            flags = {name: flags[name] for name in flags if name != "trials"}
            flags["parameters"] = Path(scratch) / "default.json"
        return about | search(flags, figures_of)


def figures_of(folder: Path) -> Figures:
    """What a run folder says of its winner, over fresh seeds."""
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    test = evaluation["test"]
    return {
        "accuracy": over_seeds(test["accuracy"]["values"]),
        "test_images": sum(one["support"] for one in test["per_class"].values()),
        "trial": evaluation["trial"],
    }


def read_options() -> argparse.Namespace:
    """The flags, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10-mini", help="a SOURCE with a test split")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--image-size", type=int, help="px; the images' own by default")
    parser.add_argument("--share", type=float, default=0.05, help="of the training images, that are given wrong labels")
    parser.add_argument("--threshold", type=float, default=0.98, help="of the audit")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--trials", type=int, default=1, help="1: the default recipe alone")
    parser.add_argument("--max-epochs", type=int, default=12)
    parser.add_argument("--refits", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--concurrent", type=int, default=2)
    return with_out(parser)


def recovered(arms: dict[str, Figures]) -> dict[str, float | None]:
    """The share of what wrong labels cost that each arm has back; None where they cost nothing."""
    if not {"clean", "errors"} <= set(arms):
        return {}
    clean, errors = (arms[name]["accuracy"]["mean"] for name in ("clean", "errors"))
    lost = clean - errors
    others = [arm for arm in arms if arm not in ("clean", "errors")]
    return {arm: round((arms[arm]["accuracy"]["mean"] - errors) / lost, 3) if lost > 0 else None for arm in others}


def main() -> None:
    """Run every arm of every seed, then print the table."""
    options = read_options()
    words = f"{Path(options.data).name}, share {options.share}, threshold {options.threshold}, refits {options.refits}"
    tasks = [Task(options.trials, seed, options.max_epochs, options.concurrent, words) for seed in options.seeds]
    arms = Arms(options.out)
    arms.fill(options.arms, tasks, lambda arm, task: run_arm(arm, task, options), go_on=options.go_on)
    found = {
        arm: {
            "accuracy": over_seeds([arms.there[arm, task]["accuracy"]["mean"] for task in tasks]),
            "runs": [arms.there[arm, task] for task in tasks],
        }
        for arm in options.arms
    }
    summary = {"benchmark": "cleaning", "data": words, "trials": options.trials, "max_epochs": options.max_epochs}
    print(json.dumps({**summary, "recovered": recovered(found), "arms": found, "machine": machine()}))


if __name__ == "__main__":
    main()
