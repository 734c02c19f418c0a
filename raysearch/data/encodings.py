"""In which encoding names were written that are no UTF-8."""

from __future__ import annotations

import re

_HIGH = re.compile(rb"[\x80-\xff]+")


def looks_chinese(data: bytes) -> bool:
    """Whether bytes that are no UTF-8 are those of GBK's usual characters.

    These have two bytes each, both of the upper half. Western text has single ones there, so one run of an odd length
    tells it from them. Korean is not told from Chinese.
    """
    runs = _HIGH.findall(data)
    if not runs or any(len(run) % 2 or min(run) < 0xA1 for run in runs):
        return False
    try:
        b"".join(runs).decode("gb2312")
    except UnicodeDecodeError:
        return False
    return True
