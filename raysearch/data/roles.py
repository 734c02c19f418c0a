"""Which columns of a table say an image's path, its class and its split."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from raysearch.data.columns import not_read, split_values, whole_labels
from raysearch.data.decode import EXTENSIONS
from raysearch.data.listing import Grouping, some
from raysearch.data.reading import Reading
from raysearch.data.split_names import split_name
from raysearch.data.suspected_groups import group_column
from raysearch.errors import InputError

# fmt: off
PATHS = (
    "path", "file_name", "filename", "file", "image_path", "img_path", "file_path", "filepath", "image_file",
    "image_name", "img_name", "image", "img", "image_id", "img_id", "image_index", "id_code", "photo", "picture", "id",
    "name", "uuid", "uri",
)
"""Names of a path's column, the likeliest first."""
LABELS = (
    "label", "class", "category", "target", "diagnosis", "class_name", "label_name", "category_name", "classname",
    "label_text", "finding_labels", "species", "breed", "dx", "disease", "variety", "genus", "type", "y", "cls",
    "class_id", "label_id", "category_id", "level", "grade", "labels",
)
"""Names of a class's column, the likeliest first."""
# fmt: on
KNOWN = frozenset((*PATHS, *LABELS, "split", "subset", "set", "fold", "is_valid"))
_FLAGS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


@dataclass(frozen=True)
class Rows:
    """A table's rows as they are read.

    Attributes:
        paths: shape (n,).
        labels: shape (n,).
        splits: train, val, test, or "" where no column says it; shape (n,).
        groups: what each image belongs to; None: no column says it.
        notes: which columns say what, where their names do not; a sentence each.
        not_read: columns that nothing read, a phrase each.
        suspected: what each image may belong to, by a column that nobody named.
    """

    paths: list[str]
    labels: list[str]
    splits: list[str]
    notes: tuple[str, ...]
    not_read: tuple[str, ...]
    groups: Grouping | None = None
    suspected: Grouping | None = None


def plain_name(name: str) -> str:
    """A column's name as it is compared: `image_id` for imageId, "Image ID" and image-id."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\s\-.]+", "_", spaced).lower()


def read_rows(source: str, columns: Mapping[str, Sequence[str]], reading: Reading) -> Rows:
    """The paths, labels and splits of a table.

    Columns that are not named are recognised by their names, a path's also by its values. Where no column is called as
    classes are, several of zeros and ones, of which each row has a single one, say the class together.

    Args:
        source: for messages.
        columns: values by name.
        reading: the columns that a person names.

    Raises:
        InputError: a column is missing, or there are several that may be meant, or a split's words are unknown; all
            problems together.
    """
    problems: list[str] = []
    chosen: dict[str, str] = _named(source, columns, reading, problems)
    if "path" not in chosen and (path := _path_column(columns)) is not None:
        chosen["path"] = path
    if "group" not in chosen and (group := next((one for one in columns if plain_name(one) == "group"), None)):
        chosen["group"] = group
    free = {name: values for name, values in columns.items() if name not in chosen.values()}
    hot: dict[str, Sequence[str]] = {}
    if "label" not in chosen and (label := _label_column(source, free, problems)) is not None:
        chosen["label"] = label
    elif "label" not in chosen and not problems:
        hot = _one_hot(source, free, problems)
    absent = [role for role in ("path", "label") if role not in chosen and not (role == "label" and (hot or problems))]
    if absent:
        problems.append(_absent(source, absent, columns))
    others = {name: values for name, values in free.items() if name != chosen.get("label") and name not in hot}
    splits: list[str] = [""] * len(next(iter(columns.values()), []))
    try:
        if (said := _splits(source, chosen.get("split"), columns, others)) is not None:
            chosen["split"], splits = said
    except InputError as error:
        problems += error.problems
    if problems:
        raise InputError(problems)
    labels = list(columns[chosen["label"]]) if not hot else _classes_of(hot)
    file, split = PurePath(source).name, chosen.pop("split", None)
    told = [f"{name} is the {role}" for role, name in chosen.items() if plain_name(name) != role]
    notes = [f"Of the columns of {file}, {' and '.join(told)}."] if told else []
    if split is not None and plain_name(split) != "split":
        notes.append(f"The column {split} says the splits.")
    if hot:
        notes.append(f"The classes of {file} are its columns {some(list(hot), 10)}: each row has a single 1.")
    unread = [name for name in others if name != split]
    labels, read_so = whole_labels(labels)
    notes += [f"The labels of {file} are whole numbers with a point ({read_so}), which is left out."] * bool(read_so)
    groups, suspected = None, None
    if "group" in chosen:
        groups = Grouping(f"the column {chosen['group']} of {file}", list(columns[chosen["group"]]))
    elif not reading.group_by:
        suspected = group_column({name: columns[name] for name in unread}, {name: plain_name(name) for name in unread})
    paths, unread = list(columns[chosen["path"]]), not_read(file, unread)
    return Rows(paths, labels, splits, tuple(notes), tuple(unread), groups, suspected)


def _named(source: str, columns: Mapping[str, Sequence[str]], reading: Reading, problems: list[str]) -> dict[str, str]:
    """The columns that a person named, as the table spells them."""
    found = {}
    for role, name in reading.columns.items():
        near = [one for one in columns if one == name] or [
            one for one in columns if plain_name(one) == plain_name(name)
        ]
        if near:
            found[role] = near[0]
        else:
            problems.append(f"--columns {role}={name}: {source} has no such column, but {some(list(columns), 20)}.")
    return found


def _by_plain_name(columns: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The columns' names as they are compared, without columns of which no row says anything; of equals the first."""
    return {plain_name(name): name for name, values in reversed(list(columns.items())) if any(values) or not values}


