"""The hand-over gate: a stage begins with exactly the function that the stage before ended with, or the trial fails.

It rules out the classic failure of stacking: a head that scores 0.95 on saved features scores 0.5 on its backbone,
because something between the two differs. The gate measures that, and names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raysearch.training.loop import Trainer
from raysearch.training.signature import Signature, differences

TOLERANCE = 1e-4
"""How far the loss may be off, relative to max(1, loss): the activations of validation images are always fp32."""
SHOWN = 3
"""Tensor names shown in a message before it only counts."""


class HandoverError(RuntimeError):
    """A stage does not begin where the stage before ended; `problems` says what differs, a sentence each."""

    def __init__(self, problems: Sequence[str], delta: float | None = None) -> None:
        super().__init__("\n  ".join(["the hand-over between two stages failed:", *problems]))
        self.problems, self.delta = tuple(problems), delta


def load_start(suffix: nn.Sequential, start: Mapping[str, Tensor], saved: Signature) -> list[str]:
    """Copies the tensors that the stage before ended with into the suffix; blocks newly opened stay as they are.

    Args:
        suffix: of the stage that begins.
        start: the best tensors of the stage before.
        saved: its signature; without one, the blocks named by `start`, and the head, must be there whole.

    Returns: what does not fit, a sentence each; the rest is loaded all the same.
    """
    own = suffix.state_dict()
    handed_blocks = {"head"} | {name.split(".")[0] for name in start}
    expected = saved.get("tensors") or [name for name in own if name.split(".")[0] in handed_blocks]
    reshaped = [name for name in start if name in own and start[name].shape != own[name].shape]
    with torch.no_grad():
        for name in start.keys() & own.keys() - set(reshaped):
            own[name].copy_(start[name])
    problems = [
        _listed("tensors missing from what was handed over", [name for name in expected if name not in start]),
        _listed("unexpected tensors, which this stage does not train", [name for name in start if name not in own]),
        _listed(
            "tensors of another shape",
            [f"{name} {tuple(start[name].shape)}, here {tuple(own[name].shape)}" for name in reshaped],
        ),
    ]
    return [problem for problem in problems if problem]


def check_handover(
    trainer: Trainer,
    expected_loss: float,
    *,
    start: Mapping[str, Tensor] | None = None,
    saved: Signature | None = None,
    prefix: nn.Sequential | None = None,
    problems: Sequence[str] = (),
) -> float:
    """Evaluates the trainer's start (its epoch 0) and compares it with what the stage before saved.

    Args:
        trainer: of the stage that begins, before its first epoch.
        expected_loss: val_loss that the stage before saved with its best tensors.
        start: those tensors; each must now be in the suffix, bit for bit.
        saved: the signature saved with them.
        prefix: the frozen part, whose BatchNorm is looked at too.
        problems: found before, to be reported together.

    Returns: the signed difference of the losses.

    Raises:
        HandoverError: the losses differ by more than `TOLERANCE`, or anything else differs.
    """
    found_loss: float = trainer.evaluate_start()["val_loss"]
    delta = found_loss - expected_loss
    own = trainer.suffix.state_dict()
    unloaded = [name for name, value in (start or {}).items() if name in own and not _same(own[name], value)]
    causes = [
        *problems,
        *differences(saved or {}, trainer.signature),
        _listed("tensors that were not loaded", unloaded),
        _listed(
            "BatchNorm in training mode (it normalises by the batch, not by its statistics)",
            [name for part in (prefix, trainer.suffix) if part is not None for name in batch_statistics(part)],
        ),
    ]
    causes = [cause for cause in causes if cause]
    off = abs(delta) > TOLERANCE * max(1.0, abs(expected_loss))
    if off or causes:
        losses = f"the validation loss is {found_loss:.6g}, {expected_loss:.6g} was saved (tolerance {TOLERANCE:g})"
        if off and not causes:
            causes = ["nothing that is recorded differs, so the activations do: a cache of other weights or images?"]
        raise HandoverError([losses, *causes], delta)
    return delta


def batch_statistics(module: nn.Module) -> list[str]:
    """Names of the BatchNorm modules that would normalise by the batch at hand."""
    norms = [(name, child) for name, child in module.named_modules() if isinstance(child, _BatchNorm)]
    return [name for name, child in norms if child.training or child.running_mean is None]


def _same(here: Tensor, there: Tensor) -> bool:
    return here.shape == there.shape and torch.equal(here.cpu(), there.cpu().to(here.dtype))


def _listed(what: str, names: Sequence[str]) -> str:
    """One sentence that names the first few; empty for none."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{what}: {', '.join(names[:SHOWN])}{more}" if names else ""
