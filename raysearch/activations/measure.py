"""What an image costs here, in each part of a network: measured on a few batches of noise, for the planner."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from raysearch.activations.base import as_rows
from raysearch.activations.cache import gather
from raysearch.activations.forecast import Costs, DepthCosts
from raysearch.activations.live import LiveActivations
from raysearch.data.augment import Augmenter
from raysearch.models.boundary import block_names, cut, prepare
from raysearch.models.head import Pool
from raysearch.models.memory import within_memory
from raysearch.models.precision import autocast, full_precision
from raysearch.recipe import Augmentation

_PIXELS_ON_CPU = 1 << 18  # a batch; a larger one costs no less an image, and at 224 px takes long
_RUNS, _SECONDS = 5, 0.5


def measure(
    classifier: nn.Sequential,
    *,
    image_size: int,
    batch_size: int,
    device: torch.device,
    precision: str,
    depths: Iterable[int],
    augmentation: Augmentation | None = None,
) -> Costs:
    """Times prefix and suffix at each depth, on copies of the classifier; seconds in all for small images.

    Args:
        classifier: of the search; its weights do not matter.
        image_size: pixels.
        batch_size: images a step.
        device: where trials will run, on as many threads as this process has now.
        precision: of the training: fp32, bf16 or fp16.
        depths: to measure.
        augmentation: the transforms, timed at half strength; None: the default ones.
    """
    n = batch_size
    if device.type == "cpu":
        n = max(1, min(n, _PIXELS_ON_CPU // image_size**2))
    pixels = np.random.default_rng(0).integers(0, 256, (n, image_size, image_size, 3), np.uint8)
    augmenter = Augmenter(augmentation or Augmentation(), 0.5, 0)
    every = np.arange(n)
    exact, _ = within_memory(lambda size: _measure_exact(classifier, pixels[:size], device), n)

    def at(depth: int) -> DepthCosts:
        """Where training would take its batch in pieces, they are what is timed."""

        def with_images(size: int) -> DepthCosts:
            return _measure_depth(classifier, depth, pixels[:size], device, precision, exact)

        return within_memory(with_images, n)[0]

    augment = seconds_of(lambda: augmenter(pixels, every, 0), device) / n
    return Costs(augment=augment, depths={depth: at(depth) for depth in depths})


def _measure_exact(classifier: nn.Sequential, pixels: np.ndarray, device: torch.device) -> float:
    """Seconds an image of the whole network, as it is evaluated."""
    whole, inputs = copy.deepcopy(classifier).eval().to(device), prepare(pixels, device)
    with full_precision(device):
        return seconds_of(lambda: _evaluate(whole, inputs), device) / len(pixels)


def _measure_depth(
    classifier: nn.Sequential, depth: int, pixels: np.ndarray, device: torch.device, precision: str, exact: float
) -> DepthCosts:
    prefix, suffix = cut(copy.deepcopy(classifier).eval().to(device), depth)
    n, every = len(pixels), np.arange(len(pixels))
    live = LiveActivations(pixels, prefix, augmenter=None, device=device, precision=precision)
    inputs = live.batch(every, 0)
    numbers = inputs[0].numel()
    if isinstance(pool := prefix[-1] if len(prefix) else None, Pool) and pool.kind != "both":
        numbers *= 2
    stored = np.zeros((4 * n, *as_rows(inputs).shape[1:]), np.float16)
    scattered = np.random.default_rng(0).permutation(len(stored))[:n]
    frozen = depth < len(block_names(classifier))
    with full_precision(device):
        evaluate = seconds_of(lambda: _evaluate(suffix, inputs), device) / n
    return DepthCosts(
        prefix=seconds_of(lambda: live.batch(every, 0), device) / n if frozen else 0.0,
        suffix=seconds_of(_training_step(suffix, inputs, precision if depth else "fp32"), device) / n,
        exact=max(0.0, exact - evaluate) if frozen else 0.0,
        evaluate=evaluate,
        read=seconds_of(lambda: gather(stored, scattered, device), device) / n,
        numbers=numbers,
    )


def _training_step(suffix: nn.Sequential, inputs: Tensor, precision: str) -> Callable[[], object]:
    """A training step like the loop's (`raysearch.training.loop`), with BatchNorm frozen."""
    parameters = list(suffix.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    labels = torch.zeros(len(inputs), dtype=torch.long, device=inputs.device)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(inputs.device, precision):
            logits = suffix(inputs).float()
        functional.cross_entropy(logits, labels).backward()
        optimizer.step()

    return step


@torch.no_grad()
def _evaluate(suffix: nn.Sequential, inputs: Tensor) -> Tensor:
    result: Tensor = suffix(inputs)
    return result


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """How long some work takes: the median of a few runs, after one to warm up.

    Args:
        work: what is run.
        device: that it runs on, which is waited for.
    """
    runs: list[float] = []
    _run(work, device)
    while len(runs) < _RUNS and sum(runs) < _SECONDS:
        runs.append(_run(work, device))
    return median(runs)


def _run(work: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - began
