"""A search in TensorBoard: event files under RUN/tensorboard, a folder a trial."""

from __future__ import annotations

import shutil
from typing import Any

from tensorboardX import SummaryWriter
from tensorboardX.summary import _clean_tag as clean_tag
from tensorboardX.summary import hparams

from raysearch.recipe import flatten
from raysearch.record.folder import RunFolder
from raysearch.record.metric import tracked_name
from raysearch.reporting.tracking.story import Stories, Story

_FLUSH_SECONDS = 1


class TensorBoard:
    """Writes a run's trials, heads that none starts from aside, anew from its log."""

    label = "TensorBoard"

    def __init__(self, run: RunFolder) -> None:
        self._folder = run.folder / "tensorboard"
        self.later = f"raysearch tensorboard {run.folder}"
        self._column = f"val_{run.info['settings'].get('metric', 'accuracy')}"
        self._metric = tracked_name(self._column)
        self._writers: dict[str, Any] = {}
        self._written: dict[str, int] = {}
        self._tags: dict[str, str] = {}
        # It is all in the log: an epoch that was trained again, or a run that is resumed, leaves nothing twice.
        shutil.rmtree(self._folder, ignore_errors=True)

    def show(self, story: Story) -> None:
        """Write the epochs that are new; a folder's files are closed whenever its trial comes to rest."""
        if not story.told or (story.trial.is_head and not story.is_parent):
            return
        new = [epoch for epoch in sorted(story.rows) if epoch > self._written.get(story.name, -1)]
        if not new and not (story.trial.state.at_rest and story.name in self._writers):
            return
        writer = self._writers.get(story.name) or self._open(story)
        for epoch in new:
            for key, value in story.rows[epoch].items():
                writer.add_scalar(self._tag(key), value, epoch)
            self._written[story.name] = epoch
        if story.trial.state.at_rest:
            best = (story.trial.best or {}).get(self._column)
            if best is not None:
                writer.add_scalar(f"best/{self._metric}", best, max(story.rows, default=0))
            writer.close()
            del self._writers[story.name]

    def close(self, stories: Stories) -> str:
        """What is left, and what to type."""
        for story in stories.all.values():
            self.show(story)
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        return f"tensorboard --logdir {self._folder}"

    def _tag(self, key: str) -> str:
        """The name of a curve; TensorBoard takes no sign but letters, so classes such as <3 and >3 get a number."""
        group, _, rest = key.partition("_")
        plain = clean_tag(f"{group}/{rest}" if group in ("train", "val") and rest else key)
        number = 1
        while self._tags.setdefault(tag := plain if number == 1 else f"{plain}_{number}", key) != key:
            number += 1
        return tag

    def _open(self, story: Story) -> Any:
        # Numbered, as a second file of one trial within a second would have the first one's name.
        folder = self._folder / story.name
        number = len(list(folder.glob("*"))) if folder.is_dir() else 0
        writer = SummaryWriter(str(folder), filename_suffix=f".{number}", flush_secs=_FLUSH_SECONDS)
        self._writers[story.name] = writer
        if not number:
            settings = {key: _cell(value) for key, value in flatten(story.trial.written_recipe).items()}
            for one in hparams(settings, {f"best/{self._metric}": 0.0}):
                writer.file_writer.add_summary(one)
        return writer


def _cell(value: Any) -> Any:
    """A value that the page of hyperparameters can show."""
    return value if isinstance(value, bool | int | float | str) else str(value)
