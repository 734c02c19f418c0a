"""What a run's winner does on images: `raysearch predict`, `evaluate` and `export`."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from raysearch.cli.arguments import Bar, DeviceName, Results, RunName, collect, device_of
from raysearch.errors import InputError

if TYPE_CHECKING:
    from raysearch.winner.best import Prediction


def predict(
    run: RunName,
    images: Annotated[
        list[str],
        tyro.conf.arg(metavar="IMAGE", help="Image files, or folders, which are searched to the bottom."),
    ],
    /,
    *,
    top: Annotated[
        int, tyro.conf.arg(metavar="K", help="How many classes to show of each image, likeliest first.")
    ] = 3,
    tta: Annotated[
        bool,
        tyro.conf.arg(
            help="Test-time augmentation: the mean over the image and its mirror image; takes twice the time."
        ),
    ] = False,
    csv: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE", help="Write path, label, confidence and a column a class here, instead of a line an image."
        ),
    ] = None,
    as_json: Annotated[
        bool,
        tyro.conf.arg(name="json", help="Print one JSON list: image, label, probability, top; or image, error."),
    ] = False,
    explain: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="DIR",
            help="Write a PNG of each image into this folder: where the class was seen (Grad-CAM).",
        ),
    ] = None,
    device: DeviceName = "auto",
    results: Results = Path("results"),
) -> int:
    """Name what is on images, with the winner of a run.

    Reads the run's best/ and nothing else, so it works where the training data never was. An image that cannot be read
    is reported, the others are predicted, and the exit code is 1.

        raysearch predict fine_tune-1 cat.jpg holiday/ --top 2
        raysearch predict fine_tune-1 holiday/ --tta --csv holiday.csv
    """
    from raysearch.record.folder import locate
    from raysearch.winner.best import find_images, load_best, write_csv

    problems: list[str] = [f"--top must be at least 1, got {top}"] if top < 1 else []
    if csv is not None and as_json:
        problems.append("--csv and --json say in two ways where the answers go; give one")
    best = collect(problems, lambda: load_best(locate(run, results)))
    found = collect(problems, lambda: find_images(images))
    chosen = collect(problems, lambda: device_of(device))
    answers = collect(problems, lambda: best and best.answers(found or [], device=chosen or "cpu", tta=tta))
    if problems or best is None or found is None:
        raise InputError(problems)

    out, err = Console(soft_wrap=True, highlight=False), Console(stderr=True, soft_wrap=True, highlight=False)
    named: Counter[str] = Counter()
    explainer = None
    if explain is not None:
        from raysearch.winner.explain import Explainer

        explainer = Explainer(best, explain, chosen or "cpu")

    def told() -> Iterator[tuple[Prediction, Path | None]]:
        """Each answer, and the picture that explains it."""
        for image, answer in zip(found, answers, strict=True):
            progress()
            if answer.error is None:
                label = answer.top(1)[0][0]
                named[label] += 1
                yield answer, explainer(image, label) if explainer is not None else None
            else:
                err.print(f"{answer.image}: cannot be read: {answer.error}", markup=False)
                yield answer, None

    with Bar(err, "predicting", len(found)) as progress:
        if csv is not None:
            try:
                write_csv(csv, best.labels, (answer for answer, _ in told()))
            except OSError as error:
                raise InputError(f"--csv {csv} cannot be written: {error.strerror}") from error
        elif as_json:
            rows = [_as_json(answer, top, picture) for answer, picture in told()]
        else:
            for answer, _ in told():
                if likeliest := answer.top(top):
                    shown = "  ".join(f"{label} {probability:.3f}" for label, probability in likeliest)
                    out.print(f"{answer.image}  {shown}", markup=False)
    if csv is not None:
        out.print(f"{csv}  {', '.join(f'{label} {n}' for label, n in named.most_common())}", markup=False)
    elif as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    if unreadable := len(found) - named.total():
        err.print(f"{unreadable} of {len(found)} images could not be read")
    return 1 if unreadable else 0


def evaluate(
    run: RunName,
    /,
    *,
    data: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="SOURCE",
            help="Labelled images: a folder, .zip, .csv, .npz, or a name, as for the search. The run's own by default.",
        ),
    ] = None,
    split: Annotated[
        Literal["test", "val", "train", "all"],
        tyro.conf.arg(help="What of SOURCE is measured; all: every image, for data that the search has never seen."),
    ] = "test",
    as_json: Annotated[bool, tyro.conf.arg(name="json", help="Print one JSON object instead of tables.")] = False,
    device: DeviceName = "auto",
    results: Results = Path("results"),
) -> int:
    """Measure the winner of a run on labelled images, in eval mode and fp32.

    The model is read from the run's best/ alone. The classes of SOURCE must be among the model's; they are matched by
    name. Images without a test/ folder are split as the search splits them, with the run's seed, so that its own
    source gives its own test images.

        raysearch evaluate fine_tune-1
        raysearch evaluate fine_tune-1 --data new-photos/ --split all
    """
    import torch

    from raysearch.record.folder import locate
    from raysearch.run import Run
    from raysearch.winner.best import load_best
    from raysearch.winner.evaluate import dataset_for, detailed_metrics, logits_of

    problems: list[str] = []
    folder = collect(problems, lambda: locate(run, results))
    chosen = collect(problems, lambda: device_of(device))
    if problems or folder is None:
        raise InputError(problems)
    best = load_best(folder)
    info = Run.open(folder).info if (folder / "run.json").is_file() else {}
    settings = info.get("settings", {})
    source = data if data is not None else settings.get("data")
    if source is None:
        raise InputError(f"{str(folder)!r} does not say what it was trained on: name labelled images by --data SOURCE")
    dataset = dataset_for(best, source, seed=settings.get("seed", 0))
    if data is None and dataset.fingerprint != info.get("fingerprints", {}).get("data", dataset.fingerprint):
        logging.warning("the images of %s are not those that the run was started with", source)
    splits = [getattr(dataset, name) for name in (("train", "val", "test") if split == "all" else (split,))]
    splits = [part for part in splits if len(part.labels)]
    if not splits:
        raise InputError(f"{source!r} has no images in its {split} split")

    model = best.model()
    logits = []
    with Bar(Console(stderr=True), "measuring", sum(len(part.labels) for part in splits)) as progress:
        for part in splits:
            for batch in logits_of(model, part, chosen):
                logits.append(batch)
                progress(len(batch))
    labels = [label for part in splits for label in part.labels.tolist()]
    metrics = detailed_metrics(torch.cat(logits), torch.tensor(labels).numpy(), best.labels)
    if as_json:
        print(
            json.dumps(
                {"source": source, "split": split, "images": len(labels), **metrics}, indent=2, ensure_ascii=False
            )
        )
    else:
        _show_metrics(metrics, best.labels, f"{folder.name} on {len(labels)} images ({split}) of {source}")
        if dataset.skipped:
            Console().print(
                f"{len(dataset.skipped)} unreadable image(s) skipped, e.g. {dataset.skipped[0].path}", markup=False
            )
    return 0


def export(
    run: RunName,
    /,
    *,
    kind: Annotated[
        Literal["onnx", "torch"],
        tyro.conf.arg(name="format", help="onnx: for onnxruntime and others; torch: a .pt2 for torch.export.load."),
    ] = "onnx",
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILE", help="The file. Default: best/model.onnx or best/model.pt2 in the run."),
    ] = None,
    results: Results = Path("results"),
) -> int:
    """Write the winner of a run as one file for other programs, and check that it computes the same.

    The file takes uint8 images (batch, height, width, 3), RGB, of the run's image size, in batches of any size;
    normalisation is inside. FILE.json says what is not: classes, how images are decoded and resized, test figures. Exit
    code 1 if logits differ by more than 1e-4 on real images: then there is no file.

        raysearch export fine_tune-1 --format onnx
        raysearch export fine_tune-1 --format torch --out cats.pt2
    """
    from raysearch.record.folder import locate
    from raysearch.winner.export import ExportError, export_run

    folder, err = locate(run, results), Console(stderr=True)
    try:
        with err.status("writing and checking") if err.is_terminal else nullcontext():
            done = export_run(folder, kind, out)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{done.file}  {done.file.stat().st_size / 2**20:.1f} MiB", markup=False)
    console.print(f"{done.description}  its classes, input and outputs, and what to do before", markup=False)
    console.print(
        f"largest difference of logits: {done.difference:.1e} on {done.images} images of {done.images_of}, "
        f"in batches of {', '.join(map(str, done.batch_sizes))}",
        markup=False,
    )
    return 0


def _as_json(answer: Prediction, top: int, picture: Path | None) -> dict[str, Any]:
    if answer.error is not None:
        return {"image": answer.image, "error": answer.error}
    likeliest = [{"label": label, "probability": probability} for label, probability in answer.top(top)]
    explained = {} if picture is None else {"explanation": str(picture)}
    return {"image": answer.image, **likeliest[0], "top": likeliest, **explained}


def _show_metrics(metrics: dict[str, Any], classes: Sequence[str], title: str) -> None:
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
        table.add_row(label, *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")), str(row["support"]), taken)
    console.print(table)
