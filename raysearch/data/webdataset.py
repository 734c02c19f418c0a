"""WebDataset shards: .tar files in which an image and what is known of it have one name and several endings."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raysearch.data.account import Account, Doubt, Tallies
from raysearch.data.columns import label_doubts, label_problems, not_read
from raysearch.data.decode import EXTENSIONS
from raysearch.data.extras import readable_endings
from raysearch.data.files import digest_files
from raysearch.data.listing import Found, Grouping, some
from raysearch.data.names import readable
from raysearch.data.reading import Reading
from raysearch.data.roles import label_among, plain_name
from raysearch.data.shards import names_within, splits_of
from raysearch.data.table import as_text
from raysearch.errors import InputError

_CLASS = (".cls", ".cls.txt", ".label", ".label.txt")
_SMALL = 1 << 20
"""Bytes of the largest file that is read for a label."""
_NO_LABEL = "samples without a .cls or a .json that says the class"


@dataclass
class _Sample:
    """What has one name in a shard: where its image lies, and what is said of it."""

    name: str
    images: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Offset and size in bytes, by ending."""
    label: str | None = None
    told: dict[str, str] = field(default_factory=dict)
    """What its .json says, by key."""
    others: list[str] = field(default_factory=list)
    """What follows its name in files that end as images do, but are none of it: `.seg.png`."""


class NoLabelsError(InputError):
    """Nothing in shards says a class: they may be no shards, but folders that somebody packed."""


class TarReader:
    """Members of uncompressed .tar files, read from where they lie."""

    def __init__(self, shards: Sequence[Path], places: Sequence[tuple[int, int, int]]) -> None:
        self._shards = tuple(shards)
        self._places = tuple(places)

    def read(self, position: int) -> bytes:
        """The bytes of one member."""
        shard, offset, size = self._places[position]
        with self._shards[shard].open("rb") as file:  # costs next to nothing beside decoding
            file.seek(offset)
            return file.read(size)

    def fingerprint(self) -> str:
        """Digest of the shards and of the members' places."""
        whole = [*digest_files(self._shards), json.dumps(self._places)]
        return hashlib.sha256("".join(whole).encode()).hexdigest()


def find_in_shards(shards: Sequence[Path], source: str, reading: Reading) -> Found:
    """The images of WebDataset shards; only headers and labels are read.

    Args:
        shards: .tar files; words such as train and val in their names, or their folders', say the splits.
        source: for messages.
        reading: may name the key of the .json that is the class.

    Raises:
        InputError: a shard that cannot be read, several images of one name, or no single label for each; all problems
            together.
    """
    names = names_within(shards)
    splits = splits_of(source, names)
    paths, labels, given, places, told = [], [], [], [], []
    passed, keys, without = Tallies(), dict[str, None](), list[str]()
    problems: list[str] = []
    samples = [(shard, sample) for shard, file in enumerate(shards) for sample in _samples(file, passed)]
    key = _label_key(source, [sample for _, sample in samples], reading, problems)
    if several := [sample.name for _, sample in samples if len(sample.images) > 1]:
        problems.append(f"{source} has several images of one name ({some(several)}): one a sample is read.")
    for shard, sample in samples:
        keys |= dict.fromkeys(sample.told)
        label = sample.label if key is None else sample.told.get(key, "")
        if not sample.images:
            if sample.others:
                without.append(f"{names[shard]}/{readable(sample.name)}{sample.others[0]}")
            continue
        if not label:
            passed.add(_NO_LABEL, f"{names[shard]}/{readable(sample.name)}")
            continue
        ending, (offset, size) = next(iter(sample.images.items()))
        paths.append(f"{names[shard]}/{readable(sample.name)}{ending}")
        labels.append(label)
        given.append(splits[shard])
        places.append((shard, offset, size))
        told.append(sample.told)
    group = reading.columns.get("group", "group" if "group" in keys else None)
    if group is not None and group not in keys:
        problems.append(f"--columns group={group}: {source} has no .json with that key, but {some(list(keys), 20)}.")
    if not paths and not problems:
        problems += _no_labels(source, samples, list(keys))
        if not keys and not any(sample.label for _, sample in samples):
            raise NoLabelsError(problems)
    problems += label_problems(source, labels)
    if problems:
        raise InputError(problems)
    unread = [name for name in keys if name not in (key, group)]
    grouping = None
    if group is not None:
        grouping = Grouping(f"the key {group} of each .json", [one.get(group, "") for one in told])
    account = Account(
        f"{len(set(labels))} classes in {len(shards)} WebDataset shards"
        + (", whose names say the splits." if any(splits) else "."),
        notes=() if key is None or plain_name(key) == "label" else (f"The class is {key} in each .json.",),
        passed_over=passed.result(),
        not_read=tuple(text.replace("column", "key", 1) for text in not_read("the .json files", unread)),
        doubts=(*([_dotted(without)] if without else ()), *label_doubts(source, labels)),
    )
    return Found(paths, labels, given, TarReader(shards, places), account=account, groups=grouping)


