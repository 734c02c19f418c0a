"""Checkpoints: written whole or not at all, read without unpickling code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from raysearch.storage.files import replace_with
from raysearch.training.epoch import Figures
from raysearch.training.loop import Trainer
from raysearch.training.signature import Signature

_ANSWERS = "answers."
"""What the names of tensors begin with that are no state of a network."""


class CheckpointError(RuntimeError):
    """A checkpoint is missing or cannot be read; says which file, and what is wrong with it."""


class TensorsInfo(TypedDict):
    """What a file of a suffix's tensors says of itself."""

    epoch: int
    """0: the state that the stage was handed."""
    val_loss: float
    """The next stage must find it again."""
    row: Figures
    """All figures of that epoch."""
    signature: Signature
    held_out: NotRequired[list[float]]
    """The log-loss of each held-out image, if there are any."""


def best_metadata(trainer: Trainer) -> TensorsInfo:
    """What a file of the trainer's best tensors says of itself."""
    return {**describe_tensors(trainer.best, trainer.signature), "held_out": trainer.best_held_out}


def describe_tensors(row: Figures, signature: Signature) -> TensorsInfo:
    """What a file of any epoch's tensors says of itself: `best_metadata` without the held-out images."""
    return {"epoch": row["epoch"], "val_loss": row["val_loss"], "row": row, "signature": signature}


def save_checkpoint(path: Path, payload: Mapping[str, Any]) -> None:
    """Writes tensors, numbers, strings and containers of them.

    Raises:
        OSError: it cannot be written. (torch and safetensors, when they write files themselves, raise errors of their
            own for a full disk, which look like any other.)
    """
    buffer = BytesIO()
    torch.save(dict(payload), buffer)
    replace_with(path, lambda temporary: temporary.write_bytes(buffer.getbuffer()))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads what `save_checkpoint` wrote, tensors on the CPU.

    Raises:
        CheckpointError: there is no such file, or it is damaged or holds more than data.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {str(path)!r}") from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{str(path)!r} is not a readable checkpoint: {error}") from error


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Writes a safetensors file; each value of the metadata as JSON, because the format has room for strings only.

    Raises:
        OSError: it cannot be written.
    """
    strings = {key: json.dumps(value) for key, value in metadata.items()}
    # A layout such as channels_last is not kept by the format, and shared memory is refused.
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    data = save(plain, strings)
    replace_with(path, lambda temporary: temporary.write_bytes(data))


def save_with_answers(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], logits: Tensor, labels: Tensor
) -> None:
    """`save_tensors`, and what they make of validation images, which `load_tensors` passes over.

    Args:
        path, tensors, metadata: as of `save_tensors`.
        logits: shape (n, classes).
        labels: shape (n,).

    Raises:
        OSError: it cannot be written.
    """
    save_tensors(path, {**tensors, f"{_ANSWERS}logits": logits, f"{_ANSWERS}labels": labels}, metadata)


def load_answers(path: Path) -> tuple[Tensor, Tensor]:
    """The logits and labels that `save_with_answers` wrote.

    Raises:
        CheckpointError: there is no such file, or it has none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(f"{_ANSWERS}logits"), file.get_tensor(f"{_ANSWERS}labels")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{str(path)!r} has no answers to validation images: {error}") from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata that `save_tensors` wrote.

    Raises:
        CheckpointError: there is no such file, or it is not a safetensors file of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            names = [name for name in file.keys() if not name.startswith(_ANSWERS)]  # noqa: SIM118 - not a mapping
            return {name: file.get_tensor(name) for name in names}, metadata
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {str(path)!r}") from error
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{str(path)!r} is not a readable safetensors file: {error}") from error
