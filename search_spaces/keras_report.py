"""A schedule by hand, as a report on Keras had it: head, then block 5, 4 and 3, each from the best of the one before.

    python -m raysearch.tune --space keras_report --backbone vgg19

Nothing is searched: this is what the search is to be compared with, and how to write down a schedule of one's own (put
`tune.choice([…])` wherever something should be left open). Each stage sees another sixth of the training images, its
learning rate begins where ReduceLROnPlateau left the one before, and three epochs without a better figure end it. The
same depths are denseblock4, 3 and 2 of DenseNet121. The report's batches and augmentation are ours.
"""

from raysearch.space import Search

head = {
    "depth": 0,
    "epochs": 30,
    "learning_rate": 1e-3,
    "weight_decay": 1e-1,
    "course": "plateau",
    "plateau_factor": 0.2,
    "plateau_patience_epochs": 1,
    "early_stopping_epochs": 3,
}

plateau = {
    "course": "plateau",
    "plateau_factor": 0.2,
    "plateau_patience_epochs": 1,
    "early_stopping_epochs": 3,
    "strength": 0.5,
}

space = {
    "schedule": [
        head,
        {**plateau, "depth": 1, "learning_rate": 1e-5, "weight_decay": 1e-1, "part": "1/6"},
        {**plateau, "depth": 2, "inherit": 1.0, "weight_decay": 1e-2, "part": "2/6"},
        {**plateau, "depth": 3, "inherit": 1.0, "weight_decay": 1e-2, "part": "3/6"},
    ]
}

default: dict = {}

search = Search(heads=1, beam=1, levels=3)
