"""Turns Ray Tune's domains into Optuna's distributions."""

from __future__ import annotations

from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from ray.tune.search import sample

from raysearch.space.space import encode


def choice_of(value: Any) -> Any:
    """A value of `tune.choice` as Optuna can store it.

    Raises:
        ValueError: it is nothing that a recipe could hold.
    """
    if value is None or isinstance(value, str | int | float | dict | list | tuple):
        return encode(value)
    raise ValueError(f"{value!r} cannot be one of the choices: it must be a number, text, None, a list or a dict")


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether the value, encoded, is one that the distribution can give."""
    if not isinstance(distribution, CategoricalDistribution) and not isinstance(value, int | float):
        return False
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except ValueError:
        return False


def distribution_of(domain: sample.Domain) -> BaseDistribution:
    """The Optuna distribution of a Tune domain.

    Raises:
        ValueError: the domain has no equal there (tune.sample_from, tune.randn, tune.qloguniform, …).
    """
    sampler = domain.get_sampler()
    step: float | None = None
    if isinstance(sampler, sample.Quantized):
        step, sampler = sampler.q, sampler.get_sampler()
    log = isinstance(sampler, sample.LogUniform)
    if isinstance(domain, sample.Categorical):
        return CategoricalDistribution([choice_of(value) for value in domain.categories])
    if log and step not in (None, 1):
        raise ValueError("a logarithmic domain with steps cannot be searched; use tune.loguniform or tune.quniform")
    if step is not None and isinstance(domain, sample.Float | sample.Integer):
        low, high = float(domain.lower or 0), float(domain.upper or 0)
        if abs((high - low) / step % 1 - 0.5) < 0.5 - 1e-8:
            raise ValueError(f"from {low:g} to {high:g} is not a whole number of steps of {step:g}")
    if isinstance(domain, sample.Float) and isinstance(sampler, sample.Uniform | sample.LogUniform):
        return FloatDistribution(domain.lower, domain.upper, log=log, step=step)
    if isinstance(domain, sample.Integer) and isinstance(sampler, sample.Uniform | sample.LogUniform):
        # Tune's upper bound is exclusive, but inclusive where it is quantized with a step above 1.
        upper = domain.upper - 1 if step in (None, 1) else domain.upper
        return IntDistribution(domain.lower, upper, log=log, step=int(step or 1))
    raise ValueError(
        f"{domain.domain_str or domain} is not supported; use tune.choice, uniform, quniform, loguniform or randint"
    )
