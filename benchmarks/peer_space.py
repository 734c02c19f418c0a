"""The search of the peer script as a space: the same ranges, one fixed head, nothing else searched.

    python benchmarks/peer.py --peer PATH/TO/plain_tune.py

The strength is drawn from the same range in steps of 0.25, as our own spaces do, so that trials share views. A trial
ends with its last epoch, which is also what the peer tests. Read by benchmarks/peer.py; `default` is the middle of each
range, for the peer has no known-good recipe to start from.
"""

from ray import tune

from raysearch.space import Search

head = {"depth": 0, "epochs": 3, "learning_rate": 1e-3, "weight_decay": 3e-4, "course": "constant", "strength": 0.5}

fine = {
    "depth": tune.choice([1, 2, 3]),
    "learning_rate": tune.loguniform(1e-5, 3e-3),
    "weight_decay": tune.loguniform(1e-6, 1e-1),
    "course": "constant",
    "batch_norm": "frozen",
    "keep": "last",
    "batch_size": 64,
    "strength": tune.quniform(0.0, 1.0, 0.25),
    "class_weights": tune.uniform(0.0, 1.0),
}

space = {"pooling": "avg", "schedule": [head, fine]}

middle = {"depth": 2, "learning_rate": 2e-4, "weight_decay": 3e-4, "strength": 0.5, "class_weights": 0.5}

default = {"schedule": [{}, middle]}

search = Search(sampler="tpe", heads=1, reduction=3, first_rung_epochs=1)
