"""What a search ships, against the default recipe as the search trains it: points of test accuracy, and seconds.

    python benchmarks/payoff.py [--seeds 0 1 2 3 4] [--presets quick] [--data PATH/TO/cifar10.zip] [--out payoff.jsonl]
    python benchmarks/payoff.py --data PATH/TO/pneumoniamnist.npz --own-splits --metric accuracy
    python benchmarks/payoff.py --classes cat dog --images 300 --val 100
    python benchmarks/payoff.py --data digits --image-size 32 --images 300 --val 100

Each seed draws its own --images training and --val validation images from the source's training images, as many of
each class; all of its test images measure (10,000 of CIFAR-10: one figure is good to 0.5 points, and differences are
paired, image by image); "digits" are scikit-learn's, of which a third are test images. Each run is a whole process
with an empty cache. Of one run come all arms that need no training of their own: "default" is the default recipe as
the search trains it (on the training images alone, for the preset's epochs), "single" a fresh training of the chosen
recipe on all labelled images for as long as it is trained for good, "averaged" the mean of several such trainings'
tensors, "mirror" that with the mirror image, "ensemble" several networks, "shipped" what best/ holds, "head" the best
head alone.

Beside the presets of `raysearch.tune`, --presets takes what trains the default recipe alone and does a part of what
`quick` does. "sceptic" is what somebody does who believes in no search: trainings as long as quick's for good, on all
labelled images, averaged; with --refits as many as the seconds of a search last for. "labels" has trainings as long as
a trial, on all labelled images; "longer" trainings as long as for good, on the training images, and so has its arm
"default". What averaging is worth is the arm "averaged" less "single".

--unlabelled N gives the next N training images of the source without their labels, from which a student learns:
the arm "student", whether it is shipped or not.
--stage fixes fields of the space's last stage, e.g. --stage l2_sp=0.01 weight_decay=0: with --presets sceptic, and the
same without it, that is the field's worth.

The test images decide nothing: what is shipped is chosen out of fold, and the table only says afterwards how good it
is.
After each run a line is added to --out; --go-on takes from there what is there already. Run it alone on the machine.
Progress is on stderr; prints one JSON line an arm.
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
from PIL import Image
from portfolio_table import digits_pool
from schedules import over_seeds, search

from raysearch.data.listing import Listing
from raysearch.data.source import list_source
from raysearch.intervals import mean_interval
from raysearch.space.names import find_space

DATA = ROOT.parent / "shared" / "data" / "cifar10.zip"
DIGITS = Path("digits")
ARMS = ("shipped", "averaged", "single", "student", "mirror", "ensemble", "head", "default")
ALONE: dict[str, dict[str, Any]] = {
    "sceptic": {"preset": "quick"},
    "labels": {"preset": "best", "max-epochs": 6, "folds": 2, "refits": 3},  # best trains no longer for good
    "longer": {"preset": "quick", "max-epochs": 16, "refit-on": "train"},
}
"""Flags of what trains the default recipe alone."""
CONFIDENCE = 0.95
PROMISED = (0.02, 0.05, 0.10)
"""Errors that abstention is held to."""


UNLABELLED = "unlabelled"
"""The folder, beside the images of a seed, of those that it gives without labels."""


def drawn(
    source: Path, folder: Path, images: int, val: int, seed: int, unlabelled: int = 0, classes: Sequence[str] = ()
) -> Path:
    """A manifest of the source with this seed's training and validation images, and all of its test images.

    The next images of the source, in an order of the seed that knows no classes, are put into a folder without labels.
    Of some classes alone, where they are named.

    Raises:
        SystemExit: the source has fewer.
    """
    listing = list_source(str(source), seed=0)
    labels, splits = np.asarray(listing.labels), np.asarray(listing.splits)
    random, rows = np.random.default_rng(seed), []
    taken = [label for label, name in enumerate(listing.classes) if not classes or name in classes]
    if len(taken) < len(classes):
        raise SystemExit(f"{source} has the classes {', '.join(listing.classes)}, not all of {', '.join(classes)}")
    for label in taken:
        places = np.flatnonzero((labels == label) & (splits != "test"))
        share = (images + val) // len(taken)
        if len(places) < share:
            raise SystemExit(f"{source} has {len(places)} images of {listing.classes[label]}, {share} are asked for")
        chosen = random.permutation(places)[:share]
        cut = images // len(taken)
        rows += [(place, "train" if number < cut else "val") for number, place in enumerate(chosen.tolist())]
    rows += [(place, "test") for place in np.flatnonzero((splits == "test") & np.isin(labels, taken)).tolist()]
    rest = np.setdiff1d(np.flatnonzero(splits != "test"), [place for place, _ in rows])
    if len(rest) < unlabelled:
        raise SystemExit(f"{source} has {len(rest)} more training images, {unlabelled} are asked for without labels")
    (folder / UNLABELLED).mkdir()
    for place in random.permutation(rest)[:unlabelled].tolist():
        copied(listing, place, folder / UNLABELLED)
    lines = ["path,label,split"]
    for place, split in rows:
        path = copied(listing, place, folder)
        lines.append(f"{path.name},{listing.classes[labels[place]]},{split}")
    manifest = folder / "images.csv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def copied(listing: Listing, place: int, folder: Path) -> Path:
    """An image of the source, as a file in a folder."""
    path, image = folder / f"{place}.jpg", listing.reader.read(place)
    assert isinstance(image, bytes), "a source of files"
    path.write_bytes(image)
    return path


def digits_in(folder: Path) -> Path:
    """scikit-learn's digits as a folder of classes, of which every third image is one to test on."""
    pool, root = digits_pool(), folder / "digits"
    for place, label in enumerate(pool.labels):
        path = root / ("train" if place % 3 else "test") / label / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pool.read(place)).save(path)
    return root


