"""Many heads trained together on pooled features, as one batched computation: a pack.

A head in a pack gets what the same head gets alone in `loop.Trainer`, to rounding: the same first weights, batches,
dropout masks, course, early stopping and best epoch. Only the features are read once for all of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from raysearch.activations.live import Activations
from raysearch.models.head import make_head
from raysearch.recipe import Recipe, Stage
from raysearch.record.metric import score
from raysearch.training.class_weights import class_weights
from raysearch.training.counters import EVALUATION_BATCH, Counters
from raysearch.training.course import learning_rate
from raysearch.training.heads.stacked import Reading, Stack, Tensors, Terms
from raysearch.training.loop import NonFiniteLossError, Row
from raysearch.training.memory import slices
from raysearch.training.metrics import stacked_metrics
from raysearch.training.numerics import full_precision, seeded

PASS_BYTES = {"cpu": 1 << 20}
"""Weights that go through an epoch together: on a CPU as many as stay in its cache with their gradients and moments."""
PASS_BYTES_ELSEWHERE = 1 << 28


def pack_key(recipe: Recipe) -> tuple[Any, ...]:
    """What heads must agree in to share a pack: heads with equal keys may.

    It is what decides the features, the shape of the head, its first weights, the batches and their order. Everything
    else may differ from head to head; but each value of dropout is a pass of its own, so search it in steps.

    Raises:
        ValueError: the recipe is not of a head: one stage, at depth 0.
    """
    if [stage.depth for stage in recipe.schedule] != [0]:
        raise ValueError(
            f"a pack trains recipes of one stage at depth 0, got the depths {[s.depth for s in recipe.schedule]}"
        )
    stage = recipe.schedule[0]
    features = (recipe.backbone, recipe.weights, recipe.image_size, recipe.fit, recipe.pooling)
    views = (stage.strength, recipe.augmentation.model_dump_json()) if stage.strength else (0.0, None)
    hidden_units = recipe.head.hidden_units if recipe.head.kind == "hidden" else None
    return (*features, *views, recipe.head.kind, hidden_units, stage.batch_size, recipe.seed)


def read_view(activations: Activations, order: np.ndarray, view: int, device: torch.device) -> Tensor:
    """These images in one view, in this order: (n, width)."""
    rows = torch.empty(len(order), *activations.shape, device=device)
    for piece in slices(len(order), EVALUATION_BATCH):
        rows[piece] = activations.batch(order[piece], view)
    return rows


@dataclass(frozen=True)
class Verdict:
    """What an epoch of a head is worth next to its other epochs and to other heads."""

    score: float
    """The metric; larger is better."""
    loss: float
    """Decides between equal scores; lower is better."""
    figures: Row = field(default_factory=dict)
    """What it was found from, where that is not in the epoch's row already."""


@dataclass
class _Member:
    """A head of the pack, apart from its tensors."""

    stage: Stage
    at: Counters
    best: Row
    worth: Verdict
    """Of `best`."""
    dropped: bool = False
    failure: NonFiniteLossError | None = None

    @property
    def running(self) -> bool:
        return not (self.dropped or self.failure or self.at.finished(self.stage))


