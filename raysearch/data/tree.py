"""The folders that images lie in, as a tree."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from raysearch.data.account import Tallies, Tally
from raysearch.data.names import loose_form, readable
from raysearch.data.split_names import says_nothing, split_name

_MASKS = frozenset((
    "mask", "masks", "segmentation", "segmentations", "annotation", "annotations", "groundtruth", "ground truth", "gt",
    "gts", "label", "labels", "segmentationclass", "segmentationobject", "segmentationclassaug", "gtfine", "gtcoarse",
))  # fmt: skip
_PICTURES = frozenset(("image", "images", "img", "imgs", "jpegimages", "leftimg8bit"))
_THUMBS = frozenset(("thumb", "thumbs"))
"""Beside images; elsewhere such a folder may be a class."""
_MASK_FILE = re.compile(r"[ _\-.](?:mask|masks|seg|segmentation|groundtruth|gt)(?:[ _\-]?\d+)?\Z", re.IGNORECASE)
"""What the stem of a mask's file has behind that of its image."""


@dataclass
class Node:
    """A folder with images in it or below.

    Attributes:
        name: the folder's own.
        path: its name within the source; "" for the source.
        images: those that lie directly in it.
        folders: the folders with images in it, by name.
    """

    name: str
    path: str
    images: list[str] = field(default_factory=list)
    folders: dict[str, Node] = field(default_factory=dict)

    def below(self) -> list[str]:
        """Every image in it, at whatever depth."""
        return [*self.images, *(image for folder in self.folders.values() for image in folder.below())]

    def inner(self) -> Node:
        """The only folder in it, if that holds folders and so is no class; the folder itself elsewhere."""
        only = next(iter(self.folders.values())) if len(self.folders) == 1 else None
        return only if only is not None and only.folders else self

    @property
    def unlabelled(self) -> bool:
        """Whether it holds images and no class folders: at most one that is called `images` or as splits are."""
        only = next(iter(self.folders.values())) if len(self.folders) == 1 else None
        if only is None or only.folders:
            return not self.folders
        return says_nothing(only.name) or split_name(only.name) is not None

    @property
    def flat(self) -> bool:
        """Whether it holds no class folders: at most others in which all of it lies."""
        folder = self
        while len(folder.folders) == 1 and not folder.images:
            folder = next(iter(folder.folders.values()))
        return not folder.folders


def tree_of(images: Iterable[str]) -> Node:
    """The folders that images lie in, by their names within the source, as a tree."""
    root = Node("", "")
    known = {"": root}

    def node(path: str) -> Node:
        if path not in known:
            above, _, name = path.rpartition("/")
            known[path] = node(above).folders.setdefault(name, Node(name, path))
        return known[path]

    for image in images:
        node(image.rpartition("/")[0]).images.append(image)
    return root


def take_masks(node: Node) -> tuple[Tally, ...]:
    """Take masks and thumbnails out of the tree: folders of them beside images, and files of masks beside their images.

    A file is a mask if it is called as an image in the same folder is, with `_mask` or the like behind it.
    """
    taken = Tallies()
    _take_masks(node, taken)
    return taken.result()


def _take_masks(node: Node, taken: Tallies) -> None:
    names = {loose_form(name): name for name in node.folders}
    if _PICTURES & {*names}:
        for name in [names[word] for word in _MASKS & {*names}]:
            found = node.folders.pop(name).below()
            taken.add("images in folders of masks", readable(found[0]), count=len(found))
    for name in [name for word, name in names.items() if word in _THUMBS and node.images]:
        found = node.folders.pop(name).below()
        taken.add("images in folders of thumbnails", readable(found[0]), count=len(found))
    marked = {image: of for image in node.images if (of := _image_of(image)) is not None}
    stems = {_stem(image) for image in node.images} if marked else set()
    masks = {image for image, of in marked.items() if of in stems}
    for mask in sorted(masks):
        taken.add("masks beside their images", readable(mask))
    if masks:
        node.images = [image for image in node.images if image not in masks]
    for folder in node.folders.values():
        _take_masks(folder, taken)


def _image_of(mask: str) -> str | None:
    """What the image of a mask's file is called, without its ending; None for files that are not called so."""
    stem = _stem(mask)
    end = stem[-20:].lower()
    if "mask" not in end and "seg" not in end and "gt" not in end and "truth" not in end:
        return None  # which costs a tenth of what the expression does
    found = _MASK_FILE.search(stem)
    return None if found is None else stem[: found.start()]


def _stem(image: str) -> str:
    """The name of an image's file without its ending."""
    return image.rpartition("/")[2].rpartition(".")[0]
