"""What a training step needs beside the images goes to CUDA without a wait for the steps before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raysearch.activations.kept import TensorActivations
from raysearch.recipe import Stage
from raysearch.record.goal import Goal
from raysearch.training.distillation import Teacher
from raysearch.training.images import Images, Labelled
from raysearch.training.loop import Trainer
from tests.copies import copies_to_cuda
from tests.training.tiny import CLASSES, suffix, trainer

CUDA = torch.device("cuda")
MIXED = Stage(depth=1, epochs=1, batch_size=8, mixing="cutmix", mixing_rate=1.0)
PLACES = np.arange(8)


def images_on_cuda(*teachers: torch.nn.Sequential) -> Images:
    """24 of them, and who answers to them."""
    labels, rows = np.arange(24) % 3, TensorActivations(torch.zeros(24, 4, 4, 3, device=CUDA))
    teacher = Teacher(teachers, np.full(24, 0.3, np.float32)) if teachers else None
    return Images(CLASSES, Labelled(rows, labels, teacher), Labelled(rows, labels))


def suffix_on_cuda() -> torch.nn.Sequential:
    with CUDA:
        network = suffix()
    network.to = lambda device: network  # it is there, and fake tensors cannot be moved in their module
    return network


def test_no_copy_of_a_step_is_waited_for():
    """Its images, labels, partners and shares: all but the backward pass, which fake tensors have not."""
    with copies_to_cuda() as copies:
        seen = images_on_cuda(suffix_on_cuda().eval())
        training = Trainer(suffix_on_cuda(), MIXED, seen, seed=0, goal=Goal.of("accuracy", ()), device=CUDA)
        copies.clear()
        step = training.to_step(PLACES, 0, 0)
        inputs, share = step.inputs(PLACES, lambda indices: seen.train.activations.batch(indices, 0))
        step.summed(PLACES, share, training.loss_of(inputs, training.suffix(inputs)))
    assert copies == 6 * ["pinned, not waited for"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA, which tells of each wait for it")
def test_a_step_never_waits_for_cuda():
    training = trainer(MIXED, device=CUDA, train=images_on_cuda().train.activations)
    training.step(training.to_step(PLACES, 0, 0), 0, 1e-3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.step(training.to_step(PLACES, 0, 1), 0, 1e-3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
