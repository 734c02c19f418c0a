"""The small network from scratch that people compare with: no pretrained weights, no head search.

python -m raysearch.tune --space baseline
"""

from ray import tune

from raysearch.space import Search

space = {
    "backbone": "simple_cnn",
    "weights": "random",
    "schedule": [
        {
            "depth": 4,
            "learning_rate": tune.loguniform(3e-4, 1e-2),
            "weight_decay": tune.loguniform(1e-3, 1e-1),
            "course": "one_cycle",
            "batch_norm": "train",
            "strength": tune.quniform(0.0, 1.0, 0.25),
            "dropout": tune.quniform(0.0, 0.5, 0.1),
        }
    ],
}

default = {"schedule": [{"learning_rate": 3e-3, "weight_decay": 1e-2, "strength": 0.5, "dropout": 0.0}]}

search = Search(sampler="tpe", heads=0, reduction=3)
