"""Which networks there are to choose from: those whose weights are on this machine, and those that somebody names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from raysearch.errors import InputError
from raysearch.models.at_hand import WeightsAtHand, weights_at_hand
from raysearch.models.imagenet import cached_file
from raysearch.models.registry import backbone_spec
from raysearch.models.spec import BackboneSpec
from raysearch.models.timm_networks import PREFIX


@dataclass(frozen=True)
class Candidate:
    """A network with weights."""

    backbone: str
    weights: str
    """As `raysearch.models.weights.load_weights` takes them."""


@dataclass(frozen=True)
class LeftOut:
    """What is not ranked."""

    name: str
    """Of the network, or of a file."""
    reason: str


def find_candidates(
    asked: Sequence[str] = (), place: Path | None = None, *, download: bool = False
) -> tuple[list[Candidate], list[LeftOut]]:
    """The networks to rank, each with the weights that it has here; nothing is loaded yet.

    Args:
        asked: networks, as NAME or NAME=WEIGHTS (as a search takes them: imagenet, bundled, random, a path); none:
            all that have weights on this machine.
        place: a folder or a file to look for weights in, beside what is bundled and in the caches.
        download: whether published weights of those that are named may be fetched where they are not here.

    Raises:
        InputError: there is no such place.
    """
    return _named(asked, place, download) if asked else _at_hand(place)


def _at_hand(place: Path | None) -> tuple[list[Candidate], list[LeftOut]]:
    found: list[Candidate] = []
    left_out: list[LeftOut] = []
    for one in _once(weights_at_hand(place)):
        names = _published_for(one)
        found += [Candidate(name, _name_of(one, backbone_spec(name))) for name in names]
        if one.problem is not None:
            left_out.append(LeftOut(one.path.name, one.problem))
        elif not names and one.place == str(place):
            reason = f"it fits none of the backbones; one of timm's is tried if it is named: --backbones {PREFIX}NAME"
            left_out.append(LeftOut(one.path.name, reason))
    return found, left_out


def _named(asked: Sequence[str], place: Path | None, download: bool) -> tuple[list[Candidate], list[LeftOut]]:
    found: list[Candidate] = []
    left_out: list[LeftOut] = []
    specs: dict[str, BackboneSpec] = {}
    for name, _, weights in (one.partition("=") for one in asked):
        try:
            specs[name] = backbone_spec(name)
        except InputError as error:
            left_out.append(LeftOut(name, "; ".join(error.problems)))
            continue
        if weights:
            found.append(Candidate(name, weights))
    at_hand = list(_once(weights_at_hand(place, list(specs.values()))))
    for name in dict.fromkeys(one for one in asked if one in specs):
        spec = specs[name]
        here = [Candidate(name, _name_of(one, spec)) for one in at_hand if name in one.fits]
        if download and (spec.imagenet or spec.hub) and not any(_is_published(one, spec) for one in at_hand):
            here.append(Candidate(name, "imagenet" if spec.imagenet else "auto"))
        if not here and place is not None:  # loading them says which tensors do not fit
            here.append(Candidate(name, str(place)))
        found += here
        if not here:
            left_out.append(LeftOut(name, _none_of(spec)))
    return found, left_out


def _once(files: Iterator[WeightsAtHand]) -> Iterator[WeightsAtHand]:
    """Each file once, wherever copies of it lie."""
    known: set[str] = set()
    for one in files:
        if one.digest not in known:
            known.add(one.digest)
            yield one


def _published_for(one: WeightsAtHand) -> tuple[str, ...]:
    """The backbones that a file fits; of one that timm published, the network that it was published for."""
    timms = tuple(name for name in one.fits if name.startswith(PREFIX))
    return timms or one.fits


def _name_of(one: WeightsAtHand, spec: BackboneSpec) -> str:
    """What makes `load_weights` load a file, by name where it has one."""
    if one.place == "bundled" and one.path.name == spec.bundled:
        return "bundled"
    if one.place == "torch hub" and spec.imagenet is not None:
        for published in type(spec.imagenet):
            if cached_file(published).name == one.path.name:
                return str(published.name)
    return str(one.path)


def _is_published(one: WeightsAtHand, spec: BackboneSpec) -> bool:
    """Whether a file is what a download would bring."""
    if spec.imagenet is not None:
        return one.place == "torch hub" and one.path.name == cached_file(spec.imagenet).name
    repository = "" if spec.hub is None else spec.hub.repository.replace("/", "--")
    return one.place == "hugging face hub" and f"models--{repository}" in one.path.parts


def _none_of(spec: BackboneSpec) -> str:
    if spec.imagenet is None and spec.hub is None:
        return f"it has no pretrained weights; {spec.name}=random ranks random ones"
    return "no weights of it are on this machine; --download fetches them, --weights PATH names a file or a folder"
