"""Where spaces are, and what they are called: known from the files alone, so that --help lists them at once."""

from __future__ import annotations

import difflib
from pathlib import Path

from raysearch.errors import InputError

_PACKAGE = Path(__file__).resolve().parents[1]
# In a clone the spaces are beside the package; in an installed wheel they are inside it.
SPACES = next(
    (folder / "search_spaces" for folder in (_PACKAGE, _PACKAGE.parent) if (folder / "search_spaces").is_dir()),
    _PACKAGE / "search_spaces",
)


def space_files() -> dict[str, Path]:
    """The files of search_spaces/ by the names of their spaces, in alphabetical order."""
    return {file.stem: file for file in sorted(SPACES.glob("*.py")) if not file.stem.startswith("_")}


def find_space(name: str) -> Path:
    """The file of space `name`: a path, or a file of that name in search_spaces/.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    path, known = Path(name), space_files()
    if path.suffix == ".py" and path.is_file():
        return path
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
    raise InputError(f"--space {name}: no such file, and no such name in search_spaces/; {hint}")
