"""Which pretrained network to begin with: `raysearch networks`."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from raysearch.cli.arguments import Bar, Columns, DeviceName, ImagesFolder, check_ending, check_seed, device_of, say
from raysearch.cli.insight import Seed, Source
from raysearch.cli.outputs import check_output
from raysearch.data.names import one_line
from raysearch.errors import InputError, Problems

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch

    from raysearch.data.reading import Reading
    from raysearch.insight.networks import Judged, Labelled, Place
    from raysearch.models.candidates import Candidate, LeftOut

Size = int | Literal["native"] | None


def networks(
    *,
    data: Source,
    images: ImagesFolder = None,
    columns: Columns = None,
    backbones: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="NAME[=WEIGHTS],…",
            help="The networks to rank, e.g. densenet121,timm/convnext_atto,resnet18=random; WEIGHTS as for a search. "
            "Default: all that have weights on this machine (raysearch weights lists them).",
            help_behavior_hint="",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="DIR|FILE", help="Look for weights here too, beside those that are bundled and in the caches."
        ),
    ] = None,
    download: Annotated[
        bool, tyro.conf.arg(help="Fetch the published weights of the networks in --backbones that are not here.")
    ] = False,
    image_size: Annotated[
        Size,
        tyro.conf.arg(
            metavar="PX|native",
            help="Height and width that networks see; native: what each was trained with. Default: the images' own.",
            help_behavior_hint="",
        ),
    ] = None,
    metric: Annotated[
        str, tyro.conf.arg(metavar="NAME", help="What they are ranked by, as a search is led by.")
    ] = "accuracy",
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.html|FILE.csv", help="Write the table into this file.")
    ] = None,
    seed: Seed = 0,
    as_json: Annotated[bool, tyro.conf.arg(name="json", help="Print one JSON object instead of a table.")] = False,
    device: DeviceName = "auto",
) -> int:
    """Rank pretrained networks on your images: what heads on their frozen features are worth, and what they cost.

    Heads judge every training and validation image without having seen it; test images are not looked at. Nothing is
    downloaded unless --download asks for it, and random weights are ranked only where they are named. Ctrl-C ends it
    with the networks that are known by then.

        raysearch networks --data photos/
        raysearch networks --data photos/ --backbones densenet121,resnet50,timm/convnext_atto --download
        raysearch networks --data photos/ --weights checkpoints/ --image-size native --out networks.html
    """
    from raysearch.data.reading import Reading
    from raysearch.insight.networks import cheapest, rank, seen_size
    from raysearch.insight.networks_table import row_of, table_of, write_table
    from raysearch.models.candidates import find_candidates
    from raysearch.record.metric import check_metric

    problems = Problems()
    check_output("--out", out, problems, (data, weights))
    _check(out, seed, download, backbones, weights, metric, problems)
    reading = problems.attempt(Reading.of, columns, images)
    chosen = problems.attempt(device_of, device)
    asked = [one.strip() for one in (backbones or "").split(",") if one.strip()]
    listed = problems.attempt(find_candidates, asked, weights, download=download)
    problems.stop_if_any()
    assert reading is not None and chosen is not None and listed is not None
    candidates, left_out = listed
    _tell(left_out)
    if not candidates:
        raise InputError("there is no network to rank: see why above; --backbones NAME=WEIGHTS names one")
    sized = [(one, seen_size(one.backbone, image_size)) for one in candidates]
    labelled = _load(data, reading, dict.fromkeys(size for _, size in sized), seed, not as_json)
    check_metric(metric, labelled.classes)
    judged, whole = _judge(sized, labelled, left_out, chosen, seed, not as_json)
    if not judged:
        raise InputError("no network is left to rank: see why above")
    given = _words_of(data, images, columns, seed, metric)
    places = rank(judged, labelled, metric)
    best, cheap = (_command(place, given, image_size is not None) for place in (places[0], cheapest(places)))
    lines = _lines(labelled, best, cheap, whole)
    if as_json:
        told: dict[str, object] = {"source": data, "metric": metric, "images": len(labelled.labels)}
        told |= {"networks": [row_of(place) for place in places], "left_out": [asdict(one) for one in left_out]}
        told |= {"next": {"best": best, "cheapest": cheap}, "interrupted": not whole}
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        Console(highlight=False).print(table_of(places, metric))
        for line in lines:
            say(line)
    if out is not None:  # at the end: what took minutes is told also where it cannot be written
        write_table(places, metric, lines, out)
        if not as_json:
            say(str(out))
    return 0 if whole else 130


def _check(
    out: Path | None,
    seed: int,
    download: bool,
    backbones: str | None,
    weights: Path | None,
    metric: str,
    problems: Problems,
) -> None:
    """Note what is wrong with the flags, as far as they say it themselves."""
    from raysearch.record.metric import RETRIEVAL, check_metric

    check_ending("--out", out, (".html", ".csv"), problems)
    check_seed(seed, problems)
    problems.check(not download or backbones is not None, "--download needs --backbones NAME,…: what is to be fetched")
    problems.check(
        weights is None or str(weights) not in ("auto", "imagenet", "bundled", "random"),
        f"--weights {weights}: a folder or a file is looked for here; name it by network, --backbones NAME={weights}",
    )
    problems.attempt(check_metric, metric, None)
    problems.check(
        metric not in RETRIEVAL,
        f"--metric {metric}: heads are compared by their answers here; compare what networks make of images by "
        "raysearch embed --backbone NAME and raysearch similar features.parquet --measure",
    )


def _words_of(data: str, images: Path | None, columns: str | None, seed: int, metric: str) -> list[str]:
    """The flags that a search on the same images, after the same metric, is given."""
    named: dict[str, object] = {"--data": data, "--images": images, "--columns": columns, "--seed": seed or None}
    named |= {"--metric": metric if metric != "accuracy" else None}
    return [word for flag, value in named.items() if value is not None for word in (flag, str(value))]


def _load(data: str, reading: Reading, sizes: Iterable[int | None], seed: int, progress: bool) -> Labelled:
    """The images in every size that is needed, decoded as a search decodes them: it finds them in the cache."""
    from raysearch.data.pixels import load
    from raysearch.insight.networks import Labelled

    return Labelled.of(
        {size: load(data, image_size=size, seed=seed, progress=progress, reading=reading) for size in sizes}
    )


def _judge(
    sized: Iterable[tuple[Candidate, int | None]],
    labelled: Labelled,
    left_out: list[LeftOut],
    device: torch.device,
    seed: int,
    progress: bool,
) -> tuple[list[Judged], bool]:
    """What is known of the networks, and whether that is all; what cannot be used is added to `left_out`."""
    from raysearch.insight.networks import judge
    from raysearch.models.candidates import LeftOut

    judged: list[Judged] = []
    with Bar(progress) as bar:
        for one, size in sized:
            try:
                judged.append(judge(one, size, labelled, device, seed=seed, telling=bar))
            except InputError as error:
                left_out.append(LeftOut(one.backbone, "; ".join(error.problems)))
                _tell(left_out[-1:])
            except KeyboardInterrupt:
                if not judged:
                    raise
                return judged, False
    return judged, True


def _tell(left_out: Iterable[LeftOut]) -> None:
    for one in left_out:
        print(one_line(f"left out: {one.name}: {one.reason}"), file=sys.stderr)


def _command(place: Place, given: Sequence[str], sized: bool) -> str:
    """The search that begins with a network."""
    network = place.network
    size = ["--image-size", str(network.image_size)] if sized else []
    words = ["--backbone", network.backbone, "--weights", network.weights, *size, *given]
    return shlex.join(["python", "-m", "raysearch.tune", "--space", "fine_tune", *words])


def _lines(labelled: Labelled, best: str, cheap: str, whole: bool) -> list[str]:
    """What is said below the table."""
    told = [
        *([] if whole else ["Interrupted: networks that are not listed were not looked at."]),
        f"Heads on frozen features, out of fold, on {len(labelled.labels):,} training and validation images.",
        f"The best:  {best}",
    ]
    return told if cheap == best else [*told, f"The cheapest that is not surely behind:  {cheap}"]
