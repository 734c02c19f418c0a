"""The best head of an earlier run, as what the trials of another search start from (`--head RUN`, `--continue RUN`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor

from raysearch.data.dataset import Dataset
from raysearch.errors import InputError
from raysearch.models.weights import Weights
from raysearch.recipe import Augmentation, Head, Recipe
from raysearch.record.events import Event, SegmentEnded, SegmentStarted, trial_of
from raysearch.record.files import BEST
from raysearch.record.folder import RunFolder
from raysearch.record.goal import Goal
from raysearch.record.info import RunInfo, weights_digest
from raysearch.record.metric import larger_is_better
from raysearch.search.controller import Proposal
from raysearch.search.packs import shape_of
from raysearch.search.rules import Rules
from raysearch.search.state import SearchState
from raysearch.space.space import Space
from raysearch.training.bench import Bench
from raysearch.training.checkpoint import CheckpointError, TensorsInfo, describe_tensors, load_tensors, save_tensors
from raysearch.training.signature import same_validation
from raysearch.training.stage import open_stage


@dataclass(frozen=True)
class StartingHead:
    """A trained head and where it comes from."""

    run: str
    trial: str
    epochs: int
    recipe: Recipe
    """What it was trained with; it has one stage."""
    tensors: dict[str, Tensor]
    about: TensorsInfo
    """What was saved with them."""
    info: RunInfo
    """run.json of its run."""
    flag: str = "--head"
    """The flag that asked for it; with --continue there may be other classes."""

    def problems(self, space: Space, dataset: Dataset, weights: Weights) -> list[str]:
        """Why trials of this space, on these images and weights, cannot start from it; a sentence each."""
        tree, fixed = space.tree, space.fixed
        backbone = tree.get("backbone", fixed.get("backbone"))
        pairs = {
            "the backbone": (self.recipe.backbone, backbone),
            "the base weights (digest)": (weights_digest(self.info, self.recipe.network)[:12], weights.digest[:12]),
            "the image size": (self.recipe.image_size, dataset.image_size),
            "the fit": (self.recipe.fit, dataset.fit),
        }
        if self.flag == "--head":
            pairs["the classes"] = (self.info["classes"], list(dataset.classes))
        # What the space searches, or says nothing of, is taken over from the head.
        searched = {path.split(".")[0] for path in space.distributions}
        if "pooling" in tree and "pooling" not in searched:
            pairs["the pooling"] = (self.recipe.pooling, tree["pooling"])
        if "head" in tree and "head" not in searched:
            pairs["the head"] = (_shape(self.recipe.head), _shape(Head.model_validate(tree["head"])))
        if self.recipe.schedule[0].strength and "augmentation" in tree and "augmentation" not in searched:
            pairs["the augmentation"] = (self.recipe.augmentation, Augmentation.model_validate(tree["augmentation"]))
        given = f"{self.flag}: {self.trial} of {self.run}"
        flags = {
            "the backbone": f"; give --backbone {self.recipe.backbone}",
            "the base weights (digest)": f"; give --weights {self.recipe.weights}",
            "the image size": f"; give --image-size {self.recipe.image_size}",
            "the fit": f"; give --fit {self.recipe.fit}",
        }
        found = [
            f"{given} was trained with another: {name} is {a}, here {b}{flags.get(name, '')}"
            for name, (a, b) in pairs.items()
            if a != b
        ]
        if not space.search.heads or space.heads_only:
            why = "searches heads itself" if space.heads_only else "trains from the weights alone, without heads"
            found.append(f"{self.flag} cannot be used with the space {space.name}: it {why}")
        return found

    def adopt(self, folder: Path, bench: Bench) -> list[Event]:
        """Write its tensors to `folder`, and give the events that make it this run's only head.

        Where the validation images are those of its own run, the hand-over gate of the first trial holds it to the loss
        that was saved there; else it is measured here.
        """
        recipe = self.recipe.model_copy(update={"weights": bench.weights.again})
        # Trials are compared on validation images, and the head with them, however it was compared with other heads.
        row = {name: figure for name, figure in self.about["row"].items() if not name.startswith("cv_")}
        about: TensorsInfo = {**self.about, "row": row}
        here = open_stage(bench, recipe, 0, self.tensors)
        if not same_validation(about["signature"], here.signature):
            trained = {name: figure for name, figure in row.items() if name in ("epoch", "lr")}
            about = describe_tensors(here.evaluate_start() | trained, here.signature)
        return self.as_head(folder, recipe, self.tensors, about)

    def as_head(self, folder: Path, recipe: Recipe, tensors: dict[str, Tensor], about: TensorsInfo) -> list[Event]:
        """Write tensors that came of it to `folder`, and give the events that make them this run's only head.

        Args:
            folder: of the head's checkpoint.
            recipe: what they were trained with.
            tensors: the head's.
            about: what is saved with them.
        """
        save_tensors(folder / BEST, tensors, about)
        made = Proposal(None, {}, recipe, stage=0).made("h0000")
        made |= {"pack": 0, "origin": {"run": self.run, "trial": self.trial}}
        segment = "h0000.1"
        return [
            made,
            SegmentStarted(
                event="segment",
                trial="h0000",
                segment=segment,
                stage=0,
                from_epoch=0,
                to_epoch=self.epochs,
                pack=0,
            ),
            SegmentEnded(
                event="segment_end",
                trial="h0000",
                segment=segment,
                epoch=self.epochs,
                finished=True,
                seconds=0.0,
                best=about["row"],
            ),
        ]


def starting_head(run: RunFolder, like: Recipe | None = None, flag: str = "--head") -> StartingHead:
    """The best head of a run.

    Args:
        run: the earlier run.
        like: a recipe whose pooling and head it must have; None: any.
        flag: that asks for it.

    Raises:
        InputError: it has none, or its tensors are gone.
    """
    info = run.info
    try:
        settings = info["settings"]
        goal = Goal.of(settings["metric"], settings.get("require", ()))
    except KeyError as error:
        raise InputError(f"{flag} {run.name}: its run.json has no {error}; it is not a run of a search") from error
    state = SearchState(Rules((1,), 2, f"val_{goal.metric}", larger_is_better(goal.metric), goal.require))
    state.replay(event for event in run.events() if (trial_of(event) or "h").startswith("h"))
    head = state.best_head(None if like is None else shape_of(like))
    if head is None:
        raise InputError(f"{flag} {run.name}: that run has no trained head; start from one of feature_extraction")
    path = run.best_tensors(head.name)
    try:
        tensors, about = load_tensors(path)
    except CheckpointError as error:
        raise InputError(
            f"{flag} {run.name}: the tensors of its best head, {head.name}, cannot be read: {error}"
        ) from error
    told, folder = cast(TensorsInfo, about), str(run.folder.resolve())
    return StartingHead(folder, head.name, head.epochs, head.recipe, tensors, told, info, flag)


def _shape(head: Head) -> str:
    return head.kind if head.inner_width is None else f"{head.kind}, {head.inner_width} units"
