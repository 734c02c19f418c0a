"""Runs a function in several processes that form a process group (gloo), as the workers of a trial do."""

from __future__ import annotations

import multiprocessing
import pickle
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.queues import Queue
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from raysearch.training.ranks import Ranks

SECONDS = 120


def together(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """function(ranks, *arguments) of each process, by rank; the function is a module's own, for it travels by name."""
    # Forked from a process that has imported torch and nothing more: a few milliseconds each.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["raysearch.training.stage"])
    answers = context.Queue()
    with TemporaryDirectory(prefix="raysearch-together-") as folder:
        meeting = Path(folder) / "meeting"
        processes = [
            context.Process(target=_join, args=(rank, size, meeting, answers, function, arguments))
            for rank in range(size)
        ]
        try:
            for process in processes:
                process.start()
            found = dict(pickle.loads(answers.get(timeout=SECONDS)) for _ in processes)
        finally:
            for process in processes:
                process.kill()
                process.join()
    failed = [text for text in found.values() if isinstance(text, _Traceback)]
    assert not failed, "\n".join(failed)
    return [found[rank] for rank in range(size)]


class _Traceback(str):
    """What a process that failed says."""


def _join(
    rank: int, size: int, meeting: Path, answers: Queue[bytes], function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    try:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=size, timeout=timedelta(seconds=SECONDS)
        )
        # As bytes: a tensor put there itself is shared memory that goes with this process.
        answers.put(pickle.dumps((rank, function(Ranks.joined(), *arguments))))
    except BaseException:  # noqa: BLE001 - whatever it is, the test hears of it
        answers.put(pickle.dumps((rank, _Traceback(traceback.format_exc()))))
