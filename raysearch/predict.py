"""The winner alone, from its folder: what model cards tell people to import."""

from raysearch.winner.answers import Prediction
from raysearch.winner.best import Best, load_best

__all__ = ["Best", "Prediction", "load_best"]
