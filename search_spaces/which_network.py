"""Which network? Heads on every network whose weights are on this machine, then fine-tuning of the best two.

    python -m raysearch.tune --space which_network --data photos/
    python -m raysearch.tune --space which_network --data photos/ --backbone densenet121,resnet50,timm/convnext_atto

Each network gets 24 heads on its own frozen features, a matter of seconds. Those that are clearly behind on the
validation images leave, and of the others the best two share the trials, which unfreeze one to three blocks. The report
page has accuracy against the cost of a prediction for every network, so that a small one that is nearly as good can be
taken instead. `raysearch weights` lists what is on this machine; --backbone names other networks, whose weights are
downloaded where they are not here.
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
    "course": "one_cycle",
    "strength": tune.quniform(0.0, 1.0, 0.25),
    "dropout": tune.quniform(0.0, 0.5, 0.1),
    "mixing": tune.choice(["none", "cutmix"]),
}

space = {"backbone": "at_hand", "pooling": tune.choice(["avg", "both"]), "schedule": [head, fine]}

default = {
    "pooling": "avg",
    "schedule": [
        {"learning_rate": 2e-3, "weight_decay": 1e-2, "dropout": 0.0},
        {
            "depth": 3,
            "learning_rate": 5e-4,
            "layer_decay": 1.0,
            "weight_decay": 1e-2,
            "strength": 1.0,
            "dropout": 0.0,
            "mixing": "cutmix",
        },
    ],
}

search = Search(sampler="tpe", heads=24, pack=12, reduction=3, networks=2)
