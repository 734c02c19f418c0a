"""The backbones by name. A new one is a file beside this and a line here; the tests run over the registry."""

from __future__ import annotations

import difflib

from raysearch.errors import InputError
from raysearch.models.densenet import DENSENET121
from raysearch.models.simple_cnn import SIMPLE_CNN
from raysearch.models.spec import BackboneSpec
from raysearch.models.vgg import VGG19

BACKBONES: dict[str, BackboneSpec] = {spec.name: spec for spec in (DENSENET121, VGG19, SIMPLE_CNN)}


def backbone_spec(name: str) -> BackboneSpec:
    """The backbone of that name.

    Raises:
        InputError: there is none; names the nearest one and all of them.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    near = difflib.get_close_matches(name.lower(), BACKBONES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"unknown backbone {name!r}: {hint}there are {', '.join(BACKBONES)}")
