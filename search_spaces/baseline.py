"""The small network from scratch that people compare with: no pretrained weights, no head search.

    python -m raysearch.tune --space baseline

L1 and L2 penalties are searched beside weight decay. A search has one image size: run it once for each, and hold the
runs, and any other on the same images, against each other on the same test images:

    python -m raysearch.tune --space baseline --data photos/ --image-size 150 --run-name baseline-150
    python -m raysearch.tune --space baseline --data photos/ --image-size 224 --run-name baseline-224
    raysearch compare baseline-150 baseline-224 fine_tune-1
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
            "l1": tune.choice([0.0, 1e-6, 1e-5, 1e-4]),
            "l2": tune.choice([0.0, 1e-4, 1e-3]),
            "course": "one_cycle",
            "batch_norm": "train",
            "strength": tune.quniform(0.0, 1.0, 0.25),
            "dropout": tune.quniform(0.0, 0.5, 0.1),
        }
    ],
}

default = {
    "schedule": [
        {"learning_rate": 3e-3, "weight_decay": 1e-2, "l1": 0.0, "l2": 0.0, "strength": 0.5, "dropout": 0.0},
    ]
}

search = Search(sampler="tpe", heads=0, reduction=3)
