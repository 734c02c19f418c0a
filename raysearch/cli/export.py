"""The winner of a run as one file for other programs: `raysearch export`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from raysearch.cli.arguments import Results, RunName
from raysearch.cli.outputs import check_output
from raysearch.errors import Problems


def export(
    run: RunName,
    /,
    *,
    kind: Annotated[
        Literal["onnx", "torch"],
        tyro.conf.arg(name="format", help="onnx: for onnxruntime and others; torch: a .pt2 for torch.export.load."),
    ] = "onnx",
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILE", help="The file. Default: best/model.onnx or best/model.pt2 in the run."),
    ] = None,
    results: Results = Path("results"),
) -> int:
    """Write the winner of a run as one file for other programs, and check that it computes the same.

    The file takes uint8 images (batch, height, width, 3), RGB, of the run's image size, in batches of any size;
    normalisation is inside. FILE.json says what is not: classes, how images are decoded and resized, test figures. Exit
    code 1 if logits differ by more than 1e-4 on real images: then there is no file.

        raysearch export fine_tune-1 --format onnx
        raysearch export fine_tune-1 --format torch --out cats.pt2
    """
    from raysearch.record.folder import locate
    from raysearch.winner.export import ExportError, export_run

    problems = Problems()
    check_output("--out", out, problems)
    problems.stop_if_any()
    folder, err = locate(run, results), Console(stderr=True)
    try:
        with err.status("writing and checking") if err.is_terminal else nullcontext():
            done = export_run(folder, kind, out)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{done.file}  {done.file.stat().st_size / 2**20:.1f} MiB", markup=False)
    console.print(f"{done.description}  its classes, input and outputs, and what to do before", markup=False)
    console.print(
        f"largest difference of logits: {done.difference:.1e} on {done.images} images of {done.images_of}, "
        f"in batches of {', '.join(map(str, done.batch_sizes))}",
        markup=False,
    )
    return 0
