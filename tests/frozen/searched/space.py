"""Heads in packs and a tree of two levels, each with a range test: most of the events that a search may log."""

from ray import tune

from raysearch.space import Search


def opened(depth):
    return {"depth": depth, "learning_rate": tune.loguniform(1e-4, 1e-2), "batch_size": 8, "course": "plateau"}


space = {
    "pooling": tune.choice(["avg", "max"]),
    "schedule": [
        {"depth": 0, "epochs": 3, "batch_size": 8, "learning_rate": tune.loguniform(1e-3, 1e-2)},
        opened(1),
        opened(2) | {"inherit": 0.5, "class_weights": tune.choice(["none", 0.5])},
    ],
}
default = {
    "pooling": "avg",
    "schedule": [
        {"learning_rate": 3e-3},
        {"learning_rate": 1e-3},
        {"learning_rate": 1e-3, "class_weights": "none"},
    ],
}
search = Search(heads=4, pack=2, beam=2, min_gain=0.0, confidence=0.999, reduction=2, lr_find=True)
