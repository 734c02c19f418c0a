"""Devices and precisions by name, and random numbers that stay where they belong."""

from __future__ import annotations

import pytest
import torch

from raysearch.errors import InputError
from raysearch.models.precision import PRECISIONS, autocast, full_precision
from raysearch.training.numerics import choose_device, choose_precision, seeded

CPU = torch.device("cpu")


def test_auto_is_a_device_that_works():
    device = choose_device("auto")
    assert torch.ones(2, device=device).sum().item() == 2
    assert choose_precision(device) in PRECISIONS


def test_a_device_that_is_not_there_or_not_known_is_refused():
    with pytest.raises(InputError, match="'tpu' is unknown; give one of auto, cpu"):
        choose_device("tpu")
    for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if not there:
            with pytest.raises(InputError, match=f"{name!r} is not there; this machine has cpu"):
                choose_device(name)
        else:
            assert choose_device(name).type == name


def test_autocast_computes_in_the_precision_named():
    for name, dtype in PRECISIONS.items():
        with autocast(CPU, name):
            assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


def test_seeded_draws_the_same_and_puts_the_processs_state_back():
    before = torch.get_rng_state()
    drawn = []
    for entropy in ((1, 2), (1, 2), (2, 1)):
        with seeded(CPU, *entropy):
            drawn.append(torch.rand(4).tolist())
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_full_precision_turns_tf32_off_and_on_again():
    """The switches can be thrown without a GPU."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with full_precision(torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before
