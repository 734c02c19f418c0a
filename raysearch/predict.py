"""The winner alone, from its folder: what model cards tell people to import."""

from raysearch.winner.best import Best, Prediction, load_best

__all__ = ["Best", "Prediction", "load_best"]
