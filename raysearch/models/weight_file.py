"""Reads the tensors of a weights file, and lets it run no code."""

from __future__ import annotations

import argparse
import logging
import pathlib
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from raysearch.errors import InputError

logger = logging.getLogger(__name__)

_RUBBISH = (
    *(SafetensorError, pickle.UnpicklingError, struct.error, EOFError, OSError, RuntimeError, AssertionError),
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError),
)
"""What the two readers raise on a file that is not theirs, is damaged or cut off (by trying, and by their source)."""
_WRAPPED = ("state_dict_ema", "model_ema", "ema", "model", "state_dict", "model_state_dict", "network")
"""Under what checkpoints of torchvision, timm and Lightning hold tensors; the averaged ones before the others."""
_SCALAR = np._core.multiarray.scalar  # type: ignore[attr-defined]  # what numpy pickles a number by
_HARMLESS = (
    *(argparse.Namespace, pathlib.PosixPath, np.dtype, type(np.dtype(np.float64))),
    *(_SCALAR, (_SCALAR, "numpy.core.multiarray.scalar")),
)
"""What checkpoints of timm and torchvision hold beside tensors (arguments, paths, figures): values that run nothing."""


def read_shapes(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The same on the meta device; of a safetensors file only the header is read.

    Raises:
        InputError: as `read_tensors`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            shapes = {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in names}
            return shapes, file.metadata() or {}
    except _RUBBISH:
        tensors, metadata = read_tensors(path)
    return {name: tensor.to("meta") for name, tensor in tensors.items()}, metadata


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file or a torch file (which is told by its content, not its name).

    A torch file is read with `weights_only=True`: it can run no code. It holds tensors by name, alone or under one of
    `_WRAPPED`.

    Raises:
        InputError: there is no such file, or it is not a weights file.
    """
    if not path.is_file():
        raise InputError(f"weights {str(path)!r}: no such file; give auto, imagenet, random or the path of a file")
    with path.open("rb") as file:
        start = file.read(9)
    try:
        if start[8:] == b"{":  # a safetensors file is eight bytes of length, then JSON
            with safe_open(path, framework="pt") as tensors:
                return {name: tensors.get_tensor(name) for name in tensors.keys()}, tensors.metadata() or {}  # noqa: SIM118
        # Given a path, torch would go by the file's name.
        with path.open("rb") as file, torch.serialization.safe_globals([*_HARMLESS]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except _RUBBISH as error:
        if isinstance(error, SafetensorError):
            reason = str(error)
        elif start.startswith((b"PK", b"\x80")):  # torch's own reason advises to let the file run its code
            reason = "it is damaged, or holds more than tensors, and opening that could run code"
        else:
            reason = "it is neither a safetensors nor a torch file"
        raise InputError(
            f"weights {str(path)!r} is not a weights file: {reason}; give a .safetensors file, or what torch.save made "
            "of model.state_dict()"
        ) from error
    for key in _WRAPPED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            if key in _WRAPPED[:3]:
                logger.info("weights %s: the averaged tensors, under %r, are taken", path, key)
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(t, Tensor) for t in content.values()):
        raise InputError(f"weights {str(path)!r} is not a weights file: it holds no tensors by name (a state_dict)")
    return {str(name): tensor.detach() for name, tensor in content.items()}, {}
