"""Tables of images as text: a .csv of any dialect and encoding that can be told, and .jsonl."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysearch.data.account import Doubt
from raysearch.data.encodings import looks_chinese
from raysearch.errors import InputError

_DELIMITERS = ",;\t|"
_NAMES = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SAMPLE_ROWS = 100
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class Table:
    """Columns of text, all of one length.

    Attributes:
        name: of the file, for messages.
        columns: values by the column's name, as it is written there; blanks around both are cut.
        encoding: what the file's bytes were read as.
        notes: how it was read, where that is not as one would expect; a sentence each.
        doubts: what is probably wrong.
    """

    name: str
    columns: Mapping[str, list[str]]
    encoding: str = "utf-8"
    notes: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))


def read_csv(file: Path, known: Sequence[str] = ()) -> Table:
    """A table in UTF-8, UTF-16, GBK or the code page of Western Windows, separated by commas, semicolons, tabs or bars.

    Args:
        file: with the columns' names in its first line; one like `sep=;`, as Excel writes it, may stand before.
        known: names that columns may have, lower-case: the delimiter under which more of them are columns is taken.

    Raises:
        InputError: it cannot be read, a column's name stands twice, or rows are longer than the first line.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}).") from error
    return parse_csv(data, file, known)


def parse_csv(data: bytes, file: Path, known: Sequence[str] = ()) -> Table:
    """The table in bytes, as of `read_csv`; `file` is for messages."""
    encoding = _encoding(data)
    notes, doubts = [], []
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{file} cannot be read as text ({error}): save it in UTF-8.") from error
    given = None
    first, _, rest = text.partition("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:
        given, text = first.strip()[-1], rest
    delimiter = given or _delimiter(text, known)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise InputError(f"{file} cannot be read as a .csv ({error}).") from error
    names = [name.strip() for name in rows[0]] if rows else []
    _check_rows(file, names, rows)
    columns = {
        name: [row[place].strip() if place < len(row) else "" for row in rows[1:]]
        for place, name in enumerate(names)
        if name
    }
    if delimiter != ",":
        notes.append(f"{file.name} is separated by {_NAMES.get(delimiter, delimiter)}.")
    if encoding.startswith("utf-16"):
        notes.append(f"{file.name} is in UTF-16.")
    elif not encoding.startswith("utf"):
        odd = next(line for line in text.splitlines() if not line.isascii()).strip()[:60]
        doubts.append(Doubt(f"{file.name} is not in UTF-8; it was read as {encoding}: {odd!r}.", "Save it in UTF-8."))
    return Table(file.name, columns, encoding, tuple(notes), tuple(doubts))


def _check_rows(file: Path, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    problems = [f"{file} has two columns called {', '.join(twice)}: rename one."] if twice else []
    long = [number for number, row in enumerate(rows, 1) if any(value.strip() for value in row[len(names) :])]
    if long:
        problems.append(
            f"{file}: {len(long)} rows have more values than the first line has columns, the first of them row "
            f"{long[0]}: put values that hold a separator into quotes."
        )
    if problems:
        raise InputError(problems)


def read_jsonl(file: Path) -> Table:
    """A table of one JSON object a line; of values that are no text, numbers or truth values, their JSON.

    Raises:
        InputError: it cannot be read, or a line is no object.
    """
    try:
        with file.open(encoding="utf-8-sig") as stream:
            return parse_jsonl(stream, file)
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}).") from error


def parse_jsonl(lines: Iterable[str], file: Path) -> Table:
    """The table in lines, as of `read_jsonl`; `file` is for messages."""
    columns: dict[str, list[str]] = {}
    count = 0
    try:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise InputError(f"{file}: line {number} is no JSON object.")
            for name, value in entry.items():
                columns.setdefault(str(name), [""] * count).append(as_text(value))
            count += 1
            for values in columns.values():
                values += [""] * (count - len(values))
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} cannot be read as JSON, one object a line ({error}).") from error
    return Table(file.name, columns)


def as_text(value: Any) -> str:
    """A value of JSON or of a typed table as a .csv would have it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isnan(value):  # what pandas makes of nothing
        return ""
    return str(value) if isinstance(value, int | float) else json.dumps(value, ensure_ascii=False, default=str)


def _encoding(data: bytes) -> str:
    for mark, name in _BOMS.items():
        if data.startswith(mark):
            return name
    head = data[:4000]
    if b"\0" in head:  # UTF-16 without a mark: every other byte of Western text is zero
        return "utf-16-le" if head[1::2].count(0) >= head[::2].count(0) else "utf-16-be"
    for name in ("utf-8", "gb18030", "cp1252"):
        if name == "gb18030" and not looks_chinese(data):
            continue
        try:
            data.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return "latin-1"


def _delimiter(text: str, known: Sequence[str]) -> str:
    """The one that gives the most columns of known names, then rows of one length, then the most columns."""

    def worth(delimiter: str) -> tuple[int, bool, int]:
        rows = []
        try:
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
                if any(row):
                    rows.append(row)
                if len(rows) > _SAMPLE_ROWS:
                    break
        except csv.Error:
            return 0, False, 0
        names = [name.strip().lower() for name in rows[0]] if rows else []
        even = len({len(row) for row in rows}) == 1
        return sum(name in known for name in names), even and len(names) > 1, len(names)

    return max(_DELIMITERS, key=worth)  # the first of several
