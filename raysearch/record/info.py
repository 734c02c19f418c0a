"""What run.json says: what a search was started with, on what, and what came of it beside its trials."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

Json = dict[str, Any]
"""An object of a JSON file whose keys another module owns."""


class Fingerprints(TypedDict):
    """What must be the same when a run goes on: digests of the images and of the base weights."""

    data: str
    weights: str
    unlabelled: NotRequired[str]
    """Of images without labels; missing where there are none."""


class WeightsInfo(TypedDict):
    """Which base weights were taken, and why these."""

    origin: str
    reason: str
    license: NotRequired[str | None]
    """As the file, or who publishes it, states it."""


class NetworkInfo(WeightsInfo):
    """One of several networks that a search chooses among, and what a prediction of it costs."""

    network: str
    """NAME=WEIGHTS@PX."""
    digest: str
    """Of its base weights."""
    image_size: int
    """Height and width that it sees, pixels."""
    parameters: int
    """Of its blocks."""
    megabytes: float
    milliseconds: float
    """Of one image alone, on a trial's device, fp32."""
    milliseconds_in_batch: float
    """An image, of 32 at once."""


class HeadInfo(TypedDict):
    """The head of an earlier run that the trials start from."""

    trial: str
    recipe: Json


class SkippedImage(TypedDict):
    """An image that could not be read, and why."""

    path: str
    reason: str


class MachineInfo(TypedDict):
    """The machine that the search was started on."""

    system: str
    cpus: int | None


class RunInfo(TypedDict, total=False):
    """run.json. It is filled as the search goes on, so a run that broke off early lacks most of it."""

    settings: Json
    """The settings, as `raysearch.job.settings.Settings` gives them."""
    command: str
    created: str
    versions: dict[str, str]
    machine: MachineInfo
    fingerprints: Fingerprints
    weights: WeightsInfo
    networks: list[NetworkInfo]
    """Where the search chooses among several, whose first `weights` is about."""
    classes: list[str]
    head: HeadInfo
    cache: Json
    """What was decided of the frozen work: see `raysearch.job.frozen_work.record`."""
    intake: Json
    """What the images were taken as, and what is odd of them: see `raysearch.data.account.Account.as_json`."""
    skipped: list[SkippedImage]
    failures: list[Json]
    """The events of the log by which work was lost."""


def weights_info(info: RunInfo, network: str) -> WeightsInfo | None:
    """Which base weights a network has; None where the run does not say."""
    ours = (one for one in info.get("networks", []) if one["network"] == network)
    return next(ours, None) or info.get("weights")


def weights_digest(info: RunInfo, network: str) -> str:
    """The digest of a network's base weights.

    Raises:
        KeyError: the run broke off before it said so.
    """
    ours = (one["digest"] for one in info.get("networks", []) if one["network"] == network)
    return next(ours, None) or info["fingerprints"]["weights"]
