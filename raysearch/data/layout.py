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
from raysearch.data.split_names import is_unlabelled, remainders, split_folders, split_name
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
        passed_over, doubts: as of `Account`.
    """

    images: dict[str, tuple[str, str]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)
    reading: str = ""
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
    deep = [name for name in splits if node.folders[name].folders]
    joined = [left for left, kinds in remainders(node.folders).items() if left and len(kinds) > 1]
    others = [name for name in node.folders if name not in splits and not is_unlabelled(name)]
    first = node.folders[min(splits)] if splits else node
    if len(joined) > 1 and not deep:
        seen = f"its folders ({_listed(node.folders)}) have a class and a split in one name"
        _ask(source, seen, {"that is so": _line(first, " ".join(joined[0]), split=splits[first.name])})
    if splits and (deep or not others):
        _read_splits(node, splits, layout, source)
    elif len(set(splits.values())) > 1:
        seen = f"{_listed(splits)} look like splits, but no class folders are in them; beside them is {_listed(others)}"
        _ask(
            source,
            seen,
            {
                "they are classes": _line(first, first.name, split=""),
                "they are splits": _line(first, "CLASS", split=splits[first.name]),
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
            "give a .csv manifest with the columns path,label."
        )
    return layout


def _read_splits(node: Node, splits: Mapping[str, str], layout: Layout, source: str) -> None:
    """Splits at the top, class folders in each."""
    labelled = {name: node.folders[name] for name in splits if node.folders[name].folders}
    beside = {name: folder for name, folder in node.folders.items() if name not in splits}
    for name in [name for name, folder in beside.items() if is_unlabelled(name) and folder.flat]:
        unlabelled = beside.pop(name).below()
        layout.passed_over.append(_unlabelled(unlabelled, name))
    if beside:
        _refuse_beside(beside, labelled, source)
    twice = {split: [name for name in labelled if splits[name] == split] for split in splits.values()}
    for split, names in twice.items():
        if len(names) > 1:
            told = {
                f"{readable(name)} is {split}": _line(labelled[name], _first_class(labelled[name]), split=split)
                for name in names
            }
            _ask(source, f"{_listed(names)} are both called as {split} images are", told)
    for name in splits:
        if name not in labelled:
            found = node.folders[name].images
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
        direct = [name for name, folder in node.folders.items() if folder.images]
        if direct:
            _ask(
                source,
                f"the classes {_listed(direct)} have images beside folders of splits",
                {"they are for training": _line(node.folders[direct[0]], direct[0], split="train")},
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
        _ask(
            source,
            f"{readable(some_class)}/ has folders that look like splits ({_listed(inner[some_class])}), and not every "
            "folder beside it has",
            {
                "they are splits": _line(example, some_class, split=split),
                "they are none": _line(example, some_class, split=""),
            },
        )
    _take_classes(node, "", layout, source)
    layout.reading = f"{len(node.folders)} classes, a folder each"
    if any(folder.folders for folder in node.folders.values()):
        layout.reading += ", with whatever lies in folders below it"


def _take_classes(node: Node, split: str, layout: Layout, source: str) -> None:
    """The folders of a node are the classes."""
    shared = Counter(loose_form(name) for folder in node.folders.values() for name in folder.folders)
    repeated = [name for name, times in shared.items() if times > 1]
    nested = [name for name, folder in node.folders.items() if len({*folder.folders} & {*node.folders} - {name}) > 1]
    if nested:
        inside = readable(node.folders[nested[0]].path)
        _ask(
            source,
            f"the folder {inside} holds folders of the same names as those beside it "
            f"({_listed({*node.folders[nested[0]].folders} & {*node.folders})})",
            {f"{inside} is another copy": "take it away, or give it alone as the source"},
        )
    if len(repeated) > 1:
        outer = next(folder for folder in node.folders.values() if len(folder.folders) > 1)
        inner = next(iter(outer.folders.values()))
        _ask(
            source,
            f"{_listed(folder.path for folder in node.folders.values() if folder.folders)} have folders of the same "
            f"names ({some(repeated)})",
            {
                f"{readable(outer.name)} is a class": _line(inner, outer.name, split=split),
                f"{readable(inner.name)} is a class": _line(inner, inner.name, split=split),
                f"{readable(outer.name)} is a split": _line(inner, inner.name, split=split or "train"),
            },
        )
    layout.strays += node.images
    layout.places[node.path] = split
    for name, folder in node.folders.items():
        layout.images |= dict.fromkeys(folder.below(), (name, split))


def _refuse_beside(beside: Mapping[str, Node], labelled: Mapping[str, Node], source: str) -> None:
    """There are folders beside the splits, which may be classes, a split of another name, or another copy."""
    classes = {name for folder in labelled.values() for name in folder.inner().folders}
    copies = [name for name, folder in beside.items() if {*folder.folders} & {*labelled}]
    if copies:
        raise InputError(
            f"{source} can be read in two ways: {_listed(copies)} has train, val or test folders of its own, beside "
            f"{_listed(labelled)}. If they are the same images, take one away, or give --data "
            f"{source}/{readable(copies[0])}."
        )
    splits = [name for name, folder in beside.items() if len({*folder.inner().folders} & classes) > 1]
    if splits:
        example = beside[splits[0]].inner()
        raise InputError(
            f"{source} can be read in two ways: {_listed(splits)} holds the same class folders as {_listed(labelled)}. "
            f"Call it train, val or test, or take it away; or give a .csv (path,label,split) with lines such as "
            f"{_line(example, _first_class(example), split='train')}."
        )
    name = next(iter(beside))
    train = next(iter(labelled))
    raise InputError(
        f"{source} has class folders beside its train, val or test folders: {_listed(beside)}. Put them into one of "
        f"the splits, or take them away; or, if {readable(train)} is a class like them, give a .csv (path,label) with "
        f"lines such as {_line(labelled[train], train)} and {_line(beside[name], name)}."
    )


def _ask(source: str, seen: str, settled_by: Mapping[str, str]) -> None:
    """Refuse to choose between readings.

    Args:
        source, seen: what is to be seen in it.
        settled_by: for each reading, what says that it is meant, e.g. a line of a manifest.
    """
    ways = "; ".join(f"if {reading}: {line}" for reading, line in settled_by.items())
    raise InputError(
        f"{source} can be read in several ways: {seen}. Say which by a .csv as the source, its first line "
        f"path,label,split (or path,label), with lines such as, {ways}."
    )


def _line(folder: Node, label: str, split: str | None = None) -> str:
    """A line of a manifest for an image in a folder."""
    image = folder.below()[0]
    return ",".join([readable(image), readable(label), *([split] if split is not None else [])])


def _unlabelled(images: Sequence[str], folder: str) -> Tally:
    return Tally(
        f"images without a label in {readable(folder)}/", len(images), tuple(readable(one) for one in images[:1])
    )


def _first_class(folder: Node) -> str:
    return next(iter(folder.folders), folder.name)


def _same_word(one: str, other: str) -> bool:
    return loose_form(one) == loose_form(other) or (
        split_name(one) is not None and split_name(one) == split_name(other)
    )


def _listed(names: Iterable[str]) -> str:
    return some([readable(name) for name in sorted(names)])


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
