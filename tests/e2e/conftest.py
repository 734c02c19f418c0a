"""Tiny images, a tiny space with heads, and one finished search that several tests look at."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.commands import Desk, DeskHere, Ended
from tests.shared import made_once

CLASSES = ("blue", "green", "red")
SIZE = 32
N_PER_CLASS = 20

# A stage's epoch is a few hundredths of a second; early stopping, two depths, BatchNorm in training and augmentation
# are all state that a resume must bring back.
SPACE = """
from ray import tune

from raysearch.space import Search

space = {
    "pooling": tune.choice(["avg", "max"]),
    "schedule": [
        {"depth": 0, "epochs": 3, "learning_rate": tune.loguniform(1e-3, 1e-2), "batch_size": 16},
        {
            "depth": tune.choice([1, 2]),
            "learning_rate": tune.loguniform(1e-4, 1e-2),
            "course": tune.choice(["one_cycle", "plateau"]),
            "strength": tune.quniform(0.0, 1.0, 0.5),
            "dropout": 0.2,
            "batch_norm": "train",
            "batch_size": 16,
        },
    ],
}
default = {
    "pooling": "avg",
    "schedule": [
        {"learning_rate": 3e-3},
        {"depth": 2, "learning_rate": 1e-3, "course": "one_cycle", "strength": 0.5},
    ],
}
search = Search(sampler="tpe", heads=3, reduction=3)
"""


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """Who starts the tests in the background of a script has them ignore Ctrl-C, and so would every command."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of PNG files, noise with a tint that is not quite easy to see; one file is not an image."""
    return made_once(tmp_path_factory, "photos", _draw)


def _draw(root: Path) -> None:
    rng = np.random.default_rng(0)
    for channel, name in enumerate(reversed(CLASSES)):
        (root / name).mkdir(parents=True)
        for number in range(N_PER_CLASS):
            pixels = rng.integers(0, 200, (SIZE, SIZE, 3), dtype=np.uint8)
            pixels[..., channel] += 20
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
    (root / "red" / "broken.png").write_bytes(b"\x89PNG but not really")


@pytest.fixture(scope="session")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A space file like fine_tune: heads first, then trials that start from them."""
    return made_once(tmp_path_factory, "space", lambda folder: (folder / "tiny.py").write_text(SPACE)) / "tiny.py"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A folder and a home of the test's own."""
    with closing(Desk(tmp_path)) as desk:
        yield desk


@pytest.fixture
def here(tmp_path: Path) -> DeskHere:
    """The same, where commands run in this process and without Ray."""
    return DeskHere(tmp_path)


@pytest.fixture(scope="session")
def flags(photos: Path, space: Path) -> list[str]:
    """The search that several tests run: three heads, five trials of up to nine epochs, one at a time."""
    return [
        *("--space", str(space), "--data", str(photos), "--backbone", "simple_cnn", "--weights", "random"),
        *("--trials", "5", "--max-epochs", "9", "--concurrent", "1", "--refits", "0", "--run-name", "tiny"),
        # The planner chooses by what it measures, so that two searches may differ in what they round to fp16.
        *("--cache", "off"),
    ]


@dataclass(frozen=True)
class Search:
    """A search that ran to its end undisturbed."""

    desk: DeskHere
    run: Path
    ended: Ended
    mark: str = ""
    """Of the command's processes; of a search in this process there are none."""


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Search:
    """The search of `flags`, through Ray and to its end: one for all tests. Those that go on with it take a copy."""

    def search(folder: Path) -> None:
        command = Desk(folder).start("-m", "raysearch.tune", *flags)
        told = dataclasses.asdict(command.wait()) | {"mark": command.mark}
        (folder / "told.json").write_text(json.dumps(told))

    folder = made_once(tmp_path_factory, "undisturbed", search)
    told = json.loads((folder / "told.json").read_text())
    mark, desk = told.pop("mark"), DeskHere(folder)
    return Search(desk, desk.work / "results" / "tiny", Ended(**told), mark)
