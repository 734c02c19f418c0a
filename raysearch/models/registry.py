"""The backbones by name. A new one is a file in `backbones/`; the tests run over the registry."""

from __future__ import annotations

import difflib
import importlib

from raysearch.errors import InputError
from raysearch.models.backbones import NAMES
from raysearch.models.spec import BackboneSpec
from raysearch.models.timm_networks import PREFIX, timm_spec

BACKBONES: dict[str, BackboneSpec] = {
    name: importlib.import_module(f"raysearch.models.backbones.{name}").SPEC for name in NAMES
}


def usable_spec(name: object) -> BackboneSpec | None:
    """The backbone of that name; None where there is none, which `backbone_spec` says why."""
    try:
        return backbone_spec(name) if isinstance(name, str) else None
    except InputError:
        return None


def backbone_spec(name: str) -> BackboneSpec:
    """The backbone of that name, of the files here or, as timm/NAME, of timm.

    Raises:
        InputError: there is none; names the nearest one and all of them. Or it is one of timm's that cannot be used.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if name.startswith(PREFIX):
        return timm_spec(name)
    near = difflib.get_close_matches(name.lower(), BACKBONES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"unknown backbone {name!r}: {hint}there are {', '.join(BACKBONES)}, and {PREFIX}NAME")
