"""Mixing: what of an image is another's, that its labels count by the same share, and who is mixed with whom."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn import functional

from raysearch.recipe import Stage
from raysearch.training.mixing import Mixing, Step
from tests.training.tiny import run, trainer

MAPS = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4)


def mixing(kind: str, share: float, corner: tuple[float, float] = (0.0, 0.0)) -> Mixing:
    return Mixing(kind, np.array([1, 0]), share, corner)


def test_mixup_blends():
    mixed, share = mixing("mixup", 0.25).mix(torch.tensor([[4.0, 8.0]]), torch.tensor([[0.0, 16.0]]))
    assert (mixed.tolist(), share) == ([[1.0, 14.0]], 0.25)


def test_cutmix_cuts_a_rectangle_whose_area_is_the_share():
    """Of 4 by 4 places a quarter is another's: 2 by 2, in the corner that was drawn; the rest stays."""
    mixed, share = mixing("cutmix", 0.75, (0.99, 0.0)).mix(MAPS.clone(), -MAPS)
    assert share == 0.75
    theirs = torch.zeros(4, 4, dtype=torch.bool)
    theirs[2:, :2] = True
    assert torch.equal(mixed, torch.where(theirs, -MAPS, MAPS))


def test_the_share_is_that_of_whole_places():
    """A third is drawn to be the other's: of 16 places a square has 4 (2 by 2), so 3 of 4 are its own."""
    assert mixing("cutmix", 2 / 3).mix(MAPS.clone(), -MAPS)[1] == 0.75


@given(share=st.floats(0, 1), down=st.floats(0, 1, exclude_max=True), across=st.floats(0, 1, exclude_max=True))
def test_cutmix_stays_in_the_map(share, down, across):
    mixed, own = mixing("cutmix", share, (down, across)).mix(torch.ones(1, 1, 5, 3), torch.zeros(1, 1, 5, 3))
    assert mixed.mean().item() == pytest.approx(own)


def test_labels_count_by_their_share():
    """The loss of mixed images is the cross-entropy with both labels, each with its part."""
    logits, labels = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]]), torch.tensor([0, 2])
    step = Step(np.array([7, 5]), labels, mixing("mixup", 0.75))
    found = step.summed(np.arange(2), 0.75, lambda target, _: functional.cross_entropy(logits, target, reduction="sum"))
    mass = torch.tensor([[0.75, 0.0, 0.25], [0.25, 0.0, 0.75]])
    assert found.item() == pytest.approx(functional.cross_entropy(logits, mass, reduction="sum").item())


def test_a_piece_of_a_step_reads_its_partners():
    values = torch.tensor([[10.0], [20.0], [30.0], [40.0]])
    step = Step(np.array([3, 1, 0, 2]), torch.zeros(4), Mixing("mixup", np.array([2, 3, 1, 0]), 0.5, (0.0, 0.0)))
    whole, _ = step.inputs(np.arange(4), lambda indices: values[indices])
    assert whole.flatten().tolist() == [(40 + 10) / 2, (20 + 30) / 2, (10 + 20) / 2, (30 + 40) / 2]
    piece, share = step.inputs(np.array([1, 2]), lambda indices: values[indices])
    assert (piece.tolist(), share) == (whole[1:3].tolist(), 0.5)


@given(st.integers(0, 9), st.floats(0.05, 0.95))
def test_as_many_steps_are_mixed_as_the_rate_says(seed, rate):
    stage = Stage(depth=1, epochs=1, mixing="cutmix", mixing_rate=rate)
    drawn = [Mixing.draw(stage, 5, (seed, 0, step)) for step in range(400)]
    assert np.mean([one is not None for one in drawn]) == pytest.approx(rate, abs=0.12)
    assert all(sorted(one.partners) == [0, 1, 2, 3, 4] for one in drawn if one is not None)


def test_a_small_alpha_mixes_all_or_nothing():
    stage = Stage(depth=1, epochs=1, mixing="mixup", mixing_rate=1.0, mixing_alpha=0.01)
    shares = [one.share for step in range(200) if (one := Mixing.draw(stage, 2, (0, 0, step)))]
    assert np.mean([min(share, 1 - share) < 0.01 for share in shares]) > 0.9


def test_no_rate_is_no_mixing():
    plain, never = Stage(depth=1, epochs=2, batch_size=8), {"mixing": "cutmix", "mixing_rate": 0.0}
    expected = run(trainer(plain))
    assert run(trainer(plain.model_copy(update=never))) == expected
    assert run(trainer(plain.model_copy(update={**never, "mixing_rate": 1.0}))) != expected


def test_a_head_alone_has_no_maps_to_mix():
    with pytest.raises(ValidationError, match="mixing cutmix needs an unfrozen block"):
        Stage(depth=0, epochs=1, mixing="cutmix")
