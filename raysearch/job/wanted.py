"""What a search is asked to be about: the flags, and what stands for those that were not typed."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from raysearch.data.pixels import MIN_IMAGE_SIZE
from raysearch.job.flags import Flags
from raysearch.recipe import SHARED, Fit, Shared
from raysearch.record.metric import parts
from raysearch.space.space import Space


@dataclass(frozen=True)
class Wanted:
    """Flags of which each has a default, or may be given by the space."""

    data: str = "cifar10-mini"
    backbone: str = "densenet121"
    weights: str = "auto"
    metric: str = "accuracy"
    device: str = "auto"
    fit: Fit = "squash"
    image_size: int | None = None
    """pixels; None: the images' own."""
    seed: int = 0

    @classmethod
    def of(cls, flags: Flags) -> Wanted:
        """What was typed; for the rest, the defaults."""
        typed = {field.name: getattr(flags, field.name) for field in fields(cls)}
        if flags.metric is not None:  # several are written in one way, whatever was typed between them
            typed["metric"] = ",".join(parts(flags.metric))
        return cls(**{name: value for name, value in typed.items() if value is not None})

    def within(self, space: Space) -> Wanted:
        """The same, with what the space itself fixes."""
        return replace(self, **{name: space.tree[name] for name in SHARED if name in space.tree})

    @property
    def shared(self) -> Shared:
        """What a space is checked with; a number that is refused elsewhere is replaced by one that no space refuses.

        The image size may be the images' own, which is not known yet: a space does not depend on it.
        """
        return {
            "backbone": self.backbone,
            "weights": self.weights,
            "image_size": 32 if self.image_size is None else max(MIN_IMAGE_SIZE, self.image_size),
            "fit": self.fit,
            "seed": max(0, self.seed),
        }
