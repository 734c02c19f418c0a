"""What the log says, in sentences for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from raysearch.recipe import named_network
from raysearch.record.level_events import NetworksCompared
from raysearch.record.metric import in_words, is_share
from raysearch.record.trial import State


def segment_line(event: Mapping[str, Any]) -> str:
    """A "segment_end" event as a sentence."""
    best = event.get("best") or {}
    figures = ", ".join(
        f"{name.removeprefix('val_')} {best[name]:.4f}"
        for name in ("val_accuracy", "val_loss")
        if best.get(name) is not None
    )
    end = State.DONE if event["finished"] else State.STOPPED
    return f"{event['trial']} {end} after epoch {event['epoch']} ({event['seconds']:.1f} s): {figures or 'no figures'}"


def verdict_line(event: Mapping[str, Any]) -> str:
    """A "level" event as a sentence."""
    opening, before = f"opening {'+'.join(event['opened']) or 'nothing'}", event["before"]
    if event["verdict"] == "untested":
        return f"{opening}: the best is {event['leader']}; not tested"
    longer = f"with {'+'.join(before)} open" if before else "the head alone"
    figures = f"{event['gain']:+.4f} log-loss [{event['low']:+.4f}, {event['high']:+.4f}]"
    end = {
        "gain": "a gain",
        "none": f"no gain; the search stops there, and the best is {'+'.join(before) or 'the head alone'}",
        "undecided": f"undecided on {event['images']} images; the search goes on while it has trials",
    }
    return f"{opening}: {figures} against training longer {longer}: {end[event['verdict']]}"


def networks_lines(event: NetworksCompared, metric: str) -> list[str]:
    """A "networks" event as sentences, one a network, the best first."""
    points = is_share(metric)

    def gap(value: float) -> str:
        return f"{100 * value:.1f}" if points else f"{value:.3f}"

    said: list[str] = []
    for one in event["networks"]:
        behind, figure, name = one["behind"], one["figure"], network_in_short(one["network"])
        if figure is None:
            said.append(f"{name}: no head could be trained; it leaves")
            continue
        told = f"{name}: heads come to {in_words(metric)} {figure:.4f}"
        if behind is not None:
            unit = " points" if points else ""
            told += f", {gap(behind['mean'])}{unit} [{gap(behind['low'])}, {gap(behind['high'])}] behind the best"
        why = "it is clearly behind, and leaves" if behind is not None and behind["low"] > 0 else "others are better"
        said.append(f"{told}; {'it goes on' if one['stays'] else why}")
    return said


def network_in_short(network: str) -> str:
    """NAME=WEIGHTS@PX for people: of weights in a file, the file's name alone.

    >>> network_in_short("vgg19=/photos/weights/vgg19.safetensors@64"), network_in_short("densenet121=bundled@32")
    ('vgg19 (vgg19.safetensors, 64 px)', 'densenet121 (bundled, 32 px)')
    """
    backbone, weights, size = named_network(network)
    told = [*([] if weights is None else [Path(weights).name]), *([] if size is None else [f"{size} px"])]
    return f"{backbone} ({', '.join(told)})" if told else backbone


def incidents(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """What went wrong around a search, and that nothing was lost by it, a sentence each.

    Workers died, a storage refused, refits began again; empty where nothing of the kind happened.
    """
    lost: dict[str, str] = {}  # a pack of heads has one worker
    refused: list[str] = []
    refits = 0
    for event in events:
        match event["event"]:
            case "segment_lost":
                lost[event["worker"]] = event["cause"]
            case "storage_refused":
                refused.append(event["error"])
            case "refit_lost":
                refits += 1
    found = []
    if lost:
        machines = sum(cause == "machine" for cause in lost.values())
        which = f" ({machines} with the machine)" if machines else ""
        verb, whose = ("was", "its last checkpoint") if len(lost) == 1 else ("were", "their last checkpoints")
        found.append(f"{_count(len(lost), 'worker')} {verb} lost{which}; what ran there went on from {whose}")
    if refused:
        found.append(f"The storage refused to be written to {_count(len(refused), 'time')}, e.g. {refused[0]}")
    if refits:
        found.append(f"The refits were lost {_count(refits, 'time')}; those that had not ended began again")
    return found


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def short(value: Any) -> str:
    """A value within a line: three digits of a number, nothing for what is not there."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.3g}"
    return str(value)
