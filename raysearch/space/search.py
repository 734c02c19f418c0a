"""How a space is searched: the words of its file's `search`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Search(BaseModel):
    """How a space is searched; the budget itself (trials, epochs) is the command's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = "accuracy"
    """What leads the search where --metric does not say it."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """Optuna's TPE or random sampler; or every combination in turn, of values that are choices or in steps."""
    heads: int = Field(default=8, ge=0)
    """Recipes of the head search that comes first; 0: there is none, every trial starts from the weights alone. In a
    space of one stage, at depth 0, they are the whole search, and --trials says how many. Where the backbone is
    searched, each network gets so many."""
    networks: int | None = Field(default=None, ge=1)
    """Where the backbone is searched: how many networks go on after the head search, at most; None: all that are not
    clearly behind."""
    per_backbone: dict[str, dict[str, Any]] = {}
    """What a network has for itself, by backbone and dotted path, e.g. {"vgg16": {"schedule.1.learning_rate":
    tune.loguniform(…), "schedule.1.depth": ["block5", "block4"]}}. It stands for the space's own, place for place: the
    first choice for the first, the middle of a range for the middle. Depths may be named by the last block to open."""
    first: tuple[dict[str, Any], ...] = ()
    """Recipes to try after the default, in this order, before the sampler proposes any, say a portfolio that was good
    elsewhere. Each is shaped like `default`, or has dotted paths, e.g. {"schedule.1.depth": 2, …}; what it leaves out
    is the default's. They are trials of the first level, so they give what those draw; where heads alone are searched
    they are heads, and those that can train together do. Few --trials leave the last ones out."""
    pack: int = Field(default=32, ge=1)
    """Heads that train together at most: more share each reading of the features, fewer try more kinds of features."""
    folds: int = Field(default=0, ge=0)
    """Heads are compared by cross-validation over the training split, in so many folds; 0: on validation images."""
    reduction: int = Field(default=3, ge=2)
    """ASHA: 1 in `reduction` goes on at each rung."""
    first_rung_epochs: int | None = Field(default=None, ge=1)
    """ASHA's shortest rung; None: trials of up to 12 epochs are trained whole, and longer ones are first compared after
    about a sixth of theirs."""
    beam: int = Field(default=3, ge=1)
    """How many of a level's best trials those of the next level start from."""
    levels: int | None = Field(default=None, ge=1)
    """Open all levels (so many stages after the head's), whatever they bring; None: a test stops the search. Untested,
    all validation images choose; else half of them only test."""
    winner: Literal["best", "deepest"] = "best"
    """The trial whose recipe is reported and kept: the best of all levels and heads, or that of the deepest level."""
    lr_find: bool = False
    """Before a level begins, a range test at each of its depths (a few dozen steps) says between which bounds its
    learning rates are drawn; where in the space's own range they are drawn then says where between these."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """The level of the interval that decides whether a level brought a gain, none, or neither is certain."""
    min_gain: float = Field(default=0.01, ge=0.0)
    """The least gain in log-loss (nats an image) that is worth opening a level for."""
