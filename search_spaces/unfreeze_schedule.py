"""Search the schedule itself: train a head, open a block, search how to train it, open the next, and stop in time.

    python -m raysearch.tune --space unfreeze_schedule

A tree of stages. The first level searches heads on the frozen features; each later one opens one more block, and its
trials start from the best checkpoints of the level before, so that every prefix of a path is trained once. A test on
validation images that chose nothing says whether a block was worth opening, against the same stage with the block
closed: no gain ends the search. `best/recipe.json` is the whole path.
"""

from ray import tune

from raysearch.space import Search

head = {
    "depth": 0,
    "epochs": 30,
    "learning_rate": tune.loguniform(3e-4, 1e-2),
    "weight_decay": tune.loguniform(1e-3, 1e-1),
    "course": "cosine",
    "dropout": tune.quniform(0.0, 0.5, 0.1),
    "early_stopping_epochs": 8,
}


def opened(depth: int) -> dict:
    """The stage that has opened `depth` blocks."""
    return {
        "depth": depth,
        "keep": "last",
        "learning_rate": tune.loguniform(1e-4, 2e-3),
        "layer_decay": tune.choice([1.0, 0.5]),
        "weight_decay": tune.loguniform(1e-3, 1e-1),
        "course": tune.choice(["one_cycle", "cosine", "plateau"]),
        "batch_norm": tune.choice(["frozen", "train"]),
        "strength": tune.quniform(0.0, 1.0, 0.25),
    }


known_good = {
    "learning_rate": 5e-4,
    "layer_decay": 1.0,
    "weight_decay": 1e-2,
    "course": "one_cycle",
    "batch_norm": "frozen",
    "strength": 1.0,
}

space = {"pooling": tune.choice(["avg", "max", "both"]), "schedule": [head, opened(1), opened(2), opened(3)]}

default = {
    "pooling": "avg",
    "schedule": [
        {"learning_rate": 2e-3, "weight_decay": 1e-2, "dropout": 0.0},
        known_good,
        known_good,
        known_good,
    ],
}

search = Search(sampler="tpe", heads=24, pack=8, reduction=3, beam=3)
