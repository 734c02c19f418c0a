"""A portfolio: a few recipes that complement each other over many searches, each good where the others are not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def complementary(regret: NDArray[np.float64], size: int, *, tried: Sequence[int] = ()) -> list[int]:
    """Recipes in the order in which they are best tried, chosen greedily.

    Each next recipe lowers the mean over the runs of the least regret so far the most. What a set of recipes lowers
    it by is submodular, so this is within 1 - 1/e of the best set of its size (Nemhauser, Wolsey and Fisher 1978).
    Hydra (Xu, Hoos and Leyton-Brown 2010) and Auto-sklearn 2.0 (Feurer et al. 2022) make portfolios of configurations
    so.
    Among recipes that lower it equally, the one with the least mean regret of its own goes first, then the one that
    stands first; so once nothing is left to lower, what follows is good on the whole. The order of the runs is of no
    consequence.

    Args:
        regret: runs x recipes; how much worse than the run's best each recipe is. Only runs that are on one scale can
            be averaged, e.g. 0 for the best and 1 for the worst of each.
        size: how many recipes; all of them, where there are fewer.
        tried: recipes that are tried before, whatever is chosen: what one of them is good for needs no other.

    Returns:
        Columns of `regret` that are not among `tried`, the first to try first.

    Raises:
        ValueError: a table without a run or a recipe, one with values that aren't finite, or a size below 1.
    """
    regret = np.asarray(regret, dtype=np.float64)
    if regret.ndim != 2 or not regret.size or not np.isfinite(regret).all():
        raise ValueError(
            f"regret has to be runs x recipes, both at least one, and finite: it's of shape {regret.shape}"
        )
    if size < 1:
        raise ValueError(f"size has to be at least 1, got {size=}")
    before = list(tried)
    if before:
        regret = np.minimum(regret, regret[:, before].min(axis=1, keepdims=True))
    alone = _mean_over_runs(regret)
    so_far = np.full((len(regret), 1), np.inf)
    order: list[int] = []
    left = np.setdiff1d(np.arange(regret.shape[1]), before)
    while len(order) < size and len(left):
        then = _mean_over_runs(np.minimum(so_far, regret[:, left]))
        chosen = int(left[np.lexsort((left, alone[left], then))[0]])
        order.append(chosen)
        so_far = np.minimum(so_far, regret[:, [chosen]])
        left = left[left != chosen]
    return order


def regret_after(regret: NDArray[np.float64], order: list[int]) -> NDArray[np.float64]:
    """The mean over the runs of the least regret, after each recipe of an order: shape (len(order),), never rising."""
    return _mean_over_runs(np.minimum.accumulate(np.asarray(regret, dtype=np.float64)[:, order], axis=1))


def _mean_over_runs(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each column; sorted first, because a floating sum depends on its order and ties must be ties."""
    return np.sort(table, axis=0).mean(axis=0)