def _path_column(columns: Mapping[str, Sequence[str]]) -> str | None:
    """Of the columns whose values end as images do the one of the likeliest name, or the only one; else by the name."""
    plain = _by_plain_name(columns)
    named = [plain[word] for word in PATHS if word in plain]
    images = [
        name
        for name, values in columns.items()
        if sum(value.lower().endswith(EXTENSIONS) for value in values) > 0.9 * max(1, len(values))
    ]
    ending = [name for name in named if name in images] or (images if len(images) == 1 else [])
    return next(iter(ending or named), None)


def label_among(source: str, columns: Mapping[str, Sequence[str]]) -> str | None:
    """The column that says the class, by its name; None where none is called so.

    Raises:
        InputError: several may be meant.
    """
    problems: list[str] = []
    label = _label_column(source, columns, problems)
    if problems:
        raise InputError(problems)
    return label


def _label_column(source: str, columns: Mapping[str, Sequence[str]], problems: list[str]) -> str | None:
    """One called label; else the only one of another such name, or of several that say the same the one of words."""
    plain = _by_plain_name(columns)
    found = [plain[word] for word in LABELS if word in plain]
    if not found or "label" in plain:
        return found[0] if found else None
    pairs = [set(zip(columns[found[0]], columns[name], strict=True)) for name in found]
    same = all(len(pair) == len({a for a, _ in pair}) == len({b for _, b in pair}) for pair in pairs)
    if not same:
        problems.append(
            f"{source} has {len(found)} columns that may be the class: {some(found, 10)}. Say which one, e.g. by "
            f"--columns label={found[0]}."
        )
        return None
    return next((name for name in found if not all(value.isdigit() for value in columns[name])), found[0])


def _one_hot(source: str, columns: Mapping[str, Sequence[str]], problems: list[str]) -> dict[str, Sequence[str]]:
    """Columns of zeros and ones that say the class together, one column a class; none where there are none."""
    hot = {
        name: values
        for name, values in columns.items()
        if values and all(value.lower() in _FLAGS for value in values) and not plain_name(name).startswith("is_")
    }
    if len(hot) < 2:
        return {}
    counts = [sum(_FLAGS[value.lower()] for value in row) for row in zip(*hot.values(), strict=True)]
    if (wrong := sum(count != 1 for count in counts)) == 0:
        return hot
    problems.append(
        f"{source} looks multi-label: the columns {some(list(hot), 10)} hold 0 and 1, and {wrong} rows have not a "
        "single 1 in them; only single-label classification is supported. Choose one label an image, and name its "
        "column by --columns label=NAME."
    )
    return {}


def _classes_of(hot: Mapping[str, Sequence[str]]) -> list[str]:
    names = list(hot)
    return [names[[_FLAGS[value.lower()] for value in row].index(True)] for row in zip(*hot.values(), strict=True)]


def _absent(source: str, absent: Sequence[str], columns: Mapping[str, Sequence[str]]) -> str:
    names = list(columns)
    if names and any(name.lower().endswith(EXTENSIONS) for name in names):
        return (
            f"{source}: its first line is that of an image ({','.join(names)}), and must be the names of the columns: "
            "add the line path,label or path,label,split."
        )
    return (
        f"{source} lacks the column{'s' * (len(absent) > 1)} {' and '.join(absent)}: its first line must be path,label "
        f"or path,label,split, got {','.join(names) or 'nothing'}. Name its columns by "
        f"--columns {','.join(f'{role}=NAME' for role in absent)}."
    )


def _splits(
    source: str, named: str | None, columns: Mapping[str, Sequence[str]], others: Mapping[str, Sequence[str]]
) -> tuple[str, list[str]] | None:
    """The column that says the splits, and what it says of each row; None where there is none."""
    name = named or next((name for name in others if plain_name(name) == "split"), None)
    if name is None:
        plain = {plain_name(name): name for name in others}
        said = split_values(source, {word: others[name] for word, name in plain.items()})
        return None if said is None else (plain[said[0]], said[1])
    values = columns[name]
    splits = [split_name(value) or "" for value in values]
    if all(splits):
        return name, splits
    with contextlib.suppress(InputError):  # which would ask for a column that is there
        if (said := split_values(source, {plain_name(name): values})) is not None:
            return name, said[1]
    wrong = sorted({value or "(empty)" for value in values if split_name(value) is None})
    raise InputError(f"{source}: {name} must be train, val or test, got {some(wrong)}.")
