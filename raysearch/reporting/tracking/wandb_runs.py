"""A search in Weights & Biases: a run a trial in one group, and one for what the search found.

The only module that imports wandb. Offline, a trial's file is written whole whenever the trial comes to rest, and
anew if it goes on later: like the tables it is derived from the log. Online, runs grow with the log and are attached to
a sweep, so that W&B's sweep page shows them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from io import BytesIO, StringIO
from typing import Any, Literal

import pandas as pd
import wandb
from filelock import FileLock, Timeout
from matplotlib.figure import Figure
from PIL import Image
from wandb.sdk import wandb_setup
from wandb.sdk.lib import wbauth

from raysearch.errors import InputError
from raysearch.record.folder import RunFolder
from raysearch.record.info import Json
from raysearch.record.tables import leaders
from raysearch.reporting.classes import MOST_CLASSES
from raysearch.reporting.plots import confusion_matrix
from raysearch.reporting.tracking.place import Place
from raysearch.reporting.tracking.results import PICTURES, per_class_table, search_config, search_summary
from raysearch.reporting.tracking.story import Stories, Story, numbered
from raysearch.reporting.tracking.sweep import sweep_of
from raysearch.storage.files import plain

Mode = Literal["online", "offline"]

BEST_HEADS = 10
"""How many heads have a run of their own in a search of heads alone, of hundreds. All are in the table "heads"."""

_ANSWER_SECONDS = 30  # for a server that does not answer
_RETRIES = 3
_RETRY_SECONDS = 3


class WandbRuns:
    """Keeps the W&B runs of a search up to date; remembers in the run folder what it has shown, so that a search that
    is resumed, or uploaded twice, shows nothing twice.

    Args:
        run: the run folder; everything of ours goes into its wandb/.
        project: "PROJECT" or "ENTITY/PROJECT".
        mode: offline writes files only.

    Raises:
        InputError: another process is showing this run.
    """

    label = "W&B"

    def __init__(self, run: RunFolder, project: str, mode: Mode) -> None:
        self._run, self._mode = run, mode
        entity, _, self._project = project.rpartition("/")
        self._entity = entity or None
        self.later = f"raysearch wandb {run.folder}"
        folder = run.folder / "wandb"
        folder.mkdir(exist_ok=True)
        self._lock = FileLock(folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(f"{run.folder} is being shown in W&B by another process; wait for its end") from error
        settings = wandb.setup(settings=quiet_settings()).settings  # for what is asked outside of runs, too
        where = mode if mode == "offline" else f"{settings.base_url}/{project}"
        self._place = Place(folder / "shown.json", where)
        self._open: dict[str, Any] = {}
        self._logged: dict[str, int] = {}
        self._heads: set[str] = set()
        digest = hashlib.sha256(f"{run.name} {run.info['created']}".encode()).hexdigest()
        self._stem = digest[:10]  # W&B's ids are for ever, so another run of the same name needs others

    def show(self, story: Story) -> None:
        """Send the epochs that are new; online, a trial that is at rest is finished in W&B until it goes on."""
        if self._has_a_run(story) and (self._mode == "online" or story.trial.state.at_rest):
            self._send(story)

    def close(self, stories: Stories) -> str:
        """What is left of the trials, and the search as a whole."""
        if not any(name.startswith("t") for name in stories.all):
            settings = self._run.info["settings"]
            found = leaders(self._run.heads, settings["metric"], BEST_HEADS, settings.get("require", ()))
            self._heads = set(found["trial"])
        shown = [story for story in stories.all.values() if self._has_a_run(story)]
        for story in shown:
            self._send(story, last=True)
        url = self._send_search()
        self._lock.release()
        if self._mode == "offline":
            return f"{len(shown) + 1} runs kept offline in {self._run.folder / 'wandb'}; upload them by {self.later}"
        return f"{len(shown) + 1} runs at {url}"

    def _has_a_run(self, story: Story) -> bool:
        return story.told and (not story.trial.is_head or story.is_parent or story.name in self._heads)

    def _send(self, story: Story, last: bool = False) -> None:
        marker = [max(story.rows, default=0), story.trial.state.value]
        if self._place.shown(story.name) == marker:
            return
        job = "head" if story.trial.is_head else "trial"
        tracked = self._open.get(story.name)
        if tracked is None:
            tracked = self._init(story.name, job, story.config(), sweep=self._sweep() if job == "trial" else None)
            self._open[story.name] = tracked
            self._logged[story.name] = tracked.step - 1 if tracked.resumed else -1
        for epoch in sorted(story.rows):
            if epoch > self._logged[story.name]:
                # Committed at once, or W&B would put the last epoch's figures over the summary at the end.
                tracked.log({"epoch": epoch, **story.rows[epoch]}, step=epoch, commit=True)
                self._logged[story.name] = epoch
        if story.trial.state.at_rest or last:
            tracked.summary.update(story.summary())
            del self._open[story.name]
            tracked.finish(exit_code=1 if story.trial.failed else 0)
            self._place.note(story.name, marker)

    def _send_search(self) -> str | None:
        """Settings, figures, tables, pictures and the best model, as a run of its own; its page's address, if any."""
        run, document = self._run, self._run.evaluation
        marker = [len(run.events()), document is not None]
        if self._place.shown("search") == marker:
            return self._place.url
        tracked = self._init("search", "search", numbered(plain(search_config(run))), sweep=None)
        media: dict[str, Any] = {"trials": _table(run.trials), "heads": _table(run.heads)}
        if document is not None:
            media["per_class"] = _table(per_class_table(document))
            classes = list(document["test"]["per_class"])
            if len(classes) <= MOST_CLASSES:
                media["confusion"] = _picture(confusion_matrix(document["test"]["confusion"], classes))
        for name in PICTURES:
            if (path := run.folder / f"{name}.png").is_file():
                media[name] = wandb.Image(str(path))
        tracked.log(media)
        tracked.summary.update(search_summary(run))
        if (run.folder / "best" / "recipe.json").is_file():
            tracked.log_artifact(_best(run), aliases=["best"])
        if self._mode == "online":
            self._place.url = f"{tracked.project_url}/sweeps/{self._place.sweep}" if self._place.sweep else tracked.url
        tracked.finish()
        self._place.note("search", marker)
        return self._place.url

    def _init(self, name: str, job: str, config: Json, sweep: str | None) -> Any:
        identity = f"{self._stem}-{name}"
        if self._mode == "offline":
            for stale in (self._run.folder / "wandb").glob(f"offline-run-*-{identity}"):
                shutil.rmtree(stale)
        return wandb.init(
            entity=self._entity,
            project=self._project,
            id=identity,
            name=self._run.name if name == "search" else name,
            group=self._run.name,
            job_type=job,
            config=config,
            mode=self._mode,
            resume="allow" if self._mode == "online" else None,
            reinit="create_new",
            dir=self._run.folder,
            settings=quiet_settings(sweep_id=sweep),
        )

    def _sweep(self) -> str | None:
        """The sweep of the search, made when it is first asked for; none offline, for a server gives its id."""
        if self._mode == "offline":
            return None
        if self._place.sweep is None:
            config = sweep_of(self._run) | {"controller": {"type": "local"}}
            with contextlib.redirect_stdout(StringIO()):  # it prints
                self._place.sweep = wandb.sweep(config, entity=self._entity, project=self._project)
        return self._place.sweep


