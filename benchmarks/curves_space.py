"""Whole learning curves for asha.py: recipes of depths 0 to 3 at random, every one trained to the end.

    python -m raysearch.tune --space benchmarks/curves_space.py --trials 48 --max-epochs 8 --refits 0 --run-name curves
    python benchmarks/asha.py --epochs 8 --curves results/curves/history.csv

The ranges are those of fine_tune, and depth 0 besides.
"""

from ray import tune

from raysearch.space import Search

head = {"depth": 0, "epochs": 30, "learning_rate": 2e-3, "weight_decay": 1e-2, "course": "cosine"}

fine = {
    "depth": tune.choice([0, 1, 2, 3]),
    "keep": "last",
    "learning_rate": tune.loguniform(2e-4, 2e-3),
    "layer_decay": tune.choice([1.0, 0.5]),
    "weight_decay": tune.loguniform(1e-3, 1e-1),
    "course": tune.choice(["one_cycle", "cosine", "plateau"]),
    "batch_norm": tune.choice(["frozen", "train"]),
    "strength": tune.quniform(0.0, 1.0, 0.25),
    "dropout": tune.quniform(0.0, 0.5, 0.1),
}

space = {"schedule": [head, fine]}

default = {
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
        },
    ],
}

# One rung, at the end: nothing is stopped. The shortest rung is longer than any trial.
search = Search(sampler="random", heads=1, first_rung_epochs=1000)
