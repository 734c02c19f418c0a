"""Sources that are .tar files: WebDataset shards, or folders of images that somebody packed."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from raysearch.data.folders import found_among
from raysearch.data.kinds import HEAD_BYTES, junk_folder
from raysearch.data.listing import Found
from raysearch.data.names import readable
from raysearch.data.reading import Reading
from raysearch.data.walk import Walked
from raysearch.data.webdataset import NoLabelsError, TarReader, find_in_shards
from raysearch.errors import InputError

_Places = dict[str, tuple[int, int, int]]
"""Shard, offset and size in bytes of each member, by its name within the source."""


def find_in_tars(shards: Sequence[Path], source: str, reading: Reading) -> Found:
    """The images of WebDataset shards; where nothing stands beside the images, those of class folders.

    Several files are read as folders of their names: train.tar and test.tar hold the splits.

    Raises:
        InputError: as of `find_in_shards`; or folders that say no classes, or can be read in several ways.
    """
    try:
        return find_in_shards(shards, source, reading)
    except NoLabelsError as error:
        walked, places = _walk(shards)
        if not any("/" in name for name in walked.images):
            raise
        try:
            return found_among(walked, source, lambda names: TarReader(shards, [places[name] for name in names]))
        except InputError as other:
            raise InputError([*error.problems, *other.problems]) from other


def _walk(shards: Sequence[Path]) -> tuple[Walked, _Places]:
    """Everything in some .tar files, and where it lies."""
    walked, places = Walked(), _Places()
    for number, shard in enumerate(shards):
        outside = [shard.stem] if len(shards) > 1 else []
        with tarfile.open(shard, "r:") as opened:
            for member in opened:
                parts = [*outside, *(part for part in PurePosixPath(member.name).parts if part not in ("/", "..", "."))]
                junk = next((kind for part in parts[:-1] if (kind := junk_folder(part)) is not None), None)
                if member.isdir() or not parts:
                    continue
                name = "/".join(parts)
                if junk is not None:
                    walked.passed.add(f"files in {junk}", readable(name))
                elif not member.isfile():
                    walked.passed.add("links in a .tar", readable(name))
                else:
                    for depth in range(1, len(parts)):
                        walked.folders.setdefault("/".join(parts[:depth]), False)
                    places[name] = number, member.offset_data, member.size
                    walked.meet(name, partial(_head, shard, member.offset_data, member.size))
    walked.images.sort()
    return walked, places


def _head(shard: Path, offset: int, size: int) -> bytes:
    with shard.open("rb") as file:
        file.seek(offset)
        return file.read(min(size, HEAD_BYTES))
