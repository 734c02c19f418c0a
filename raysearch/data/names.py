"""Names as people see them, and as they are compared: undecodable bytes, Unicode forms, control characters."""

from __future__ import annotations

import re
import unicodedata

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def readable(name: str) -> str:
    r"""A name of the file system as text that any encoding of Unicode takes.

    Bytes that are no UTF-8, which Python holds as lone surrogates, become `\xe9`, as a shell's $'…' reads them. Every
    other name stays as it is.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name


def one_line(name: str) -> str:
    r"""A name for a line of output: `readable`, with control characters and line ends written as `\n`."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), readable(name))


def same_form(name: str) -> str:
    """A name as it is compared: composed (NFC), so that a Mac's é is everybody's é."""
    return unicodedata.normalize("NFC", name)


def loose_form(name: str) -> str:
    """A name without what people do not mean by it.

    That is: case, blanks, hyphens and underscores in a row or at an end, characters that nobody sees, and forms of the
    same letter or digit that differ in their width. The minus of a number stays.
    """
    seen = "".join(letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
    minus = "-" if re.match(r"\s*-\d", seen) else ""
    return minus + re.sub(r"[\s_\-]+", " ", seen.casefold()).strip()
