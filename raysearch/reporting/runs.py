"""Several runs on the same test images, image by image: baseline, heads alone, fine-tuned, on cleaned images or not."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from raysearch.errors import InputError
from raysearch.intervals import share_interval
from raysearch.recipe import Recipe
from raysearch.record.decision import decided
from raysearch.record.folder import RunFolder
from raysearch.reporting.compare import Paired, groups_of
from raysearch.reporting.elements import Table, percent
from raysearch.reporting.measured import shipped_sentence
from raysearch.storage.files import replace_text

_SHOWN = 3  # names in a message


@dataclass(frozen=True, eq=False)
class TestedRun:
    """What a run ships, on its test images.

    Attributes:
        name: of the run.
        recipe: of what is shipped, or of its first network.
        shipped: what it is, in words.
        train_images: that it had to train on; None: an older run does not say.
        images: what tells the test images apart: path, without the folder that all have in common, and class; sorted.
        right: whether each is answered rightly, in the same order, shape (n,).
        groups: theirs, as of `mean_interval`, shape (n,).
    """

    name: str
    recipe: Recipe
    shipped: str
    train_images: int | None
    images: tuple[tuple[str, str], ...]
    right: NDArray[np.bool_]
    groups: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, run: RunFolder) -> TestedRun:
        """What a finished run says.

        Raises:
            InputError: it is not finished, or its files cannot be read.
        """
        evaluation, table = run.evaluation, run.folder / "predictions.parquet"
        if evaluation is None or not table.is_file():
            raise InputError(f"{run.name} is not finished: its test images have not been read")
        try:
            frame = pd.read_parquet(table)
            recipe = Recipe.model_validate_json((run.folder / "best" / "recipe.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, ValidationError) as error:
            raise InputError(f"{run.name} cannot be compared: {error}") from error
        frame = frame[frame["split"] == "test"]
        if len(frame) < 2:
            raise InputError(f"{run.name} has {len(frame)} test images: too few to compare anything on")
        classes = run.info["classes"]
        shipped = evaluation.get("shipped")
        threshold = None if shipped is None else shipped["threshold"]
        labels = frame["label"].to_numpy()
        right = decided(np.stack(list(frame["winner"])), threshold) == labels
        keys = list(zip(_inside(frame["path"]), (classes[label] for label in labels), strict=True))
        order = sorted(range(len(keys)), key=keys.__getitem__)
        groups = groups_of(frame)
        counts = run.info.get("intake", {}).get("counts", {}).get("train")
        return cls(
            run.name,
            recipe,
            shipped_sentence(evaluation),
            None if counts is None else sum(counts.values()),
            tuple(keys[place] for place in order),
            right[order],
            None if groups is None else groups[order],
        )

    @property
    def what(self) -> str:
        """How it was trained, e.g. "head alone, avg pooling"."""
        recipe = self.recipe
        if recipe.depth == 0:
            return f"head alone, {recipe.pooling} pooling"
        if recipe.weights == "random":
            return "from scratch"
        return f"fine-tuned, {recipe.depth} block{'s' * (recipe.depth > 1)}"

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.right.mean())


@dataclass(frozen=True)
class ComparedRun:
    """A run beside the first."""

    run: TestedRun
    low: float
    high: float
    """Ends of its accuracy's interval (Wilson's, 95 %)."""
    against: Paired | None
    """Against the first run, image by image; None of the first itself."""


def compare_runs(runs: Sequence[RunFolder]) -> list[ComparedRun]:
    """Each run, the first one first, held against the first on the same test images.

    Raises:
        InputError: a run is not finished, or its test images are not those of the first; all problems together.
    """
    problems: list[str] = []
    tested: list[TestedRun] = []
    for run in runs:
        try:
            tested.append(TestedRun.of(run))
        except InputError as error:
            problems += error.problems
    problems += [told for other in tested[1:] if (told := _differing(tested[0], other)) is not None]
    if problems:
        raise InputError(problems)
    first = tested[0]
    groups = next((one.groups for one in tested if one.groups is not None), None)
    return [
        ComparedRun(
            run,
            *share_interval(run.right, groups),
            None if run is first else Paired.of(run.right, first.right, groups),
        )
        for run in tested
    ]


def runs_table(compared: Sequence[ComparedRun]) -> Table:
    """The runs, a row each."""
    first = compared[0].run.name
    rows = []
    for one in compared:
        run, strength = one.run, one.run.recipe.schedule[-1].strength
        rows.append(
            (
                run.name,
                run.what,
                run.recipe.backbone,
                str(run.recipe.image_size),
                f"{strength:g}" if strength else "none",
                "" if run.train_images is None else f"{run.train_images:,}",
                run.shipped,
                f"{percent(run.accuracy)} [{100 * one.low:.1f}, {100 * one.high:.1f}]",
                "" if one.against is None else str(one.against),
                "" if one.against is None else one.against.verdict,
            )
        )
    columns = ("run", "trained", "backbone", "px", "augmentation", "training images", "shipped", "accuracy")
    return Table((*columns, f"against {first}", "so it is"), rows, frozenset({0, 1, 2, 6, 9}))


def write_runs_page(compared: Sequence[ComparedRun], file: Path) -> None:
    """Write the table and its intervals as a page that loads nothing, replacing it at once."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("raysearch", "reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    ends = [value for one in compared if one.against is not None for value in (one.against.low, one.against.high)]
    reach = max(0.01, *map(abs, ends)) if ends else 0.01
    text = environment.get_template("runs.html.j2").render(
        table=runs_table(compared), compared=compared, reach=reach, images=len(compared[0].run.right)
    )
    replace_text(file, text)


def _inside(paths: pd.Series) -> list[str]:
    """Paths without the folder that all have in common: a manifest's begin at another place than a folder's."""
    names = [path.replace("\\", "/") for path in paths]
    common = posixpath.commonpath([posixpath.dirname(name) for name in names]) if all(map(_relative, names)) else ""
    return [name.removeprefix(f"{common}/") if common else name for name in names]


def _relative(name: str) -> bool:
    return not name.startswith("/")


def _differing(first: TestedRun, other: TestedRun) -> str | None:
    """In what the test images differ; None: in nothing."""
    if first.images == other.images:
        return None
    ours, theirs = set(first.images), set(other.images)
    relabelled = {path for path, _ in ours - theirs} & {path for path, _ in theirs - ours}
    parts = []
    for name, alone in ((first.name, ours - theirs), (other.name, theirs - ours)):
        if only := sorted(path for path, _ in alone if path not in relabelled):
            parts.append(f"{len(only):,} only in {name} ({_some(only)})")
    if relabelled:
        parts.append(f"{len(relabelled):,} under another label ({_some(sorted(relabelled))})")
    return (
        f"{first.name} and {other.name} were measured on different test images: {'; '.join(parts)}. Give both searches "
        "the same images, with the same --seed if they are split by it."
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
