"""What a search says of its images: before it begins, on its page, and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

Intake = Mapping[str, Any]
"""The account of the images as run.json has it (see `raysearch.data.account.Account.as_json`); runs of older versions
have none."""

_SHOWN = 8
"""Warnings that are spelled out before a search."""


def show_intake(intake: Intake, console: Console, most: int = _SHOWN) -> None:
    """Print the account, a line each, and in yellow what is probably wrong."""
    for line in intake.get("lines", []):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    warnings = intake.get("warnings", [])
    for warning in warnings[:most]:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    if len(warnings) > most:
        more = f"{len(warnings) - most} more warnings: raysearch data SOURCE shows them"
        console.print(more, style="yellow", markup=False, highlight=False, soft_wrap=True)
    copies = intake.get("copies") or {}
    if copies.get("across") or copies.get("two_labels"):
        closer = "raysearch audit --data SOURCE shows which, and finds other copies and wrong labels"
        console.print(closer, markup=False, highlight=False, soft_wrap=True)


def left_out(intake: Intake) -> str | None:
    """How many images were left out as copies, as a sentence; None where none was."""
    removed = (intake.get("copies") or {}).get("removed", {})
    told = " and ".join(f"{n:,} image{'s' * (n != 1)} of {split}" for split, n in removed.items())
    return f"Left out, as copies of images that are measured on: {told}." if told else None


def leak(intake: Intake) -> str | None:
    """What must be said where copies of test images were trained on or chosen by; None where none was known."""
    copies = intake.get("copies") or {}
    if not intake.get("leaks"):
        return None
    told = ", ".join(f"{n:,} of {pair.replace('-', ' that ')} has too" for pair, n in copies["across"].items())
    return f"Copies were kept ({told}): the figures are not those of images that were never met."


def never_recognised(evaluation: Mapping[str, Any]) -> list[str]:
    """The classes of which no test image was recognised."""
    per_class = evaluation["test"].get("per_class", {})
    return [name for name, row in per_class.items() if row["support"] and row["recall"]["mean"] == 0]


def unmeasured(evaluation: Mapping[str, Any]) -> list[str]:
    """The classes that have no test images."""
    return [name for name, row in evaluation["test"].get("per_class", {}).items() if not row["support"]]


def caveats(intake: Intake, evaluation: Mapping[str, Any]) -> list[str]:
    """What the figures on the test images must not be read without; a sentence each."""
    found = [line for line in (leak(intake), left_out(intake)) if line is not None]
    for names, what in (
        (never_recognised(evaluation), "No test image of {} was recognised: its recall is 0."),
        (unmeasured(evaluation), "There are no test images of {}: nothing is known of how well it does on them."),
    ):
        if names:
            told = ", ".join(" ".join(name.splitlines()) for name in names[:5])
            found.append(what.format(told + f" and {len(names) - 5} more" * (len(names) > 5)))
    return found
