"""Many heads of one shape as stacked tensors: their logits, gradients and AdamW steps, all heads at once.

Head k is row k of every tensor and never meets another row, so one that diverges harms no other. Gradients are written
out instead of left to autograd: heads are so small that its bookkeeping costs as much as their arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.adamw import adamw

from raysearch.recipe import Stage
from raysearch.training.heads.embedded import contrast, through_length_one, to_length_one
from raysearch.training.losses import LEAST_REST, Loss

Tensors = dict[str, Tensor]
"""The names are those of `make_head`'s tensors ("linear.weight"); each tensor has the heads as its first dimension."""


@dataclass(frozen=True)
class Terms:
    """What k heads are trained for, a row a head."""

    class_weights: Tensor
    """(k, c)."""
    mass: Tensor
    """(k, c, c): what the logarithm of class i's probability counts in the loss of an image whose label is j."""
    shift: Tensor
    """(k, c): added to the logits."""
    gamma: Tensor
    """(k,): the focal loss's; 0 elsewhere."""
    weight_decay: Tensor
    """(k,)."""
    l1: Tensor
    """(k,)."""
    l2: Tensor
    """(k,)."""
    contrastive: Tensor
    """(k,): what the contrastive loss of embeddings counts."""
    temperature: Tensor
    """(k,): of the contrastive loss."""

    @classmethod
    def of(cls, stages: Sequence[Stage], losses: Sequence[Loss]) -> Terms:
        """The terms of one stage a head, on the device of what each minimises."""
        class_weights = torch.stack([loss.weights for loss in losses])
        of_stages = [(s.weight_decay, s.l1, s.l2, s.contrastive, s.contrastive_temperature) for s in stages]
        of_losses = [(loss.smoothing, loss.gamma) for loss in losses]
        smoothing, gamma = torch.tensor(of_losses, device=class_weights.device).unbind(1)
        c = class_weights.shape[1]
        # torch's smoothed cross-entropy: each class counts with its own weight, not with that of the label.
        share = (
            torch.eye(c, device=class_weights.device) * (1 - smoothing)[:, None, None] + smoothing[:, None, None] / c
        )
        shift = torch.stack([loss.shift for loss in losses])
        columns = torch.tensor(of_stages, device=class_weights.device).unbind(1)
        return cls(class_weights, share * class_weights[:, :, None], shift, gamma, *columns)

    def __getitem__(self, heads: slice | Tensor) -> Terms:
        return Terms(*(getattr(self, field.name)[heads] for field in fields(self)))


class Inner(NamedTuple):
    """What the layer before the last gives."""

    output: Tensor
    """(k, width, n)."""
    lengths: Tensor | None = None
    """Of what became embeddings, (k, 1, n)."""


@dataclass(frozen=True)
class EpochInputs:
    """What heads of one dropout read in an epoch, in the order in which they read it."""

    inputs: Tensor
    """Features (n, width), those of a linear head under its dropout already."""
    one_hot: Tensor
    """Labels (c, n), float."""
    batches: Sequence[slice]
    """The images of each step."""
    noise: Tensor | None = None
    """Factors (hidden_units, n) of the hidden units under dropout: 0 or 1 / (1 - p); None where there is none."""


