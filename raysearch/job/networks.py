"""The networks that a search chooses among, with their weights and the sizes in which they see images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raysearch.data.dataset import Dataset
from raysearch.data.value_range import PixelRange
from raysearch.errors import InputError, Problems
from raysearch.models.registry import backbone_spec
from raysearch.models.shelf import Shelf
from raysearch.models.weights import Weights, load_weights
from raysearch.recipe import NATIVE, named_network, network_name
from raysearch.record.info import RunInfo
from raysearch.space.networks import native_size


@dataclass(frozen=True, eq=False)
class Networks:
    """Several networks, each with its weights, the default's first."""

    weights: dict[str, Weights]
    """By NAME=WEIGHTS@PX, where WEIGHTS loads the same again; without @PX, the network takes the search's own size."""
    shelf: Shelf
    """The same, as benches read them."""
    left_out: tuple[str, ...] = ()
    """Of those at hand, which cannot be used, and why."""

    @property
    def names(self) -> tuple[str, ...]:
        """As NAME=WEIGHTS@PX."""
        return tuple(self.weights)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that networks ask for, in pixels, each once."""
        found = (named_network(name).image_size for name in self.weights)
        return tuple(dict.fromkeys(size for size in found if isinstance(size, int)))

    @classmethod
    def load(cls, named: Sequence[str], weights: str, seed: int, *, at_hand: bool = False) -> Networks:
        """Load what is named.

        Args:
            named: networks, as NAME[=WEIGHTS][@PX|@native].
            weights: of those without.
            seed: draws random weights.
            at_hand: whether what cannot be used is left out, instead of refused: nobody has named it.

        Raises:
            InputError: all that cannot be had, together.
        """
        problems, left_out, shelf = Problems(), list[str](), Shelf(seed)
        found: dict[str, Weights] = {}
        names: dict[str, str] = {}
        for one in named:
            backbone, own, size = named_network(one)
            try:
                loaded = load_weights(backbone, own or weights, seed)
            except InputError as error:
                reasons = [f"{one}: {problem}" for problem in error.problems]
                left_out += reasons if at_hand else []
                problems.found += [] if at_hand else reasons
                continue
            size = native_size(backbone) if size == NATIVE else size
            name = network_name(backbone, loaded.again, size or "")
            if name in names:
                problems.check(at_hand, _once(names[name], one))
                continue
            shelf.put(backbone, loaded)
            names[name], found[name] = one, loaded
        problems.stop_if_any()
        if not found:
            raise InputError(["no network can be used", *left_out])
        return cls({name.removesuffix("@"): one for name, one in found.items()}, shelf, tuple(left_out))

    def sized(self, image_size: int, *, at_hand: bool) -> Networks:
        """The same, each in its size, as far as networks take it.

        Args:
            image_size: of those that ask for none, pixels.
            at_hand: as of `load`.

        Raises:
            InputError: some cannot take their size, and were named; or none can; or two are one by now.
        """
        found: dict[str, Weights] = {}
        wrong: list[str] = []
        for name, one in self.weights.items():
            backbone, _, own = named_network(name)
            size = own if isinstance(own, int) else image_size
            problems = backbone_spec(backbone).problems(image_size=size, depth=0)
            full = network_name(backbone, one.again, size)
            problems += [_once(full, name)] if full in found and not at_hand else []
            wrong += problems
            if not problems:
                found[full] = one
        if wrong and (not at_hand or not found):
            raise InputError(wrong)
        return Networks(found, self.shelf, (*self.left_out, *wrong))

    def changed_since(self, info: RunInfo) -> list[str]:
        """The networks whose weights are not those that a run was started with."""
        before = {one["network"]: one["digest"] for one in info.get("networks", [])}
        return [name for name, one in self.weights.items() if before.get(name) != one.digest]


def in_all_sizes(dataset: Dataset, sizes: Sequence[int], load: Callable[[int, PixelRange | None], Dataset]) -> Dataset:
    """The images of a search in every size that its networks ask for, each decoded from the source.

    Args:
        dataset: in the size that is decoded first, which decides which images there are.
        sizes: pixels.
        load: the source in another size, of these values, with all copies of test images.

    Raises:
        InputError: an image cannot be had in one of them.
    """
    return dataset.with_sizes(load(size, dataset.notes.pixel_range) for size in sizes if size != dataset.image_size)


def _once(one: str, other: str) -> str:
    return f"backbone: {one} and {other} are one network; name it once"
