"""The recipes of portfolio_table.py: drawn at random from the ranges of fine_tune, every one trained to the end.

The ranges are those that fine_tune had when benchmarks/portfolio_table.csv was recorded, which stays true only if they
stay as they are here. Heads are fixed, one for each pooling, as recipes of trials are what is compared.
"""

from ray import tune

from raysearch.space import Search

head = {
    "depth": 0,
    "epochs": 30,
    "learning_rate": 2e-3,
    "weight_decay": 1e-2,
    "course": "cosine",
    "early_stopping_epochs": 8,
}

fine = {
    "depth": tune.choice([1, 2, 3]),
    "keep": "last",
    "learning_rate": tune.loguniform(2e-4, 2e-3),
    "layer_decay": tune.choice([1.0, 0.5]),
    "weight_decay": tune.loguniform(1e-3, 1e-1),
    "course": tune.choice(["one_cycle", "cosine", "plateau"]),
    "batch_norm": tune.choice(["frozen", "train"]),
    "strength": tune.quniform(0.0, 1.0, 0.25),
    "dropout": tune.quniform(0.0, 0.5, 0.1),
    "class_weights": tune.choice(["none", "balanced"]),
    "mixing": tune.choice(["none", "cutmix"]),
}

space = {"pooling": tune.choice(["avg", "max", "both"]), "schedule": [head, fine]}

default = {
    "pooling": "avg",
    "schedule": [
        {},
        {
            "depth": 3,
            "learning_rate": 5e-4,
            "layer_decay": 1.0,
            "weight_decay": 1e-2,
            "course": "one_cycle",
            "batch_norm": "frozen",
            "strength": 1.0,
            "dropout": 0.0,
            "class_weights": "none",
            "mixing": "cutmix",
        },
    ],
}

# One rung, at the end: nothing is stopped. The shortest rung is longer than any trial.
search = Search(sampler="random", heads=3, pack=1, first_rung_epochs=1000)
