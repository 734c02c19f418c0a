"""What a person says of a table of images beside its name: its columns, and where the images lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from raysearch.errors import InputError

ROLES = ("path", "label", "split")
"""What a column can say of an image."""


@dataclass(frozen=True)
class Reading:
    """How a source with a table is to be read; empty where the table says it all.

    Attributes:
        columns: the name of the column that has each of `ROLES`; roles that are not in it are recognised.
        images: the folder that the table's paths start from; None: the table's own.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    images: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.columns) or self.images is not None

    @staticmethod
    def of(columns: str | None, images: str | Path | None) -> Reading:
        """What --columns and --images say.

        Args:
            columns: such as "path=file,label=class,split=fold".
            images: a folder.

        Raises:
            InputError: `columns` is not written so, or `images` is no folder; all problems together.
        """
        named: dict[str, str] = {}
        problems = []
        for part in (columns or "").split(",") if columns is not None else ():
            role, equals, name = (piece.strip() for piece in part.partition("="))
            if role not in ROLES or not equals or not name or role in named:
                problems.append(
                    f"--columns {columns}: {part.strip() or 'nothing'} is not one of path=NAME, label=NAME and "
                    "split=NAME, each at most once; write e.g. --columns path=file,label=class"
                )
                break
            named[role] = name
        folder = None if images is None else Path(images).expanduser()
        if folder is not None and not folder.is_dir():
            problems.append(f"--images {images} is no folder; give the one that the images of the table lie in")
        if problems:
            raise InputError(problems)
        return Reading(named, None if folder is None else folder.absolute())


AS_IT_IS = Reading()
"""Nothing is said: a source says all of it."""
