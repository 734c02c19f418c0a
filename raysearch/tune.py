"""The main command: search for the best way to fine-tune a classifier on somebody's images.

    python -m raysearch.tune --space fine_tune

is enough to see it work: it runs on the bundled images and weights. Give it your own with --data.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import tyro
from rich.console import Console

from raysearch.errors import FULL, InputError, NothingSucceededError, StorageError, escape_output, told
from raysearch.job.flags import Flags
from raysearch.pipeline.entry import plan, search

# torch and Ray take seconds to import, so what needs them is imported when it runs: --help answers at once.


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code.

    Returns: 0 done, 1 no trial succeeded or nothing could be written, 2 bad input, 130 stopped by Ctrl-C.
    """
    escape_output()
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    flags = tyro.cli(Flags, args=arguments, prog="python -m raysearch.tune", config=(tyro.conf.FlagCreatePairsOff,))
    errors = Console(stderr=True)
    try:
        if flags.plan:
            plan(flags)
        else:
            search(flags)
    except InputError as error:
        for problem in error.problems:
            errors.print(f"error: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    except (NothingSucceededError, StorageError) as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except OSError as error:
        full = error.errno in FULL
        way_out = (
            "make room, and start again; a run that had begun goes on with --resume"
            if full
            else ("see that it is there and may be used; a run that had begun goes on with --resume")
        )
        errors.print(f"error: {told(error)}: {way_out}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
