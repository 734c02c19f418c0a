"""The hand-over gate: a stage begins with exactly the function that the stage before ended with, or the trial fails.

It rules out the classic failure of stacking: a head that scores 0.95 on saved features scores 0.5 on its backbone,
because something between the two differs. The gate measures that, and names it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raysearch.models import boundary
from raysearch.training.loop import Trainer

TOLERANCE = 1e-4
"""How far the loss may be off, relative to max(1, loss): the activations of validation images are always fp32."""
SHOWN = 3
"""Tensor names shown in a message before it only counts."""

_NAMES = {
    "base": "base weights (digest)",
    "pooling": "pooling",
    "normalization": "preprocessing: normalization of the pixels (what black and white become, by channel)",
    "image_size": "preprocessing: image size",
    "fit": "preprocessing: fit",
    "images": "images (fingerprint)",
    "classes": "label order: classes",
    "val_labels": "label order: digest of the validation labels",
}


class HandoverError(RuntimeError):
    """A stage does not begin where the stage before ended; `problems` says what differs, a sentence each."""

    def __init__(self, problems: Sequence[str], delta: float | None = None) -> None:
        super().__init__("\n  ".join(["the hand-over between two stages failed:", *problems]))
        self.problems, self.delta = tuple(problems), delta


def signature(
    classifier: nn.Sequential,
    suffix: nn.Sequential,
    *,
    base: str,
    images: str,
    image_size: int,
    fit: str,
    classes: Sequence[str],
    val_labels: np.ndarray,
) -> dict[str, Any]:
    """What a suffix fits, as plain JSON: two that agree compute the same losses from the same tensors.

    Taken from the things themselves where that is possible: the pooling from the module, the normalization from what
    becomes of a black and a white pixel.

    Args:
        classifier: the whole network, of which `suffix` is the trained part.
        base: digest of the backbone's pretrained weights.
        images: fingerprint of the images.
        image_size: in pixels.
        fit: how an image became square.
        classes: names, in the order of the logits.
        val_labels: integer (n,).
    """
    extremes = np.stack([np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)])
    return {
        "base": base,
        "pooling": str(getattr(classifier.get_submodule("pool"), "kind", "unknown")),
        "normalization": boundary.prepare(extremes, torch.device("cpu")).flatten(1).tolist(),
        "image_size": image_size,
        "fit": fit,
        "images": images,
        "classes": list(classes),
        "val_labels": hashlib.sha256(np.asarray(val_labels, dtype="<i8").tobytes()).hexdigest(),
        "tensors": {name: list(tensor.shape) for name, tensor in suffix.state_dict().items()},
    }


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two signatures disagree in, a sentence each; tensors aside, for the next stage opens more of them."""
    return [
        f"{label}: was {json.dumps(saved[key])}, is {json.dumps(now[key])}"
        for key, label in _NAMES.items()
        if key in saved and key in now and saved[key] != now[key]
    ]


def load_start(suffix: nn.Sequential, start: Mapping[str, Tensor], saved: Mapping[str, Any]) -> list[str]:
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
    saved: Mapping[str, Any] | None = None,
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
