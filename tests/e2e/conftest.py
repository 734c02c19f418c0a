"""Tiny images, a tiny space with heads, and one finished search that several tests look at."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from tests.e2e.commands import Command, Desk, Ended, table

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
    root, rng = tmp_path_factory.mktemp("data") / "photos", np.random.default_rng(0)
    for channel, name in enumerate(reversed(CLASSES)):
        (root / name).mkdir(parents=True)
        for number in range(N_PER_CLASS):
            pixels = rng.integers(0, 200, (SIZE, SIZE, 3), dtype=np.uint8)
            pixels[..., channel] += 20
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
    (root / "red" / "broken.png").write_bytes(b"\x89PNG but not really")
    return root


@pytest.fixture(scope="session")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A space file like fine_tune: heads first, then trials that start from them."""
    path = tmp_path_factory.mktemp("space") / "tiny.py"
    path.write_text(SPACE)
    return path


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A folder and a home of the test's own."""
    return Desk(tmp_path)


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

    desk: Desk
    run: Path
    command: Command
    ended: Ended


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Search:
    """The search of `flags`, from the command to its end. Tests that go on with it take a copy."""
    desk = Desk(tmp_path_factory.mktemp("undisturbed"))
    command = desk.start("-m", "raysearch.tune", *flags)
    return Search(desk, desk.work / "results" / "tiny", command, command.wait())


def assert_same(run: Path, other: Path) -> None:
    """Two runs of the same search: tables, seconds aside, and the winner's tensors."""
    for name in ("trials", "heads", "history"):
        assert table(run, name).to_csv(index=False) == table(other, name).to_csv(index=False), name
    one, two = (load_file(folder / "best" / "model.safetensors") for folder in (run, other))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)
