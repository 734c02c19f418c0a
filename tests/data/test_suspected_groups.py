"""Images of one patient, video or photo in several splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from raysearch.data.listing import Found, Grouping
from raysearch.data.source import list_source
from raysearch.data.suspected_groups import suspicions
from tests.data.pictures import fill, picture, put


def doubts(source: Path, **options: bool) -> str:
    return "\n".join(doubt.line() for doubt in list_source(str(source), **options).account.doubts)


def table(root: Path, header: str, values: list[str]) -> Path:
    fill(root, {"img": len(values)})
    rows = [f"img/{n:03}.png,{('cat', 'dog')[n % 2]},{value}" for n, value in enumerate(values)]
    (root / "list.csv").write_text("\n".join([header, *rows]))
    return root / "list.csv"


def test_a_patient_in_several_splits_is_told(tmp_path: Path) -> None:
    said = doubts(table(tmp_path / "a", "path,label,Patient ID", [str(n // 6) for n in range(24)]))
    assert "By the column Patient ID, 4 of 4 groups have images in several splits (0, 1, 2 and 1 more)" in said
    assert "--columns group=NAME" in said
    splits = [f"{n // 6},{('train', 'test')[n // 12]}" for n in range(24)]
    said = doubts(table(tmp_path / "b", "path,label,PatientID,split", splits))
    assert "2 of 4 groups have images in several splits (0, 1)" in said, "validation is cut from training"


def test_splits_that_keep_groups_together_are_not_doubted() -> None:
    labels, splits = np.array([0, 1, 0, 1, 0, 1]), np.array(["train", "train", "val", "val", "test", "test"])
    for names, told in ((["p", "p", "q", "q", "r", "r"], False), (["p", "p", "p", "q", "r", "r"], True)):
        found = Found(["x.png"] * 6, [], [], None, suspected=Grouping("the column p", names))  # type: ignore[arg-type]
        assert bool(suspicions(found, labels, splits)) is told


def test_a_group_that_is_the_class_is_none(tmp_path: Path) -> None:
    assert "groups" not in doubts(table(tmp_path, "path,label,person_id", ["12"[n % 2] for n in range(24)]))


def test_folders_within_classes_are_told(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {f"{name}/{name[0]}{k}": 6 for name in ("benign", "malignant") for k in range(3)})
    assert "By the folders within the class folders, 6 of 6 groups have images in several splits" in doubts(root)
    assert "groups" not in doubts(root, measuring=True)
    assert "groups" not in doubts(fill(tmp_path / "e", {"a/images": 12, "b/images": 12}))


def test_versions_of_a_photo_by_roboflow_are_told(tmp_path: Path) -> None:
    for number in range(24):
        name = f"IMG_{number // 4}_jpg.rf.{number:032x}.jpg"
        put(tmp_path / "d" / ("cat", "dog")[number // 12] / name, picture(number, "JPEG"))
    assert "By the names that Roboflow gives to versions of one photo, " in doubts(tmp_path / "d")
