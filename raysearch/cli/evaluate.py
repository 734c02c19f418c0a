"""How good the winner of a run is on labelled images: `raysearch evaluate`."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raysearch.cli.arguments import Bar, Columns, DeviceName, ImagesFolder, Results, RunName, device_of
from raysearch.data.names import one_line
from raysearch.errors import InputError, Problems

if TYPE_CHECKING:
    import numpy as np
    import torch

    from raysearch.data.dataset import Dataset, Split
    from raysearch.data.reading import Reading
    from raysearch.record.evaluation import Metrics
    from raysearch.winner.best import Best
    from raysearch.winner.detection import Detection


def evaluate(
    run: RunName,
    /,
    *,
    data: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="SOURCE",
            help="Labelled images: a folder, .zip, .csv, … or a name, as for the search. The run's own by default.",
        ),
    ] = None,
    images: ImagesFolder = None,
    columns: Columns = None,
    split: Annotated[
        Literal["test", "val", "train", "all"],
        tyro.conf.arg(help="What of SOURCE is measured; all: every image, for data that the search has never seen."),
    ] = "test",
    unknown_data: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="DIR",
            help="Also measure how well images of another kind are told from these: a folder of any images, or another "
            "SOURCE. As of raysearch predict --unknown.",
        ),
    ] = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json", help="Print one JSON object instead of tables.")] = False,
    device: DeviceName = "auto",
    results: Results = Path("results"),
) -> int:
    """Measure the winner of a run on labelled images, in eval mode and fp32.

    The model is read from the run's best/ alone. The classes of SOURCE must be among the model's; they are matched by
    name. For two classes, the threshold that is stored with the model says which is the answer. Images without a test/
    folder are split as the search splits them, with the run's seed, so that its own source gives its own test images.

        raysearch evaluate fine_tune-1
        raysearch evaluate fine_tune-1 --data new-photos/ --split all
        raysearch evaluate fine_tune-1 --unknown-data other-photos/
    """
    from raysearch.data.reading import Reading
    from raysearch.record.folder import locate
    from raysearch.winner.best import load_best
    from raysearch.winner.evaluate import detailed_metrics

    problems = Problems()
    folder = problems.attempt(locate, run, results)
    chosen = problems.attempt(device_of, device)
    reading = problems.attempt(Reading.of, columns, images)
    problems.check(
        data is not None or reading is None or not reading.of_a_table,
        "--images and --columns are about --data SOURCE: name it; those of the run's own images are known",
    )
    problems.stop_if_any()
    assert folder is not None and chosen is not None and reading is not None
    best = load_best(folder)
    source, dataset = _images(best, folder, data, reading)
    measured = _splits(dataset, split)
    if not measured:
        raise InputError(f"{source!r} has no images in its {split} split; --split all takes every image of it")
    logits, labels = _answers(best, measured, chosen)
    threshold = best.confidence.threshold
    metrics = detailed_metrics(logits, labels, best.labels, threshold)
    strangers = None
    if unknown_data is not None:
        from raysearch.winner.detection import measure_detection

        strangers = measure_detection(best, [one.pixels for one in measured], unknown_data, chosen)
    missing = [name for name in best.labels if not metrics["per_class"][name]["support"]]
    if as_json:
        stored = {} if threshold is None else {"threshold": threshold}
        told = {"source": source, "split": split, "images": len(labels), "missing": missing, **stored, **metrics}
        if strangers is not None:
            told["unknown"] = {"source": unknown_data, **strangers}
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _show_metrics(metrics, best.labels, f"{folder.name} on {len(labels)} images ({split}) of {source}")
        if threshold is not None:
            said = f"The answer is {best.labels[1]} from a probability of {threshold:.3f} on, as stored with the model."
            Console().print(said, markup=False, highlight=False, soft_wrap=True)
        if data is not None and (rest := sum(map(len, dataset.splits.values())) - len(labels)):
            said = f"The other {rest} images of {source} were not measured; --split all takes every image."
            Console().print(said, markup=False, highlight=False, soft_wrap=True)
        if strangers is not None:
            _show_detection(strangers, f"{unknown_data}")
        _show_gaps(dataset, missing)
    return 0


def _images(best: Best, folder: Path, data: str | None, reading: Reading) -> tuple[str, Dataset]:
    """The images to measure on, those of the run if no others are named, and the name of their source.

    Raises:
        InputError: nothing says what the images are, or they cannot be read.
    """
    from raysearch.data.reading import Reading
    from raysearch.job.images import images_of, settings_of
    from raysearch.run import Run
    from raysearch.winner.dataset import dataset_for

    info = Run.open(folder).info if (folder / "run.json").is_file() else {}
    settings = info.get("settings", {})
    source = data if data is not None else settings.get("data")
    if source is None:
        raise InputError(f"{str(folder)!r} does not say what it was trained on: name labelled images by --data SOURCE")
    # The run's own images are taken as the search took them, so that its test images are the same.
    if data is None and settings.get("continues") is not None:
        return source, images_of(settings_of(Run.open(folder)))
    kept = True if data is not None else settings.get("keep_copies", True)
    if data is None:
        reading = Reading.of_run(settings)
    elif settings.get("group_by") is not None:  # the run's own images may be named: then these are its own splits
        reading = replace(reading, group_by=settings["group_by"])
    dataset = dataset_for(
        best,
        source,
        seed=settings.get("seed", 0),
        measuring=data is not None,
        keep_copies=kept,
        reading=reading,
    )
    if data is None and dataset.fingerprint != info.get("fingerprints", {}).get("data", dataset.fingerprint):
        logging.warning("the images of %s are not those that the run was started with", source)
    return source, dataset


def _splits(dataset: Dataset, split: str) -> list[Split]:
    """The splits that --split names, those that have images."""
    splits = [dataset.train, dataset.val, dataset.test] if split == "all" else [getattr(dataset, split)]
    return [one for one in splits if len(one.labels)]


def _answers(best: Best, splits: Sequence[Split], device: torch.device) -> tuple[torch.Tensor, np.ndarray]:
    """The logits, (n, classes), and the labels, (n,), of all images of the splits."""
    import numpy as np
    import torch

    from raysearch.winner.evaluate import logits_of

    model, logits = best.model(), []
    with Bar() as progress:
        progress.begin("measuring", sum(len(split.labels) for split in splits))
        for split in splits:
            for batch in logits_of(model, split, device):
                logits.append(batch)
                progress(len(batch))
    return torch.cat(logits), np.concatenate([split.labels for split in splits])


def _show_detection(found: Detection, source: str) -> None:
    """How well images of another kind are told from those that are measured."""
    said = (
        f"Unknown images, {found['images']} of {source}: AUROC {found['auroc']:.4f}; "
        f"{100 * found['detected']:.1f} % are told at 5 % false alarms on the images above."
    )
    if found["limit"] is None:
        said += " The model has too few images to know that limit by itself."
    else:
        said += (
            f" raysearch predict --unknown 0.05 tells {100 * (found['limit_detected'] or 0):.1f} %, "
            f"with {100 * (found['limit_false_alarms'] or 0):.1f} % false alarms."
        )
    Console().print(said, markup=False, highlight=False, soft_wrap=True)


def _show_gaps(dataset: Dataset, missing: Sequence[str]) -> None:
    """What the figures do not cover, and what is odd."""
    lines = []
    if missing:
        lines.append(f"There are no images of {', '.join(missing)}: nothing is known of them here")
    if dataset.skipped:
        first = dataset.skipped[0]
        lines.append(f"{len(dataset.skipped)} image(s) skipped, e.g. {first.path}: {first.reason}")
    lines += [f"warning: {doubt.line()}" for doubt in dataset.account.doubts]
    for line in lines:
        Console().print(one_line(line), style="yellow", markup=False, highlight=False, soft_wrap=True)


def _show_metrics(metrics: Metrics, classes: Sequence[str], title: str) -> None:
    console = Console()
    console.print(title, style="bold", markup=False, highlight=False)
    scalars = {name: value for name, value in metrics.items() if isinstance(value, float)}
    console.print("  ".join(f"{name} {value:.4f}" for name, value in scalars.items()), markup=False, highlight=False)
    table = Table()
    table.add_column("class")
    for name in ("precision", "recall", "f1", "images"):
        table.add_column(name, justify="right")
    table.add_column("most often taken for")
    for i, label in enumerate(classes):
        row = metrics["per_class"][label]
        mistakes = {other: n for other, n in zip(classes, metrics["confusion"][i], strict=True) if other != label and n}
        worst = max(mistakes, key=lambda other: mistakes[other], default="")
        taken = f"{worst} ({mistakes[worst]})" if worst else ""
        shares = (f"{share:.3f}" for share in (row["precision"], row["recall"], row["f1"]))
        table.add_row(Text(label), *shares, str(row["support"]), Text(taken))
    console.print(table)
