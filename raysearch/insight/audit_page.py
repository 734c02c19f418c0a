"""audit.html: what an audit found, with thumbnails, in one file that loads nothing; what is ticked becomes a list."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.names import one_line
from raysearch.insight.audit import Audit, nearest_of_class
from raysearch.insight.duplicates import Duplicate
from raysearch.reporting.elements import Table, percent
from raysearch.storage.files import replace_text

SHOWN_ERRORS, SHOWN_PAIRS, SHOWN_ODD = 200, 100, 60
_SIDE = 96  # pixels of a thumbnail; smaller images are enlarged by the browser
_WEBP_QUALITY = 75


@dataclass(frozen=True)
class Thumbnail:
    """An image on the page."""

    source: str
    """A data URI."""
    caption: str


@dataclass(frozen=True)
class Finding:
    """Something to look at, and perhaps to leave out."""

    path: str
    """What is left out if it is ticked."""
    title: str
    about: str
    split: str
    images: Sequence[Thumbnail]
    droppable: bool
    """Whether the image is a training image: others are never left out."""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    name: str
    title: str
    told: str
    findings: Sequence[Finding]
    more: str


class Content(TypedDict):
    """What the template shows."""

    source: str
    summary: list[str]
    warnings: list[str]
    sections: list[Section]
    counts: Table
    shortcuts: Table


def write_audit_page(audit: Audit, file: Path) -> None:
    """Write the page, replacing it at once."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("raysearch", "insight"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    replace_text(file, environment.get_template("audit.html.j2").render(_content(audit)))


def summary(audit: Audit) -> list[str]:
    """What was found, a sentence each without its full stop."""
    n, errors = len(audit.of), audit.errors.places
    kinds = Counter(pair.kind for pair in audit.duplicates)
    across = sum(audit.across_splits(pair) for pair in audit.duplicates)
    conflicts = sum(audit.across_classes(pair) for pair in audit.duplicates)
    pairs = ", ".join(f"{kinds[kind]:,} {kind}" for kind in ("exact", "near", "mirrored", "cropped") if kinds[kind])
    found = [
        f"{len(errors):,} of {n:,} labels ({percent(len(errors) / max(1, n))}) are probably wrong, say heads that tell "
        f"the class right in {audit.accuracy:.0%}",
        f"{len(audit.duplicates):,} pairs show one picture ({pairs}); {across:,} of them across splits, {conflicts:,} "
        "under two labels"
        if audit.duplicates
        else "No picture is there twice",
        f"{len(audit.outliers.places):,} images are unlike all others",
        f"{int(audit.facts.blank.sum()):,} images are blank, {int(audit.facts.tiny.sum()):,} tiny, "
        f"{len(audit.of.skipped):,} cannot be read",
    ]
    told = [one for one in audit.shortcuts if one.found]
    return found + [one.line(audit.accuracy) for one in told]


def _content(audit: Audit) -> Content:
    return {
        "source": one_line(audit.of.source),
        "summary": [one_line(line) for line in summary(audit)],
        "warnings": [one_line(doubt.line()) for doubt in audit.doubts],
        "sections": [_label_errors(audit), _duplicates(audit), _outliers(audit), _odd(audit)],
        "counts": _counts(audit),
        "shortcuts": Table(
            ("told by", "balanced accuracy", "99 % interval from", "chance", "more than chance"),
            [
                (one.by, percent(one.accuracy), percent(one.low), percent(one.chance), "yes" if one.found else "no")
                for one in audit.shortcuts
            ],
            words=frozenset({0, 4}),
        ),
    }


def _label_errors(audit: Audit) -> Section:
    errors, labels, classes = audit.errors, audit.of.images.labels, audit.of.classes
    places = errors.places[:SHOWN_ERRORS]
    own = nearest_of_class(audit, places, labels[places])
    other = nearest_of_class(audit, places, errors.suggested[places])
    findings = []
    for place, near_own, near_other in zip(places.tolist(), own.tolist(), other.tolist(), strict=True):
        label, suggested = classes[labels[place]], classes[errors.suggested[place]]
        near = ((near_own, f"nearest of {label}"), (near_other, f"nearest of {suggested}"))
        pictures = [_thumbnail(audit, place, f"labelled {label}")]
        pictures += [_thumbnail(audit, where, said) for where, said in near if where >= 0]
        title = f"{label}, probably {suggested}"
        about = f"confidence {errors.confidence[place]:.3f}"
        findings.append(_finding(audit, place, title, about, pictures))
    told = (
        "Heads on frozen features that had not seen the image give its label hardly any probability. The surest "
        "come first; beside each, the most similar image of the class that it is labelled as, and of the class that is "
        "suggested. A good part of them are hard images with right labels: look before you tick."
    )
    return Section(
        "labels",
        "Labels that are probably wrong",
        told,
        findings,
        _more(len(errors.places), len(places), "label_errors"),
    )


