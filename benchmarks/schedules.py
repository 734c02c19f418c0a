"""Three ways to search how a network is unfrozen, with about as many epochs each: test accuracy and seconds.

    python benchmarks/schedules.py [--seeds 0 1 2] [--arms tree joint peer by_hand] [--out schedules.jsonl]
    python benchmarks/schedules.py --data PATH/TO/cifar10.zip --images 5000 --trials 48 --max-epochs 18

    tree     --space unfreeze_schedule: block after block, each level from the best of the one before
    joint    --space fine_tune: depth, rate, course and the rest at once, every trial from a head
    peer     a script written from Ray Tune's own guides (--peer PATH); DenseNet121 alone, else it is left out
    by_hand  --space keras_report: one schedule, nothing searched
Same images and weights, refits off. Each is a whole process from start to exit, one after the other, ours with an empty
cache. The tree runs first, --trials N of at most --max-epochs E on a path. The epochs that its trials trained, controls
included, are the budget. ASHA decides how many epochs a trial gets, so joint and peer can only be given about as many:
their number of trials is the budget over the epochs of a trial, as measured at other seeds, or at the first one as
halving would have them. "trial_epochs" is what was really trained, "of_budget" its ratio to the tree's. Heads are
counted apart ("head_epochs"): ours train on cached features, the peer's in each trial through the whole network. The
schedule by hand gets no more than the budget, ends by its own early stopping, and its epochs see a sixth of the images.
What favours whom: an epoch at a small depth costs less, which seconds tell and epochs do not; the tree chooses on half
of the validation images, because the other half tests its levels.

"validation" is the winner's accuracy on all validation images (of the peer: its best epoch's; the weights it tests are
those of its last), "chosen_by" the figure by which it won. "epochs_saved" says what the tree's sharing is worth: the
epochs of all its trials, were each to train its whole path, over those that were trained; with_heads counts the heads
too, on the paths and as trials of their own.

--images N takes N training images, as many of each class, and 1,000 others to validate where the zip has no val/.
After each arm a line is added to --out; --go-on takes from there what a broken-off run had finished, with the same
settings. Run it alone on the machine. Progress is on stderr; prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import machine
from peer import IMAGES, PEER, WEIGHTS, Arms, Figures, Task, as_flags, need_files, run, run_peer, say, with_out

from raysearch.activations.forecast import expected_trials
from raysearch.search.asha import rungs_for

SPACES = {"tree": "unfreeze_schedule", "joint": "fine_tune", "by_hand": "keras_report"}
ARMS = ("tree", "joint", "peer", "by_hand")
REDUCTION = 3
"""Of successive halving, in fine_tune and in the peer."""
WHOLE = {"joint": 2, "peer": 1}
"""Trials that are trained to the end whatever halving says: the default and the leader; the first, without rivals."""
PEER_HEAD_EPOCHS = 3
"""The peer's default: with them every trial of it begins."""
VAL_IMAGES = 1000
FIGURES = ("trial_epochs", "seconds", "validation", "test")

Names = dict[str, dict[str, list[str]]]
"""Members of a zip by split and class."""


def search(flags: Mapping[str, Any], read: Callable[[Path], Figures]) -> Figures:
    """One `raysearch.tune` as a process of its own, from an empty cache.

    Args:
        flags: of the command; where the run goes is set here.
        read: takes its figures from the run folder, which is gone afterwards.

    Returns: the seconds from start to exit, and what `read` found.
    """
    with (
        tempfile.TemporaryDirectory(prefix="raysearch-ours-") as folder,
        tempfile.TemporaryDirectory(prefix="raysearch-cache-") as cache,
    ):
        words = as_flags({**flags, "results": folder, "run-name": "ours"})
        ended = run([sys.executable, "-m", "raysearch.tune", *words], Path(folder), Path(cache))
        return {"seconds": round(ended.seconds, 1), **read(Path(folder) / "ours")}


def over_seeds(values: Sequence[float]) -> Figures:
    """Mean and the sample's standard deviation, which a single value does not have."""
    return {
        "mean": round(statistics.fmean(values), 4),
        "std": round(statistics.stdev(values), 4) if len(values) > 1 else None,
        "values": [round(value, 4) for value in values],
    }


def run_searched(arm: str, task: Task, options: argparse.Namespace, trials: int, epochs: int) -> Figures:
    """An arm of ours."""
    flags = {
        "space": SPACES[arm],
        "data": options.data,
        "weights": options.weights,
        "backbone": options.backbone,
        "trials": trials,
        "max-epochs": epochs,
        "concurrent": task.concurrent,
        "refits": 0,
        "seed": task.seed,
    }
    return search(flags, tree_figures if arm == "tree" else figures_of)


def figures_of(folder: Path) -> Figures:
    """What a run folder says of its trials and its winner."""
    trials, heads = pd.read_csv(folder / "trials.csv"), pd.read_csv(folder / "heads.csv")
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    depth = trials.loc[trials["trial"] == evaluation["trial"], "depth"]
    return {
        "trials": len(trials),
        "failed": int((trials["state"] == "failed").sum()),
        "trial_epochs": int(trials["epochs"].sum()),
        "head_epochs": int(heads["epochs"].sum()),
        "winner_depth": 0 if depth.empty else int(depth.iloc[0]),
        "chosen_by": round(evaluation["best_validation"], 4),
        "validation": round(evaluation["val"]["accuracy"]["mean"], 4),
        "test": round(evaluation["test"]["accuracy"]["mean"], 4),
    }


