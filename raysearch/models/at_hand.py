"""The weights files that are on this machine, and which of them fits which backbone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from raysearch.errors import InputError
from raysearch.models.fitting import why_not
from raysearch.models.hub import hub_cache
from raysearch.models.imagenet import cached_file
from raysearch.models.registry import BACKBONES, usable_spec
from raysearch.models.spec import BackboneSpec
from raysearch.models.timm_networks import PREFIX, timm_hub
from raysearch.models.weight_file import read_shapes

SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar"})
"""Of files that are looked into."""


@dataclass(frozen=True)
class WeightsAtHand:
    """A weights file of this machine."""

    path: Path
    place: str
    """bundled, torch hub, hugging face hub, or the folder that was asked about."""
    digest: str
    """SHA-256 of the file, the first 12 digits."""
    fits: tuple[str, ...]
    """The backbones whose tensors it has."""
    trained_on: str | None
    license: str | None
    problem: str | None
    """Why it cannot be used, if it is no weights file."""


def weights_at_hand(place: Path | None = None, also: Sequence[BackboneSpec] = ()) -> Iterator[WeightsAtHand]:
    """The bundled files, those in the caches of torch and of the Hugging Face Hub, and those of a place.

    Args:
        place: a folder of files, or a file.
        also: backbones that each file is tried with beside those of the registry: networks of timm's.

    Raises:
        InputError: there is no such folder or file.
    """
    if place is not None and not place.exists():
        raise InputError(f"{place}: no such folder or file")
    with resources.as_file(resources.files("raysearch") / "assets") as bundled:
        yield from (_looked_at(path, "bundled", also) for path in _files(bundled))
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    yield from (_looked_at(path, "torch hub", also) for path in _files(hub))
    for repository in sorted(hub_cache().glob("models--*")):
        for path in sorted(repository.glob("snapshots/*/*")):
            if path.suffix in SUFFIXES:
                yield _looked_at(path, "hugging face hub", also, repository.name.removeprefix("models--"))
    if place is not None:
        yield from (_looked_at(path, str(place), also) for path in ([place] if place.is_file() else _files(place)))


def fitting_file(spec: BackboneSpec, folder: Path) -> Path:
    """The one file of a folder that fits a backbone, by its tensors' names and shapes.

    Raises:
        InputError: none does, and says of each why not; or several do.
    """
    files = _files(folder)
    if not files:
        raise InputError(f"weights {str(folder)!r}: there is no {', '.join(sorted(SUFFIXES))} file in this folder")
    found: list[Path] = []
    reasons: list[str] = []
    for path in files:
        try:
            tensors, _ = read_shapes(path)
            reason = why_not(spec, tensors, path.name)
        except InputError as error:
            reason = error.problems[0]
        if reason is None:
            found.append(path)
        else:
            reasons.append(reason)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"weights {str(folder)!r}: {names} fit {spec.name}; name one of them, --weights PATH")
    if not found:
        raise InputError([f"weights {str(folder)!r}: none of {len(files)} files fits {spec.name}", *reasons])
    return found[0]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES and path.is_file())


def _looked_at(path: Path, place: str, also: Sequence[BackboneSpec], repository: str = "") -> WeightsAtHand:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    try:
        tensors, about = read_shapes(path)
    except InputError as error:
        return WeightsAtHand(path, place, digest, (), None, None, error.problems[0])
    specs = list({spec.name: spec for spec in (*BACKBONES.values(), *_timms(repository), *also)}.values())
    trained_on, license_ = about.get("trained_on"), about.get("license")
    for spec in specs:
        for published in () if spec.imagenet is None else type(spec.imagenet):
            if place == "torch hub" and cached_file(published).name == path.name:
                trained_on, license_ = f"ImageNet ({published})", published.meta.get("license")
    owner, _, name = repository.partition("--")
    if owner == "timm" and (hub := timm_hub(name)) is not None:
        trained_on, license_ = trained_on or hub.trained_on, license_ or hub.license
    fitting = tuple(spec.name for spec in specs if why_not(spec, tensors, path.name) is None)
    return WeightsAtHand(path, place, digest, fitting, trained_on, license_, None)


def _timms(repository: str) -> Iterable[BackboneSpec]:
    """The network of timm's whose repository on the hub this is, if it is one and can be used here."""
    owner, _, name = repository.partition("--")
    spec = usable_spec(f"{PREFIX}{name}") if owner == "timm" else None
    return () if spec is None else (spec,)
