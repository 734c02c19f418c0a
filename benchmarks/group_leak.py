"""What a group leak does to the figures of a search: several photos of each thing, split by photo and by thing.

    python benchmarks/group_leak.py --data PATH/TO/cifar10.zip [--things 250] [--photos 4] [--seeds 0]

Of each of --things training images of the source, as many of each class, --photos are made: a random crop of seven
eighths of its sides, mirrored or not, brighter or darker, with more contrast or less. They lie in a folder a class and
are named after their thing, and raysearch splits them itself: "by_photo" as they are, so that photos of a thing are in
several splits, "by_thing" with --group-by. Each arm is a whole search of fine_tune --preset quick. Of what it ships:
accuracy on the run's own test images, and on photos of things that nobody had, one of each test image of the source.
The difference is what a leak promises too much. --outside limits these images.

Each run is a whole process with an empty cache. After each a line is added to --out; --go-on takes from there what is
there already. Run it alone on the machine. Progress is on stderr; prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from machine import machine
from numpy.typing import NDArray
from payoff import DATA
from peer import WEIGHTS, Arms, Figures, Task, need_files, with_out
from PIL import Image, ImageEnhance
from schedules import over_seeds, search

from raysearch.data.decode import open_image
from raysearch.data.listing import Listing
from raysearch.data.source import list_source
from raysearch.predict import load_best

ARMS: Mapping[str, Figures] = {"by_photo": {}, "by_thing": {"group-by": "thing([0-9]+)_"}}
"""Flags of each."""
CROP = 7 / 8
LIGHT = 0.25
"""By how much a photo's brightness and contrast are off at most."""


def photo(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """One more photo of what an image shows."""
    width, height = (round(CROP * side) for side in image.size)
    left = int(generator.integers(image.width - width + 1))
    top = int(generator.integers(image.height - height + 1))
    found = image.crop((left, top, left + width, top + height))
    if generator.random() < 0.5:
        found = found.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast):
        found = enhancer(found).enhance(1 + LIGHT * float(generator.uniform(-1, 1)))
    return found


def image_of(listing: Listing, place: int) -> Image.Image:
    """An image of the source."""
    return open_image(listing.reader.read(place)).convert("RGB")


def photographed(listing: Listing, folder: Path, options: argparse.Namespace, seed: int) -> None:
    """Writes the photos of this seed's things, in a folder a class."""
    generator = np.random.default_rng(seed)
    labels, splits = np.asarray(listing.labels), np.asarray(listing.splits)
    for label, name in enumerate(listing.classes):
        there = np.flatnonzero((labels == label) & (splits != "test"))
        (folder / name).mkdir(parents=True)
        for place in generator.choice(there, options.things // len(listing.classes), replace=False).tolist():
            for number in range(options.photos):
                photo(image_of(listing, place), generator).save(folder / name / f"thing{place}_{number}.png")


def outside(listing: Listing, most: int) -> tuple[list[NDArray[np.uint8]], NDArray[np.str_]]:
    """A photo of each test image, of so many at most, and their classes."""
    generator = np.random.default_rng(0)
    places = np.flatnonzero(np.asarray(listing.splits) == "test")
    places = np.sort(generator.permutation(places)[:most])
    photos = [np.asarray(photo(image_of(listing, place), generator)) for place in places.tolist()]
    return photos, np.array(listing.classes)[np.asarray(listing.labels)[places]]


def run_arm(arm: str, task: Task, options: argparse.Namespace, listing: Listing) -> Figures:
    """One search."""
    photos, labels = outside(listing, options.outside)

    def figures_of(folder: Path) -> Figures:
        evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        answers = np.array([one.answer for one in load_best(folder).answers(photos, batch_size=256)])
        return {
            "own_test": round(evaluation["shipped"]["test"]["accuracy"], 4),
            "own_test_images": sum(row["support"] for row in evaluation["shipped"]["test"]["per_class"].values()),
            "out_of_fold": [one["out_of_fold"]["accuracy"] for one in evaluation["frontier"]],
            "outside": round(float((answers == labels).mean()), 4),
            "outside_images": len(labels),
        }

    with tempfile.TemporaryDirectory(prefix="raysearch-groups-") as scratch:
        data = Path(scratch) / "photos"
        photographed(listing, data, options, task.seed)
        flags = {"space": "fine_tune", "preset": "quick", "data": data, "weights": options.weights, "seed": task.seed}
        return search(flags | {"image-size": 32, "concurrent": task.concurrent} | ARMS[arm], figures_of)


def read_options() -> argparse.Namespace:
    """The flags, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="a SOURCE with a test split")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--things", type=int, default=250)
    parser.add_argument("--photos", type=int, default=4, help="of each thing")
    parser.add_argument("--outside", type=int, default=10_000, help="images of new things at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--concurrent", type=int, default=2)
    options = with_out(parser)
    need_files(parser, options, ("data", "weights"))
    return options


def main() -> None:
    """Run both arms for every seed, then print the table."""
    options = read_options()
    listing = list_source(str(options.data), seed=0)
    words = f"{options.data.name}, {options.things} things, {options.photos} photos of each"
    tasks = [Task(0, seed, 0, options.concurrent, words) for seed in options.seeds]
    arms = Arms(options.out)
    arms.fill(list(ARMS), tasks, lambda arm, task: run_arm(arm, task, options, listing), go_on=options.go_on)
    found = {}
    for arm in ARMS:
        rows = [arms.there[arm, task] for task in tasks]
        found[arm] = {name: over_seeds([row[name] for row in rows]) for name in ("own_test", "outside", "seconds")}
        found[arm]["too_much"] = over_seeds([row["own_test"] - row["outside"] for row in rows])
    print(json.dumps({"benchmark": "group_leak", "data": words, "arms": found, "machine": machine()}))


if __name__ == "__main__":
    main()