class Stack:
    """k heads: their tensors, and AdamW's moments of them.

    Args:
        weights: the heads' tensors, changed in place by `train`.
        first, second: moments, shaped like them; None begins with zeros.
    """

    def __init__(self, weights: Tensors, first: Tensors | None = None, second: Tensors | None = None) -> None:
        self.weights = weights
        self.first = first or {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
        self.second = second or {name: torch.zeros_like(tensor) for name, tensor in weights.items()}

    @classmethod
    def repeat(cls, head: Mapping[str, Tensor], k: int, device: torch.device) -> Stack:
        """k times the same head."""
        return cls({name: tensor.to(device).repeat(k, *[1] * tensor.ndim) for name, tensor in head.items()})

    def __len__(self) -> int:
        return len(self.weights["linear.bias"])

    def __getitem__(self, heads: slice | Tensor) -> Stack:
        """Some of the heads: with a slice, views of these very tensors; with indices, copies."""
        parts = (self.weights, self.first, self.second)
        return Stack(*({name: tensor[heads] for name, tensor in part.items()} for part in parts))

    @torch.no_grad()
    def logits(self, inputs: Tensor) -> Tensor:
        """The logits (k, c, n) of features (n, width), without dropout."""
        return self._last(inputs, self._inner(inputs, None))

    @torch.no_grad()
    def embeddings(self, inputs: Tensor) -> list[Tensor]:
        """The embeddings (n, dimensions) of features (n, width) by each head; without any, the features, once."""
        if "embedding.weight" not in self.weights:
            return [inputs]
        return [one.T for one in to_length_one(self._of_inputs("embedding", inputs))[0]]

    @torch.no_grad()
    def train(self, reading: EpochInputs, terms: Terms, rates: Tensor, steps_before: int) -> tuple[Tensor, Tensor]:
        """One epoch, whose steps never wait for the device.

        Args:
            reading: the images.
            terms: of these heads.
            rates: learning rates (steps, k).
            steps_before: steps that these heads have made before this epoch.

        Returns: the loss of each step, as trained but without penalties, (steps, k); correctly classified images (k,).
        """
        k, c = self.weights["linear.bias"].shape
        mass = terms.mass.flatten(0, 1)
        labels_by_step = torch.stack([reading.one_hot[:, batch].sum(1) for batch in reading.batches])
        # Norm of the weighted mean, a step and head each; by matrix, as the rates and what they leave after decay.
        totals = (labels_by_step @ terms.class_weights.T)[:, :, None, None]
        kept = (1 - rates * terms.weight_decay)[:, :, None, None]
        rates = rates[:, :, None, None]
        asked = (terms.l1 + terms.l2, terms.gamma, terms.shift, terms.contrastive)
        penalties, focal, shifted, contrasts = (bool(values.any()) for values in asked)
        contrasts = contrasts and "embedding.weight" in self.weights
        gradients = {name: torch.empty_like(tensor) for name, tensor in self.weights.items()}
        updates = {name: torch.zeros_like(tensor) for name, tensor in self.weights.items()}
        counters = [torch.tensor(float(steps_before), device=rates.device) for _ in self.weights]
        losses, hits = torch.zeros(len(reading.batches), k, device=rates.device), torch.zeros(k, device=rates.device)
        for step, batch in enumerate(reading.batches):
            inputs, truth = reading.inputs[batch], reading.one_hot[:, batch]
            noise = None if reading.noise is None else reading.noise[:, batch]
            inner = self._inner(inputs, noise)
            logits = self._last(inputs, inner)
            # This says the same as argmax(1) == label, ties aside, which is ten times as slow.
            hits += (logits.amax(1) <= (logits * truth).sum(1)).sum(1)
            wanted = (mass @ truth).view(k, c, -1)
            logs = functional.log_softmax(logits + terms.shift[:, :, None] if shifted else logits, 1)
            if focal:
                wanted, weighed = _focal(wanted, logs, terms.gamma[:, None, None])
                losses[step] = (weighed * logs).flatten(1).sum(1)
            else:
                losses[step] = (wanted * logs).flatten(1).sum(1)
            errors = logs.exp_().mul_(wanted.sum(1, keepdim=True)).sub_(wanted).div_(totals[step])
            pull = None
            if contrasts and inner is not None:
                counts = (terms.class_weights @ truth).mul_(terms.contrastive[:, None])
                pulled, pull = contrast(inner.output, truth, counts, terms.temperature)
                losses[step] -= pulled  # those of the logits are negative until the end
                pull.div_(totals[step])
            self._fill(gradients, inputs, inner, noise, errors, pull)
            if penalties:
                self._add_penalties(gradients, terms)
            self._update(gradients, updates, counters, kept[step], rates[step])
        return losses.neg_().div_(totals[:, :, 0, 0]), hits

    def _update(
        self, gradients: Tensors, updates: Tensors, counters: list[Tensor], kept: Tensor, rates: Tensor
    ) -> None:
        """AdamW's step.

        Args:
            gradients: of the weights.
            updates: room for what is added to the weights.
            counters: of the steps so far, one a tensor.
            kept: what decay leaves of a weight, (k, 1, 1).
            rates: learning rates, (k, 1, 1).
        """
        names = list(self.weights)
        # At a rate and a decay of 1 AdamW forgets what was in `updates` and leaves there what a rate of 1 would add to
        # the weights: torch's fused kernel serves heads that each have a rate and a decay of their own.
        adamw(
            [updates[name] for name in names],
            [gradients[name] for name in names],
            [self.first[name] for name in names],
            [self.second[name] for name in names],
            [],
            counters,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=1.0,
            weight_decay=1.0,
            eps=1e-8,
            maximize=False,
        )
        for name, tensor in self.weights.items():
            if tensor.ndim > 2:  # biases do not decay
                tensor.mul_(kept).addcmul_(updates[name], rates)
            else:
                tensor.addcmul_(updates[name], rates[:, 0])

    def _inner(self, inputs: Tensor, noise: Tensor | None) -> Inner | None:
        """What the layer before the last gives: embeddings; hidden units, dropout included; None for linear heads."""
        if "embedding.weight" in self.weights:
            return Inner(*to_length_one(self._of_inputs("embedding", inputs)))
        if "hidden.weight" not in self.weights:
            return None
        hidden = self._of_inputs("hidden", inputs).relu_()
        return Inner(hidden if noise is None else hidden.mul_(noise))

    def _last(self, inputs: Tensor, inner: Inner | None) -> Tensor:
        """Logits (k, c, n)."""
        if inner is None:
            return self._of_inputs("linear", inputs)
        return torch.baddbmm(self.weights["linear.bias"][:, :, None], self.weights["linear.weight"], inner.output)

    def _of_inputs(self, layer: str, inputs: Tensor) -> Tensor:
        """A layer's output (k, width, n) on what all heads share, (n, in_features): one product for all of them."""
        weight, bias = self.weights[f"{layer}.weight"], self.weights[f"{layer}.bias"]
        return torch.addmm(bias.reshape(-1, 1), weight.flatten(0, 1), inputs.T).view(*bias.shape, -1)

    def _fill(
        self,
        gradients: Tensors,
        inputs: Tensor,
        inner: Inner | None,
        noise: Tensor | None,
        errors: Tensor,
        pull: Tensor | None,
    ) -> None:
        """Gradients from those of the logits (k, c, n) and what pulls at embeddings, backwards through the layers."""
        torch.sum(errors, 2, out=gradients["linear.bias"])
        if inner is None:
            torch.mm(errors.flatten(0, 1), inputs, out=gradients["linear.weight"].flatten(0, 1))
            return
        torch.bmm(errors, inner.output.mT, out=gradients["linear.weight"])
        back = torch.bmm(self.weights["linear.weight"].mT, errors)
        if inner.lengths is not None:
            layer = "embedding"
            back = through_length_one(inner.output, inner.lengths, back if pull is None else back + pull)
        else:
            layer = "hidden"
            if noise is not None:
                back.mul_(noise)
            back.mul_(inner.output > 0)
        torch.sum(back, 2, out=gradients[f"{layer}.bias"])
        torch.mm(back.flatten(0, 1), inputs, out=gradients[f"{layer}.weight"].flatten(0, 1))

    def _add_penalties(self, gradients: Tensors, terms: Terms) -> None:
        l1, l2 = terms.l1[:, None, None], terms.l2[:, None, None]
        for name, tensor in self.weights.items():
            if tensor.ndim > 2:
                gradients[name].addcmul_(tensor.sgn(), l1).addcmul_(tensor, l2)


def _focal(wanted: Tensor, logs: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """What the logarithms of the probabilities count in the gradient of a focal loss, and in the loss itself.

    Of m (1 - p)^g log p the derivative by the logits is that of w log p, with w held still at
    m ((1 - p)^g - g p (1 - p)^(g-1) log p). A gamma of 0 changes nothing.

    Args:
        wanted: m, what they count in cross-entropy, (k, c, n).
        logs: of the probabilities, (k, c, n).
        gamma: (k, 1, 1).
    """
    rest = (-logs.expm1()).clamp_(min=LEAST_REST)
    power = rest**gamma
    return wanted * power * (1 - gamma * logs.exp() * logs / rest), wanted * power
