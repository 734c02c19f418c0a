"""What of a run has been shown where, so that a search that is resumed, or uploaded twice, shows nothing twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

from raysearch.storage.files import replace_json


class _Shown(TypedDict):
    """What has been shown in one place."""

    sweep: str | None
    url: str | None
    shown: dict[str, list[Any]]
    """How far each thing was shown, by its name."""


class Place:
    """What has been shown where, kept in a file."""

    def __init__(self, path: Path, where: str) -> None:
        self._path, self._where = path, where
        self._all: dict[str, _Shown] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self._here = self._all.setdefault(where, {"sweep": None, "url": None, "shown": {}})

    def shown(self, name: str) -> list[Any] | None:
        """What `note` was told."""
        return self._here["shown"].get(name)

    def note(self, name: str, marker: list[Any]) -> None:
        """All of `name` that `marker` stands for is there."""
        self._here["shown"][name] = marker
        self._write()

    @property
    def sweep(self) -> str | None:
        """Id of the sweep."""
        return self._here["sweep"]

    @sweep.setter
    def sweep(self, sweep: str) -> None:
        self._here["sweep"] = sweep
        self._write()

    @property
    def url(self) -> str | None:
        """The address at which a person sees the search."""
        return self._here["url"]

    @url.setter
    def url(self, url: str | None) -> None:
        self._here["url"] = url
        self._write()

    def _write(self) -> None:
        replace_json(self._path, self._all)