def tree_figures(folder: Path) -> Figures:
    """Also what sharing saved, and what the test said of each level."""
    trials, heads = pd.read_csv(folder / "trials.csv"), pd.read_csv(folder / "heads.csv")
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    judged = [event for event in events if event["event"] == "level"]
    return {
        **figures_of(folder),
        "epochs_saved": {
            "without_heads": round(epochs_saved(trials), 3),
            "with_heads": round(epochs_saved(pd.concat([heads, trials])), 3),
        },
        # A level is judged again if it gets another leader: the last verdict is the one that counts.
        "verdicts": {str(event["level"]): event["verdict"] for event in judged},
    }


def epochs_saved(trials: pd.DataFrame) -> float:
    """The epochs of every trial's whole path, as far as it lies in this table, over the epochs that were trained."""
    own = dict(zip(trials["trial"], trials["epochs"], strict=True))
    parent = dict(zip(trials["trial"], trials["parent"], strict=True))
    unshared = 0
    for name in own:
        while name in own:
            unshared += own[name]
            name = parent[name]
    return float(unshared / sum(own.values()))


def run_the_peer(task: Task, options: argparse.Namespace, trials: int) -> Figures:
    """The peer, its heads' epochs counted apart as ours are."""
    found = run_peer(replace(task, trials=trials), options)
    head_epochs = PEER_HEAD_EPOCHS * found["trials"]
    return {
        "seconds": round(found["wall_seconds"], 1),
        "trials": found["trials"],
        "failed": found["errors"],
        "trial_epochs": found["trial_epochs"] - head_epochs,
        "head_epochs": head_epochs,
        "config": found["config"],
        "chosen_by": round(found["val"], 4),
        "validation": round(found["val"], 4),
        "test": round(found["test"], 4),
    }


def trials_for(arm: str, task: Task, arms: Arms) -> int:
    """How many trials of an arm are expected to train as many epochs as the tree's did."""
    others = [
        figures
        for (name, other), figures in arms.there.items()
        if name == arm and other.seed != task.seed and replace(other, seed=task.seed) == task
    ]
    budget = arms.there["tree", task]["trial_epochs"]
    if others:
        trials = budget * sum(one["trials"] for one in others) / sum(one["trial_epochs"] for one in others)
    else:
        whole, a_trial = WHOLE[arm], sum(expected_trials(1.0, rungs(arm, task.epochs), REDUCTION))
        trials = whole + (budget - whole * task.epochs) / a_trial
    return max(1, round(trials))


def rungs(arm: str, epochs: int) -> tuple[int, ...]:
    """The epochs after which an arm compares its trials; Ray Tune's ASHA counts them from one epoch upwards."""
    if arm == "joint":
        return rungs_for(epochs, REDUCTION)
    shorter = takewhile(lambda rung: rung < epochs, (REDUCTION**power for power in count()))
    return (*shorter, epochs)


def run_seed(task: Task, arms: Arms, options: argparse.Namespace) -> None:
    """Every arm of a seed that is not there yet, the tree first: what it trained is the others' budget."""
    for arm in options.arms:
        if options.go_on and (arm, task) in arms.there:
            continue
        say(f"{arm}, seed {task.seed}: started")
        if arm == "tree":
            figures = run_searched(arm, task, options, task.trials, task.epochs)
        elif arm == "by_hand":
            budget = arms.there["tree", task]["trial_epochs"]
            figures = run_searched(arm, task, options, task.trials, budget)
        elif arm == "joint":
            figures = run_searched(arm, task, options, trials_for(arm, task, arms), task.epochs)
        else:
            figures = run_the_peer(task, options, trials_for(arm, task, arms))
        arms.add(arm, task, figures)


def summarize(arm: str, tasks: Sequence[Task], arms: Arms) -> Figures:
    """An arm over all seeds."""
    rows = [arms.there[arm, task] for task in tasks]
    found: Figures = {name: over_seeds([row[name] for row in rows]) for name in FIGURES}
    budgets = [arms.there["tree", task]["trial_epochs"] for task in tasks]
    ratios = [row["trial_epochs"] / budget for row, budget in zip(rows, budgets, strict=True)]
    found["of_budget"] = over_seeds(ratios)
    if arm == "tree":
        kinds = rows[0]["epochs_saved"]
        found["epochs_saved"] = {kind: over_seeds([row["epochs_saved"][kind] for row in rows]) for kind in kinds}
    return found


def members(archive: Path) -> Names:
    """The images of a zip of SPLIT/CLASS/NAME, in order."""
    names: Names = {}
    with zipfile.ZipFile(archive) as opened:
        for name in sorted(opened.namelist()):
            if not name.endswith("/"):
                split, label, _ = name.split("/")
                names.setdefault(split, {}).setdefault(label, []).append(name)
    return names


