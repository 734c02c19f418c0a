"""The many words for train, val and test, in names of folders, of arrays and in tables."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

_WORDS = {
    word: split
    for split, words in {
        "train": "train training trn",
        "val": "val valid validation validate dev",
        "test": "test testing tst eval evaluation holdout",
    }.items()
    for word in words.split()
}
_FILLERS = frozenset((
    "set", "sets", "data", "dataset", "datasets", "image", "images", "img", "imgs", "photo", "photos", "picture",
    "pictures", "split", "splits", "folder",
))  # fmt: skip
_PARTS = _FILLERS | frozenset(("part", "parts", "batch", "chunk", "shard", "fold", "subset", "partition", "archive"))
_UNLABELLED = frozenset((
    "pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled", "inference", "submission",
))  # fmt: skip


def split_name(name: str) -> str | None:
    """train, val or test for a folder's or a table's word for it ("Train Data", "test_set"); None for others."""
    words = [word for word in words_of(name) if word not in _FILLERS]
    return _WORDS.get(words[0]) if len(words) == 1 else None


def words_of(name: str) -> list[str]:
    """The words of a name, lower-case: seg, train of `seg_train`; val, set of `valset`; val, 2017 of `val2017`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    words: list[str] = []
    for word in re.findall(r"[^\W_]+", spaced.lower()):
        numbered = re.fullmatch(r"([^\d]+)(\d+)", word)
        digits = [numbered[2]] if numbered is not None and numbered[1] in _WORDS else []
        word = word.removesuffix("".join(digits))
        filler = next((end for end in _FILLERS if word.endswith(end) and word.removesuffix(end) in _WORDS), None)
        words += [*([word] if filler is None else [word.removesuffix(filler), filler]), *digits]
    return words


def split_folders(names: Iterable[str]) -> dict[str, str]:
    """Which folders that lie side by side are splits, and which split each is.

    Beside the names that `split_name` knows, those that differ in nothing but such a word: `seg_train` and `seg_test`;
    and beside these a single one that has a number behind it: `test1` beside `train`.
    Where there is a test split already, what is called `eval` is for validation.
    """
    groups: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name in names:
        for remainder, split in _readings(name):
            groups[remainder][name] = split
    found = dict(groups.pop((), {}))
    for group in groups.values():
        if len(set(group.values())) > 1:
            found |= {name: split for name, split in group.items() if name not in found}
    numbered: dict[str, list[str]] = defaultdict(list)
    for remainder, group in groups.items():
        for name, split in group.items():
            if name not in found and all(word.isdigit() for word in remainder):
                numbered[split].append(name)
    if found:
        found |= {
            names[0]: split for split, names in numbered.items() if len(names) == 1 and split not in found.values()
        }
    splits = set(found.values())
    evals = [name for name in found if {"eval", "evaluation"} & set(words_of(name))]
    if evals and "val" not in splits and any(found[name] == "test" for name in found if name not in evals):
        found |= dict.fromkeys(evals, "val")
    return found


def _readings(name: str) -> list[tuple[tuple[str, ...], str]]:
    """Each way to take one word of the name as a split: the words that are left, and the split."""
    words = [word for word in words_of(name) if word not in _FILLERS]
    return [((*words[:i], *words[i + 1 :]), _WORDS[word]) for i, word in enumerate(words) if word in _WORDS]


def remainders(names: Iterable[str]) -> dict[tuple[str, ...], set[str]]:
    """What is left of names without their split's word, and the splits of each: {("cat",): {"train", "test"}}."""
    found: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for name in names:
        for remainder, split in _readings(name):
            found[remainder].add(split)
    return found


def is_unlabelled(name: str) -> bool:
    """Whether a folder beside the splits is called as those of images to be predicted are, e.g. `seg_pred`."""
    return bool(_UNLABELLED & set(words_of(name)))


def says_nothing(name: str) -> bool:
    """Whether a folder's name says no more than that images lie in it: `images`, `img`, `data`."""
    return all(word in _FILLERS for word in words_of(name))


def are_parts(names: Iterable[str]) -> bool:
    """Whether folders side by side are called as parts of one heap of images are: `images_001`, `images_002`, ….

    Their names differ in a number at the end alone, and what is before it has a word for such a part or for a split.
    """
    split = [re.fullmatch(r"(.*?)[\s_\-]*\(?(\d+)\)?", name.lower()) for name in names]
    stems = {found[1] if found else "" for found in split}
    words = set(words_of(next(iter(stems)))) if len(stems) == 1 else set()
    return len(split) > 1 and bool(words & (_PARTS | _WORDS.keys()))
