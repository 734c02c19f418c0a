"""A small log, as a search writes it."""

from __future__ import annotations

from typing import Any

from raysearch.recipe import Recipe, Stage


def recipe(**stage: Any) -> dict[str, Any]:
    """A recipe of a head stage and one with `stage` (depth 1), as the log holds it."""
    stages = (Stage(depth=0, epochs=2), Stage(**{"depth": 1, "epochs": 4, **stage}))
    return Recipe(backbone="simple_cnn", image_size=16, schedule=stages).model_dump(mode="json")


def row(epoch: int, accuracy: float, loss: float = 1.0) -> dict[str, Any]:
    """An epoch's figures."""
    return {
        "epoch": epoch,
        "lr": 1e-3,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "val_loss": loss,
        "val_accuracy": accuracy,
        "val_macro_f1": accuracy - 0.1,
        "val_recall:cat": 0.25,
        "seconds": 0.5,
    }


def trial(name: str, parent: str | None = None, **stage: Any) -> dict[str, Any]:
    """A trial is made."""
    depth = 0 if name.startswith("h") else 1
    event = {"event": "trial", "trial": name, "parent": parent, "depth": depth, "stage": depth, "params": stage}
    return {**event, "recipe": recipe(**stage)}


def segment(name: str, number: int = 1, from_epoch: int = 0, to_epoch: int = 2) -> dict[str, Any]:
    """A segment starts."""
    place = {"stage": 1, "from_epoch": from_epoch, "to_epoch": to_epoch}
    return {"event": "segment", "trial": name, "segment": f"{name}.{number}", **place}


def epoch(name: str, *figures: Any) -> dict[str, Any]:
    """An epoch is done."""
    return {"event": "epoch", "trial": name, "stage": 1, **row(*figures)}


def end(name: str, number: int, best: dict[str, Any], at: int, finished: bool = False) -> dict[str, Any]:
    """A segment ends."""
    outcome = {"epoch": at, "finished": finished, "seconds": 1.5, "best": best}
    return {"event": "segment_end", "trial": name, "segment": f"{name}.{number}", **outcome}


LOG: list[dict[str, Any]] = [
    {"event": "budget", "heads": 1, "trials": 5, "max_epochs": 4},
    trial("h0000"),
    segment("h0000"),
    epoch("h0000", 1, 0.4),
    end("h0000", 1, row(1, 0.4), 1, finished=True),
    trial("t0000", "h0000", learning_rate=1e-4),
    segment("t0000"),
    {"event": "handover", "trial": "t0000", "stage": 1, "delta": 1e-7},
    epoch("t0000", 1, 0.6),
    epoch("t0000", 2, 0.5),
    end("t0000", 1, row(1, 0.6), 2),
    trial("t0001", "h0000", learning_rate=1e-3, class_weights={"cat": 2.0, "dog": 1.0}),
    segment("t0001"),
    epoch("t0001", 1, 0.7, 0.9),
    epoch("t0001", 2, 0.7, 0.8),
    end("t0001", 1, row(2, 0.7, 0.8), 2),
    {"event": "promoted", "trial": "t0001"},
    segment("t0001", 2, 2, 4),
    epoch("t0001", 3, 0.65),
    {
        "event": "segment_lost",
        "trial": "t0001",
        "segment": "t0001.2",
        "worker": "a1",
        "reason": "its process died",
        "cause": "process",
    },
    segment("t0001", 3, 2, 4),
    epoch("t0001", 3, 0.66),
    epoch("t0001", 4, 0.8),
    end("t0001", 3, row(4, 0.8), 4, finished=True),
    trial("t0002", "h0000", learning_rate=1e-2),
    segment("t0002"),
    {"event": "failed", "trial": "t0002", "error": "the loss is nan at step 3"},
    trial("t0003", "h0000", learning_rate=1e-2),
    segment("t0003"),
    epoch("t0003", 1, 0.9),
    trial("t0004", "h0000", learning_rate=1e-2),
]
