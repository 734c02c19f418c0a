"""Reads a weights file, and fits its tensors to a backbone or says which ones do not fit."""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from raysearch.errors import InputError
from raysearch.models.spec import BackboneSpec

_NAMED = 5
"""How many tensors a message names."""
_RUBBISH = (
    *(SafetensorError, pickle.UnpicklingError, struct.error, EOFError, OSError, RuntimeError, AssertionError),
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError),
)
"""What the two readers raise on a file that is not theirs, is damaged or cut off (by trying, and by their source)."""


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file or a torch file (which is told by its content, not its name).

    A torch file is read with `weights_only=True`: it can run no code. It holds tensors by name, alone or under
    "model" or "state_dict".

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
        with path.open("rb") as file:  # given a path, torch would go by the file's name
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
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(t, Tensor) for t in content.values()):
        raise InputError(f"weights {str(path)!r} is not a weights file: it holds no tensors by name (a state_dict)")
    return {str(name): tensor.detach() for name, tensor in content.items()}, {}


def fit_tensors(spec: BackboneSpec, tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors under the classifier's names, as fp32 on the CPU, exactly those that the backbone's blocks have.

    Takes torchvision's names (`features...`) and this program's own. Classifiers and heads are left out: a new head is
    what is searched. BatchNorm's batch counter, which old files lack and nothing here reads, is 0 where it is missing.

    Raises:
        InputError: tensors are missing, unexpected, of another shape or not finite; names the first of each.
    """
    expected = spec.expected_tensors()
    # Names of modules are unique in torchvision, so they tell the block: "norm5" -> "denseblock4.norm5".
    homes = {module: f"{block}.{module}" for block, module, *_ in (name.split(".") for name in expected)}
    found = {}
    for name, tensor in tensors.items():
        if not name.startswith(("classifier.", "head.")):
            found[_own_name(name, homes)] = tensor
    for name, wanted in expected.items():
        if name not in found and name.endswith(".num_batches_tracked"):
            found[name] = torch.zeros(wanted.shape, dtype=wanted.dtype)
    fitting = {
        name: found[name].to("cpu", wanted.dtype).contiguous()
        for name, wanted in expected.items()
        if name in found and found[name].shape == wanted.shape
    }
    misfits = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {tuple(found[name].shape)} instead of {tuple(wanted.shape)}"
            for name, wanted in expected.items()
            if name in found and name not in fitting
        ],
        "not finite": [name for name, tensor in fitting.items() if not torch.isfinite(tensor).all()],
    }
    if said := [f"{_first(names)} {what}" for what, names in misfits.items() if names]:
        raise InputError(f"{source} does not fit {spec.name}: {'; '.join(said)}")
    return fitting


def _own_name(name: str, homes: Mapping[str, str]) -> str:
    """Our name of a tensor of torchvision's; a name that is none of torchvision's stays."""
    if not name.startswith("features."):
        return name
    # torchvision's published DenseNet files are older than its module names: norm.1 is norm1 there.
    name = re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", name)
    module, _, rest = name.removeprefix("features.").partition(".")
    return f"{homes[module]}.{rest}" if module in homes else name


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
