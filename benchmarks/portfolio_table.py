"""Records how recipes do on several small data sets: the table from which portfolio.py replays searches.

    python benchmarks/portfolio_table.py --cifar PATH/TO/cifar10.zip --pneumonia PATH/TO/pneumoniamnist.npz

The recipes are the same for every data set: the default of portfolio_space.py, and --recipes less one drawn at random
from its ranges. Each is trained whole, as a search does it: a stage of --epochs epochs on top of the head of its
pooling, which was trained on frozen features. A row of the table is a recipe on a data set: what was searched, and
validation accuracy and log-loss after each epoch of the stage.

The data sets are cut from CIFAR-10 (all of it, subsets of its classes, few images, unbalanced classes), PneumoniaMNIST
and scikit-learn's digits. **No test image of a source is touched**: training and validation images come from the
sources' training and validation splits, and what a search has to be given as a test split is one more image of each
class from there; the search is stopped when its trials are done, before it would look at them. More images validate
than a person would spare: the table is to say how good a recipe is, and the noise of a small validation split would
only blur that.

Data sets that --table has already are left out, so that a recording that was broken off goes on. Run it alone on the
machine. Progress is on stderr; prints one JSON line.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import machine
from numpy.typing import NDArray
from peer import HERE, MARK, ROOT, WEIGHTS, Figures, as_flags, need_files, say, wait_until_gone
from PIL import Image
from sklearn.datasets import load_digits

from raysearch.recipe import Shared
from raysearch.record.folder import RunFolder
from raysearch.space.load import load_space

DATA = ROOT.parent / "shared" / "data"
SPACE = HERE / "portfolio_space.py"
TABLE = HERE / "portfolio_table.csv"
FIXED: Shared = {"backbone": "densenet121", "image_size": 32}
STAGE = "schedule.1."
DRAWN_BY = 0
"""The seed of the searches: it draws the recipes."""
ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
VEHICLES = ("airplane", "automobile", "ship", "truck")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Pool:
    """Labelled images of one source that may be trained or validated on; read one by one, as they are wanted."""

    labels: NDArray[np.str_]
    """Shape (images,)."""
    read: Callable[[int], Pixels]
    """One image: (h, w) or (h, w, 3)."""


@dataclass(frozen=True)
class DataSet:
    """What is cut from a pool.

    Args:
        source: the pool's name.
        train: images to train on, over all classes.
        val: images to validate on.
        classes: those that are taken; none: all.
        imbalance: how many times as many images the first class has as the last, geometrically between.
    """

    source: str
    train: int
    val: int
    classes: tuple[str, ...] = ()
    imbalance: float = 1.0


DATA_SETS = {
    "cifar10": DataSet("cifar10", 1000, 1000),
    "cifar10_few": DataSet("cifar10", 300, 600),
    "animals": DataSet("cifar10", 400, 600, ANIMALS),
    "vehicles": DataSet("cifar10", 400, 600, VEHICLES),
    "cat_dog": DataSet("cifar10", 400, 600, ("cat", "dog")),
    "unbalanced": DataSet("cifar10", 500, 600, imbalance=10.0),
    "pneumonia": DataSet("pneumonia", 400, 500, imbalance=1 / 3),
    "digits": DataSet("digits", 400, 600),
}


# ---- the data sets ---------------------------------------------------------------------------------------------------


def cifar_pool(archive: Path) -> Pool:
    """The training images of a zip of train/CLASS/FILE."""
    opened = zipfile.ZipFile(archive)
    names = sorted(name for name in opened.namelist() if "/train/" in f"/{name}" and not name.endswith("/"))
    labels = np.array([name.split("/")[-2] for name in names])
    return Pool(labels, lambda place: np.asarray(Image.open(io.BytesIO(opened.read(names[place]))).convert("RGB")))


def pneumonia_pool(file: Path) -> Pool:
    """The training and validation images of PneumoniaMNIST."""
    with np.load(file) as arrays:
        images = np.concatenate([arrays["train_images"], arrays["val_images"]])
        labels = np.concatenate([arrays["train_labels"], arrays["val_labels"]]).reshape(-1)
    return Pool(labels.astype(str), images.__getitem__)


def digits_pool() -> Pool:
    """scikit-learn's digits, 8 x 8, of 17 grey values."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * 15).astype(np.uint8)
    return Pool(labels.astype(str), pixels.__getitem__)


def shares(images: int, classes: int, imbalance: float) -> list[int]:
    """How many images each class gets: falling geometrically by `imbalance` from the first to the last."""
    weights = np.geomspace(imbalance, 1.0, classes)
    return [max(1, round(images * weight / weights.sum())) for weight in weights]


def cut(pool: Pool, wanted: DataSet, seed: int) -> dict[str, NDArray[Any]]:
    """A data set as the arrays of a .npz with three splits, of which "test" is one image a class of the same pool.

    Raises:
        SystemExit: the pool has fewer images of a class.
    """
    random = np.random.default_rng(seed)
    classes = wanted.classes or tuple(np.unique(pool.labels).tolist())
    places: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    sizes = {
        name: shares(count, len(classes), wanted.imbalance) for name, count in vars(wanted).items() if name in places
    }
    for number, label in enumerate(classes):
        order = random.permutation(np.flatnonzero(pool.labels == label)).tolist()
        counts = {name: sizes[name][number] if name in sizes else 1 for name in places}
        if len(order) < sum(counts.values()):
            raise SystemExit(f"{label}: {sum(counts.values())} images are wanted, the source has {len(order)}")
        for name, count in counts.items():
            places[name] += [order.pop() for _ in range(count)]
    found: dict[str, NDArray[Any]] = {}
    for name, chosen in places.items():
        found[f"{name}_images"] = np.stack([pool.read(place) for place in chosen])
        found[f"{name}_labels"] = pool.labels[chosen]
    return found


