"""How the folders below a source are read: which are classes, which are splits, and where two readings are possible.

A layout is judged by what lies below, not by the names at the top alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from raysearch.data.account import Doubt, Tally
from raysearch.data.listing import SPLITS, some
from raysearch.data.names import loose_form, readable
from raysearch.data.questions import (
    ask,
    classes_in_names,
    first_class,
    line,
    listed,
    refuse_beside,
    refuse_classes_within,
)
from raysearch.data.split_names import are_parts, is_unlabelled, remainders, split_folders, split_name
from raysearch.data.tree import Node, take_masks, tree_of
from raysearch.errors import InputError


@dataclass
class Layout:
    """A reading of a source.

    Attributes:
        images: label and split ("" where the layout says none) by the image's name.
        places: the folder in which class folders lie, and the split that is read of it.
        strays: images that belong to no class, by the folder that they lie in.
        reading: a sentence.
        groups: the folder within its class folder that an image lies in, where the class has several.
        passed_over, doubts: as of `Account`.
    """

    images: dict[str, tuple[str, str]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)
    reading: str = ""
    groups: dict[str, str] = field(default_factory=dict)
    passed_over: list[Tally] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)


def read_layout(images: Iterable[str], source: str) -> Layout:
    """The one reading of a tree of images.

    Known are class folders alone; splits of class folders; and class folders with splits in each. Folders that hold all
    the rest and mean nothing may lie around them, and around the classes of each split.

    Args:
        images: names within the source, e.g. train/cat/1.jpg.
        source: for messages.

    Raises:
        InputError: there are no classes, or two readings are possible; it says what settles which.
    """
    layout = Layout()
    node = tree_of(images)
    layout.passed_over += take_masks(node)
    while node.inner() is not node and not split_folders(node.folders):
        layout.strays += node.images
        node = node.inner()
    splits = split_folders(node.folders)
    deep = [name for name in splits if not node.folders[name].unlabelled]
    joined = [left for left, kinds in remainders(node.folders).items() if left and len(kinds) > 1]
    others = [name for name in node.folders if name not in splits and not is_unlabelled(name)]
    first = node.folders[min(splits)] if splits else node
    if len(joined) > 1 and not deep:
        seen = f"its folders ({listed(node.folders)}) have a class and a split in one name"
        ask(source, seen, {"that is so": line(first, " ".join(joined[0]), split=splits[first.name])})
    if splits and (deep or not others):
        _read_splits(node, splits, layout, source)
    elif len(set(splits.values())) > 1:
        seen = f"{listed(splits)} look like splits, but no class folders are in them; beside them is {listed(others)}"
        ask(
            source,
            seen,
            {
                "they are classes": line(first, first.name, split=""),
                "they are splits": line(first, "CLASS", split=splits[first.name]),
            },
        )
    else:
        _read_classes(node, layout, source)
    if node.path:
        layout.reading += f", below {readable(node.path)}/"
    layout.reading += "."
    if not layout.images:
        total = len(node.below()) + len(layout.strays)
        raise InputError(
            f"{source} has {total} images but no class folders: put each class's images into a folder of its name, or "
            f"give a .csv manifest with the columns path,label.{classes_in_names([*node.below(), *layout.strays])}"
        )
    return layout


def _read_splits(node: Node, splits: Mapping[str, str], layout: Layout, source: str) -> None:
    """Splits at the top, class folders in each."""
    labelled = {name: node.folders[name] for name in splits if not node.folders[name].unlabelled}
    beside = {name: folder for name, folder in node.folders.items() if name not in splits}
    for name in [name for name, folder in beside.items() if is_unlabelled(name) and folder.flat]:
        unlabelled = beside.pop(name).below()
        layout.passed_over.append(_unlabelled(unlabelled, name))
    if beside:
        refuse_beside(beside, labelled, source)
    twice = {split: [name for name in labelled if splits[name] == split] for split in splits.values()}
    for split, names in twice.items():
        if len(names) > 1:
            told = {
                f"{readable(name)} is {split}": line(labelled[name], first_class(labelled[name]), split=split)
                for name in names
            }
            ask(source, f"{listed(names)} are both called as {split} images are", told)
    for name in splits:
        if name not in labelled:
            found = node.folders[name].below()
            layout.passed_over.append(_unlabelled(found, name))
            layout.doubts.append(
                Doubt(
                    f"{readable(name)}/ has {len(found):,} images but no class folders, so they have no labels and are "
                    f"not read: what is missing of val and test is cut from the training images.",
                    "Put them into class folders to have them used.",
                )
            )
    inners = {name: folder.inner() for name, folder in labelled.items()}
    everywhere = all(inners[name] is not folder for name, folder in labelled.items())
    for name, folder in labelled.items():
        inner = inners[name]
        if inner is not folder and (everywhere or _same_word(inner.name, name)):
            layout.strays += folder.images
            folder = inner
        _take_classes(folder, splits[name], layout, source)
    layout.strays += node.images
    count = len({label for label, _ in layout.images.values()})
    outside = len(node.path) + bool(node.path)
    places = [
        f"{readable(place[outside:])}/" + f" ({split})" * (place.rpartition("/")[2] != split)
        for place, split in sorted(layout.places.items(), key=lambda item: SPLITS.index(item[1]))
    ]
    layout.reading = f"{count} classes in {_and(places)}"


def _read_classes(node: Node, layout: Layout, source: str) -> None:
    """Class folders at the top; or, in each, folders of the splits."""
    inner = {name: split_folders(folder.folders) for name, folder in node.folders.items()}
    kinds = {split for found in inner.values() for split in found.values()}
    whole = all(found and len(found) == len(node.folders[name].folders) for name, found in inner.items())
    if whole and node.folders:
        refuse_classes_within(node, inner, source)
        direct = [name for name, folder in node.folders.items() if folder.images]
        if direct:
            ask(
                source,
                f"the classes {listed(direct)} have images beside folders of splits",
                {"they are for training": line(node.folders[direct[0]], direct[0], split="train")},
            )
        for name, found in inner.items():
            for folder, split in found.items():
                layout.images |= dict.fromkeys(node.folders[name].folders[folder].below(), (name, split))
        names = {readable(folder) for found in inner.values() for folder in found}
        layout.strays += node.images
        layout.places[node.path] = ""
        layout.reading = f"{len(inner)} classes, each with {_and(sorted(f'{name}/' for name in names))} of its own"
        return
    if len(kinds) > 1:
        some_class = next(name for name, found in inner.items() if found)
        within, split = next(iter(inner[some_class].items()))
        example = node.folders[some_class].folders[within]
        ask(
            source,
            f"{readable(some_class)}/ has folders that look like splits ({listed(inner[some_class])}), and not every "
            "folder beside it has",
            {
                "they are splits": line(example, some_class, split=split),
                "they are none": line(example, some_class, split=""),
            },
        )
    _take_classes(node, "", layout, source)
    layout.reading = f"{len(node.folders)} classes, a folder each"
    if any(folder.folders for folder in node.folders.values()):
        layout.reading += ", with whatever lies in folders below it"


def _take_classes(node: Node, split: str, layout: Layout, source: str) -> None:
    """The folders of a node are the classes."""
    within = [folder.inner() for folder in node.folders.values()]
    shared = Counter(loose_form(name) for folder in within for name in folder.folders)
    repeated = [name for name, times in shared.items() if times > 1]
    nested = [name for name, folder in node.folders.items() if len({*folder.folders} & {*node.folders} - {name}) > 1]
    if nested:
        inside = readable(node.folders[nested[0]].path)
        ask(
            source,
            f"the folder {inside} holds folders of the same names as those beside it "
            f"({listed({*node.folders[nested[0]].folders} & {*node.folders})})",
            {f"{inside} is another copy": "take it away, or give it alone as the source"},
        )
    if len(repeated) > 1:
        outer = next(folder for folder in node.folders.values() if len(folder.inner().folders) > 1)
        inner = next(iter(outer.inner().folders.values()))
        ask(
            source,
            f"{listed(folder.path for folder in within if folder.folders)} have folders of the same "
            f"names ({some(repeated)})",
            {
                f"{readable(outer.name)} is a class": line(inner, outer.name, split=split),
                f"{readable(inner.name)} is a class": line(inner, inner.name, split=split),
                f"{readable(outer.name)} is a split": line(inner, inner.name, split=split or "train"),
            },
        )
    if are_parts(node.folders):
        example = node.folders[min(node.folders)]
        ask(
            source,
            f"the folders {listed(node.folders)} are called as numbered parts of one heap of images are",
            {
                "they are classes": line(example, example.name, split=split),
                "they are parts": line(example, "CLASS", split=split),
            },
        )
    layout.strays += node.images
    layout.places[node.path] = split
    for name, folder in node.folders.items():
        layout.images |= dict.fromkeys(folder.below(), (name, split))
        if len(groups := folder.inner().folders) > 1:
            for group in groups.values():
                layout.groups |= dict.fromkeys(group.below(), group.path)


def _unlabelled(images: Sequence[str], folder: str) -> Tally:
    return Tally(
        f"images without a label in {readable(folder)}/", len(images), tuple(readable(one) for one in images[:1])
    )


def _same_word(one: str, other: str) -> bool:
    return loose_form(one) == loose_form(other) or (
        split_name(one) is not None and split_name(one) == split_name(other)
    )


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
