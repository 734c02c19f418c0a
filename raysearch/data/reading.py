"""What a person says of a source of images beside its name: its table's columns, where the images lie, what of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysearch.data.subset import ALL, Thinning
from raysearch.errors import InputError

ROLES = ("path", "label", "split", "group")
"""What a column can say of an image."""


@dataclass(frozen=True)
class Reading:
    """How a source with a table is to be read; empty where the table says it all.

    Attributes:
        columns: the name of the column that has each of `ROLES`; roles that are not in it are recognised.
        images: the folder that the table's paths start from; None: the table's own.
        group_by: a regular expression whose first group names, in each image's path, what it belongs to.
        thin: how many of the training images are taken.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    images: Path | None = None
    group_by: str | None = None
    thin: Thinning = ALL

    @property
    def of_a_table(self) -> bool:
        """Whether anything is said of a table."""
        return bool(self.columns) or self.images is not None

    @staticmethod
    def of(
        columns: str | None, images: str | Path | None, group_by: str | None = None, thin: Thinning = ALL
    ) -> Reading:
        """What --columns, --images, --group-by and those of a subset say.

        Args:
            columns: such as "path=file,label=class,split=fold".
            images: a folder.
            group_by: a regular expression.
            thin: of the training images.

        Raises:
            InputError: `columns` is not written so, or `images` is no folder; all problems together.
        """
        named: dict[str, str] = {}
        problems = []
        for part in (columns or "").split(",") if columns is not None else ():
            role, equals, name = (piece.strip() for piece in part.partition("="))
            if role not in ROLES or not equals or not name or role in named:
                problems.append(
                    f"--columns {columns}: {part.strip() or 'nothing'} is not one of path=NAME, label=NAME, "
                    "split=NAME and group=NAME, each at most once; write e.g. --columns path=file,label=class"
                )
                break
            named[role] = name
        if "group" in named and group_by is not None:
            problems.append(f"--columns group={named['group']} and --group-by: both say the groups; leave one out")
        folder = None if images is None else Path(images).expanduser()
        if folder is not None and not folder.is_dir():
            problems.append(f"--images {images} is no folder; give the one that the images of the table lie in")
        if problems:
            raise InputError(problems)
        return Reading(named, None if folder is None else folder.absolute(), group_by, thin)

    @staticmethod
    def of_run(settings: Mapping[str, Any]) -> Reading:
        """How a run's images are read, by its settings (see `raysearch.job.settings.Settings`); older ones lack some.

        Raises:
            InputError: as of `of`.
        """
        thin = Thinning(settings.get("fraction", 1.0), settings.get("subsets", 1), settings.get("subset", 0))
        return Reading.of(settings.get("columns"), settings.get("images"), settings.get("group_by"), thin)


AS_IT_IS = Reading()
"""Nothing is said: a source says all of it."""