# ---- the recording ---------------------------------------------------------------------------------------------------


def search_alone(flags: Figures, scratch: Path) -> None:
    """A search as a process of its own, which is stopped when its trials are done: nobody asks what it would ship.

    Raises:
        RuntimeError: it ended before.
    """
    mark = uuid.uuid4().hex
    own = {MARK: mark, "RAYSEARCH_CACHE": str(scratch / "cache"), "RAY_USAGE_STATS_ENABLED": "0"}
    log, errors = scratch / "run" / "log.jsonl", scratch / "stderr"
    command = [sys.executable, "-m", "raysearch.tune", *as_flags(flags)]
    with errors.open("w") as told:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stdout=subprocess.DEVNULL, stderr=told)
        while not (log.is_file() and trials_done(log) == flags["trials"]):
            if process.poll() is not None:
                raise RuntimeError(
                    f"{' '.join(command)} exited with {process.returncode}:\n{errors.read_text()[-4000:]}"
                )
            time.sleep(1)
        process.terminate()  # Ctrl-C would be the gentler word, but a process in the background may not hear it
        process.wait()
    wait_until_gone(mark)


def trials_done(log: Path) -> int:
    """How many trials have ended, heads aside."""
    lines = log.read_text(encoding="utf-8").splitlines()
    return sum('"finished": true' in line and json.loads(line)["trial"].startswith("t") for line in lines)


def rows_of(folder: Path, paths: Sequence[str]) -> list[Figures]:
    """A finished run as rows of the table, one a trial in the order in which they were drawn.

    Raises:
        RuntimeError: a trial failed.
    """
    run = RunFolder.open(folder)
    trials, history = run.trials, run.history
    if (failed := trials["state"] == "failed").any():
        raise RuntimeError(f"{failed.sum()} trials failed: {trials['trial'][failed].tolist()}")
    rows = []
    for number, trial in enumerate(trials.to_dict("records")):
        curve = history[(history["trial"] == trial["trial"]) & (history["stage"] == 1)]
        row = {"recipe": number} | {path.removeprefix(STAGE): brief(trial[path]) for path in paths}
        for column, name in (("val_accuracy", "accuracy"), ("val_loss", "loss")):
            row |= {f"{name}_{epoch}": round(value, 4) for epoch, value in enumerate(curve[column], 1)}
        rows.append(row)
    return rows


def brief(value: Any) -> Any:
    """A searched value in four digits."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def record(name: str, pool: Pool, options: argparse.Namespace) -> pd.DataFrame:
    """All recipes on one data set."""
    paths = load_space(str(SPACE), fixed=FIXED).trial_paths(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="raysearch-portfolio-") as scratch:
        data = Path(scratch) / "images.npz"
        np.savez(data, allow_pickle=False, **cut(pool, DATA_SETS[name], seed=0))
        flags = {"space": SPACE, "data": data, "weights": options.weights, "backbone": FIXED["backbone"]}
        flags |= {"seed": DRAWN_BY, "trials": options.recipes, "max-epochs": options.epochs, "concurrent": 2}
        search_alone(flags | {"refits": 0, "results": scratch, "run-name": "run"}, Path(scratch))
        table = pd.DataFrame(rows_of(Path(scratch) / "run", paths))
    if len(table) != options.recipes or table.isna().any(axis=None):
        raise RuntimeError(f"{name}: {len(table)} of {options.recipes} recipes, or an epoch of one is missing")
    say(f"{name}: {len(table)} recipes in {time.monotonic() - began:.0f} s")
    table.insert(0, "data_set", name)
    return table


def check_the_same(table: pd.DataFrame) -> None:
    """That a recipe's number means the same recipe in every data set.

    Raises:
        RuntimeError: it does not.
    """
    values = [column for column in table if not column.startswith(("accuracy_", "loss_", "data_set"))]
    if len(table[values].drop_duplicates()) != table["recipe"].nunique():
        raise RuntimeError("the data sets of the table were not recorded with the same recipes; begin a new --table")


def read_options() -> argparse.Namespace:
    """The flags, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, default=DATA / "cifar10.zip", help="CIFAR-10 as a zip of class folders")
    parser.add_argument("--pneumonia", type=Path, default=DATA / "pneumoniamnist.npz")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--data-sets", nargs="+", default=list(DATA_SETS), choices=DATA_SETS, metavar="NAME")
    parser.add_argument("--recipes", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--table", type=Path, default=TABLE, help="a data set is added when it is recorded")
    options = parser.parse_args()
    need_files(parser, options, ("cifar", "pneumonia", "weights"))
    return options


def main() -> None:
    """Record what the table lacks."""
    options = read_options()
    pools = {"cifar10": lambda: cifar_pool(options.cifar), "pneumonia": lambda: pneumonia_pool(options.pneumonia)}
    pools["digits"] = digits_pool
    table = pd.read_csv(options.table) if options.table.is_file() else pd.DataFrame({"data_set": []})
    for name in options.data_sets:
        if name in set(table["data_set"]):
            continue
        found = record(name, pools[DATA_SETS[name].source](), options)
        table = pd.concat([table, found], ignore_index=True) if len(table) else found
        check_the_same(table)
        table.to_csv(options.table, index=False)
    last = f"accuracy_{options.epochs}"
    spread = {
        str(name): {"default": rows[last].iloc[0], "least": rows[last].min(), "best": rows[last].max()}
        for name, rows in table.groupby("data_set", sort=False)
    }
    print(json.dumps({"benchmark": "portfolio_table", "accuracy": spread, "machine": machine()}))


if __name__ == "__main__":
    main()
