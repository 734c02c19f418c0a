"""Wrong labels, copies, outliers and shortcuts in somebody's images: `raysearch audit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from raysearch.cli.arguments import Bar, Columns, DeviceName, ImagesFolder, check_ending, check_seed, say
from raysearch.cli.insight import (
    Backbone,
    ImageSize,
    Seed,
    Source,
    WeightsName,
    backbone_embedder,
    images_of,
)
from raysearch.cli.outputs import check_output
from raysearch.data.names import one_line
from raysearch.errors import Problems

if TYPE_CHECKING:
    from raysearch.data.listing import Listing
    from raysearch.data.reading import Reading
    from raysearch.insight.audit import Audit

THRESHOLD = 0.98
_PAGE = "audit.html"


def audit(
    *,
    data: Source,
    images: ImagesFolder = None,
    columns: Columns = None,
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="DIR", help="Write audit.html, label_errors.csv, duplicates.csv and images.csv into this folder."
        ),
    ] = None,
    write: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE.csv",
            help="Write a manifest of the images that are left: without training images whose label is wrong by "
            "--threshold, that are blank, or that show what a validation or test image shows; or without those of "
            "--drop. A search takes it by --data FILE.csv. Validation and test images all stay.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        tyro.conf.arg(
            metavar="SHARE",
            help="--write leaves out training images whose label is probably wrong with at least this confidence: what "
            f"the label's out-of-fold probability leaves to 1. Default: {THRESHOLD}; with --drop, none is left out "
            "for it.",
            help_behavior_hint="",
        ),
    ] = None,
    drop: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="LIST.csv",
            help="--write leaves out the images in this list's column path, e.g. what was ticked in audit.html.",
        ),
    ] = None,
    backbone: Backbone = "densenet121",
    weights: WeightsName = "auto",
    image_size: ImageSize = None,
    seed: Seed = 0,
    as_json: Annotated[bool, tyro.conf.arg(name="json", help="Print one JSON object instead of sentences.")] = False,
    device: DeviceName = "auto",
) -> int:
    """Look for wrong labels, copies, outliers and shortcuts in labelled images, before anything is trained on them.

    Heads on a frozen network judge every image without having seen it. Nothing is ever changed or deleted.

        raysearch audit --data photos/ --out audit/
        raysearch audit --data photos/ --drop drop.csv --write cleaned.csv
        python -m raysearch.tune --space fine_tune --data cleaned.csv
    """
    from raysearch.data.reading import Reading

    problems = Problems()
    check_seed(seed, problems)
    _check_write(data, write, threshold, drop, problems)
    _check_out(data, out, write, drop, problems)
    reading = problems.attempt(Reading.of, columns, images)
    problems.stop_if_any()
    assert reading is not None
    if drop is not None and threshold is None and out is None:  # the person has looked already
        return _write_without(data, reading, seed, drop, write, as_json)
    found, listing = _audit(data, reading, backbone, weights, image_size, seed, device, not as_json)
    told = {"source": data, **_figures(found)}
    try:
        if out is not None:
            _write_all(found, out)
            told["out"] = str(out)
        if write is not None:
            told |= _write(write, listing, _to_leave_out(found, listing, threshold, drop))
    finally:  # what was found is told also where it cannot be written
        if as_json:
            print(json.dumps(told, indent=2, ensure_ascii=False))
        else:
            _show(found, out, told)
    return 0


def _check_write(data: str, write: Path | None, threshold: float | None, drop: Path | None, problems: Problems) -> None:
    problems.check(threshold is None or 0 < threshold <= 1, f"--threshold must be in (0, 1], got {threshold}")
    check_ending("--write", write, (".csv",), problems)
    for flag, given in (("--threshold", threshold), ("--drop", drop)):
        problems.check(given is None or write is not None, f"{flag} is about --write FILE.csv: name it")
    check_output("--write", write, problems, (data, drop))


def _check_out(data: str, out: Path | None, write: Path | None, drop: Path | None, problems: Problems) -> None:
    """Note what of --out would be written over what is read, or over what else is written."""
    if out is None:
        return
    from raysearch.insight.audit_files import TABLES

    source = Path(data).expanduser()
    among = source.is_dir() and out.resolve().is_relative_to(source.resolve()) and not (out / _PAGE).exists()
    for file in (out / name for name in (_PAGE, *TABLES)):
        problems.check(
            not (among and file.exists()),
            f"--out {out}: {file} lies among the images, and is of no earlier audit: give another folder",
        )
        check_output("--out", file, problems, (data, drop))
        problems.check(
            write is None or write.resolve() != file.resolve(), f"--write {write} is a file of --out too: give another"
        )


def _to_leave_out(found: Audit, listing: Listing, threshold: float | None, drop: Path | None) -> list[int]:
    """The rows of the listing that pass the threshold, and those that the person listed."""
    least = threshold if threshold is not None else (THRESHOLD if drop is None else None)
    rows = found.of.rows[found.to_drop(least)].tolist() if least is not None else []
    return [*rows, *(_listed(listing, drop) if drop is not None else [])]


def _audit(
    data: str,
    reading: Reading,
    backbone: str,
    weights: str,
    image_size: int | None,
    seed: int,
    device: str,
    progress: bool,
) -> tuple[Audit, Listing]:
    from raysearch.data.source import list_source
    from raysearch.insight.audit import audit as look

    dataset = images_of(data, reading, image_size, seed, progress)
    embedder = backbone_embedder(backbone, weights, dataset, "avg", device)
    listing = list_source(data, seed=seed, measuring=True, reading=reading)
    with Bar(progress) as bar:
        return look(dataset, listing, embedder, seed=seed, telling=bar), listing


def _write_all(found: Audit, out: Path) -> None:
    from raysearch.insight.audit_files import write_tables
    from raysearch.insight.audit_page import write_audit_page

    write_tables(found, out)
    write_audit_page(found, out / _PAGE)


def _write_without(data: str, reading: Reading, seed: int, drop: Path, write: Path | None, as_json: bool) -> int:
    from raysearch.data.source import list_source

    listing = list_source(data, seed=seed, measuring=True, reading=reading)
    assert write is not None
    told = {"source": data, **_write(write, listing, _listed(listing, drop))}
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        say(_left_out(told))
    return 0


def _listed(listing: Listing, drop: Path) -> list[int]:
    from raysearch.insight.audit_files import read_drop_list, rows_named

    return rows_named(listing, read_drop_list(drop), drop).tolist()


def _write(write: Path, listing: Listing, rows: list[int]) -> dict[str, Any]:
    from raysearch.insight.audit_files import write_manifest

    dropped, stayed = write_manifest(write, listing, rows)
    return {"written": str(write), "dropped": dropped, "stayed": stayed}


def _figures(found: Audit) -> dict[str, Any]:
    """What --json shows."""
    of = found.of
    return {
        "images": len(of),
        "classes": list(of.classes),
        "label_errors": len(found.errors.places),
        "heads_balanced_accuracy": round(found.accuracy, 4),
        "duplicates": {
            kind: sum(pair.kind == kind for pair in found.duplicates)
            for kind in ("exact", "near", "mirrored", "cropped")
        },
        "duplicates_across_splits": sum(map(found.across_splits, found.duplicates)),
        "duplicates_across_classes": sum(map(found.across_classes, found.duplicates)),
        "outliers": len(found.outliers.places),
        "blank": int(found.facts.blank.sum()),
        "tiny": int(found.facts.tiny.sum()),
        "unreadable": len(of.skipped),
        "shortcuts": {
            one.by: {"accuracy": round(one.accuracy, 4), "chance": round(one.chance, 4), "found": one.found}
            for one in found.shortcuts
        },
        "warnings": [one_line(doubt.line()) for doubt in found.doubts],
    }


def _show(found: Audit, out: Path | None, told: dict[str, Any]) -> None:
    from raysearch.insight.audit_page import summary

    console = Console(soft_wrap=True, highlight=False)
    for line in summary(found):
        console.print(f"{one_line(line)}.", markup=False)
    for doubt in found.doubts:
        console.print(f"warning: {one_line(doubt.line())}", style="yellow", markup=False)
    if out is None:
        for place in found.errors.places[:10].tolist():
            of, errors = found.of, found.errors
            label, suggested = (of.classes[number] for number in (of.images.labels[place], errors.suggested[place]))
            line = f"{of.images.paths[place]}: {label}, probably {suggested} ({errors.confidence[place]:.3f})"
            console.print(one_line(line), markup=False)
        console.print("--out DIR writes all of it: a page with thumbnails, and tables.")
    elif "out" in told:
        console.print(str(out / _PAGE), markup=False)
    if "written" in told:
        console.print(_left_out(told), markup=False)


def _left_out(told: dict[str, Any]) -> str:
    kept = f"; {told['stayed']:,} validation or test images stay" if told["stayed"] else ""
    return f"{told['written']}: without {told['dropped']:,} training images{kept}"
