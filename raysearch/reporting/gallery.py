"""The pictures of the report page: what lies in the run folder's `pictures/`, put into the page as text.

    pictures/pictures.json      what each file shows
    pictures/*.webp

`raysearch.winner.pictures` writes them at the end of a search; here is only what they are called.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

FOLDER = "pictures"
INDEX = "pictures.json"


class File(TypedDict):
    """A picture in the folder."""

    file: str
    width: int
    """pixels"""


class Augmented(File):
    """A strip of training images at one strength of the augmentation."""

    strength: float


class Mistake(File):
    """An image that was taken for another class, and why."""

    path: str
    true: str
    predicted: str
    probability: float


Examples = TypedDict("Examples", {"file": str, "width": int, "class": str, "images": int})
"""A strip of training images of one class, and how many of them there are."""


class Learned(File):
    """Something that the network has learned."""

    what: str


class Index(TypedDict):
    """pictures.json."""

    augmented: list[Augmented]
    mistakes: list[Mistake]
    mistaken: int
    """Validation images that are taken for another class."""
    of: int
    """Validation images."""
    trained_on: bool
    """Whether the winner was trained on them."""
    classes: list[Examples]
    learned: list[Learned]


@dataclass(frozen=True)
class Picture:
    """A picture on the page."""

    source: str
    """A data URI."""
    caption: str
    width: int
    """Pixels at most."""


@dataclass(frozen=True)
class Gallery:
    """The pictures of a run, as many as the page has room for."""

    augmented: list[Picture]
    mistakes: list[Picture]
    classes: list[Picture]
    learned: list[Picture]
    about_mistakes: str
    left_out: int
    """Pictures that are in the run folder only."""


def gallery(run: Path, room: int) -> Gallery | None:
    """The pictures of a run folder; None where it has none yet.

    A picture that cannot be read is passed over, one that there is no room for is counted.

    Args:
        run: the run folder.
        room: bytes of the page that they may take.
    """
    try:
        index = json.loads((run / FOLDER / INDEX).read_text(encoding="utf-8"))
        told = f"{index['mistaken']} of {index['of']} validation images are taken for another class"
    except (OSError, ValueError, KeyError):
        return None
    if index.get("trained_on"):
        told += ", although the winner was trained on them too"
    left_out = 0
    found: dict[str, list[Picture]] = {"augmented": [], "mistakes": [], "classes": [], "learned": []}
    for kind, pictures in found.items():
        for one in index.get(kind, []):
            source = _data_uri(run / FOLDER / Path(one["file"]).name)
            if len(source) > room:
                left_out += 1
            elif source:
                room -= len(source)
                pictures.append(Picture(source, _CAPTIONS[kind](one), one["width"]))
    return Gallery(**found, about_mistakes=told, left_out=left_out)


def _data_uri(path: Path) -> str:
    try:
        return "data:image/webp;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError:
        return ""


def _augmented(one: Mapping[str, Any]) -> str:
    return "as they are" if one["strength"] == 0 else f"strength {one['strength']:g}"


def _mistake(one: Mapping[str, Any]) -> str:
    return f"{one['true']}, taken for {one['predicted']} ({one['probability']:.2f}): {one['path']}"


def _of_class(one: Mapping[str, Any]) -> str:
    return f"{one['class']} ({one['images']} training images)"


def _learned(one: Mapping[str, Any]) -> str:
    return str(one["what"])


_CAPTIONS = {"augmented": _augmented, "mistakes": _mistake, "classes": _of_class, "learned": _learned}
