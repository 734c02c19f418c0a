"""Images that may be of one thing, such as a patient, a video or a photo, and lie in several splits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from raysearch.data.account import Doubt
from raysearch.data.listing import Found, Grouping, some

_COLUMNS = frozenset((
    "patient", "patient_id", "patientid", "subject", "subject_id", "person", "person_id", "lesion_id", "case",
    "case_id", "study", "study_id", "studyinstanceuid", "study_instance_uid", "exam_id", "series_id", "video",
    "video_id", "clip_id", "sequence_id", "seq_id", "group", "group_id", "animal_id", "individual_id", "slide_id",
    "wsi_id", "scene_id", "plant_id", "participant_id", "source_image", "original_image",
))  # fmt: skip
_ROBOFLOW = re.compile(r"(.+)\.rf\.[0-9A-Za-z]{16,}\.[A-Za-z]+")
"""What Roboflow calls each version of a photo that it augmented."""


def group_column(columns: Mapping[str, Sequence[str]], plain: Mapping[str, str]) -> Grouping | None:
    """The column that says which images are of one thing, by its name.

    Args:
        columns: values by name.
        plain: each name as it is compared.
    """
    name = next((name for name in columns if plain[name] in _COLUMNS), None)
    return None if name is None else Grouping(f"the column {name}", columns[name])


def suspicions(found: Found, labels: NDArray[np.int64], splits: NDArray[np.str_]) -> list[Doubt]:
    """What is said of groups that have images in several splits.

    Args:
        found: the images, and their groups where something says them.
        labels: shape (n,).
        splits: train, val or test, shape (n,).
    """
    kinds = [found.suspected]
    if any(".rf." in path for path in found.paths):
        roots = [match[1] if (match := _ROBOFLOW.fullmatch(path)) else "" for path in found.paths]
        kinds.append(Grouping("the names that Roboflow gives to versions of one photo", roots))
    return [doubt for groups in kinds if groups is not None and (doubt := _doubt(groups, labels, splits))]


def _doubt(groups: Grouping, labels: NDArray[np.int64], splits: NDArray[np.str_]) -> Doubt | None:
    homes: dict[str, set[str]] = defaultdict(set)
    classes: dict[str, set[int]] = defaultdict(set)
    for name, label, split in zip(groups.names, labels.tolist(), splits.tolist(), strict=True):
        if name:
            homes[name].add(split)
            classes[name].add(label)
    held = [label for found in classes.values() for label in found]
    if len(set(held)) == len(held):  # no class has more than one group, so that is but another name of it
        return None
    apart = sorted(name for name, found in homes.items() if len(found) > 1)
    if not apart:
        return None
    return Doubt(
        f"By {groups.what}, {len(apart):,} of {len(homes):,} groups have images in several splits ({some(apart)}). If "
        "the images of a group show the same thing (one patient, video or photo), figures will be too good.",
        "Keep them together by --columns group=NAME of a column, or --group-by 'REGEX' of what tells them in paths.",
    )
