"""The verbs beside the search itself: `raysearch VERB RUN ...`, each a few lines over the packages below."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

import tyro

from raysearch.cli.audit import audit
from raysearch.cli.augment import augment
from raysearch.cli.cache import cache
from raysearch.cli.compare import compare
from raysearch.cli.data import data
from raysearch.cli.elsewhere import sweep, tensorboard, wandb
from raysearch.cli.evaluate import evaluate
from raysearch.cli.export import export
from raysearch.cli.learning_curve import learning_curve
from raysearch.cli.networks import networks
from raysearch.cli.portfolio import portfolio
from raysearch.cli.predict import predict
from raysearch.cli.runs import fetch, report, show
from raysearch.cli.similar import embed, similar
from raysearch.cli.weights import weights
from raysearch.errors import InputError, escape_output, told

# torch takes seconds to import, so the verbs import what they need when they run: --help answers at once.

VERBS: dict[str, Callable[..., int]] = {
    "audit": audit,
    "augment": augment,
    "cache": cache,
    "compare": compare,
    "data": data,
    "embed": embed,
    "evaluate": evaluate,
    "export": export,
    "fetch": fetch,
    "learning-curve": learning_curve,
    "networks": networks,
    "portfolio": portfolio,
    "predict": predict,
    "report": report,
    "show": show,
    "similar": similar,
    "sweep": sweep,
    "tensorboard": tensorboard,
    "wandb": wandb,
    "weights": weights,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        arguments: without the program's name; None takes the process's own.

    Returns: the exit code: 0, 1 (done, but not for every image) or 2 (bad input; every problem on stderr).
    """
    escape_output()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        return tyro.extras.subcommand_cli_from_dict(
            VERBS,
            prog="raysearch",
            description="What to do before a search and after it. The search itself: python -m raysearch.tune --help",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except InputError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {told(error)}", file=sys.stderr)
        return 1
    except SystemExit as stop:  # tyro's own, after --help (0) or arguments that it cannot read (2)
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
