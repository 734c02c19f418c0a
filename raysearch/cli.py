"""The verbs beside the search itself: `raysearch VERB RUN ...`, each a few lines over the packages below."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from raysearch.errors import InputError

if TYPE_CHECKING:
    from raysearch.activations.store import Entry
    from raysearch.predict import Prediction

# torch takes seconds to import, so the verbs import what they need when they run: --help answers at once.

_Run = Annotated[
    str,
    tyro.conf.arg(
        metavar="RUN",
        help="The run: the path of its folder, its name under --results, or its URI in a storage "
        "(s3://bucket/prefix/run). A folder that holds only a best/ will do.",
    ),
]
_Results = Annotated[Path, tyro.conf.arg(metavar="DIR", help="Where runs are looked for by name.")]
_WIDE = 100  # columns of a terminal; in a narrower one, what a list says beside the recipe would leave it no room
_Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], tyro.conf.arg(help="Where the network runs.")]


def predict(
    run: _Run,
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
    device: _Device = "auto",
    results: _Results = Path("results"),
) -> int:
    """Name what is on images, with the winner of a run.

    Reads the run's best/ and nothing else, so it works where the training data never was. An image that cannot be read
    is reported, the others are predicted, and the exit code is 1.

        raysearch predict fine_tune-1 cat.jpg holiday/ --top 2
        raysearch predict fine_tune-1 holiday/ --tta --csv holiday.csv
    """
    from raysearch.predict import find_images, load_best, write_csv
    from raysearch.run import locate

    problems: list[str] = [f"--top must be at least 1, got {top}"] if top < 1 else []
    if csv is not None and as_json:
        problems.append("--csv and --json say in two ways where the answers go; give one")
    best = _collect(problems, lambda: load_best(locate(run, results)))
    found = _collect(problems, lambda: find_images(images))
    chosen = _collect(problems, lambda: _choose_device(device))
    answers = _collect(problems, lambda: best and best.answers(found or [], device=chosen or "cpu", tta=tta))
    if problems or best is None or found is None:
        raise InputError(problems)

    out, err = Console(soft_wrap=True, highlight=False), Console(stderr=True, soft_wrap=True, highlight=False)
    named: Counter[str] = Counter()
    explainer = None
    if explain is not None:
        from raysearch.explain import Explainer

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

    with _Bar(err, "predicting", len(found)) as progress:
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
    run: _Run,
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
    device: _Device = "auto",
    results: _Results = Path("results"),
) -> int:
    """Measure the winner of a run on labelled images, in eval mode and fp32.

    The model is read from the run's best/ alone. The classes of SOURCE must be among the model's; they are matched by
    name. Images without a test/ folder are split as the search splits them, with the run's seed, so that its own
    source gives its own test images.

        raysearch evaluate fine_tune-1
        raysearch evaluate fine_tune-1 --data new-photos/ --split all
    """
    import torch

    from raysearch.evaluate import dataset_for, detailed_metrics, logits_of
    from raysearch.predict import load_best
    from raysearch.run import Run, locate

    problems: list[str] = []
    folder = _collect(problems, lambda: locate(run, results))
    chosen = _collect(problems, lambda: _choose_device(device))
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
    with _Bar(Console(stderr=True), "measuring", sum(len(part.labels) for part in splits)) as progress:
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
    run: _Run,
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
    results: _Results = Path("results"),
) -> int:
    """Write the winner of a run as one file for other programs, and check that it computes the same.

    The file takes uint8 images (batch, height, width, 3), RGB, of the run's image size, in batches of any size;
    normalisation is inside. FILE.json says what is not: classes, how images are decoded and resized, test figures. Exit
    code 1 if logits differ by more than 1e-4 on real images: then there is no file.

        raysearch export fine_tune-1 --format onnx
        raysearch export fine_tune-1 --format torch --out cats.pt2
    """
    from raysearch.export import ExportError, export_run
    from raysearch.run import locate

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


def cache(
    action: Annotated[
        Literal["list", "verify", "clear"],
        tyro.conf.arg(
            metavar="list|verify|clear",
            help="verify: read every file and delete the damaged ones; clear: delete all that no search is reading.",
        ),
    ] = "list",
    /,
) -> int:
    """Look at the activations kept on this machine's disk, check them, or delete them.

    They are made again when a search needs them. Exit code 1 if verify found damage.

        raysearch cache
        raysearch cache clear
    """
    from raysearch.activations import upkeep

    out = Console(soft_wrap=True, highlight=False)
    if action == "clear":
        cleared = upkeep.clear()
        stay = f"; {cleared.in_use} are in use and stay" if cleared.in_use else ""
        out.print(f"{cleared.files} files, {cleared.bytes / 2**20:.1f} MiB deleted{stay}")
        return 0
    if action == "verify":
        damaged = upkeep.verify()
        for path, problem in damaged:
            out.print(f"{path}: {problem}; deleted", markup=False)
        out.print(f"{len(upkeep.list_entries())} files are whole, {len(damaged)} were not")
        return 1 if damaged else 0
    _show_cache(upkeep.list_entries())
    return 0


def show(
    run: _Run,
    trials: Annotated[
        list[str],
        tyro.conf.arg(metavar="[TRIAL [OTHER]]", help="One trial (t0007) or head (h0012), or two to compare."),
    ] = [],  # noqa: B006 - tyro's way to say that there may be none
    /,
    *,
    heads: Annotated[bool, tyro.conf.arg(help="List the heads of the head search instead of the trials.")] = False,
    where: Annotated[
        str | None, tyro.conf.arg(metavar="CONDITION", help="List only these, e.g. 'depth == 2 and epochs > 3'.")
    ] = None,
    sort: Annotated[
        str | None, tyro.conf.arg(metavar="COLUMN", help="The largest first. Default: the best first.")
    ] = None,
    n: Annotated[int | None, tyro.conf.arg(metavar="N", help="List so many at most.")] = None,
    as_csv: Annotated[bool, tyro.conf.arg(name="csv", help="Print all columns of these rows as CSV.")] = False,
    as_json: Annotated[
        bool, tyro.conf.arg(name="json", help="Print all columns of these rows as a JSON list.")
    ] = False,
    results: _Results = Path("results"),
) -> int:
    """Look at a run's trials, at one of them with its curve, or at the difference between two.

    Works while the search runs, too: it reads the log.

        raysearch show fine_tune-1 --where 'depth == 2 and learning_rate > 1e-3' --n 5
        raysearch show fine_tune-1 t0007
        raysearch show fine_tune-1 t0007 t0003
    """
    from raysearch.reporting.show import answer_line, chosen_rows, difference, find_trial, show_trial
    from raysearch.reporting.terminal import recipes_table, verdict_line
    from raysearch.run import Run

    opened, console = Run.open(run, results), Console()
    metric = opened.info.get("settings", {}).get("metric", "accuracy")
    tables = [opened.trials, opened.heads]
    if len(trials) > 2:
        raise InputError(f"one trial is shown, or two are compared; got {len(trials)}: {', '.join(trials)}")
    named = [find_trial(trial, tables) for trial in trials]
    if as_csv or as_json or not trials:
        table = tables[heads or not len(tables[0])]
        rows = type(table)(named) if named else chosen_rows(table, where, sort, metric, n)
        if as_csv:
            print(rows.to_csv(index=False), end="")
        elif as_json:
            print(rows.to_json(orient="records", indent=2, force_ascii=False))
        else:
            console.print(f"{len(rows)} of {len(table)} {'trials' if table is tables[0] else 'heads'}", highlight=False)
            if not len(rows):
                return 0
            columns = ["trial", "parent", "depth", "state", "epochs", "seconds"]
            columns += ["role"] if rows["role"].notna().any() else []
            if console.width < _WIDE:
                columns = ["trial", "depth", "state"]
            console.print(recipes_table(rows, table, metric, columns))
            for event in opened.events():
                if event["event"] == "level":
                    console.print(verdict_line(event), highlight=False, soft_wrap=True)
            if opened.evaluation is not None:
                console.print(answer_line(opened.evaluation), highlight=False, soft_wrap=True)
    elif len(named) == 1:
        show_trial(console, trials[0], tables, opened.history)
    else:
        console.print(difference(named[0], named[1], metric))
    return 0


def report(
    run: _Run,
    /,
    *,
    serve: Annotated[
        tuple[int, ...] | None,
        tyro.conf.arg(
            metavar="[PORT]",
            help="Serve the page to this machine's browsers instead, and keep it up to date, until Ctrl-C; port 8300 "
            "if none is named.",
        ),
    ] = None,
    results: _Results = Path("results"),
) -> int:
    """Write a run's report.html: one page with everything that the search found, which loads nothing.

    A search writes it at its end; this makes it anew, while the search runs or after it was killed, too. Of a run in a
    storage, it is put there as well.

        raysearch report fine_tune-1
        raysearch report fine_tune-1 --serve
    """
    from raysearch.run import Run, is_uri
    from raysearch.serve import PageServer, port_of

    out = Console(soft_wrap=True, highlight=False)
    problems: list[str] = []
    opened = _collect(problems, lambda: Run.open(run, results))
    port = _collect(problems, lambda: None if serve is None else port_of(serve))
    if problems or opened is None:
        raise InputError(problems)
    if port is None:
        from raysearch.reporting.page import write_page

        page = write_page(opened)
        if is_uri(run):
            from raysearch.storage import Storage

            Storage(run).put(page, page.name)
        out.print(str(page), markup=False)
        return 0
    with PageServer(opened.folder, port) as server:
        out.print(f"{server.address} (Ctrl-C ends it)", markup=False)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def fetch(
    run: Annotated[
        str,
        tyro.conf.arg(
            metavar="RUN|URI",
            help="A run in a storage (s3://bucket/prefix/run), or one under --results that was started with --storage.",
        ),
    ],
    /,
    *,
    results: _Results = Path("results"),
) -> int:
    """Bring a run folder back from its storage, checkpoints included, to DIR/NAME, or bring one there up to date.

    Without a storage the run folder is on the cluster's head alone: ray rsync-down cluster.yaml '~/shared/results/'
    results/ brings it from there.

        raysearch fetch s3://bucket/prefix/fine_tune-1
    """
    from raysearch.remote import bring
    from raysearch.run import Run, is_uri
    from raysearch.storage import Storage

    uri, into = run, results
    if not is_uri(run):
        known = Run.open(run, results)
        storage = known.info.get("settings", {}).get("storage")
        if storage is None:
            raise InputError(f"{known.folder} was not started with --storage: all of it is in that folder")
        uri, into = (Storage(storage) / known.name).uri, known.folder.parent
    Console(soft_wrap=True, highlight=False).print(str(bring(uri, into, checkpoints=True)), markup=False)
    return 0


def sweep(
    *,
    space: Annotated[str, tyro.conf.arg(metavar="NAME", help="What is searched, as for the search.")],
    project: Annotated[str, tyro.conf.arg(metavar="PROJECT", help="PROJECT or ENTITY/PROJECT of W&B.")] = "raysearch",
    out: Annotated[Path, tyro.conf.arg(metavar="FILE", help="The file to write.")] = Path("sweep.yaml"),
    metric: Annotated[str, tyro.conf.arg(metavar="NAME", help="What W&B maximises on validation.")] = "accuracy",
    data: Annotated[str | None, tyro.conf.arg(metavar="SOURCE", help="Images, as for the search.")] = None,
    backbone: Annotated[str | None, tyro.conf.arg(metavar="NAME", help="As for the search.")] = None,
    weights: Annotated[str | None, tyro.conf.arg(metavar="NAME|PATH", help="As for the search.")] = None,
    max_epochs: Annotated[int | None, tyro.conf.arg(metavar="N", help="Epochs of a recipe after the head's.")] = None,
) -> int:
    """Write a sweep file for those who want W&B to steer: each of its agents trains one recipe at a time.

    W&B's Bayesian search then proposes, instead of Optuna; recipes share no head, and none is stopped early.

        raysearch sweep --space fine_tune --project flowers --data flowers/
        wandb sweep sweep.yaml
        wandb agent ENTITY/flowers/ID
    """
    from raysearch.files import replace_text
    from raysearch.job import DEFAULTS
    from raysearch.search.tracking.process import check_tracking
    from raysearch.search.tracking.sweep import agents_file
    from raysearch.space import load_space

    check_tracking(project, None)
    fixed = {"backbone": backbone or DEFAULTS["backbone"], "weights": weights or DEFAULTS["weights"], "image_size": 32}
    flags = {"space": space, "metric": metric, "data": data, "backbone": backbone, "weights": weights}
    loaded = load_space(space, fixed=fixed)
    replace_text(out, agents_file(loaded, metric, project, {**flags, "max-epochs": max_epochs}))
    _say(f"{out} written; start it by: wandb sweep {out}")
    return 0


def wandb(
    run: _Run,
    /,
    *,
    project: Annotated[
        str | None,
        tyro.conf.arg(metavar="PROJECT", help="PROJECT or ENTITY/PROJECT. Default: the run's own --wandb."),
    ] = None,
    results: _Results = Path("results"),
) -> int:
    """Upload a run to Weights & Biases, as a sweep with a run a trial.

    For runs that were offline or not tracked at all, finished or not. What is there already is not sent again, so it
    can be repeated. Needs a key (wandb login). Exit code 1 if not everything could be sent.

        raysearch wandb fine_tune-1 --project flowers
    """
    from raysearch.run import Run
    from raysearch.search.tracking.follow import show_now
    from raysearch.search.tracking.process import check_tracking
    from raysearch.search.tracking.wandb_runs import WandbRuns

    opened = Run.open(run, results)
    project = project or opened.info["settings"].get("wandb")
    if project is None:
        raise InputError("--project PROJECT is missing: the run was started without --wandb, so say where it shall go")
    check_tracking(project, "online")
    return 0 if show_now(opened, WandbRuns(opened, project, "online"), _say) else 1


def tensorboard(run: _Run, /, *, results: _Results = Path("results")) -> int:
    """Write TensorBoard's files of a run into its folder, finished or not; a search does so itself by --tensorboard.

    raysearch tensorboard fine_tune-1
    """
    from raysearch.run import Run
    from raysearch.search.tracking.follow import show_now
    from raysearch.search.tracking.tensorboard import TensorBoard

    opened = Run.open(run, results)
    return 0 if show_now(opened, TensorBoard(opened), _say) else 1


VERBS: dict[str, Callable[..., int]] = {
    "cache": cache,
    "evaluate": evaluate,
    "export": export,
    "fetch": fetch,
    "predict": predict,
    "report": report,
    "show": show,
    "sweep": sweep,
    "tensorboard": tensorboard,
    "wandb": wandb,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        arguments: without the program's name; None takes the process's own.

    Returns: the exit code: 0, 1 (done, but not for every image) or 2 (bad input; every problem on stderr).
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        return tyro.extras.subcommand_cli_from_dict(
            VERBS,
            prog="raysearch",
            description="What to do with a search that has run. The search itself: python -m raysearch.tune --help",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except InputError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 2
    except SystemExit as stop:  # tyro's own, after --help (0) or arguments that it cannot read (2)
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _say(line: str) -> None:
    Console(soft_wrap=True, highlight=False).print(line, markup=False)


def _collect(problems: list[str], make: Callable[[], Any]) -> Any:
    """What `make` returns, or None with its problems added: all inputs are checked before one is complained of."""
    try:
        return make()
    except InputError as error:
        problems += error.problems
        return None


def _as_json(answer: Prediction, top: int, picture: Path | None) -> dict[str, Any]:
    if answer.error is not None:
        return {"image": answer.image, "error": answer.error}
    likeliest = [{"label": label, "probability": probability} for label, probability in answer.top(top)]
    explained = {} if picture is None else {"explanation": str(picture)}
    return {"image": answer.image, **likeliest[0], "top": likeliest, **explained}


def _choose_device(name: str) -> Any:
    from raysearch.training.numerics import choose_device

    return choose_device(name)


class _Bar:
    """A progress bar on stderr, which is gone at the end; silent where stderr is not a terminal."""

    def __init__(self, console: Console, what: str, total: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task(what, total=total)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, images: int = 1) -> None:
        self._progress.advance(self._task, images)


def _show_cache(entries: Sequence[Entry]) -> None:
    from raysearch.activations.upkeep import grouped

    console = Console()
    table = Table(box=None, pad_edge=False)
    for name in ("backbone", "boundary", "images", "strength", "precision"):
        table.add_column(name, no_wrap=True)
    for name in ("views", "MiB", "last used"):
        table.add_column(name, justify="right", no_wrap=True)
    for group in grouped(entries):
        used = datetime.fromtimestamp(group.used).strftime("%d %b %H:%M")
        table.add_row(*group.what, str(group.views), f"{group.bytes / 2**20:.1f}", used)
    if entries:
        console.print(table)
    console.print(f"{len(entries)} files, {sum(entry.bytes for entry in entries) / 2**20:.1f} MiB", highlight=False)


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