class AgentRun:
    """One recipe of a sweep that W&B steers, in the run that its agent has opened for it (see `raysearch sweep`).

    Args:
        run: the run folder of the recipe: a path of trials, each of which starts from the one before.
    """

    label = "W&B"

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self.later = f"raysearch wandb {run.folder}"
        self._tracked: Any = None
        self._logged: set[tuple[str, int]] = set()

    def show(self, story: Story) -> None:
        """Send the epochs that are new, one step after the other along the path."""
        if self._tracked is None and story.told:  # which run, project and sweep, the agent says by the environment
            self._tracked = wandb.init(config=search_config(self._run), dir=self._run.folder, settings=quiet_settings())
        for epoch in sorted(story.rows):
            if (story.name, epoch) not in self._logged:
                self._tracked.log({"trial": story.name, "epoch": epoch, **story.rows[epoch]}, commit=True)
                self._logged.add((story.name, epoch))

    def close(self, stories: Stories) -> str:
        """What is left; the figures of the last trial of the path are the run's, by which W&B compares."""
        ended: list[Story] = []
        for story in stories.all.values():
            self.show(story)
            ended += [story] if story.told else []
        if self._tracked is None:
            return "nothing was trained"
        failed = any(story.trial.failed for story in ended)
        self._tracked.summary.update(ended[-1].summary())
        self._tracked.finish(exit_code=1 if failed else 0)
        return f"logged as {self._tracked.name or self._tracked.id}"


def quiet_settings(**settings: Any) -> wandb.Settings:
    """No console output, nothing of the machine or the code; impatient, as nothing depends on it."""
    return wandb.Settings(
        silent=True,
        console="off",
        symlink=False,
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        init_timeout=_ANSWER_SECONDS,
        finish_timeout=_ANSWER_SECONDS,
        finish_timeout_raises=True,
        x_graphql_retry_max=_RETRIES,
        x_graphql_retry_wait_min_seconds=1,
        x_graphql_retry_wait_max_seconds=_RETRY_SECONDS,
        x_file_stream_retry_max=_RETRIES,
        x_file_transfer_retry_max=_RETRIES,
        **settings,
    )


def has_key() -> bool:
    """Whether W&B's own places (environment, netrc, its settings) hold a key for its server. Asks nobody."""
    host = wandb_setup.singleton().settings.base_url  # unlike wandb.setup(), starts no process
    try:
        key = wbauth.authenticate_session(host=host, source="raysearch", prompt=False, update_session=False)
    except wandb.errors.AuthenticationError:
        return False
    return key is not None


def mode_of(wanted: Mode | None) -> Mode:
    """The mode that is wanted; else offline if WANDB_MODE says so; else online if there is a key."""
    if wanted is not None:
        return wanted
    return "online" if os.environ.get("WANDB_MODE", "online") == "online" and has_key() else "offline"


def _table(frame: pd.DataFrame) -> wandb.Table:
    rows: Iterable[list[Any]] = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    return wandb.Table(columns=list(frame.columns), data=plain(rows), allow_mixed_types=True)


def _picture(figure: Figure) -> wandb.Image:
    with BytesIO() as png:
        figure.savefig(png, dpi=120)
        return wandb.Image(Image.open(png).convert("RGB"))


def _best(run: RunFolder) -> wandb.Artifact:
    """The winner's files; its recipe and test figures beside them."""
    recipe = json.loads((run.folder / "best" / "recipe.json").read_text(encoding="utf-8"))
    name = re.sub(r"[^\w.-]", "-", f"{run.name}-best", flags=re.ASCII)[:128]
    artifact = wandb.Artifact(name, type="model", metadata={"recipe": recipe} | search_summary(run))
    artifact.add_dir(str(run.folder / "best"), policy="immutable", skip_cache=True)
    return artifact