def space_with(space: str, fields: dict[str, Any], folder: Path) -> str | Path:
    """The space with fields of its last stage fixed: itself, or a file in the folder."""
    if not fields:
        return space
    file = find_space(space)
    lines = [
        file.read_text(encoding="utf-8"),
        f'space["schedule"][-1] = space["schedule"][-1] | {fields!r}',
        f'default["schedule"][-1] = {{k: v for k, v in default["schedule"][-1].items() if k not in {list(fields)!r}}}',
    ]
    changed = folder / file.name
    changed.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return changed


def value_of(text: str) -> Any:
    """What is typed as a field's value: a number, or a word."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def figures_of(folder: Path) -> Figures:
    """What a run folder says: right answers by model, seconds by part, calibration, abstention."""
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    table = pd.read_parquet(folder / "predictions.parquet")
    table = table[table["split"] == "test"]
    labels = table["label"].to_numpy()
    shares = {name: np.stack(list(table[name])) for name in table.columns if name not in ("split", "path", "label")}
    named = {"shipped": shares["winner"], "default": shares.get("default"), "head": shares.get("head")}
    named |= {name.removeprefix("shipped_"): found for name, found in shares.items() if name.startswith("shipped_")}
    right = {name: (found.argmax(axis=1) == labels) for name, found in named.items() if found is not None}
    finals = next((event["time"] for event in events if event["event"] == "finals"), events[-1]["time"])
    chosen = next((event for event in events if event["event"] == "chosen"), None)
    return {
        "accuracy": {name: round(float(one.mean()), 4) for name, one in right.items()},
        "against_default": {
            name: [round(100 * value, 2) for value in mean_interval(one.astype(float) - right["default"], CONFIDENCE)]
            for name, one in right.items()
            if "default" in right and name != "default"
        },
        "singles": evaluation["test"]["accuracy"]["values"],
        "unlabelled": evaluation.get("unlabelled"),
        "out_of_fold": {one["kind"]: one["out_of_fold"]["accuracy"] for one in evaluation["frontier"]},
        "shipped": {name: evaluation["shipped"][name] for name in ("kind", "cost", "temperature", "threshold")},
        "chosen": None if chosen is None else chosen["trial"],
        "kept_default": None if chosen is None else chosen["trial"] == chosen["default"],
        "races": [
            {name: event[name] for name in ("trial", "folds", "mean", "low", "high")}
            for event in events
            if event["event"] == "race"
        ],
        "search_seconds": round(finals - events[0]["time"], 1),
        "finals_seconds": round(next((e["time"] for e in events if e["event"] == "test_read"), finals) - finals, 1),
        "calibration_error": {
            name: round(value, 4) for name, value in evaluation["shipped"]["calibration_error"].items()
        },
        "abstention": abstention_of(folder, shares["winner"], labels),
        "recall": {name: row["recall"] for name, row in evaluation["shipped"]["test"]["per_class"].items()},
        "auroc": evaluation["shipped"]["test"].get("auroc"),
        "test_images": len(labels),
    }


def abstention_of(folder: Path, shares: np.ndarray, labels: np.ndarray) -> list[Figures]:
    """For each promised error, the one found on test, and how many images have an answer."""
    from raysearch.predict import load_best

    known, found = load_best(folder).confidence, []
    sure, wrong = shares.max(axis=1), shares.argmax(axis=1) != labels
    for promised in PROMISED:
        least = known.least(promised)
        given = sure >= least if least is not None else np.zeros(len(labels), dtype=bool)
        error = round(float(wrong[given].mean()), 4) if given.any() else None
        found.append({"promised": promised, "error": error, "coverage": round(float(given.mean()), 4)})
    return found


def run_arm(preset: str, task: Task, options: argparse.Namespace) -> Figures:
    """One search, or what a sceptic does instead."""
    with tempfile.TemporaryDirectory(prefix="raysearch-payoff-") as scratch:
        data = digits_in(Path(scratch)) if options.data == DIGITS else options.data
        if not options.own_splits:
            counts = (options.images, options.val, task.seed, options.unlabelled, options.classes)
            data = drawn(data, Path(scratch), *counts)
        space = space_with(options.space, options.stage, Path(scratch))
        flags: dict[str, Any] = {"space": space, "data": data, "weights": options.weights, "seed": task.seed}
        flags |= {"backbone": options.backbone, "metric": options.metric, "concurrent": task.concurrent}
        flags |= {"image-size": options.image_size} if options.image_size else {}
        flags |= {"unlabelled": Path(scratch) / UNLABELLED} if options.unlabelled else {}
        flags |= {"trials": 1, **ALONE[preset]} if preset in ALONE else {"preset": preset}
        flags |= {} if options.refits is None else {"refits": options.refits}
        return search(flags, figures_of)


def summarize(arm: str, preset: str, rows: Sequence[Figures]) -> Figures:
    """An arm over the seeds."""
    found: Figures = {
        "benchmark": "payoff",
        "preset": preset,
        "arm": arm,
        "accuracy": over_seeds([row["accuracy"][arm] for row in rows]),
        "seconds": over_seeds([row["seconds"] for row in rows]),
    }
    if arm != "default" and len(rows) > 1:
        gains = [row["against_default"][arm][0] for row in rows]
        found["points_against_default"] = [round(value, 2) for value in mean_interval(gains, CONFIDENCE)]
    if arm != "default":
        found["by_seed"] = [row["against_default"][arm] for row in rows]
    if arm == "student":
        found["unlabelled"] = [row["unlabelled"] for row in rows]
        found["out_of_fold"] = [row["out_of_fold"] for row in rows]
    if arm == "shipped":
        found["worse_than_default"] = sum(row["against_default"][arm][0] < 0 for row in rows)
        found["kinds"] = [row["shipped"]["kind"] for row in rows]
        found["default_kept"] = [row["kept_default"] for row in rows]
        found["calibration_error"] = {
            name: over_seeds([row["calibration_error"][name] for row in rows]) for name in ("before", "after")
        }
        found["abstention"] = [row["abstention"] for row in rows]
        found["recall"] = [row["recall"] for row in rows]
        found["auroc"] = [row["auroc"] for row in rows]
        for part in ("search_seconds", "finals_seconds"):
            found[part] = over_seeds([row[part] for row in rows])
        found["machine"] = machine()
    return found


def read_options() -> argparse.Namespace:
    """The flags, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="a SOURCE with a test split, or digits")
    parser.add_argument("--own-splits", action="store_true", help="take the source as it is")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--image-size", type=int, help="px; the images' own by default")
    parser.add_argument("--space", default="fine_tune")
    parser.add_argument("--stage", nargs="+", default=[], metavar="FIELD=VALUE", help="fix these in the last stage")
    parser.add_argument("--metric", default="accuracy")
    parser.add_argument("--images", type=int, default=1500, help="to train on")
    parser.add_argument("--val", type=int, default=500, help="to validate on")
    parser.add_argument("--classes", nargs="+", default=[], help="of the source; all by default")
    parser.add_argument("--unlabelled", type=int, default=0, help="images of the source to give without labels")
    parser.add_argument("--presets", nargs="+", default=["quick"], help=f"quick, default, best; {', '.join(ALONE)}")
    parser.add_argument("--refits", type=int, help="trainings for good; the preset's by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--concurrent", type=int, default=2)
    options = with_out(parser)
    need_files(parser, options, ("weights",) if options.data == DIGITS else ("data", "weights"))
    options.stage = {name: value_of(text) for name, text in (one.split("=", 1) for one in options.stage)}
    if options.unlabelled and options.own_splits:
        parser.error("--unlabelled N draws from what a seed leaves of the source, and --own-splits leaves nothing")
    if options.classes and options.own_splits:
        parser.error("--classes is for what a seed draws, and --own-splits takes the source as it is")
    return options


def main() -> None:
    """Run every preset for every seed, then print an arm a line."""
    options = read_options()
    arms = Arms(options.out)
    for preset in options.presets:
        words = f"{options.data.name}, {options.images} + {options.val}, {options.space}, {options.metric}"
        words += f", {' '.join(options.classes)}" * bool(options.classes)
        words += f", {options.unlabelled} without labels" * bool(options.unlabelled)
        words += f", {options.refits} refits" * (options.refits is not None)
        words += "".join(f", {name}={value}" for name, value in options.stage.items())
        tasks = [Task(0, seed, 0, options.concurrent, words) for seed in options.seeds]
        arms.fill([preset], tasks, lambda name, task: run_arm(name, task, options), go_on=options.go_on)
        rows = [arms.there[preset, task] for task in tasks]
        for arm in ARMS:
            if all(arm in row["accuracy"] for row in rows):
                print(json.dumps(summarize(arm, preset, rows)))


if __name__ == "__main__":
    main()