def _duplicates(audit: Audit) -> Section:
    # What leaks or contradicts itself first.
    pairs = sorted(
        audit.duplicates,
        key=lambda pair: (not audit.across_splits(pair), not audit.across_classes(pair), pair.image, pair.other),
    )
    findings = [_pair(audit, pair) for pair in pairs[:SHOWN_PAIRS]]
    told = (
        "Pairs across splits come first: a test image that was trained on says nothing of unseen ones. Then pairs "
        "under two labels, of which at most one is right."
    )
    return Section(
        "copies", "Pictures that are there twice", told, findings, _more(len(pairs), len(findings), "duplicates")
    )


def _pair(audit: Audit, pair: Duplicate) -> Finding:
    of = audit.of
    ends = sorted((pair.image, pair.other), key=lambda place: of.splits[place] != "train")
    said = [f"{of.classes[of.images.labels[place]]}, {of.splits[place]}" for place in ends]
    odd = [word for word, there in (
        ("across splits", audit.across_splits(pair)), ("two labels", audit.across_classes(pair)),
    ) if there]  # fmt: skip
    title = ", ".join([pair.kind, *odd])
    about = f"is {one_line(of.images.paths[ends[1]])}"
    return _finding(audit, ends[0], title, about, [_thumbnail(audit, p, c) for p, c in zip(ends, said, strict=True)])


def _outliers(audit: Audit) -> Section:
    of, places = audit.of, audit.outliers.places
    findings = []
    for place in places[:SHOWN_ODD].tolist():
        label = of.classes[of.images.labels[place]]
        about = f"score {audit.outliers.score[place]:.1f}"
        findings.append(_finding(audit, place, label, about, [_thumbnail(audit, place, label)]))
    told = (
        "Their nearest neighbours in the network's features are far: another subject, a broken file, a rare view. The "
        "score counts spreads (modified z-score); rare images may be just what a model needs."
    )
    return Section("outliers", "Images unlike all others", told, findings, _more(len(places), len(findings), "images"))


def _odd(audit: Audit) -> Section:
    of, facts = audit.of, audit.facts
    places = np.flatnonzero(facts.blank | facts.tiny)
    findings = []
    for place in places[:SHOWN_ODD].tolist():
        title = "blank" if facts.blank[place] else "tiny"
        about = f"{facts.width[place]} x {facts.height[place]} px, contrast {facts.contrast[place]:.1f}"
        label = of.classes[of.images.labels[place]]
        findings.append(_finding(audit, place, title, about, [_thumbnail(audit, place, label)]))
    unread = "; ".join(one_line(f"{one.path} ({one.reason})") for one in of.skipped[:20])
    told = "Of one shade, or fewer than 16 pixels wide or high."
    told += f" {len(of.skipped):,} files cannot be read: {unread}." if unread else " Every file can be read."
    return Section("odd", "Blank and tiny images", told, findings, _more(len(places), len(findings), "images"))


def _finding(audit: Audit, place: int, title: str, about: str, pictures: Sequence[Thumbnail]) -> Finding:
    split = str(audit.of.splits[place])
    path = one_line(audit.of.images.paths[place])
    return Finding(path, one_line(title), about, split, pictures, split == "train")


def _thumbnail(audit: Audit, place: int, caption: str) -> Thumbnail:
    image = Image.fromarray(np.asarray(audit.of.images.pixels[place]))
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=_WEBP_QUALITY)
    source = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
    return Thumbnail(source, one_line(caption))


def _counts(audit: Audit) -> Table:
    of = audit.of
    wrong: NDArray[np.int64] = np.bincount(of.images.labels[audit.errors.places], minlength=len(of.classes))
    columns = [
        np.bincount(of.images.labels[of.splits == split], minlength=len(of.classes))
        for split in ("train", "val", "test")
    ]
    rows = [
        (one_line(name), *(f"{column[number]:,}" for column in columns), f"{wrong[number]:,}")
        for number, name in enumerate(of.classes)
    ]
    return Table(("class", "train", "val", "test", "labels probably wrong"), rows)


def _more(found: int, shown: int, file: str) -> str:
    if not found:
        return "There are none."
    return f"{shown:,} of {found:,}; all are in {file}.csv." if found > shown else ""
