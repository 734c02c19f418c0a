"""What a bound on a weak class's recall brings on the test images, and what class weights do, per class.

    python benchmarks/weak_class.py --data PATH/TO/pneumoniamnist.npz [--require "recall:1>=0.97"] [--out FILE.jsonl]

Arms, each a search of fine_tune for accuracy with the same seed and budget on the source's own splits: "plain";
"required", with --require; "unweighted" and "weighted", the default recipe alone with class weights none and balanced,
which differ in nothing else. Of each: precision, recall and F1 of every class on the test images, of what is shipped
(with its threshold, if it has one); and whether the bound was kept out of fold, with the interval, and on test.

The bound is decided on labelled images. Test images of another kind may miss it: PneumoniaMNIST's are harder than its
validation images.

After each run a line is added to --out; --go-on takes from there what is there already. Run it alone on the machine.
Progress is on stderr; prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from machine import machine
from peer import ROOT, WEIGHTS, Arms, Figures, Task, with_out
from schedules import over_seeds, search

DATA = ROOT.parent / "shared" / "data" / "pneumoniamnist.npz"
ARMS = ("plain", "required", "unweighted", "weighted")
WEIGHTED = {"unweighted": "none", "weighted": "balanced"}
_CHOICE = '"class_weights": tune.choice(["none", "balanced"])'
_DEFAULT = '"class_weights": "none",'


def space_of(arm: str, folder: Path) -> str:
    """fine_tune, or the same with class weights as the arm has them."""
    if arm not in WEIGHTED:
        return "fine_tune"
    text = (ROOT / "search_spaces" / "fine_tune.py").read_text(encoding="utf-8")
    assert text.count(_CHOICE) == text.count(_DEFAULT) == 1
    file = folder / f"fine_tune_{arm}.py"
    fixed = text.replace(_CHOICE, f'"class_weights": "{WEIGHTED[arm]}"').replace(_DEFAULT, "")
    file.write_text(fixed, encoding="utf-8")
    return str(file)


def run_arm(arm: str, task: Task, options: argparse.Namespace) -> Figures:
    """One search, or the default recipe alone."""
    with tempfile.TemporaryDirectory(prefix="raysearch-weak-") as scratch:
        flags: dict[str, Any] = {
            "space": space_of(arm, Path(scratch)),
            "data": options.data,
            "weights": options.weights,
            "backbone": options.backbone,
            "image-size": options.image_size,
            "metric": "accuracy",
            "preset": options.preset,
            "concurrent": task.concurrent,
            "seed": task.seed,
        }
        if arm in WEIGHTED:
            flags["trials"] = 1
        if arm == "required":
            flags["require"] = options.require
        return search(flags, figures_of)


def figures_of(folder: Path) -> Figures:
    """What a run folder says of what is shipped."""
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    shipped = evaluation["shipped"]
    return {
        "trial": evaluation["trial"],
        "accuracy": round(shipped["test"]["accuracy"], 4),
        "balanced_accuracy": round(shipped["test"]["balanced_accuracy"], 4),
        "threshold": shipped["threshold"],
        "per_class": {
            name: {kind: round(row[kind], 4) for kind in ("precision", "recall", "f1", "support")}
            for name, row in shipped["test"]["per_class"].items()
        },
        "out_of_fold": {
            name: {kind: round(row[kind], 4) for kind in ("precision", "recall", "f1", "support")}
            for name, row in shipped.get("out_of_fold", {}).get("per_class", {}).items()
        },
        "requirements": evaluation.get("requirements", []),
    }


def summarize(rows: list[Figures]) -> Figures:
    """An arm over the seeds."""
    classes = rows[0]["per_class"]
    return {
        "accuracy": over_seeds([row["accuracy"] for row in rows]),
        "per_class": {
            name: {
                kind: over_seeds([row["per_class"][name][kind] for row in rows])
                for kind in ("precision", "recall", "f1")
            }
            for name in classes
        },
        "requirements": [row["requirements"] for row in rows],
        "seconds": over_seeds([row["seconds"] for row in rows]),
    }


def read_options() -> argparse.Namespace:
    """The flags, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="MedMNIST's pneumoniamnist.npz, or another SOURCE")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--image-size", type=int, default=32, help="px")
    parser.add_argument("--require", default="recall:1>=0.97")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--preset", default="quick", help="of raysearch.tune: how much is searched")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--concurrent", type=int, default=2)
    options = with_out(parser)
    for name in ("data", "weights"):
        path = getattr(options, name)
        if not path.exists():
            parser.exit(2, f"--{name} {path}: no such file; say where it is\n")
        setattr(options, name, path.resolve())
    return options


def main() -> None:
    """Run every arm of every seed, then print the table."""
    options = read_options()
    words = f"{options.data.name}, {options.image_size} px, {options.require}, {options.preset}"
    tasks = [Task(0, seed, 0, options.concurrent, words) for seed in options.seeds]
    arms = Arms(options.out)
    arms.fill(options.arms, tasks, lambda arm, task: run_arm(arm, task, options), go_on=options.go_on)
    found = {arm: summarize([arms.there[arm, task] for task in tasks]) for arm in options.arms}
    print(json.dumps({"benchmark": "weak_class", "data": words, "arms": found, "machine": machine()}))


if __name__ == "__main__":
    main()
