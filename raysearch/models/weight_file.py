"""Reads a weights file, and fits its tensors to a backbone or says which ones do not fit."""

from __future__ import annotations

import logging
import pickle
import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from raysearch.errors import InputError
from raysearch.models.spec import BackboneSpec

logger = logging.getLogger(__name__)

_NAMED = 5
"""How many tensors a message names."""
_RUBBISH = (
    *(SafetensorError, pickle.UnpicklingError, struct.error, EOFError, OSError, RuntimeError, AssertionError),
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError),
)
"""What the two readers raise on a file that is not theirs, is damaged or cut off (by trying, and by their source)."""
_WRAPPED = ("model", "state_dict", "model_state_dict")
"""Under what a checkpoint holds its tensors."""
_HEADS = re.compile(r"(classifier|heads?|fc\d*|pre_logits|last_linear|linear|logits|projector|criterion|aux\w*)(\.|$)")
"""Names of what stands behind the backbone, in the programs that write such files."""


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file or a torch file (which is told by its content, not its name).

    A torch file is read with `weights_only=True`: it can run no code. It holds tensors by name, alone or under
    "model", "state_dict" or "model_state_dict".

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
    for key in _WRAPPED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(t, Tensor) for t in content.values()):
        raise InputError(f"weights {str(path)!r} is not a weights file: it holds no tensors by name (a state_dict)")
    return {str(name): tensor.detach() for name, tensor in content.items()}, {}


def fit_tensors(spec: BackboneSpec, tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors under the classifier's names, as fp32 on the CPU, exactly those that the backbone's blocks have.

    Takes torchvision's names (`features...`) and this program's own, behind whatever the backbone is called in a larger
    module (`module.`, `model.backbone.`). Classifiers and heads are left out: a new head is what is searched.
    BatchNorm's batch counter, which old files lack and nothing here reads, is 0 where it is missing.

    Raises:
        InputError: tensors are missing, unexpected, of another shape or not finite, and names the first of each; or the
            file holds several backbones.
    """
    expected = spec.expected_tensors()
    tensors = _without_prefix(tensors, ["features", *spec.block_names], source)
    theirs = any(name.startswith("features.") for name in tensors)
    # Names of modules are unique in torchvision, so they tell the block: "norm5" -> "denseblock4.norm5".
    homes = {module: f"{block}.{module}" for block, module, *_ in (name.split(".") for name in expected)}
    found = {}
    for name, tensor in tensors.items():
        # Among torchvision's names, and timm's, only features.* are the backbone's.
        if not _HEADS.match(name) and (not theirs or name.startswith("features.")):
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


def _without_prefix(tensors: Mapping[str, Tensor], starts: Iterable[str], source: str) -> dict[str, Tensor]:
    """The tensors of the backbone, and of what stands beside it, without what all names of the backbone begin with.

    Args:
        tensors: by name.
        starts: parts of a name at which the backbone begins.
        source: for messages.

    Raises:
        InputError: there are several backbones, as in a checkpoint of a student and its teacher.
    """
    begins = set(starts)
    places: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        place = next((place for place, part in enumerate(parts) if part in begins), None)
        if place is not None:
            places["".join(f"{part}." for part in parts[:place])] += 1
    if not places or "" in places:
        return dict(tensors)
    (prefix, most), *others = places.most_common()
    if others and 2 * others[0][1] >= most:
        raise InputError(
            f"{source} holds several backbones: {', '.join(place for place, _ in places.most_common())}; save the "
            "tensors of one of them to a file of its own"
        )
    beside = [name for name in tensors if not name.startswith(prefix)]
    if beside:
        logger.info("%s: left out, as no part of the backbone: %s", source, _first(beside))
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


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