class HeadPack:
    """Trains the heads of many recipes at once, an epoch a call.

    Heads are named by their places in `recipes`, whatever becomes of the others. One that has finished, failed or been
    dropped leaves the computation, so it no longer changes and costs nothing; its best epoch stays.

    Args:
        recipes: of one stage at depth 0 each, with equal `pack_key`s.
        classes: the c names, in the order of the logits.
        train, train_labels: pooled features (width,) of the training images, and their classes, integer (n,). A whole
            view is held in memory while an epoch runs, twice under dropout.
        val, val_labels: the same of the validation images; read in view 0, once.
        metric: decides which epoch is the best, and early stopping.
        device: where the features come and the heads go.

    Raises:
        ValueError: the recipes do not belong in one pack, or the activations are not pooled features.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        *,
        classes: Sequence[str],
        train: Activations,
        train_labels: np.ndarray,
        val: Activations,
        val_labels: np.ndarray,
        metric: str,
        device: torch.device,
    ) -> None:
        if not recipes:
            raise ValueError("a pack needs at least one recipe")
        if len(keys := {pack_key(recipe) for recipe in recipes}) > 1:
            differing = [sorted({str(value) for value in values}) for values in zip(*keys, strict=True)]
            raise ValueError(
                f"the recipes cannot share a pack, they differ: {[values for values in differing if len(values) > 1]}; "
                "make a pack of each pack_key"
            )
        if len(train.shape) != 1 or train.shape != val.shape:
            raise ValueError(f"a pack trains on pooled features (width,), got {train.shape=} and {val.shape=}")
        self.recipes, self.classes, self.metric, self.device = tuple(recipes), tuple(classes), metric, device
        self.seed, self.batch_size = recipes[0].seed, recipes[0].schedule[0].batch_size
        self.epoch = 0
        """Finished epochs."""
        self._train, self._val = train, val
        self._train_labels = torch.tensor(np.asarray(train_labels), dtype=torch.long, device=device)
        self._val_labels = torch.tensor(np.asarray(val_labels), dtype=torch.long)
        self._val_features: Tensor | None = None
        stages = [recipe.schedule[0] for recipe in recipes]
        nothing = Verdict(-math.inf, math.inf)
        self._members = [_Member(stage, Counters(micro_batch=stage.batch_size), {}, nothing) for stage in stages]
        self._order = sorted(range(len(recipes)), key=lambda head: stages[head].dropout)
        """The heads that are in `_stack`, in its order: those of one dropout are neighbours."""
        head = make_head(train.shape[0], recipes[0].head, len(self.classes), self.seed).state_dict()
        self._stack = Stack.repeat(head, len(recipes), device)
        self._best: Tensors = {name: tensor.clone() for name, tensor in self._stack.weights.items()}
        weights = [class_weights(stage.class_weights, self._train_labels, self.classes) for stage in stages]
        self._terms = Terms.of(stages, torch.stack(weights).to(device))

    def __len__(self) -> int:
        return len(self.recipes)

    @property
    def running(self) -> tuple[int, ...]:
        """The heads that the next epoch trains."""
        return tuple(head for head, member in enumerate(self._members) if member.running)

    @property
    def finished(self) -> bool:
        """Whether no head is left to train."""
        return not self.running

    @property
    def failed(self) -> dict[int, NonFiniteLossError]:
        """The heads whose loss became infinite or NaN, and where."""
        return {head: member.failure for head, member in enumerate(self._members) if member.failure}

    def best(self, head: int) -> Row:
        """The row of the epoch to keep: the best (ties: the lower loss), or the last; empty before the first."""
        return self._members[head].best

    def best_state(self, head: int) -> dict[str, Tensor]:
        """The head as it was after that epoch, on the CPU, by the classifier's names ("head.linear.weight").

        Raises:
            ValueError: it has no best epoch: none has run, or it failed in the first.
        """
        if not self._members[head].best:
            raise ValueError(f"head {head} has no best epoch: {self.failed.get(head) or 'no epoch has run yet'}")
        return {f"head.{name}": tensor[head].to("cpu", copy=True) for name, tensor in self._best.items()}

    def survivors(self, reduction: int) -> list[int]:
        """The best 1 / reduction of the heads that were not dropped and did not fail (at least one), best first.

        In the order of `ranked`; finished heads count.
        """
        rivals = [head for head in self.ranked() if not self._members[head].dropped]
        return rivals[: max(1, len(rivals) // reduction)]

    def ranked(self) -> list[int]:
        """All heads that have a best epoch and did not fail, dropped ones too, best first.

        They are compared by the metric of their `best`, then by its loss, then by their places.
        """
        worth = {head: m.worth for head, m in enumerate(self._members) if m.best and not m.failure}
        return sorted(worth, key=lambda head: (-worth[head].score, worth[head].loss, head))

    def keep(self, heads: Iterable[int]) -> None:
        """Trains no running head but these any longer."""
        kept = set(heads)
        if unknown := sorted(kept - set(range(len(self)))):
            raise ValueError(f"the pack has the heads 0 to {len(self) - 1}, not {unknown}")
        for head in self.running:
            self._members[head].dropped = head not in kept
        self._shrink()

    def run_epoch(self, verdicts: Mapping[int, Verdict | NonFiniteLossError] | None = None) -> dict[int, Row]:
        """Trains every running head for one epoch, then evaluates it.

        Args:
            verdicts: where this epoch is judged outside of the pack, by what, for every running head; an error says
                that the head failed there. They decide the best epoch, early stopping and the order of the heads, and
                their figures go into the rows. None: the validation images decide. The plateau course follows the
                loss on the validation images in any case.

        Returns: by head, the row that `Trainer.run_epoch` gives; `seconds` is the head's share of the pack's. A head
            whose loss is not finite is not in it but in `failed`.
        """
        started, trained = time.perf_counter(), list(self._order)
        if not trained:
            raise ValueError(f"all {len(self)} heads have finished, failed or been dropped: there is nothing to train")
        view = self.epoch  # heads have no earlier stages
        order = np.random.default_rng([self.seed, view]).permutation(len(self._train_labels))
        batches = slices(len(order), self.batch_size)
        rates = self._rates(trained, len(batches))
        on_device = torch.tensor(rates, dtype=torch.float32, device=self.device)
        terms = self._terms[torch.tensor(trained, device=self.device)]
        losses, hits, figures = [], [], []
        for reading, passes in self._readings(order, view, batches):
            for part in passes:
                stack = self._stack[part]
                of_steps, of_images = stack.train(reading, terms[part], on_device[:, part], view * len(batches))
                losses.append(of_steps)
                hits.append(of_images)
                figures.append(self._evaluate(stack))
        self.epoch += 1
        sizes = [batch.stop - batch.start for batch in batches]
        table = {
            "lr": rates[-1],
            "train_loss": np.average(step_losses := torch.cat(losses, 1).cpu().double().numpy(), 0, sizes),
            "train_accuracy": torch.cat(hits).cpu().double().numpy() / len(order),
            **{name: np.concatenate([part[name] for part in figures]) for name in figures[0]},
        }
        columns = {name: values.tolist() for name, values in table.items()}
        ends = {"micro_batch": self.batch_size, "seconds": (time.perf_counter() - started) / len(trained)}
        rows = {
            head: {"epoch": self.epoch} | {name: values[place] for name, values in columns.items()}
            for place, head in enumerate(trained)
        }
        if verdicts is None:
            verdicts = {head: Verdict(score(row, self.metric), row["val_loss"]) for head, row in rows.items()}
        for head, row in rows.items():
            row |= (verdict.figures if isinstance(verdict := verdicts[head], Verdict) else {}) | ends
        self._note(rows, verdicts, step_losses)
        return {head: rows[head] for head in sorted(rows) if not self._members[head].failure}

    def _rates(self, heads: Sequence[int], steps: int) -> np.ndarray:
        """Learning rates (steps, heads) of the epoch to come, each at the middle of its step."""
        members = [self._members[head] for head in heads]
        moments = [self.epoch + (step + 0.5) / steps for step in range(steps)]
        rates = [[learning_rate(member.stage, moment, member.at.drops) for member in members] for moment in moments]
        return np.array(rates)

    def _readings(
        self, order: np.ndarray, view: int, batches: Sequence[slice]
    ) -> Iterator[tuple[Reading, list[slice]]]:
        """What the heads of each dropout read, and these heads' places in the stack, as many as go together."""
        features = read_view(self._train, order, view, self.device)
        labels = self._train_labels[torch.from_numpy(order).to(self.device)]
        one_hot = functional.one_hot(labels, len(self.classes)).float().T.contiguous()
        limit = PASS_BYTES.get(self.device.type, PASS_BYTES_ELSEWHERE)
        together = max(1, limit * len(self._stack) // sum(4 * t.numel() for t in self._stack.weights.values()))
        start, hidden = 0, self._stack.weights.get("hidden.bias")
        uniform: Tensor | None = None
        buffer: Tensor | None = None
        for dropout, group in groupby(self._order, key=lambda head: self._members[head].stage.dropout):
            count = len(list(group))
            passes = [slice(start + s.start, start + s.stop) for s in slices(count, together)]
            start += count
            if dropout == 0:
                yield Reading(features, one_hot, batches), passes
                continue
            if uniform is None:
                uniform = self._uniform(features.shape[1] if hidden is None else hidden.shape[1], view, batches)
            # Into a float tensor at once: to multiply by a tensor of another type takes ten times as long.
            # One buffer for all rates, each of which is done with when the next is asked for.
            buffer = torch.empty_like(uniform) if buffer is None else buffer
            factors = torch.ge(uniform, dropout, out=buffer).mul_(1 / (1 - dropout))
            if hidden is None:
                yield Reading(factors.mul_(features), one_hot, batches), passes
            else:
                yield Reading(features, one_hot, batches, factors.T.contiguous()), passes

    def _uniform(self, width: int, view: int, batches: Sequence[slice]) -> Tensor:
        """Numbers (n, width) that dropout compares with its rate, drawn as for a head alone: `models.head.Dropout`."""
        uniform = torch.empty(batches[-1].stop, width, device=self.device)
        with seeded(self.device, self.seed, view, 1):
            for batch in batches:
                torch.rand((batch.stop - batch.start, width), out=uniform[batch])
        return uniform

    def _evaluate(self, stack: Stack) -> dict[str, np.ndarray]:
        """val_ and each of `classification_metrics`, of each head, in fp32 and without dropout."""
        with full_precision(self.device):
            if self._val_features is None:
                self._val_features = read_view(self._val, np.arange(len(self._val_labels)), 0, self.device)
            logits = stack.logits(self._val_features).transpose(1, 2)
        figures = stacked_metrics(logits, self._val_labels, self.classes)
        return {f"val_{name}": values.numpy() for name, values in figures.items()}

    def _note(
        self, rows: Mapping[int, Row], verdicts: Mapping[int, Verdict | NonFiniteLossError], losses: np.ndarray
    ) -> None:
        """Counts an epoch for every head that it trained, and keeps the tensors where it is an epoch to keep."""
        to_keep: list[int] = []
        finite = np.isfinite(losses)
        for place, (head, row) in enumerate(rows.items()):
            member = self._members[head]
            member.at.epoch = self.epoch
            if not finite[:, place].all():
                step = int(np.argmin(finite[:, place]))
                value = float(losses[step, place])
                member.failure = NonFiniteLossError(step=step + 1, epoch=self.epoch, value=value)
            elif not math.isfinite(loss := row["val_loss"]):
                steps = len(finite)
                member.failure = NonFiniteLossError(step=steps, epoch=self.epoch, value=loss, split="validation")
            elif isinstance(now := verdicts[head], NonFiniteLossError):
                member.failure = now
            else:
                highest = member.at.highest_score
                wins = now.score > highest or (now.score == highest and now.loss < member.worth.loss)
                if wins or member.stage.keep == "last":
                    member.best, member.worth = row, now
                    to_keep.append(place)
                member.at.note(member.stage, loss, score=now.score)
        places = torch.tensor(to_keep, dtype=torch.long, device=self.device)
        heads = torch.tensor(list(rows), device=self.device)[places]
        for name, tensor in self._stack.weights.items():
            self._best[name][heads] = tensor[places]
        self._shrink()

    def _shrink(self) -> None:
        """Takes the tensors of heads that no longer run out of the stack."""
        places = [place for place, head in enumerate(self._order) if self._members[head].running]
        if len(places) < len(self._order):
            self._stack = self._stack[torch.tensor(places, dtype=torch.long, device=self.device)]
            self._order = [self._order[place] for place in places]
