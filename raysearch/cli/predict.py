"""What the winner of a run says of images: `raysearch predict`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NotRequired, TypedDict

import tyro
from rich.console import Console

from raysearch.cli.arguments import Bar, DeviceName, Results, RunName, device_of
from raysearch.cli.outputs import check_output, is_image
from raysearch.data.names import one_line
from raysearch.errors import InputError, Problems

if TYPE_CHECKING:
    import torch

    from raysearch.winner.answers import ImageLike, Prediction
    from raysearch.winner.best import Best
    from raysearch.winner.explain import Explainer
    from raysearch.winner.unknown import Known

ImageNames = Annotated[
    list[str], tyro.conf.arg(metavar="IMAGE", help="Image files, or folders, which are searched to the bottom.")
]
Top = Annotated[int, tyro.conf.arg(metavar="K", help="How many classes to show of each image, likeliest first.")]
Mirrored = Annotated[
    bool,
    tyro.conf.arg(help="Test-time augmentation: the mean over the image and its mirror image; takes twice the time."),
]
Abstain = Annotated[
    float | None,
    tyro.conf.arg(
        metavar="ERROR",
        help="Leave images that the model is unsure of without a label, so that at most this share of the answers is "
        "wrong, e.g. 0.05, on images like those that the search knew. Refused where these were too few to say.",
    ),
]
UnknownRate = Annotated[
    list[float] | None,
    tyro.conf.arg(
        metavar="[RATE]",
        help='Answer "unknown" where an image is like none of the training images. Of images like those that the '
        "search knew, at most this share is called so too; 0.05 without a number (then name the images before it). "
        "Takes another pass through the network.",
    ),
]
KnownIndex = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="INDEX",
        help="For --unknown, of a run that has not stored its training images' features: the run's images, as "
        "raysearch embed --data SOURCE --run RUN writes them. Its test images say what is unknown.",
    ),
]
TableFile = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="FILE", help="Write path, label, confidence and a column a class here, instead of a line an image."
    ),
]
AsJson = Annotated[
    bool, tyro.conf.arg(name="json", help="Print one JSON list: image, label, probability, top; or image, error.")
]
PictureFolder = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="DIR",
        help="Write a PNG of each image into this folder: where the class was seen (Grad-CAM). Images that lie there "
        "are not replaced.",
    ),
]


def predict(
    run: RunName,
    images: ImageNames,
    /,
    *,
    top: Top = 3,
    tta: Mirrored = False,
    abstain: Abstain = None,
    unknown: UnknownRate = None,
    known: KnownIndex = None,
    csv: TableFile = None,
    as_json: AsJson = False,
    explain: PictureFolder = None,
    device: DeviceName = "auto",
    results: Results = Path("results"),
) -> int:
    """Name what is on images, with the winner of a run.

    Reads the run's best/ and nothing else, so it works where the training data never was. An image that cannot be read
    is reported, the others are predicted, and the exit code is 1.

        raysearch predict fine_tune-1 cat.jpg holiday/ --top 2
        raysearch predict fine_tune-1 holiday/ --tta --csv holiday.csv
        raysearch predict fine_tune-1 holiday/ --abstain 0.05
        raysearch predict fine_tune-1 holiday/ --unknown
    """
    problems = Problems()
    problems.check(top >= 1, f"--top must be at least 1, got {top}")
    problems.check(csv is None or not as_json, "--csv and --json say in two ways where the answers go; give one")
    check_output("--csv", csv, problems, (*images, known))
    problems.check(
        csv is None or not (is_image(csv) and csv.is_file()),
        f"--csv {csv} is an image, which would be lost: name a table (and the images before the flag)",
    )
    problems.check(known is None or unknown is not None, "--known INDEX is for --unknown RATE: give that too")
    rates = [] if unknown is None else unknown or [0.05]
    problems.check(len(rates) <= 1, f"--unknown takes one RATE, got {' '.join(map(str, rates))}")
    ask = _Question(tta, abstain, rates[0] if rates else None, known)
    best, found, answers, chosen = _given(run, results, images, device, ask, problems)
    explainer = _explainer(best, explain, chosen, found)
    out, err = Console(soft_wrap=True, highlight=False), Console(stderr=True, soft_wrap=True, highlight=False)
    with Bar(console=err) as progress:
        progress.begin("predicting", len(found))
        told = Told(found, answers, explainer, err, progress)
        said = None  # once the bar is gone
        if csv is not None:
            said = _write_table(csv, best.labels, told, unknown is not None)
        elif as_json:
            rows = [_shown(answer, top, picture) for answer, picture in told]
            said = json.dumps(rows, indent=2, ensure_ascii=False)
        else:
            _print_lines(told, top, out)
    if said is not None:
        print(said)
    if unreadable := len(found) - told.named.total():
        err.print(f"{unreadable} of {len(found)} images could not be read")
    return 1 if unreadable else 0


class Told:
    """The answers as they come, each with the picture that explains it.

    Images that cannot be read are told on stderr, beside.
    """

    def __init__(
        self,
        images: Sequence[ImageLike],
        answers: Iterable[Prediction],
        explainer: Explainer | None,
        err: Console,
        progress: Bar,
    ) -> None:
        self.named: Counter[str | None] = Counter()
        """How many images were given each answer; None: none, for the classifier is unsure."""
        self._images, self._answers, self._explainer = images, answers, explainer
        self._err, self._progress = err, progress

    def __iter__(self) -> Iterator[tuple[Prediction, Path | None]]:
        for image, answer in zip(self._images, self._answers, strict=True):
            self._progress()
            if answer.error is None:
                self.named[answer.answer] += 1
                likeliest = answer.top(1)[0][0]
                yield answer, self._explainer(image, likeliest) if self._explainer is not None else None
            else:
                self._err.print(f"{one_line(answer.image)}: cannot be read: {answer.error}", markup=False)
                yield answer, None


class Likely(TypedDict):
    """A class and its probability, as --json shows them."""

    label: str
    probability: float


class Shown(TypedDict):
    """An image, as --json shows it: what it was named, or why it could not be read.

    Label and probability are null where the classifier is unsure. Of an unknown image, the label is "unknown" and the
    probability null.
    """

    image: str
    error: NotRequired[str]
    label: NotRequired[str | None]
    probability: NotRequired[float | None]
    unknown: NotRequired[bool]
    top: NotRequired[list[Likely]]
    explanation: NotRequired[str]


@dataclass(frozen=True)
class _Question:
    """How a classifier is asked; fields as the flags of `predict`."""

    tta: bool
    abstain: float | None
    unknown: float | None
    known: Path | None

    def put(self, best: Best, images: Sequence[ImageLike], device: str | torch.device) -> Iterator[Prediction]:
        """The answers of a classifier; none is made yet."""
        known = None if self.known is None else _known(self.known, best)
        return best.answers(
            images, device=device, tta=self.tta, abstain=self.abstain, unknown=self.unknown, known=known
        )


def _known(index: Path, best: Best) -> Known:
    from raysearch.insight.index import Index
    from raysearch.insight.unknown import known_by_index

    return known_by_index(Index.read(index), best)


def _given(
    run: str, results: Path, images: list[str], device: str, question: _Question, problems: Problems
) -> tuple[Best, list[ImageLike], Iterator[Prediction], torch.device]:
    """The classifier, the images, its answers for them (none is made yet), and where it runs.

    Raises:
        InputError: everything that is wrong with any of them, and the problems that were found before.
    """
    from raysearch.record.folder import locate
    from raysearch.winner.answers import find_images
    from raysearch.winner.best import load_best

    best = problems.attempt(lambda: load_best(locate(run, results)))
    found = problems.attempt(find_images, images)
    chosen = problems.attempt(device_of, device)
    answers = None
    if best is not None:
        answers = problems.attempt(question.put, best, found or [], chosen or "cpu")
    problems.stop_if_any()
    assert best is not None and found is not None and chosen is not None and answers is not None
    return best, found, answers, chosen


def _explainer(best: Best, folder: Path | None, device: torch.device, images: Sequence[ImageLike]) -> Explainer | None:
    if folder is None:
        return None
    from raysearch.winner.explain import Explainer

    return Explainer(best, folder, device, images)


def _write_table(file: Path, labels: Sequence[str], told: Told, unknown: bool) -> str:
    """Write --csv's file; what to say of it."""
    from raysearch.winner.answers import write_csv

    try:
        write_csv(file, labels, (answer for answer, _ in told), unknown=unknown)
    except OSError as error:
        raise InputError(f"--csv {file} cannot be written: {error.strerror}") from error
    return f"{file}  {', '.join(f'{_named(label)} {n}' for label, n in told.named.most_common())}"


def _named(label: str | None) -> str:
    return "no label, unsure:" if label is None else label


def _print_lines(told: Told, top: int, out: Console) -> None:
    """Print each answer as it comes."""
    for answer, _ in told:
        if likeliest := answer.top(top):
            shown = "  ".join(f"{label} {probability:.3f}" for label, probability in likeliest)
            doubt = "unknown: " if answer.unknown else "unsure: " * answer.unsure
            out.print(f"{one_line(answer.image)}  {doubt}{shown}", markup=False)


def _shown(answer: Prediction, top: int, picture: Path | None) -> Shown:
    if answer.error is not None:
        return {"image": answer.image, "error": answer.error}
    likeliest: list[Likely] = [{"label": label, "probability": p} for label, p in answer.top(top)]
    shown: Shown = {
        "image": answer.image,
        "label": answer.answer,
        "probability": answer.confidence,
        "top": likeliest,
    }
    if answer.unknown is not None:
        shown["unknown"] = answer.unknown
    if picture is not None:
        shown["explanation"] = str(picture)
    return shown
