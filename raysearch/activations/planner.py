"""Which depths of a search read their activations from disk, and how many augmented views there are.

Pure: `raysearch.activations.measure` says what an image costs, the search says what it expects to train, and the time
of every combination of cached depths and views is worked out; there are few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from raysearch.activations.forecast import Costs, Forecast, Workload

Mode = Literal["auto", "on", "off"]

FEWEST_VIEWS = 4
"""Fewer than these would make augmentation a larger set of the same images, and a trial would learn them."""
PRICE_OF_VARIETY = 1.15
"""More views than the fastest plan has are taken while they make the search no longer than so many times as long."""
_VIEWS = (FEWEST_VIEWS, 6, 8, 12, 16, 24, 32, 48, 64)


@dataclass(frozen=True)
class DepthPlan:
    """One depth: the choice, and the seconds (of the clock) that it and its alternative are predicted to take."""

    depth: int
    way: Literal["pooled", "boundary", "live"]
    fill_seconds: float
    """Its share of the passes that fill the cache."""
    train_seconds: float
    """Everything else; live, all of it."""
    other_seconds: float | None
    """All of the other way: live if it is cached, cached beside the rest if it is live; None: it cannot be cached."""
    bytes: int
    """Disk that it takes at most; live, what it would have taken."""


@dataclass(frozen=True)
class CachePlan:
    """The choice for every depth, as plain data: `dataclasses.asdict` and `from_json` take it through run.json."""

    mode: Mode
    views: int
    dtype: str
    seed: int
    limit_bytes: int
    seconds: float
    """The whole search's training, by the clock."""
    live_seconds: float
    """The same without any cache."""
    depths: tuple[DepthPlan, ...]

    @property
    def cached(self) -> tuple[int, ...]:
        """The depths that are read from disk."""
        return tuple(one.depth for one in self.depths if one.way != "live")

    def settings(self) -> dict[str, Any] | None:
        """What `Bench.open(cache=...)` is given; None if everything is live."""
        if not self.cached:
            return None
        names = ("views", "dtype", "seed", "limit_bytes")
        return {"depths": list(self.cached), **{name: getattr(self, name) for name in names}}

    def refit_settings(self) -> dict[str, Any] | None:
        """The same for refits: pooled features alone.

        Their seeds are their own, so what is augmented is read once, but for a head's, which trains for many epochs on
        few views.
        """
        settings = self.settings()
        return settings | {"depths": [0], "seed": None} if settings is not None and 0 in self.cached else None

    def lines(self) -> list[str]:
        """One a depth, for people."""
        return [self._line(one) for one in self.depths]

    def _line(self, one: DepthPlan) -> str:
        if one.way == "live":
            other = "the cache is off" if self.mode == "off" else "it cannot be cached"
            if one.other_seconds is not None:
                other = f"cached would take {duration(one.other_seconds)}"
                if one.bytes > self.limit_bytes:
                    other += (
                        f", but {one.bytes / 2**20:.0f} MiB of disk where {self.limit_bytes / 2**20:.0f} are allowed"
                    )
            return f"depth {one.depth}: live: {duration(one.train_seconds)}, {other}"
        stored = f"{self.views} view{'s' if self.views > 1 else ''}, {self.dtype}, up to {one.bytes / 2**20:.0f} MiB"
        seconds = f"{duration(one.fill_seconds)} filling + {duration(one.train_seconds)}"
        assert one.other_seconds is not None
        what = "pooled features" if one.way == "pooled" else "boundary"
        return f"depth {one.depth}: {what} cached, {stored}: {seconds}, live would take {duration(one.other_seconds)}"

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> CachePlan:
        """The plan that `dataclasses.asdict` made a tree of."""
        return cls(**{**tree, "depths": tuple(DepthPlan(**one) for one in tree["depths"])})


def choose_plan(
    costs: Costs, workload: Workload, *, disk_bytes: int, memory_bytes: int, mode: Mode = "auto", dtype: str = "fp16"
) -> CachePlan:
    """The depths to cache, and the views, that make the search shortest; more views where they cost little.

    Args:
        costs: for every depth of the workload.
        workload: what is going to be trained.
        disk_bytes: that the cache may take.
        memory_bytes: of one trial, for activations that do not change; they are kept there if they are not cached.
        mode: auto; on caches all that the disk holds, whether it pays or not; off nothing.
        dtype: of stored training activations.
    """
    forecast = Forecast(costs, workload, memory_bytes, dtype)
    possible = [d for d, one in costs.depths.items() if d in workload.depths and one.prefix > 0]
    subsets = [c for size in range(len(possible) + 1) for c in combinations(possible, size if mode != "off" else 0)]
    moving = [len(reads.trials) for reads in workload.depths.values() if reads.moving]
    longest = max(moving, default=1)
    options = sorted({min(views, longest) for views in (*_VIEWS, longest)})
    fits = [(c, v) for c in subsets for v in options if sum(forecast.bytes(c, v).values()) <= disk_bytes]
    if mode == "on":
        most = max(len(cached) for cached, _ in fits)
        fits = [(cached, views) for cached, views in fits if len(cached) == most]
    total = {choice: sum(forecast.seconds(*choice).values()) for choice in fits}
    affordable = PRICE_OF_VARIETY * min(total.values())
    # Where all is live no view is ever repeated, whatever number stands there.
    cached, views = min((c for c in fits if total[c] <= affordable), key=lambda choice: (-choice[1], total[choice]))
    return CachePlan(
        mode=mode,
        views=views,
        dtype=dtype,
        seed=workload.seed,
        limit_bytes=disk_bytes,
        seconds=total[cached, views],
        live_seconds=sum(forecast.seconds((), 1).values()),
        depths=tuple(_depth_plan(forecast, depth, cached, views, mode) for depth in sorted(workload.depths)),
    )


def duration(seconds: float) -> str:
    """Seconds as people read them.

    >>> duration(0.23), duration(95), duration(4000)
    ('0.2 s', '95 s', '67 min')
    """
    if seconds >= 600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _depth_plan(forecast: Forecast, depth: int, cached: tuple[int, ...], views: int, mode: Mode) -> DepthPlan:
    """One depth of a choice, beside the other way."""
    live = forecast.training(depth, cached=False)
    if depth in cached:
        filled = forecast.filling(cached, views)[depth]
        way: Literal["pooled", "boundary"] = "boundary" if depth else "pooled"
        trained = forecast.training(depth, cached=True)
        return DepthPlan(depth, way, filled, trained, live, forecast.bytes((depth,), views)[depth])
    if forecast.costs.depths[depth].prefix == 0 or mode == "off":
        return DepthPlan(depth, "live", 0.0, live, None, 0)
    other = forecast.seconds((*cached, depth), views)[depth]
    return DepthPlan(depth, "live", 0.0, live, other, forecast.bytes((depth,), views)[depth])
