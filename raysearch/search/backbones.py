"""Which networks go on after the head search: those that are not clearly behind the best, or the best few of them.

A pure rule. What is known of a network by then is its best head, on validation images that no head was trained on, and
image by image how much better the best network's head is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysearch.record.level_events import Behind, NetworksCompared, NetworkStanding
from raysearch.record.trial import Trial
from raysearch.search.rules import Rules


@dataclass(frozen=True)
class HeadsCompared:
    """How the heads of several networks compare, image by image."""

    behind: Mapping[str, Behind]
    """By how much the best is better than each of the others, by the name of the network."""
    images: int
    confidence: float
    """Of the intervals."""


def ranked(rules: Rules, heads: Mapping[str, Trial | None]) -> list[str]:
    """The networks that have a head, the best first; of equals, the one that was named first."""
    able = {name: head for name, head in heads.items() if head is not None and head.best is not None}
    return sorted(able, key=lambda name: rules.order(able[name].best or {}), reverse=True)


def comparison(
    rules: Rules, heads: Mapping[str, Trial | None], compared: HeadsCompared, *, made: int
) -> NetworksCompared:
    """The event that says how networks stand, the best first, and which of them go on.

    A network leaves if it has no head, if the whole interval of its distance to the best is above 0, or if as many as
    may go on are better.

    Args:
        rules: how heads are compared, and how many networks go on at most.
        heads: the best of each network.
        compared: how far each is behind the best.
        made: how many heads there are by now.
    """
    order = ranked(rules, heads)
    found: list[NetworkStanding] = []
    for name in [*order, *(name for name in heads if name not in order)]:
        head, behind = heads[name], compared.behind.get(name)
        known = head is not None and head.best is not None
        full = rules.networks_kept is not None and sum(one["stays"] for one in found) >= rules.networks_kept
        standing: NetworkStanding = {
            "network": name,
            "head": head.name if head is not None else None,
            "figure": rules.figure(head.best) if head is not None and head.best is not None else None,
            "behind": behind,
            "stays": known and not full and (behind is None or behind["low"] <= 0),
        }
        found.append(standing)
    return NetworksCompared(
        event="networks", heads=made, images=compared.images, confidence=compared.confidence, networks=found
    )


def staying(networks: Sequence[NetworkStanding]) -> tuple[str, ...]:
    """The networks that go on, the best first."""
    return tuple(one["network"] for one in networks if one["stays"])
