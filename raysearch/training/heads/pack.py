"""Many heads trained together on pooled features, as one batched computation: a pack.

A head in a pack gets what the same head gets alone in `loop.Trainer`, to rounding: the same first weights, batches,
dropout masks, course, early stopping and best epoch. Only the features are read once for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysearch.models.head import make_head
from raysearch.models.memory import slices
from raysearch.models.precision import full_precision
from raysearch.models.transfer import to_device
from raysearch.recipe import Recipe
from raysearch.record.goal import Goal
from raysearch.training.course import learning_rate
from raysearch.training.epoch import Figures, NonFiniteLossError
from raysearch.training.heads.members import Member, Worth
from raysearch.training.heads.reading import one_hot_labels, read_view, readings
from raysearch.training.heads.stacked import EpochInputs, Stack, Tensors, Terms
from raysearch.training.images import Images
from raysearch.training.losses import Loss
from raysearch.training.metrics import stacked_metrics
from raysearch.training.order import EpochOrder, epoch_order
from raysearch.training.retrieval import retrieval_metrics, wants_embeddings

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
    part = (stage.part, stage.epochs if stage.part.startswith("grow/") else None)
    return (*features, *views, recipe.head.kind, recipe.head.inner_width, stage.batch_size, *part, recipe.seed)


class HeadPack:
    """Trains the heads of many recipes at once, an epoch a call.

    Heads are named by their places in `recipes`, whatever becomes of the others. One that has finished, failed or been
    dropped leaves the computation, so it no longer changes and costs nothing; its best epoch stays.

    Args:
        recipes: of one stage at depth 0 each, with equal `pack_key`s.
        images: pooled features (width,). A whole view of the training images is held in memory while an epoch runs,
            twice under dropout; the validation images are read once.
        goal: decides which epoch is the best, and early stopping.
        device: where the features come and the heads go.

    Raises:
        ValueError: the recipes do not belong in one pack, or the activations are not pooled features.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        images: Images,
        *,
        goal: Goal,
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
        width, val_width = images.train.activations.shape, images.val.activations.shape
        if len(width) != 1 or width != val_width:
            raise ValueError(f"a pack trains on pooled features (width,), got {width} to train on, {val_width} for val")
        self.recipes, self.images, self.goal, self.device = tuple(recipes), images, goal, device
        self.seed = recipes[0].seed
        self.epoch = 0
        """Finished epochs."""
        self._steps = 0
        """Steps in them."""
        self._train_labels = torch.tensor(np.asarray(images.train.labels), dtype=torch.long, device=device)
        self._val_labels = torch.tensor(np.asarray(images.val.labels), dtype=torch.long)
        self._val_features: Tensor | None = None
        stages = [recipe.schedule[0] for recipe in recipes]
        self._members = [Member.of(stage) for stage in stages]
        self._order = sorted(range(len(recipes)), key=lambda head: stages[head].dropout)
        """The heads that are in `_stack`, in its order: those of one dropout are neighbours."""
        head = make_head(width[0], recipes[0].head, len(images.classes), self.seed).state_dict()
        self._stack = Stack.repeat(head, len(recipes), device)
        self._best: Tensors = {name: tensor.clone() for name, tensor in self._stack.weights.items()}
        self._terms = Terms.of(stages, [Loss.of(stage, self._train_labels, images.classes) for stage in stages])

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

    def best(self, head: int) -> Figures:
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

    def answers(self, head: int) -> tuple[Tensor, Tensor]:
        """What a head as it was after its best epoch makes of the validation images, fp32 on the CPU.

        Returns: logits (n, classes) and labels (n,).
        """
        place = torch.tensor([head], device=self.device)
        best = Stack({name: tensor[place] for name, tensor in self._best.items()})
        return self._logits(best)[0].cpu(), self._val_labels

    def survivors(self, reduction: int) -> list[int]:
        """The best 1 / reduction of the heads that were not dropped and did not fail (at least one), best first.

        They come in the order of `ranked`; finished heads count.
        """
        rivals = [head for head in self.ranked() if not self._members[head].dropped]
        return rivals[: max(1, len(rivals) // reduction)]

    def ranked(self) -> list[int]:
        """All heads that have a best epoch and did not fail, dropped ones too, best first.

        They are compared by how near the goal their `best` is, then by its loss, then by their places.
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

    def run_epoch(self, worths: Mapping[int, Worth | NonFiniteLossError] | None = None) -> dict[int, Figures]:
        """Trains every running head for one epoch, then evaluates it.

        Args:
            worths: where this epoch is judged outside of the pack, by what, for every running head; an error says
                that the head failed there. They decide the best epoch, early stopping and the order of the heads, and
                their figures go into the rows. None: the validation images decide. The plateau course follows the
                loss on the validation images in any case.

        Returns: by head, the row that `Trainer.run_epoch` gives; `seconds` is the head's share of the pack's. A head
            whose loss is not finite is not in it but in `failed`.
        """
        started, trained = time.perf_counter(), list(self._order)
        if not trained:
            raise ValueError(f"all {len(self)} heads have finished, failed or been dropped: there is nothing to train")
        stage = self.recipes[0].schedule[0]  # all have the same order: see `pack_key`
        order = epoch_order(stage, self.images.train.labels, self.seed, epoch=self.epoch + 1)
        steps = len(order.batches)
        rates = self._rates(trained, steps)
        on_device = torch.tensor(rates, dtype=torch.float32, device=self.device)
        terms = self._terms[torch.tensor(trained, device=self.device)]
        losses, hits, figures = [], [], []
        for reading, heads in self._passes(self._readings(order)):
            stack = self._stack[heads]
            of_steps, of_images = stack.train(reading, terms[heads], on_device[:, heads], self._steps)
            losses.append(of_steps)
            hits.append(of_images)
            figures.append(self._evaluate(stack))
        self.epoch += 1
        self._steps += steps
        table = {
            "lr": rates[-1],
            "train_loss": np.average(step_losses := torch.cat(losses, 1).cpu().double().numpy(), 0, order.batch_sizes),
            "train_accuracy": torch.cat(hits).cpu().double().numpy() / len(order.images),
            **{name: np.concatenate([part[name] for part in figures]) for name in figures[0]},
        }
        columns = {name: values.tolist() for name, values in table.items()}
        ends = {"micro_batch": stage.batch_size, "seconds": (time.perf_counter() - started) / len(trained)}
        rows = {
            head: {"epoch": self.epoch} | {name: values[place] for name, values in columns.items()}
            for place, head in enumerate(trained)
        }
        if worths is None:
            worths = {head: Worth(self.goal.score(row), row["val_loss"]) for head, row in rows.items()}
        for head, row in rows.items():
            row |= (worth.figures if isinstance(worth := worths[head], Worth) else {}) | ends
        self._note(rows, worths, step_losses)
        return {head: rows[head] for head in sorted(rows) if not self._members[head].failure}

    def _rates(self, heads: Sequence[int], steps: int) -> np.ndarray:
        """Learning rates (steps, heads) of the epoch to come, each at the middle of its step."""
        members = [self._members[head] for head in heads]
        moments = [self.epoch + (step + 0.5) / steps for step in range(steps)]
        rates = [
            [learning_rate(member.stage, moment, member.counters.drops) for member in members] for moment in moments
        ]
        return np.array(rates)

    def _passes(self, readings: Iterable[tuple[EpochInputs, int]]) -> Iterator[tuple[EpochInputs, slice]]:
        """Each reading with places in the stack of heads that read it, as many as go together."""
        limit = PASS_BYTES.get(self.device.type, PASS_BYTES_ELSEWHERE)
        together = max(1, limit * len(self._stack) // sum(4 * t.numel() for t in self._stack.weights.values()))
        start = 0
        for reading, count in readings:
            yield from ((reading, slice(start + s.start, start + s.stop)) for s in slices(count, together))
            start += count

    def _readings(self, order: EpochOrder) -> Iterator[tuple[EpochInputs, int]]:
        """What the heads of each dropout read in this epoch, and how many these are, in the order of the stack."""
        features = read_view(self.images.train.activations, order.images, order.view, self.device)
        labels = self._train_labels[to_device(order.images, self.device)]
        dropouts = [self._members[head].stage.dropout for head in self._order]
        hidden = self._stack.weights.get("hidden.bias")
        hidden_units = None if hidden is None else hidden.shape[1]
        one_hot = one_hot_labels(labels, len(self.images.classes))
        return readings(features, one_hot, order, self.seed, dropouts, hidden_units)

    def _evaluate(self, stack: Stack) -> dict[str, np.ndarray]:
        """val_ and each of `classification_metrics`, of each head, in fp32 and without dropout; of embeddings, too."""
        figures = stacked_metrics(self._logits(stack), self._val_labels, self.images.classes, self.goal.measured)
        columns = {name: values.numpy() for name, values in figures.items()}
        if wants_embeddings(self.goal.measured):
            with full_precision(self.device):
                each = [retrieval_metrics(one, self._val_labels) for one in stack.embeddings(self._read_val())]
            columns |= {name: np.broadcast_to([one[name] for one in each], len(stack)) for name in each[0]}
        return {f"val_{name}": values for name, values in columns.items()}

    def _logits(self, stack: Stack) -> Tensor:
        """Of the validation images, (heads, n, classes)."""
        with full_precision(self.device):
            return stack.logits(self._read_val()).transpose(1, 2)

    def _read_val(self) -> Tensor:
        """The features of the validation images, (n, width)."""
        if self._val_features is None:
            val = self.images.val
            self._val_features = read_view(val.activations, np.arange(len(val)), 0, self.device)
        return self._val_features

    def _note(
        self, rows: Mapping[int, Figures], worths: Mapping[int, Worth | NonFiniteLossError], losses: np.ndarray
    ) -> None:
        """Counts an epoch for every head that it trained, and keeps the tensors where it is an epoch to keep."""
        to_keep = [
            place
            for place, (head, row) in enumerate(rows.items())
            if self._members[head].note(row, worths[head], losses[:, place])
        ]
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
