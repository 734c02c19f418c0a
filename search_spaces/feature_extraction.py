"""Search the classifier on top of the frozen backbone: pooling, head, how it learns, how much to augment.

    python -m raysearch.tune --space feature_extraction

The backbone runs once over the images (once per augmented view); 256 heads then train on its pooled features in packs,
so hundreds of recipes take about as long as a few epochs of fine-tuning. `--trials N` says how many heads. Start from
the best of them by

    python -m raysearch.tune --space fine_tune --head RUN

To compare heads by cross-validation over the training split, copy this file and set `folds=5`; to try every
combination, give values in the place of ranges (`tune.choice`, `tune.quniform`) and set `sampler="grid"`.
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
    "class_weights": tune.choice(["none", "balanced"]),
    "label_smoothing": tune.quniform(0.0, 0.2, 0.05),
    "strength": tune.quniform(0.0, 1.0, 0.25),
    "early_stopping_epochs": 8,
}

space = {
    "pooling": tune.choice(["avg", "max", "both"]),
    "head": {"kind": tune.choice(["linear", "hidden"])},
    "schedule": [head],
}

default = {
    "pooling": "avg",
    "head": {"kind": "linear"},
    "schedule": [
        {
            "learning_rate": 2e-3,
            "weight_decay": 1e-2,
            "dropout": 0.0,
            "class_weights": "none",
            "label_smoothing": 0.0,
            "strength": 0.0,
        }
    ],
}

search = Search(sampler="tpe", heads=256, pack=16, reduction=3)