def write_subset(source: Path, target: Path, images: int | None, test_images: int | None) -> None:
    """A zip of fewer images, the same for every seed, as many of each class.

    Args:
        source: a zip of SPLIT/CLASS/NAME.
        target: the new one.
        images: to train on; None: all.
        test_images: None: all.
    """
    names, generator = members(source), np.random.default_rng(0)
    shuffled = {
        split: {label: [own[place] for place in generator.permutation(len(own))] for label, own in classes.items()}
        for split, classes in names.items()
    }
    taken = 0 if images is None else images // len(names["train"])
    if "val" not in names:
        val = VAL_IMAGES // len(names["train"])
        shuffled["val"] = {label: own[taken : taken + val] for label, own in shuffled["train"].items()}
    if images is not None:
        shuffled["train"] = {label: own[:taken] for label, own in shuffled["train"].items()}
    if test_images is not None:
        test = test_images // len(names["test"])
        shuffled["test"] = {label: own[:test] for label, own in shuffled["test"].items()}
    with zipfile.ZipFile(source) as opened, zipfile.ZipFile(target, "w") as written:
        for split, classes in shuffled.items():
            for label, chosen in classes.items():
                for name in sorted(chosen):
                    written.writestr(f"{split}/{label}/{Path(name).name}", opened.read(name))


def size_problems(names: Names, images: int | None, test_images: int | None) -> list[str]:
    """Why these images cannot be taken from a zip."""
    if not {"train", "test"} <= names.keys():
        return ["--data needs train/ and test/ of class folders"]
    problems = []
    if images is None and "val" not in names:
        problems.append("--data has no val/, and each side would split off its own: give --images")
    from_train = 0 if images is None else images // len(names["train"])
    from_train += 0 if "val" in names else VAL_IMAGES // len(names["train"])
    wanted = {"train": (images, from_train), "test": (test_images, (test_images or 0) // len(names["test"]))}
    for split, (asked, a_class) in wanted.items():
        flag, classes = {"train": "--images", "test": "--test-images"}[split], names[split]
        if asked is not None and (asked < 1 or asked % len(classes)):
            problems.append(f"{flag} {asked}: must be a multiple of the {len(classes)} classes")
        elif a_class > (least := min(map(len, classes.values()))):
            problems.append(f"{flag} {asked}: needs {a_class} {split} images of each class, one has {least}")
    return problems


def read_options() -> argparse.Namespace:
    """The flags, checked; `arms` are those that will run, in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=IMAGES, help="a .zip of class folders in train/, test/, maybe val/"
    )
    parser.add_argument("--images", type=int, metavar="N", help="training images; default: all")
    parser.add_argument("--test-images", type=int, metavar="N", help="default: all")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="of the backbone, a safetensors file")
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--trials", type=int, default=32, help="of the tree")
    parser.add_argument("--max-epochs", type=int, default=12, help="of a path through the tree, and of any other trial")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--concurrent", type=int, default=2)
    parser.add_argument("--peer", type=Path, default=PEER, help="the peer script")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="default: all; the tree leads")
    options = with_out(parser)
    with_peer = "peer" in options.arms and options.backbone == "densenet121"
    if "tree" not in options.arms:
        parser.error("--arms: the tree's epochs are the others' budget; add tree (--go-on takes it from --out)")
    need_files(parser, options, ("data", "weights", *(["peer"] * with_peer)))
    if not zipfile.is_zipfile(options.data):
        parser.error(f"--data {options.data}: not a zip")
    if problems := size_problems(members(options.data), options.images, options.test_images):
        parser.error("; ".join(problems))
    options.arms = [arm for arm in ARMS if arm in options.arms and (arm != "peer" or with_peer)]
    return options


def main() -> None:
    """Run every arm of every seed, then print the comparison."""
    options = read_options()
    counts = f"{options.images or 'all'} and {options.test_images or 'all'}"
    told = f"{counts} of {options.data.name}, {options.weights.name}"
    tasks = [Task(options.trials, seed, options.max_epochs, options.concurrent, told) for seed in options.seeds]
    arms = Arms(options.out)
    with tempfile.TemporaryDirectory(prefix="raysearch-images-") as folder:
        if options.images is not None or options.test_images is not None:
            fewer = Path(folder) / options.data.name
            write_subset(options.data, fewer, options.images, options.test_images)
            options.data = fewer
        sizes = {split: sum(map(len, classes.values())) for split, classes in members(options.data).items()}
        for task in tasks:
            run_seed(task, arms, options)
    summary = {
        "benchmark": "schedules",
        "images": {"of": options.data.name, **sizes},
        "weights": options.weights.name,
        "backbone": options.backbone,
        "trials": options.trials,
        "max_epochs": options.max_epochs,
        "concurrent": options.concurrent,
        "seeds": options.seeds,
        "arms": {arm: summarize(arm, tasks, arms) for arm in options.arms},
        "machine": machine(),
        "runs": [{"seed": task.seed} | {arm: arms.there[arm, task] for arm in options.arms} for task in tasks],
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
