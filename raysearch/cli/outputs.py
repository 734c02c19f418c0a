"""What a verb writes is checked before its work: not over what it reads, and where it can be written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from raysearch.errors import InputError, Problems


def check_output(flag: str, file: Path | None, problems: Problems, reads: Iterable[str | Path | None] = ()) -> None:
    """Notes a file that cannot be written, or that the verb reads.

    Args:
        flag: that asks for the file.
        file: to be written; None: none is.
        problems: where it is noted.
        reads: files, patterns of files, and folders of images; names of other things are passed over.
    """
    if file is None:
        return
    if any(_is_read(file, read) for read in reads if read is not None):
        problems.found.append(f"{flag} {file} is read by this command, and would be lost: give another name")
    elif (why := _why_not(file.resolve() if file.is_symlink() else file)) is not None:
        problems.found.append(f"{flag} {file} cannot be written: {why}")


def is_image(file: Path) -> bool:
    """Whether a file is called as images are."""
    from raysearch.data.decode import EXTENSIONS

    return file.suffix.lower() in EXTENSIONS


def _is_read(file: Path, read: str | Path) -> bool:
    from raysearch.data.shards import expand, is_pattern

    if not file.exists():
        return False
    path = Path(read).expanduser()
    if path.is_dir():
        return is_image(file) and file.resolve().is_relative_to(path.resolve())
    files = [path] if path.exists() else []
    if not files and is_pattern(str(read)):
        with suppress(InputError):  # whoever reads it will say so
            files = expand(str(read))
    return any(one.samefile(file) for one in files)


def _why_not(file: Path) -> str | None:
    """Why a file cannot be written, as far as that can be told without writing; None: it can."""
    if file.is_dir():
        return "it is a folder; name a file"
    if file.exists() and not file.is_file():  # a device or a pipe
        return None if os.access(file, os.W_OK) else "it must not be written to"
    folder = next(one for one in file.absolute().parents if one.exists())
    if not folder.is_dir():
        return f"{folder} is no folder"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"nothing can be written into {folder}"
