"""The flags of a search, as they are typed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from raysearch.errors import InputError
from raysearch.models.backbones import NAMES
from raysearch.recipe import Fit
from raysearch.record.evaluation import Kind
from raysearch.record.final_events import On
from raysearch.space.names import space_files

_SPACES = f"a name in search_spaces/ ({', '.join(space_files())})"

_BACKBONES = (
    f"{', '.join(NAMES)}; or timm/NAME, a network of timm's (pip install 'raysearch[timm]'). Several, a,b,c, each with "
    "weights of its own if you like (vgg19=PATH), are chosen among: heads rank them, and those that are clearly behind "
    "leave; at_hand is all whose weights are on this machine. Default: densenet121."
)


def _unset(metavar: str, told: str | None = None, name: str | None = None) -> Any:
    """A flag whose default depends on other things: its help text, which `told` may be, says on which."""
    return tyro.conf.arg(name=name, metavar=metavar, help=told, help_behavior_hint="")


@dataclass(frozen=True)
class Flags:
    """Search for the best way to fine-tune an image classifier on your own images.

    First a short search for heads on the frozen network, then trials that unfreeze blocks, then fresh refits of the
    winner and one look at the test images. Ctrl-C stops cleanly; --resume RUN goes on.
    """

    space: Annotated[str | None, _unset("NAME", f"What is searched: {_SPACES}, or the path of a space file.")] = None
    """Name of a space, or the path of its file."""
    recipe: Annotated[Path | None, _unset("FILE")] = None
    """Search nothing: train the recipe in this FILE (best/recipe.json of a run), stage by stage, from the pretrained
    weights alone; with another --seed if you like."""
    parameters: Annotated[Path | None, _unset("FILE")] = None
    """Search nothing: train one recipe of the space, with the values in this JSON FILE for what it searches. This is
    what agents of a W&B sweep run: see raysearch sweep."""
    data: Annotated[str | None, _unset("SOURCE")] = None
    """SOURCE of images: a folder or .zip of class folders (with train/, val/, test/ or without), a .csv or .jsonl
    (path,label[,split]), a folder with a Hugging Face metadata.csv, .parquet files or WebDataset shards of images (a
    file, a folder, or a pattern such as "train-{0000..0009}.tar"), a MedMNIST-style .npz, or a name: cifar10-mini is
    bundled, cifar10, fashion-mnist, … come through torchvision. Default: cifar10-mini."""
    images: Annotated[Path | None, _unset("DIR")] = None
    """The folder of the images that a .csv lists, by their paths or by names without an ending. Default: the .csv's."""
    unlabelled: Annotated[Path | None, _unset("DIR")] = None
    """A folder of images without labels. When all is chosen, a student learns from the labels and from what the trained
    networks answer to these images; it is shipped if it is surely better out of fold."""
    columns: Annotated[str | None, _unset("path=NAME,label=NAME,split=NAME,group=NAME")] = None
    """The columns of a table of images, of which common names are recognised, e.g. path=file,label=class. Images of one
    group, say a patient, are never parted by splits, folds or halves; only a column called group is one unasked."""
    group_by: Annotated[str | None, _unset("REGEX")] = None
    """Keep images together by their paths: the first (…) of the match names the group, e.g. 'patient([0-9]+)_'. Those
    without a match stand alone, and are counted."""
    fraction: Annotated[float | None, _unset("SHARE")] = None
    """Train on this share of the training images, e.g. 0.1: of each class, in whole groups, always the same ones, and a
    smaller share's are among a larger one's. Validation and test images are all there. Default: 1."""
    subsets: Annotated[int | None, _unset("N")] = None
    """Cut the training images into so many disjoint subsets, of which --subset is trained on."""
    subset: Annotated[int | None, _unset("I")] = None
    """Which of --subsets, from 0."""
    keep_copies: bool = False
    """Keep training and validation images that are copies of validation or test images (by their decoded pixels).
    Default: they are left out, and counted."""
    strict: bool = False
    """Refuse images in which something is probably wrong, instead of warning of it: see raysearch data SOURCE."""
    backbone: Annotated[str | None, _unset("NAME[=WEIGHTS][@PX][,…]", _BACKBONES)] = None
    """Name of a backbone, or of several."""
    weights: Annotated[str | None, _unset("auto|imagenet|bundled|random|PATH")] = None
    """auto (the published ones if they can be had, else the bundled ones), imagenet, bundled, random, or the PATH of a
    file (safetensors or torch) or of a folder, of which the file that fits is taken; raysearch weights lists what is
    here. Default: auto."""
    head: Annotated[str | None, _unset("RUN")] = None
    """Start from the best head of this run (a path, or a name under --results) instead of searching heads: same
    backbone, weights, image size and classes. Default: a head search comes first."""
    learn_from: Annotated[tuple[str, ...], _unset("RUN …")] = ()
    """Let earlier runs (paths, or names under --results) say where good recipes lie: on any images, of the same family
    of backbones. Their trials stand beside this search's own when a recipe is drawn, fewer with each that it has of its
    own, and count for nothing else."""
    continue_: Annotated[str | None, _unset("RUN", name="continue")] = None
    """Continue this finished run (a path, or a name under --results) on --data, which may have more images and other
    classes: its space is searched, its recipe is the default, and trials start from its head, with rows of their own
    for new classes. Its test images stay test images, and the report says what it has forgotten of them."""
    preset: Literal["quick", "default", "best"] = "default"
    """How much to spend: quick = 6 trials of 6 epochs, default = 18 of 12, best = 100 of at most 30. A space of heads
    alone says itself how many."""
    trials: Annotated[int | None, _unset("N")] = None
    """Recipes to start, the head search aside; in a space of heads alone, heads. Default: the preset's; the space's."""
    time_budget: Annotated[str | None, _unset("30m")] = None
    """Stop searching in time to finish within this, refits and evaluation included, e.g. 30m or 1h30m."""
    max_epochs: Annotated[int | None, _unset("N")] = None
    """Epochs of one trial at most, after the head's. Default: the preset's; for heads alone, the space's."""
    image_size: Annotated[int | Literal["native"] | None, _unset("PX|native")] = None
    """Height and width that networks see, in pixels; native: what each was trained with. Default: the images' own,
    between 32 and 224."""
    fit: Annotated[Fit | None, _unset("squash|crop|pad")] = None
    """How an image that is not square becomes one. Default: squash."""
    metric: Annotated[str | None, _unset("NAME")] = None
    """What the search maximises on validation: accuracy, balanced_accuracy, macro_f1, auroc, average_precision (these
    two are means over the classes of each against all others), recall:CLASS, precision:CLASS, f1:CLASS, or loss
    (minimised); or precision_at_10 and precision_at_20, of the images most like one, the share of its class.
    Several, with commas between them, are searched for their front: the recipes that no other beats in
    one of them without being worse in another. Default: the space's, which is accuracy in all but similarity."""
    require: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, _unset("METRIC>=NUMBER")] = ()
    """A bound that counts before the metric, e.g. "recall:pneumonia>=0.97" (or "loss<=0.3"): the best of the metric
    among those that keep it on validation, and the nearest where none does. May be given more than once."""
    seed: Annotated[int | None, _unset("N")] = None
    """Seeds splits, proposals, first weights, batches and views. Default: 0."""
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"] | None, _unset("auto|cpu|cuda|mps")] = None
    """The device on which networks run. Default: auto."""
    gpus_per_trial: Annotated[float | None, _unset("X")] = None
    """GPUs of one trial; fractions share one. Default: 1 a worker where there are any."""
    workers_per_trial: Annotated[int | None, _unset("N")] = None
    """Processes that train one trial together, each on a GPU (or cores) of its own, perhaps of several machines. They
    share out every batch, so learning rates need not change. Default: 1."""
    concurrent: Annotated[int | None, _unset("N")] = None
    """Trials at once, at most. Default: as many as there are GPUs, or cores (at most 8); on a cluster, as many as it
    has room for, while nodes come and go."""
    max_failures: Annotated[int | None, _unset("N")] = None
    """How often a trial may lose its process, and go on from its last checkpoint, before it counts as failed. Losing
    its machine does not count. Default: 3."""
    address: Annotated[str | None, _unset("auto|HOST:PORT")] = None
    """A Ray cluster to join (auto finds the one of this machine). Default: a Ray of its own."""
    cache: Literal["auto", "on", "off"] = "auto"
    """Whether activations of frozen blocks are kept on disk and shared by all trials: auto where it saves time."""
    cache_gb: Annotated[float | None, _unset("GB")] = None
    """Disk that cached activations may take. Default: a quarter of what is free."""
    refits: Annotated[int | None, _unset("N")] = None
    """How often the winner is trained again with fresh seeds, for an honest figure. Default: the preset's (3, 4, 5)."""
    refit_on: On = "train+val"
    """What the refits train on. train+val uses every labelled image, with as many epochs as the search found well, and
    more; train keeps the validation images to stop by and to choose the best refit, and compares nothing on folds."""
    folds: Annotated[int | None, _unset("N")] = None
    """Folds of the comparison at the end: the default recipe and the best challengers are trained on folds of all
    labelled images, and decided between image by image. 0 takes the search's winner as it is. Default: the preset's
    (2, 4, 5); fewer where --time-budget or a class is small."""
    ship: Annotated[Kind | None, _unset("KIND")] = None
    """What best/ holds: single, one refit; averaged, the mean of the refits' tensors; student, what learned from their
    answers (with --unlabelled); mirror, the average with the mirror image, at twice the cost; ensemble, several
    networks. Default: averaged, unless single, or the student, is surely better out of fold."""
    ship_point: Annotated[str | None, _unset("balance|METRIC|TRIAL")] = None
    """Which recipe of the front is shipped, where --metric names several: the one of the best balance (their geometric
    mean), if it is surely better than the default out of fold; the best by one METRIC of them; or, with --resume, a
    TRIAL, e.g. t0007. Default: balance."""
    refit_workers: Annotated[int | None, _unset("N")] = None
    """Workers of the refit job; each trains its share of the seeds. Default: as many as trials at once."""
    results: Path = Path("results")
    """The folder of run folders."""
    storage: Annotated[str | None, _unset("URI")] = None
    """Keep checkpoints, decoded images and a copy of the run folder there, too, for workers that share no disk, and to
    go on elsewhere: s3://bucket/prefix, or whatever pyarrow or fsspec opens. Credentials come from the environment
    alone. Default: everything is under --results."""
    run_name: Annotated[str | None, _unset("NAME")] = None
    """The run's name. Default: the space and the time."""
    resume: Annotated[str | None, _unset("RUN")] = None
    """Go on with this run (a path, a name under --results, or its URI under --storage), with its own settings; --trials
    may add more, and --data, --images and --unlabelled say where its images are now."""
    wandb: Annotated[str | None, _unset("PROJECT")] = None
    """Show the search in this project (or ENTITY/PROJECT) of Weights & Biases. Default: not there."""
    wandb_mode: Annotated[Literal["online", "offline"] | None, _unset("online|offline")] = None
    """online: live, as a sweep; offline: into files under the run, to be uploaded by raysearch wandb RUN. Default:
    online if W&B knows a key (wandb login)."""
    tensorboard: bool = False
    """Write TensorBoard's files, too: tensorboard --logdir RUN/tensorboard."""
    serve: Annotated[tuple[int, ...] | None, _unset("[PORT]")] = None
    """Serve the report page to this machine's browsers while the search runs, on this port; 8300 if none is named."""
    plan: bool = False
    """Only show what would happen, with a contact sheet of a training batch in plan.png."""
    fast_dev_run: bool = False
    """One head, one trial, one epoch of two batches, one refit: does everything once, to see that it works."""
    quiet: bool = False
    """No progress display; the summary is still printed."""

    @property
    def requirements(self) -> tuple[str, ...]:
        """Each bound of `require`, which from Python may be a single text."""
        return _each(self.require)

    @property
    def earlier_runs(self) -> tuple[str, ...]:
        """Each run of `learn_from`, in the same way."""
        return _each(self.learn_from)


def _each(given: object) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    assert isinstance(given, list | tuple)
    return tuple(map(str, given))


# With --resume, all other flags are the run's own.
_ON_RESUME = {
    "resume",
    "data",
    "images",
    "unlabelled",
    "trials",
    "ship_point",
    "time_budget",
    "results",
    "concurrent",
    "address",
    "gpus_per_trial",
    "workers_per_trial",
    "refit_workers",
    "max_failures",
    "serve",
    "quiet",
}


def refuse_changes(flags: Flags) -> None:
    """Refuse flags that a resume cannot take: what is no more than how a run goes on may change, the rest is the run's.

    Raises:
        InputError: all of them together.
    """
    changed = [
        f"--{field.name.replace('_', '-').strip('-')} cannot change when a run is resumed: it keeps its own settings"
        for field in dataclasses.fields(flags)
        if field.name not in _ON_RESUME and getattr(flags, field.name) != field.default
    ]
    if changed:
        raise InputError(changed)
