"""The weights files that are on this machine: `raysearch weights`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import tyro


def weights(
    folder: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[DIR|FILE]")] = None,
    /,
    *,
    as_json: Annotated[bool, tyro.conf.arg(name="json", help="Print JSON, an object a file.")] = False,
) -> int:
    """List the weights files that are here: bundled, in the caches of torch and the Hugging Face Hub, and in DIR.

    Of each: which backbones its tensors fit, what it was trained on and its licence where it says so.

        raysearch weights
        raysearch weights checkpoints/
    """
    from rich.console import Console

    from raysearch.models.at_hand import weights_at_hand

    found = list(weights_at_hand(folder))
    if as_json:
        print(json.dumps([dataclasses.asdict(one) | {"path": str(one.path)} for one in found], indent=2))
        return 0
    out = Console(soft_wrap=True, highlight=False, markup=False)
    for place in dict.fromkeys(one.place for one in found):
        out.print(f"{place}:")
        for one in (each for each in found if each.place == place):
            out.print(f"  {one.path}  sha256 {one.digest}")
            if one.problem is not None:
                out.print(f"      not usable: {one.problem}")
                continue
            about = [f"trained on {one.trained_on}" if one.trained_on else "", f"licence {one.license or 'not stated'}"]
            fitting = f"fits {', '.join(one.fits)}" if one.fits else "fits none of the backbones"
            out.print(f"      {'; '.join([fitting, *filter(None, about)])}")
    return 0
