"""Search for similar images: an embedding of a frozen backbone's features, in which images of one class are near.

    python -m raysearch.tune --space similarity --data photos/
    raysearch embed --data photos/ --run similarity-1
    raysearch similar features.parquet cat.jpg

Each head is a linear projection to vectors of length 1, trained by cross-entropy of a layer on top, so that it still
answers with classes, and by the supervised contrastive loss (Khosla et al. 2020), as much as the search finds it to
help; on the bundled images it does not. What leads the search is the metric of the use: of the first 10 results among
the validation images, how many are of the class that was asked for. 64 heads train in packs on features that are made
once, without augmentation, which would take minutes instead of seconds (`"strength"` in the stage of a copy).
`--trials N` says how many, `--metric precision_at_20` counts 20 results.
"""

from ray import tune

from raysearch.space import Search

head = {
    "depth": 0,
    "epochs": 30,
    "batch_size": 256,
    "learning_rate": tune.loguniform(3e-4, 1e-2),
    "weight_decay": tune.loguniform(1e-3, 1e-1),
    "course": "cosine",
    "dropout": tune.quniform(0.0, 0.5, 0.1),
    "contrastive": tune.choice([0.0, 0.1, 0.3, 1.0, 3.0]),
    "contrastive_temperature": tune.loguniform(0.03, 0.5),
    "early_stopping_epochs": 8,
}

space = {
    "pooling": tune.choice(["avg", "max", "both"]),
    "head": {"kind": "embedding", "dimensions": tune.choice([64, 128])},
    "schedule": [head],
}

default = {
    "pooling": "avg",
    "head": {"dimensions": 128},
    "schedule": [
        {
            "learning_rate": 2e-3,
            "weight_decay": 1e-2,
            "dropout": 0.0,
            "contrastive": 1.0,
            "contrastive_temperature": 0.1,
        }
    ],
}

search = Search(metric="precision_at_10", sampler="tpe", heads=64, pack=16, reduction=3)
