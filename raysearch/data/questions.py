"""What is said where folders can be read in several ways: what is seen, and what settles each reading."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from raysearch.data.listing import some
from raysearch.data.names import readable
from raysearch.data.tree import Node
from raysearch.errors import InputError

_MOST_WORDS = 50
"""Words at the beginning of names that may be classes."""


def refuse_beside(beside: Mapping[str, Node], labelled: Mapping[str, Node], source: str) -> None:
    """There are folders beside the splits, which may be classes, a split of another name, or another copy."""
    classes = {name for folder in labelled.values() for name in folder.inner().folders}
    copies = [name for name, folder in beside.items() if {*folder.folders} & {*labelled}]
    if copies:
        raise InputError(
            f"{source} can be read in two ways: {listed(copies)} has train, val or test folders of its own, beside "
            f"{listed(labelled)}. If they are the same images, take one away, or give --data "
            f"{source}/{readable(copies[0])}."
        )
    splits = [name for name, folder in beside.items() if len({*folder.inner().folders} & classes) > 1]
    if splits:
        example = beside[splits[0]].inner()
        raise InputError(
            f"{source} can be read in two ways: {listed(splits)} holds the same class folders as {listed(labelled)}. "
            f"Call it train, val or test, or take it away; or give a .csv (path,label,split) with lines such as "
            f"{line(example, first_class(example), split='train')}."
        )
    name = next(iter(beside))
    train = next(iter(labelled))
    raise InputError(
        f"{source} has class folders beside its train, val or test folders: {listed(beside)}. Put them into one of "
        f"the splits, or take them away; or, if {readable(train)} is a class like them, give a .csv (path,label) with "
        f"lines such as {line(labelled[train], train)} and {line(beside[name], name)}."
    )


def refuse_classes_within(node: Node, inner: Mapping[str, Mapping[str, str]], source: str) -> None:
    """Folders with splits of their own are no classes if these hold the same class folders everywhere."""
    within = {
        name: {one for split in found for one in node.folders[name].folders[split].folders}
        for name, found in inner.items()
    }
    shared = Counter(one for names in within.values() for one in names)
    repeated = [name for name, times in shared.items() if times > 1]
    if len(repeated) > 1:
        name = min(within)
        split = next(iter(inner[name]))
        example = node.folders[name].folders[split].folders[min(within[name] & {*repeated})]
        ask(
            source,
            f"{listed(within)} have folders of splits of their own, and folders of the same names in these "
            f"({some(sorted(repeated))})",
            {
                f"{readable(name)} is a class": line(example, name, split=inner[name][split]),
                f"{readable(example.name)} is a class": line(example, example.name, split=inner[name][split]),
            },
        )


def ask(source: str, seen: str, settled_by: Mapping[str, str]) -> None:
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


def line(folder: Node, label: str, split: str | None = None) -> str:
    """A line of a manifest for an image in a folder."""
    image = folder.below()[0]
    return ",".join([readable(image), readable(label), *([split] if split is not None else [])])


def first_class(folder: Node) -> str:
    return next(iter(folder.folders), folder.name)


def listed(names: Iterable[str]) -> str:
    return some([readable(name) for name in sorted(names)])


def classes_in_names(images: Iterable[str]) -> str:
    """What is said where files are called `cat.0.jpg`, `dog.0.jpg`, …; "" where they are not."""
    words = Counter(
        found[1] for image in images if (found := re.match(r"([^\W\d_]{2,})[._\- ]*\(?\d", image.rpartition("/")[2]))
    )
    often = [readable(word) for word, times in words.most_common() if times > 1]
    if not 1 < len(often) <= _MOST_WORDS or len(often) < len(words):
        return ""
    return f" If {some(sorted(often))} in the names of the files are the classes, make folders or a .csv of them."
