"""The formats that a winner is exported in: how a file of each is written, and read back by its own runtime."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from raysearch.models.normalization import IMAGENET_MEAN, IMAGENET_STD

Format = Literal["onnx", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}

NEEDS: dict[Format, tuple[str, ...]] = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch": ()}
"""The packages that a format needs beside torch."""

OUTPUTS = ("logits", "probabilities")
"""The names of what a file computes, in this order."""

_INSIDE = "raysearch.json"  # the description's name within the file
_EXAMPLES = 2  # images to trace the network with: of a batch of one, torch.export would make a constant

Computes = Callable[[np.ndarray], np.ndarray]
"""What a file computes: uint8 images (n, h, w, 3) in, logits (n, classes) out."""


class Exportable(nn.Module):
    """The classifier with its normalisation before it and the softmax behind it.

    Takes uint8 (n, image_size, image_size, 3), RGB; returns logits and probabilities, both float32 (n, classes).
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and probabilities of a batch."""
        logits = self.classifier((images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std)
        return logits, torch.softmax(logits, dim=1)


def problems_of(file: Path, kind: Format) -> list[str]:
    """What keeps a file of that kind from being written there, a sentence each."""
    problems = []
    if absent := [name for name in NEEDS[kind] if importlib.util.find_spec(name) is None]:
        problems.append(f"--format {kind} needs {', '.join(absent)}: pip install 'raysearch[export]'")
    if file.suffix != SUFFIXES[kind]:
        problems.append(f"--out {file}: a file of --format {kind} must end in {SUFFIXES[kind]}")
    elif file.is_dir():
        problems.append(f"--out {file} is a folder; name the file")
    return problems


def write_file(model: Exportable, kind: Format, path: Path, image_size: int, described: str) -> None:
    """Write one file.

    Args:
        model: in eval mode, on the CPU.
        kind: of the file.
        path: of the file.
        image_size: height and width of an image, pixels.
        described: what is kept within the file, JSON.
    """
    example = torch.zeros((_EXAMPLES, image_size, image_size, 3), dtype=torch.uint8)
    {"onnx": _write_onnx, "torch": _write_torch}[kind](model, path, example, described)


def read_file(kind: Format, path: Path) -> Computes:
    """The file as its runtime computes it."""
    return {"onnx": _read_onnx, "torch": _read_torch}[kind](path)


def _write_onnx(model: nn.Module, path: Path, example: Tensor, described: str) -> None:
    program = torch.onnx.export(
        model,
        (example,),
        dynamo=True,
        input_names=["images"],
        output_names=list(OUTPUTS),
        dynamic_shapes={"images": {0: "batch"}},
        verbose=False,
    )
    assert program is not None  # it is for dynamo=True
    program.model.graph.metadata_props.clear()
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces of the machine that it was written on
    program.model.metadata_props[_INSIDE] = described
    program.save(path, external_data=False)


def _read_onnx(path: Path) -> Computes:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})[0]


def _write_torch(model: nn.Module, path: Path, example: Tensor, described: str) -> None:
    shapes = {"images": {0: torch.export.Dim("batch", min=1)}}
    program = torch.export.export(model, (example,), dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of the machine that it was written on
    torch.export.save(program, path, extra_files={_INSIDE: described})


def _read_torch(path: Path) -> Computes:
    program = torch.export.load(path).module()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return program(torch.from_numpy(images))[0].numpy()

    return run
