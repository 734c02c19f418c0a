"""The training loop: one stage of one trial, on boundary activations. No Ray, no files, no frozen layers in it."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysearch.activations.base import Activations
from raysearch.models.boundary import train_mode
from raysearch.models.memory import slices, within_memory
from raysearch.models.precision import autocast
from raysearch.models.transfer import to_device
from raysearch.recipe import Stage
from raysearch.record.goal import Goal
from raysearch.training.answers import answers
from raysearch.training.best import BestEpoch, on_cpu
from raysearch.training.calibration import calibrated_losses, fitted_temperature
from raysearch.training.contrast import Contrast
from raysearch.training.counters import Counters
from raysearch.training.course import learning_rate
from raysearch.training.distillation import loss_of_answers
from raysearch.training.epoch import Figures, NonFiniteLossError, check_losses
from raysearch.training.images import Images
from raysearch.training.losses import Loss
from raysearch.training.metrics import classification_metrics
from raysearch.training.mixing import Mixing, Step
from raysearch.training.numerics import seeded
from raysearch.training.optimizer import make_optimizer, make_scaler
from raysearch.training.order import EpochOrder, epoch_order
from raysearch.training.penalties import Penalties
from raysearch.training.ranks import ALONE, Ranks
from raysearch.training.retrieval import retrieval_metrics, wants_embeddings
from raysearch.training.signature import Signature


class Trainer:
    """Trains a suffix for one stage, an epoch a call.

    Batch order, dropout and views follow from (seed, view_offset, epoch) alone, so an epoch can be run again, and a
    trainer that went through `state` and `load_state` gives bit for bit what one that never stopped gives (on the CPU,
    with the same number of threads).

    Several processes (`ranks`) may train together, each with a Trainer of its own on the same images, stage and seed:
    every batch and evaluation is shared out among them, so that they take the steps of one, to rounding, and have the
    same figures, counters and tensors. Each draws its own dropout; batch statistics are of its share of a batch.

    Args:
        suffix: the unfrozen blocks and the head; maps a batch of activations to logits (n, c), trained in place.
        stage: how to train it.
        images: what it is trained on, and what it is measured on.
        seed: of the recipe.
        goal: decides which epoch is the best, and early stopping.
        device: where the activations come and the suffix goes.
        precision: fp32, bf16 or fp16, of the training; evaluation is in fp32.
        view_offset: epochs of the trial's earlier stages; epoch e (from 1) sees view view_offset + e - 1.
        signature: what the suffix was made for; goes into its checkpoints.
        ranks: the processes that train together, and which of them this is.
        pretrained: weights of the suffix's blocks, by name, which `Stage.l2_sp` pulls to.
    """

    def __init__(
        self,
        suffix: nn.Sequential,
        stage: Stage,
        images: Images,
        *,
        seed: int,
        goal: Goal,
        device: torch.device,
        precision: str = "fp32",
        view_offset: int = 0,
        signature: Signature | None = None,
        ranks: Ranks = ALONE,
        pretrained: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.suffix, self.stage, self.images, self.seed, self.goal = suffix.to(device), stage, images, seed, goal
        self.device, self.precision, self.view_offset, self.ranks = device, precision, view_offset, ranks
        self.signature: Signature = signature or {}
        self.train_labels = torch.tensor(np.asarray(images.train.labels), dtype=torch.long, device=device)
        self.val_labels = torch.tensor(np.asarray(images.val.labels), dtype=torch.long)
        self.loss = Loss.of(stage, self.train_labels, images.classes)
        self.loss_of = loss_of_answers(self.loss, images.train.teacher, device)
        self.contrast = Contrast.of(stage, self.suffix, self.loss.weights, ranks)
        self.penalties = Penalties.of(stage, self.suffix, pretrained or {})
        self.trained = [p for p in self.suffix.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(self.suffix, stage)
        self.scaler = make_scaler(device, precision)
        self.counters, self._best = Counters(micro_batch=stage.batch_size), BestEpoch()
        self.val_logits = torch.empty(0)
        """Of the validation images, (n, c) fp32 on the CPU, as they were last evaluated."""
        self.handover_delta: float | None = None
        """What the hand-over gate measured, where the stage passed through it."""

    @property
    def best(self) -> Figures:
        """The row of the epoch to keep: the best (ties: the lower val_loss), or the last; empty before the first."""
        return self._best.row

    @property
    def best_state(self) -> dict[str, Tensor]:
        """The suffix as it was then, on the CPU."""
        return self._best.state

    @property
    def best_held_out(self) -> list[float]:
        """The calibrated log-loss of each held-out image in that state: see `BestEpoch`."""
        return self._best.held_out

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or early stopping has ended the stage."""
        return self.counters.finished(self.stage)

    def run_epoch(self, *, evaluate: bool = True) -> Figures:
        """Trains for one epoch, then evaluates.

        Args:
            evaluate: False spares the evaluation of an epoch that is not the last, and on which nothing depends.

        Returns: epoch (from 1), lr (of the last step, the head's), train_loss (weighted and smoothed as trained,
            without penalties) and train_accuracy (running, under dropout and augmentation), `evaluate`'s if it was, and
            micro_batch (images a pass of one process, at most), seconds.

        Raises:
            NonFiniteLossError: with the step, from 1 within the epoch; the trainer is of no use afterwards.
            ValueError: batch statistics are wanted, and a batch is too small to be shared out for them.
        """
        started, epoch = time.perf_counter(), self.counters.epoch + 1
        order = self.order(epoch)
        batches, sizes, view = order.batches, order.batch_sizes, order.view
        if self.stage.batch_norm == "train":
            self.ranks.check_batch_statistics(min(sizes))
        # Filled on the device and read once, at the end: to read is to wait for the device.
        losses, hits = torch.zeros(len(batches), device=self.device), torch.zeros((), device=self.device)
        rate = self.stage.learning_rate
        train_mode(self.suffix, batch_norm=self.stage.batch_norm == "train")
        with seeded(self.device, self.seed, view, 1 + self.ranks.rank):
            for step, batch in enumerate(batches):
                rate = learning_rate(self.stage, self.counters.epoch + (step + 0.5) / len(batches), self.counters.drops)
                losses[step], correct = self.step(self.to_step(order.images[batch], view, step), view, rate)
                hits += correct
        self.ranks.average_statistics(self.suffix)
        self.ranks.total(hits)
        train_losses = self.ranks.total(losses).tolist()
        check_losses(train_losses, epoch)
        row: Figures = {"epoch": epoch, "lr": rate, "train_loss": float(np.average(train_losses, weights=sizes))}
        row["train_accuracy"] = hits.item() / len(order.images)
        evaluate = evaluate or self.stage.decided_by_epochs or epoch == self.stage.epochs
        if evaluate:
            row |= self.evaluate(epoch, len(batches))
        row |= {"micro_batch": self.counters.micro_batch, "seconds": time.perf_counter() - started}
        self.counters.epoch = epoch
        if evaluate:
            self._note(row)
        return row

    def order(self, epoch: int) -> EpochOrder:
        """The images of an epoch (from 1), in the order in which they are trained on."""
        return epoch_order(self.stage, self.images.train.labels, self.seed, epoch=epoch, view_offset=self.view_offset)

    def to_step(self, indices: np.ndarray, view: int, number: int) -> Step:
        """These training images, integer (n,), as what a step of an epoch takes; which step decides how it mixes."""
        labels = self.train_labels[to_device(indices, self.device)]
        return Step(indices, labels, Mixing.draw(self.stage, len(indices), (self.seed, view, number)))

    def step(self, step: Step, view: int, rate: float) -> tuple[Tensor, Tensor]:
        """One step of the optimizer; the suffix is in training mode.

        Args:
            step: its images.
            view: of the images.
            rate: the head's learning rate.

        Returns: the loss and the hits (of mixed images, of their own labels) of this process's share, on the device.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        filled = self._fill_gradients(step, view)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return filled

    def _fill_gradients(self, step: Step, view: int) -> tuple[Tensor, Tensor]:
        """Gradients of one step, summed over pieces that fit in memory and over all ranks; returns what `step` does."""
        total_weight = self.loss.weights[step.labels].sum()  # the whole batch's, so that parts add up to the whole mean
        mine, train = np.arange(len(step.indices))[self.ranks.share(len(step.indices))], self.images.train.activations

        def in_pieces_of(size: int) -> tuple[Tensor, Tensor]:
            self.optimizer.zero_grad()
            loss, hits = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
            for piece in slices(len(mine), size):
                places = mine[piece]
                inputs, share = step.inputs(places, lambda indices: train.batch(indices, view))
                with autocast(self.device, self.precision):
                    logits, pull = self.contrast(inputs, step.own_labels(places))
                    summed = step.summed(places, share, self.loss_of(inputs, logits)) + pull
                self.scaler.scale(summed / total_weight).backward()
                loss += summed.detach() / total_weight
                hits += (logits.detach().argmax(dim=1) == step.own_labels(places)).sum()
            if self.ranks.first and (penalty := self.penalties.total()) is not None:
                self.scaler.scale(penalty).backward()
            return loss, hits

        size, at_least = self.counters.micro_batch, self.contrast.images_at_least
        result, self.counters.micro_batch = within_memory(in_pieces_of, size, at_least=at_least)
        self.ranks.sum_gradients(self.trained)
        return result

    @torch.no_grad()
    def evaluate(self, epoch: int = 0, step: int = 0) -> Figures:
        """The suffix as it is, on the validation images, fp32, eval mode: val_ and each of `classification_metrics`,
        and of `retrieval_metrics` if the goal names one.

        Raises:
            NonFiniteLossError: after `step` of `epoch`.
        """
        embed = wants_embeddings(self.goal.measured)
        self.val_logits, embeddings = self._answers(self.images.val.activations, embed)
        figures = classification_metrics(self.val_logits, self.val_labels, self.images.classes, self.goal.measured)
        if embed:
            figures |= retrieval_metrics(embeddings, self.val_labels)
        figures = self.ranks.agree(figures, self.device)
        if not math.isfinite(figures["loss"]):
            raise NonFiniteLossError(step=step, epoch=epoch, value=figures["loss"], split="validation")
        return {f"val_{name}": value for name, value in figures.items()}

    def _answers(self, images: Activations, embed: bool = False) -> tuple[Tensor, Tensor]:
        size, classes = self.counters.evaluation_batch, len(self.images.classes)
        found = answers(self.suffix, images, classes, device=self.device, ranks=self.ranks, batch=size, embed=embed)
        self.counters.evaluation_batch = found.batch
        return found.logits, found.embeddings

    def evaluate_start(self) -> Figures:
        """Evaluates the state that the stage was handed, as epoch 0: the best one until an epoch is better."""
        if self.counters.epoch:
            raise ValueError(f"the start is gone: {self.counters.epoch} epochs have been trained")
        row = {"epoch": 0, **self.evaluate()}
        self._note(row)
        return row

    def _note(self, row: Figures) -> None:
        now, highest = self.goal.score(row), self.counters.highest_score
        self._best.offer(row, self.suffix, self._held_out_losses, score=now, highest=highest, keep=self.stage.keep)
        self.counters.note(self.stage, row["val_loss"], score=now)

    @torch.no_grad()
    def _held_out_losses(self) -> list[float]:
        if (held_out := self.images.held_out) is None:
            return []
        temperature = fitted_temperature(self.val_logits, self.val_labels)  # of the same state
        labels = torch.tensor(np.asarray(held_out.labels)).long()
        return calibrated_losses(self._answers(held_out.activations)[0], labels, temperature).tolist()

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on, copied to the CPU, loadable with weights_only=True; seeds and epochs
        stand for random state.
        """
        suffix = on_cpu(self.suffix.state_dict())
        return {
            "made_for": self._made_for(),
            "suffix": suffix,
            "optimizer": on_cpu(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
            "counters": asdict(self.counters),
            "best": dict(self._best.row),
            # Where the last epoch is the best, the same tensors: a file then holds them once.
            "best_state": suffix if self._best.row.get("epoch") == self.counters.epoch else dict(self._best.state),
            "best_held_out": list(self._best.held_out),
            "handover_delta": self.handover_delta,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken.

        Raises:
            ValueError: it was taken from another training: stage, seed, metric, classes, number of images.
        """
        here, there = self._made_for(), state["made_for"]
        if wrong := [f"{key} was {there.get(key)}, is {here[key]}" for key in here if here[key] != there.get(key)]:
            raise ValueError(f"the state is another training's: {'; '.join(wrong)}")
        self.suffix.load_state_dict(state["suffix"])
        self.optimizer.load_state_dict(on_cpu(state["optimizer"]))
        if state["scaler"]:  # empty if it was taken on a machine that trains in another precision
            self.scaler.load_state_dict(state["scaler"])
        self.counters = Counters(**state["counters"])
        self._best = BestEpoch(dict(state["best"]), on_cpu(state["best_state"]), list(state["best_held_out"]))
        self.handover_delta = state["handover_delta"]

    def _made_for(self) -> dict[str, Any]:
        stage = {f"stage.{name}": value for name, value in self.stage.model_dump(mode="json").items()}
        mine = {"seed": self.seed, "view_offset": self.view_offset, "metric": str(self.goal)}
        return copy.deepcopy({**stage, **mine, "classes": list(self.images.classes), "images": len(self.train_labels)})
