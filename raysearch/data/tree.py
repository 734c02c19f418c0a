"""The folders that images lie in, as a tree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from raysearch.data.account import Tallies, Tally
from raysearch.data.names import loose_form, readable

_MASKS = frozenset(("mask", "masks", "segmentation", "segmentations", "annotation", "annotations", "groundtruth"))
_PICTURES = frozenset(("image", "images", "img", "imgs"))


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
    """Take folders of masks, which lie beside folders of the images that they are of, out of the tree."""
    taken = Tallies()
    _take_masks(node, taken)
    return taken.result()


def _take_masks(node: Node, taken: Tallies) -> None:
    names = {loose_form(name): name for name in node.folders}
    if _PICTURES & {*names}:
        for name in [names[word] for word in _MASKS & {*names}]:
            found = node.folders.pop(name).below()
            taken.add("images in folders of masks", readable(found[0]), count=len(found))
    for folder in node.folders.values():
        _take_masks(folder, taken)
