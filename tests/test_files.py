"""Files are replaced wholly or not at all, and JSON is strict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from raysearch.files import plain, replace_json, replace_text, replace_with


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "trials.csv"
    replace_text(path, "old")

    def break_down(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_with(path, break_down)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_file_lies_beside_the_target_and_keeps_its_suffix(tmp_path):
    seen = []
    replace_with(tmp_path / "plan.png", lambda path: (seen.append(path), path.write_bytes(b"x")))
    assert seen[0].parent == tmp_path
    assert seen[0].suffix == ".png"


def test_json_is_strict_and_takes_what_numpy_gives(tmp_path):
    tree = {
        "f": np.float32(0.5),
        "i": np.int64(3),
        "nan": float("nan"),
        "inf": [np.inf],
        "array": np.eye(2),
        "path": tmp_path,
        "pair": (1, True),
        5: None,
    }
    replace_json(tmp_path / "x.json", tree)

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse) == {
        "f": 0.5,
        "i": 3,
        "nan": None,
        "inf": [None],
        "array": [[1.0, 0.0], [0.0, 1.0]],
        "path": str(tmp_path),
        "pair": [1, True],
        "5": None,
    }


def test_what_has_no_plain_form_is_refused_by_name():
    with pytest.raises(TypeError, match="object"):
        plain({"x": object()})
