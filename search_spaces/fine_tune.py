"""Fine-tune a pretrained backbone: how deep to unfreeze, how fast to learn, how much to augment.

    python -m raysearch.tune --space fine_tune

First a short search for heads on the frozen features, then trials that start from the best head and unfreeze one to
three blocks. On the bundled images and weights (cifar10-mini, DenseNet121 trained on CIFAR-100, 32 px) what is shipped
has a test accuracy of about 0.72, where a head alone reaches 0.65. The default mixes images (CutMix): a single training
of 18 epochs gains half a point by it, and its probabilities need hardly any correction.
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
        {"learning_rate": 2e-3, "weight_decay": 1e-2, "dropout": 0.0},
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

search = Search(sampler="tpe", heads=24, pack=8, reduction=3)
