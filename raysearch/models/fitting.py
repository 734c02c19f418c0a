"""Fits the tensors of a file to a backbone by their names, or says which ones do not fit."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from raysearch.errors import InputError
from raysearch.models.spec import BackboneSpec

logger = logging.getLogger(__name__)

_NAMED = 5
"""How many tensors a message names."""
_HEADS = re.compile(r"(classifier|heads?|fc\d*|pre_logits|last_linear|linear|logits|projector|criterion|aux\w*)(\.|$)")
"""Names of what stands behind the backbone, in the programs that write such files."""
_AVERAGED = re.compile(r"(^|[._])ema([._]|$)")
"""The name of a copy whose tensors are an average over training."""
_RENAMED = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),  # DenseNet: norm.1 is norm1 today
    (re.compile(r"(\.mlp)\.linear_1\."), r"\1.0."),  # ViT: linear_1 and linear_2 are 0 and 3 today
    (re.compile(r"(\.mlp)\.linear_2\."), r"\1.3."),
)
"""Names in files that torchvision published before it renamed its modules."""


def fit_tensors(spec: BackboneSpec, tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors under the classifier's names, as fp32 on the CPU, exactly those that the backbone's blocks have.

    Takes the names of the network's authors (`features...`) and this program's own, behind whatever the backbone is
    called in a larger module (`module.`, `model.backbone.`). Classifiers and heads are left out: a new head is what is
    searched. BatchNorm's batch counter, which old files lack and nothing here reads, is 0 where it is missing.

    Raises:
        InputError: tensors are missing, unexpected, of another shape or not finite, and names the first of each; or the
            file holds several backbones.
    """
    expected = spec.layout.tensors
    found = _own_tensors(spec, tensors, source)
    fitting = {
        name: found[name].to("cpu", wanted.dtype).contiguous()
        for name, wanted in expected.items()
        if name in found and found[name].shape == wanted.shape
    }
    damaged = [name for name, tensor in fitting.items() if not torch.isfinite(tensor).all()]
    if said := _misfits(spec, found, damaged):
        raise InputError(f"{source} does not fit {spec.name}: {said}")
    return fitting


def why_not(spec: BackboneSpec, tensors: Mapping[str, Tensor], source: str) -> str | None:
    """What keeps tensors from fitting a backbone, by their names and shapes alone; None: they fit.

    Values are not looked at, so the tensors may be on the meta device.
    """
    try:
        said = _misfits(spec, _own_tensors(spec, tensors, source), [])
    except InputError as error:
        return error.problems[0]
    return f"{source} does not fit {spec.name}: {said}" if said else None


def _misfits(spec: BackboneSpec, found: Mapping[str, Tensor], damaged: list[str]) -> str:
    """The first tensors of each kind that do not fit; empty if all do."""
    expected = spec.layout.tensors
    misfits = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {tuple(found[name].shape)} instead of {tuple(wanted.shape)}"
            for name, wanted in expected.items()
            if name in found and found[name].shape != wanted.shape
        ],
        "not finite": damaged,
    }
    return "; ".join(f"{_first(names)} {what}" for what, names in misfits.items() if names)


def _own_tensors(spec: BackboneSpec, tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors of a file, heads aside, under the classifier's names where these are known."""
    layout = spec.layout
    own_names = {**layout.own_names, **{name: name for name in layout.tensors}}
    tensors = _without_prefix({_modern(name): tensor for name, tensor in tensors.items()}, own_names, source)
    # A file that names its tensors as the network's authors do: what stands beside the backbone there is none of it.
    roots = {name.partition(".")[0] for name in layout.own_names}
    theirs = any(own_names.get(name, name) != name for name in tensors)
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        beside = name in layout.left_out or _HEADS.match(name) or (theirs and name.partition(".")[0] not in roots)
        if name in own_names or not beside:
            found[own_names.get(name, name)] = tensor
    for name, wanted in layout.tensors.items():
        if name not in found and name.endswith(".num_batches_tracked"):
            found[name] = torch.zeros(wanted.shape, dtype=wanted.dtype)
    return found


def _modern(name: str) -> str:
    for old, new in _RENAMED:
        name = old.sub(new, name)
    return name


def _without_prefix(tensors: Mapping[str, Tensor], known: Collection[str], source: str) -> dict[str, Tensor]:
    """The tensors of the backbone, and of what stands beside it, without what all names of the backbone begin with.

    Args:
        tensors: by name.
        known: names of the backbone's tensors.
        source: for messages.

    Raises:
        InputError: there are several backbones, as in a checkpoint of a student and its teacher, of which none is the
            average of the other.
    """
    places: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        at = next((at for at in range(len(parts)) if ".".join(parts[at:]) in known), None)
        if at is not None:
            places["".join(f"{part}." for part in parts[:at])] += 1
    if not places or "" in places:
        return dict(tensors)
    (prefix, most), *_ = places.most_common()
    rivals = [place for place, count in places.most_common() if 2 * count >= most]
    averaged = [place for place in rivals if _AVERAGED.search(place)]
    if len(rivals) > 1 and len(averaged) != 1:
        raise InputError(
            f"{source} holds several backbones: {', '.join(place for place, _ in places.most_common())}; save the "
            "tensors of one of them to a file of its own"
        )
    if len(rivals) > 1:
        prefix = averaged[0]
        logger.info("%s: the averaged copy, %s, is taken", source, prefix)
    beside = [name for name in tensors if not name.startswith(prefix)]
    if beside:
        logger.info("%s: left out, as no part of the backbone: %s", source, _first(beside))
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
