"""What a person would let the search try on chest X-rays with weights that have never seen one.

    python benchmarks/pneumonia.py --arms benchmarks/pneumonia_space.py --metric auroc --trials 12 --max-epochs 6

Deep, since X-rays are nothing like the images of the weights; augmented, since hospitals differ; short; and the weak
class (one image in four is normal) weighs as much as the other, always. Which of these recipes is best is left to the
validation images.
"""

from ray import tune

from raysearch.space import Search

head = {"depth": 0, "epochs": 10, "learning_rate": 1e-3, "course": "cosine", "class_weights": "balanced"}

fine = {
    "depth": tune.choice([3, 4]),
    "keep": "last",
    "learning_rate": tune.loguniform(1e-4, 1e-3),
    "layer_decay": tune.choice([1.0, 0.5]),
    "weight_decay": tune.loguniform(1e-3, 1e-1),
    "course": tune.choice(["one_cycle", "cosine"]),
    "batch_norm": tune.choice(["frozen", "train"]),
    "strength": tune.quniform(0.5, 1.0, 0.25),
    "dropout": tune.quniform(0.0, 0.5, 0.1),
    "class_weights": "balanced",
}

space = {"pooling": tune.choice(["avg", "max", "both"]), "schedule": [head, fine]}

default = {
    "pooling": "avg",
    "schedule": [
        {},
        {
            "depth": 4,
            "learning_rate": 3e-4,
            "layer_decay": 1.0,
            "weight_decay": 1e-2,
            "course": "one_cycle",
            "batch_norm": "frozen",
            "strength": 0.5,
            "dropout": 0.0,
        },
    ],
}

search = Search(sampler="tpe", heads=3, reduction=3)
"""A head of each pooling; there is nothing else to choose of them."""