def _samples(shard: Path, passed: Tallies) -> Iterator[_Sample]:
    """The samples of one shard in its order: members that follow each other and have one name up to the first dot."""
    sample = _Sample("")
    endings = (*EXTENSIONS, *readable_endings())
    try:
        with tarfile.open(shard, "r:") as opened:
            for member in opened:
                folder, slash, own = member.name.removeprefix("./").rpartition("/")
                stem, dot, rest = own.partition(".")
                if not member.isfile() or not stem:
                    continue
                if folder + slash + stem != sample.name:
                    yield sample
                    sample = _Sample(folder + slash + stem)
                ending = (dot + rest).lower()
                if ending in endings:  # such as .seg.png is not the image
                    sample.images[ending] = (member.offset_data, member.size)
                elif member.size <= _SMALL and ending in (*_CLASS, ".json"):
                    file = opened.extractfile(member)
                    _tell(sample, ending, file.read() if file is not None else b"")
                else:
                    if ending.endswith(endings):
                        sample.others.append(dot + rest)
                    passed.add(f"{ending or 'other'} files in shards", readable(member.name))
    except tarfile.ReadError as error:
        packed = "it is compressed, and images cannot be read from the midst of it: unpack it to a plain .tar"
        with shard.open("rb") as file:
            head = file.read(6)
        why = packed if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")) else str(error)
        raise InputError(f"{shard} cannot be read as a .tar ({why}).") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{shard} cannot be read ({error}).") from error
    yield sample


def _tell(sample: _Sample, ending: str, content: bytes) -> None:
    """Note what a small file says of a sample."""
    text = content.decode("utf-8-sig", "replace").strip()
    if ending != ".json":
        sample.label = text
        return
    told = json.loads(text)
    if isinstance(told, dict):
        sample.told = {str(name): as_text(value) for name, value in told.items()}
    else:
        sample.label = as_text(told)


def _label_key(source: str, samples: Sequence[_Sample], reading: Reading, problems: list[str]) -> str | None:
    """The key of the .json files that is the class; None where a .cls says it, or nothing does."""
    keys = dict.fromkeys(name for sample in samples for name in sample.told)
    if (named := reading.columns.get("label")) is not None:
        if named not in keys:
            has = some(list(keys), 20)
            problems.append(f"--columns label={named}: {source} has no .json with that key, but {has}.")
        return named
    if any(sample.label is not None for sample in samples):
        return None
    told = [sample.told for sample in samples if sample.told]
    try:
        return label_among(source, {name: [one.get(name, "") for one in told] for name in keys})
    except InputError as error:
        problems += error.problems
        return None


def _dotted(names: Sequence[str]) -> Doubt:
    """What is said of images that are none by WebDataset's rule: what follows the first dot of a name is the ending."""
    return Doubt(
        f"{len(names):,} images in shards are not read, because the ending begins at the first dot ({some(names)}).",
        "Write the names of the samples without dots.",
    )


def _no_labels(source: str, samples: Sequence[tuple[int, _Sample]], keys: Sequence[str]) -> list[str]:
    dotted = [sample.name + other for _, sample in samples for other in sample.others]
    if not any(sample.images for _, sample in samples):
        if dotted:
            return [f"{source}: {_dotted([readable(name) for name in dotted]).line()}"]
        return [f"{source} holds no images (files ending in {', '.join(EXTENSIONS)})."]
    has = f" The .json files have {some(keys, 20)}: name the class by --columns label=KEY." if keys else ""
    return [f"{source} has images but no labels: a .cls, or a .json with a label, must stand beside each.{has}"]
