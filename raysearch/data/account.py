"""The account of an intake: what a source was taken as, what was passed over or not read, and what looks odd.

Each step of the intake adds its lines: the finder of a source says how it read it, decoding what the images are like.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from raysearch.data.names import one_line

EXAMPLES = 3
"""Names that a line of the account shows."""


@dataclass(frozen=True)
class Tally:
    """Things of one kind that were passed over.

    Attributes:
        what: the kind, in the plural, e.g. "HEIC photos".
        count: how many there are.
        examples: the first few names.
        remedy: what to do if they were meant to be read; "" where nobody would want it.
    """

    what: str
    count: int
    examples: tuple[str, ...] = ()
    remedy: str = ""

    def line(self) -> str:
        """The tally as a sentence without its full stop."""
        named = ", ".join(self.examples) + (", …" if self.count > len(self.examples) else "")
        return (
            f"{self.count:,} {self.what}" + (f" ({named})" if named else "") + (f": {self.remedy}" * bool(self.remedy))
        )


@dataclass(frozen=True)
class Doubt:
    """Something that is probably wrong: a sentence on what it is, and one on the way out."""

    what: str
    remedy: str

    def line(self) -> str:
        """Both sentences."""
        return f"{self.what} {self.remedy}".strip()


@dataclass(frozen=True)
class Copies:
    """Images whose decoded pixels are the same, byte for byte.

    Attributes:
        across: images of one split that another one has too, e.g. {"train-test": 12}: 12 images of train.
        removed: how many were taken out of each split for it.
        kept: whether copies across splits were kept on purpose.
        within: images of a split that are copies of another one in it.
        two_labels: distinct pictures that stand under more than one label.
        examples: of copies across splits, "train/cat/1.png is test/cat/9.png".
        label_examples: of pictures under two labels, "cat/1.png is dog/7.png".
    """

    across: Mapping[str, int] = field(default_factory=dict)
    removed: Mapping[str, int] = field(default_factory=dict)
    kept: bool = False
    within: Mapping[str, int] = field(default_factory=dict)
    two_labels: int = 0
    examples: tuple[str, ...] = ()
    label_examples: tuple[str, ...] = ()

    def doubts(self) -> list[Doubt]:
        """What of it is probably wrong."""
        found = []
        if self.across:
            told = ", ".join(
                f"{n:,} of {one} {'are' if n != 1 else 'is'} in {other} too"
                for (one, _, other), n in ((pair.partition("-"), n) for pair, n in self.across.items())
            )
            done = (
                "They were kept, so the test figure is no figure of unseen images."
                if self.kept
                else f"{_sum_up(self.removed)} left out, so that no test image is trained on; --keep-copies keeps them."
            )
            found.append(Doubt(f"Copies of images lie in several splits: {told} (e.g. {self.examples[0]}).", done))
        if self.two_labels:
            found.append(
                Doubt(
                    f"{self.two_labels:,} picture{'s' * (self.two_labels != 1)} "
                    f"stand{'s' * (self.two_labels == 1)} under two labels "
                    f"({'; '.join(self.label_examples)}).",
                    "At most one of the labels is right: take the other copies away.",
                )
            )
        return found


@dataclass(frozen=True)
class Look:
    """What the images are like, as they were met while they were decoded.

    Attributes:
        modes: images of each pixel format, by Pillow's name for it, e.g. {"RGB": 90, "L": 10}.
        sizes: smallest, median and largest (width, height) in pixels, by area; empty where no image was read.
    """

    modes: Mapping[str, int] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()

    def line(self) -> str:
        """The look as a sentence without its full stop."""
        if not self.sizes:
            return ""
        small, middle, large = (f"{width} x {height}" for width, height in self.sizes)
        size = f"all of {small} px" if small == large else f"{small} to {large} px, {middle} in the middle"
        modes = ", ".join(f"{n:,} {name}" for name, n in sorted(self.modes.items(), key=lambda item: -item[1]))
        return f"{size}; {modes}"


@dataclass(frozen=True)
class Account:
    """What a person is told of an intake before a search, and what run.json keeps of it.

    Attributes:
        reading: what the source was taken as, a sentence.
        notes: further lines to know of, a sentence each, e.g. the range of the pixels.
        passed_over: files that are no part of it, by kind.
        not_read: columns, arrays and keys that nothing read, a phrase each, e.g. "the column age".
        doubts: what is probably wrong.
        counts: images by split and class, after everything was taken out that is left out.
        copies: see `Copies`; None before the images are decoded.
        look: see `Look`; None before the images are decoded.
    """

    reading: str = ""
    notes: tuple[str, ...] = ()
    passed_over: tuple[Tally, ...] = ()
    not_read: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    copies: Copies | None = None
    look: Look | None = None

    def adding(
        self,
        *,
        notes: Iterable[str] = (),
        passed_over: Iterable[Tally] = (),
        not_read: Iterable[str] = (),
        doubts: Iterable[Doubt] = (),
    ) -> Account:
        """The account with more lines."""
        return replace(
            self,
            notes=(*self.notes, *notes),
            passed_over=(*self.passed_over, *passed_over),
            not_read=(*self.not_read, *not_read),
            doubts=(*self.doubts, *doubts),
        )

    def with_decoded(self, decoded: Account) -> Account:
        """The account of a listing, joined with what was found while it was decoded."""
        joined = self.adding(
            notes=decoded.notes, passed_over=decoded.passed_over, not_read=decoded.not_read, doubts=decoded.doubts
        )
        return replace(joined, counts=decoded.counts, copies=decoded.copies, look=decoded.look)

    @property
    def leaks(self) -> bool:
        """Whether test images, or copies of them, may have been trained on or chosen by."""
        return self.copies is not None and self.copies.kept and bool(self.copies.across)

    def lines(self) -> list[str]:
        """The account in a few lines; what is doubted is not among them."""
        lines = [self.reading] if self.reading else []
        if self.look is not None and self.look.line():
            lines.append(f"Images: {self.look.line()}.")
        lines += self.notes
        lines += [f"Passed over: {tally.line()}." for tally in self.passed_over]
        if self.not_read:
            lines.append(f"Not read: {', '.join(self.not_read)}.")
        if self.copies is not None and self.copies.within:
            told = ", ".join(f"{n:,} in {split}" for split, n in self.copies.within.items())
            lines.append(f"Copies of an image within a split: {told}.")
        return lines

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads, with the lines and doubts as text for those who only show them."""
        return {
            **asdict(self),
            "lines": [one_line(line) for line in self.lines()],
            "warnings": [one_line(doubt.line()) for doubt in self.doubts],
            "leaks": self.leaks,
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Account:
        """The account that `as_json` made the tree of.

        Raises:
            KeyError, TypeError: it is no such tree.
        """
        copies, look = tree["copies"], tree["look"]
        return cls(
            reading=tree["reading"],
            notes=tuple(tree["notes"]),
            passed_over=tuple(Tally(**{**one, "examples": tuple(one["examples"])}) for one in tree["passed_over"]),
            not_read=tuple(tree["not_read"]),
            doubts=tuple(Doubt(**one) for one in tree["doubts"]),
            counts=tree["counts"],
            copies=None
            if copies is None
            else Copies(
                **{
                    **copies,
                    "examples": tuple(copies["examples"]),
                    "label_examples": tuple(copies["label_examples"]),
                }
            ),
            look=None if look is None else Look(look["modes"], tuple(tuple(size) for size in look["sizes"])),
        )


class Tallies:
    """Counts things by kind as they come, and keeps the first names of each."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._counts: dict[tuple[str, str], int] = defaultdict(int)

    def add(self, what: str, name: str, remedy: str = "", *, count: int = 1) -> None:
        """Count `count` more of a kind, of which `name` is an example."""
        kind = (what, remedy)
        self._counts[kind] += count
        if len(self._names[kind]) < EXAMPLES:
            self._names[kind].append(name)

    def result(self) -> tuple[Tally, ...]:
        """A tally a kind, the most frequent first."""
        kinds = sorted(self._counts, key=lambda kind: -self._counts[kind])
        return tuple(Tally(what, self._counts[what, way], tuple(self._names[what, way]), way) for what, way in kinds)


def _sum_up(removed: Mapping[str, int]) -> str:
    told = " and ".join(f"{n:,} image{'s' * (n != 1)} of {split}" for split, n in removed.items() if n)
    return f"{told} {'is' if sum(removed.values()) == 1 else 'are'}"
