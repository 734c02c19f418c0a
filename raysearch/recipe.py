"""What defines one trial: the recipe and its stages, as plain checked data.

Everything that changes the trained network is a field here, and nothing else is; each field names its unit.
Unknown fields are refused, so a searched value that nothing reads cannot exist.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Fit = Literal["squash", "crop", "pad"]
Effective = Annotated[str, Field(pattern=r"^effective:0\.\d+$")]


Tree = dict[str, Any]
"""A recipe, or a space in its shape, as JSON has it: dicts and lists of values."""
Values = dict[str, Any]
"""Values by their dotted paths in a recipe, e.g. "schedule.1.learning_rate"."""

EFFECTIVE = "effective:"
"""How class weights by the effective number of images begin."""
PART = r"^(all|grow/[1-9]\d*|[1-9]\d*(-[1-9]\d*)?/[1-9]\d*)$"
"""What a stage's `part` looks like; see there."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Head(_Frozen):
    """The classifier on top of the pooled features."""

    kind: Literal["linear", "hidden", "embedding"] = "linear"
    """linear: one layer; hidden: one hidden layer with ReLU before it; embedding: a linear projection to vectors of
    length 1, by which images are compared, before it."""
    hidden_units: Annotated[int, Field(ge=1)] = 256
    """Width of the hidden layer; read only when kind is "hidden"."""
    dimensions: Annotated[int, Field(ge=2)] = 128
    """Numbers in an embedding; read only when kind is "embedding"."""

    @property
    def inner_width(self) -> int | None:
        """Width of the layer before the last; None: there is none."""
        return {"hidden": self.hidden_units, "embedding": self.dimensions}.get(self.kind)


class Augmentation(_Frozen):
    """The five transforms at full strength; a stage's `strength` scales every amplitude (0 is the identity)."""

    flip: Fraction = 0.5
    """Probability of a horizontal flip, at any strength above 0: it has no amplitude to scale."""
    rotation_degrees: Annotated[float, Field(ge=0.0, le=180.0)] = 20.0
    """Rotation is uniform in [-rotation_degrees, rotation_degrees]."""
    zoom: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    """The scale factors of width and height are uniform in [1 - zoom, 1 + zoom], drawn apart."""
    contrast: Fraction = 0.2
    """Pixel values are multiplied by a factor uniform in [1 - contrast, 1 + contrast], as albumentations does it."""
    noise: Fraction = 0.05
    """The noise's standard deviation is uniform in [0, noise], as a fraction of the full range."""


class Stage(_Frozen):
    """One training phase at one depth: what is open, how fast it learns, and what it sees."""

    depth: Annotated[int, Field(ge=0)]
    """Unfrozen blocks, counted from the output; 0 trains the head only."""
    epochs: Annotated[int, Field(ge=1)]
    """Epochs at most."""
    part: Annotated[str, Field(pattern=PART)] = "all"
    """Which training images: all; or, of the training split cut into disjoint stratified parts (say sixths), "1/6" (the
    first), "2-4/6" (three of them), "grow/6" (one more with each sixth of the epochs, until it is all)."""
    drop_label_errors: Annotated[float, Field(ge=0.0, le=0.2)] = 0.0
    """Share of the training images that is left out: those whose labels are most likely wrong, by heads on frozen
    features that had not seen them. Validation and test images all stay. 0: none, and nothing is computed."""
    learning_rate: Positive = 1e-3
    """Peak learning rate of AdamW; not read where `inherit` is given."""
    inherit: Positive | None = None
    """The peak learning rate is this times the rate of the last step of the stage before; None: `learning_rate`."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """The learning rate of each unfrozen block as a multiple of the next one's, counted to the head, which has the full
    rate; 1: all have (layer-wise learning-rate decay, Howard and Ruder 2018)."""
    weight_decay: NonNegative = 1e-2
    """Decoupled weight decay of AdamW, times the learning rate at each step."""
    l1: NonNegative = 0.0
    """L1 penalty on the trained weights (not on biases or norms), added to the loss."""
    l2: NonNegative = 0.0
    """L2 penalty, l2 / 2 * sum(w^2), on the same weights, added to the loss."""
    l2_sp: NonNegative = 0.0
    """L2-SP: l2_sp / 2 * sum((w - w0)^2) on such weights of unfrozen blocks, w0 the pretrained ones, added to the loss
    (Li, Grandvalet and Davoine 2018); the head is not pulled. Published with weight decay off."""
    course: Literal["constant", "plateau", "cosine", "one_cycle"] = "one_cycle"
    """How the learning rate moves over the stage; the courses are defined over `epochs`, stopped early or not."""
    warmup_epochs: NonNegative = 0.0
    """Linear warm-up from 0; for one_cycle its rising part (0 there: 0.3 of the stage)."""
    plateau_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Plateau: the learning rate is multiplied by this when the validation loss stalls."""
    plateau_patience_epochs: Annotated[int, Field(ge=0)] = 1
    """Plateau: epochs without improvement that are let pass before a drop."""
    min_learning_rate: NonNegative = 0.0
    """The learning rate never falls below this (plateau, cosine)."""
    early_stopping_epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs without a better validation metric (the search's own) before the stage ends; None never stops early."""
    keep: Literal["best", "last"] = "best"
    """Which epoch's weights the stage ends with: the best on validation; or the last, for courses that end at a low
    learning rate, where the best of several noisy figures is mostly luck."""
    strength: Fraction = 0.0
    """Strength of the augmentation."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout before the head's last layer; of an embedding head, before its projection."""
    class_weights: Literal["none", "balanced"] | Effective | Fraction | dict[str, Positive] = "none"
    """none; balanced = n / (classes * count); a power p: balanced ** p; "effective:0.999": by the effective number of
    images at that beta (Cui et al. 2019); or a weight per class name, 1 for those left out."""
    loss: Literal["cross_entropy", "focal", "logit_adjusted"] = "cross_entropy"
    """cross_entropy; focal: images that are surely right already count less (Lin et al. 2017); logit_adjusted: a rare
    class must be ahead by more while it is trained (Menon et al. 2021)."""
    focal_gamma: NonNegative = 2.0
    """Focal: the power of 1 - p that an image counts with; 0 is cross_entropy."""
    adjustment_tau: NonNegative = 1.0
    """Logit_adjusted: the logits are shifted by this times the logarithm of each class's share; 0 is cross_entropy."""
    contrastive: NonNegative = 0.0
    """What the supervised contrastive loss of an embedding head counts beside `loss` (Khosla et al. 2020): in a batch,
    embeddings of one class are pulled together and pushed from all others. 0: it is not computed; depth 0 only."""
    contrastive_temperature: Positive = 0.1
    """Contrastive: cosine similarities are divided by this; the lower it is, the more the nearest images count."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Mass taken from the true class and spread over all of them."""
    mixing: Literal["none", "mixup", "cutmix"] = "none"
    """What is done to the activations that enter the trained blocks: mixup blends an image's with another's (manifold
    mixup, Verma et al. 2019), cutmix puts a rectangle of another's into them (Yun et al. 2019); labels follow."""
    mixing_rate: Fraction = 0.5
    """Mixing: the share of the steps that mix."""
    mixing_alpha: Positive = 1.0
    """Mixing: an image's own share is drawn from Beta(alpha, alpha); 1: uniform, near 0: all or nothing."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Images a step (of the optimizer)."""
    batch_norm: Literal["frozen", "train"] = "frozen"
    """frozen: BatchNorm in the unfrozen blocks keeps its pretrained statistics; train: it uses the batch's."""

    @property
    def decided_by_epochs(self) -> bool:
        """Whether what is trained depends on how each epoch does on validation images, not on the last one alone."""
        return self.keep == "best" or self.early_stopping_epochs is not None or self.course == "plateau"

    @model_validator(mode="after")
    def _mixes_what_is_trained(self) -> Stage:
        if self.mixing != "none" and not self.depth:
            raise ValueError(f"mixing {self.mixing} needs an unfrozen block: at depth 0 there is a head alone")
        return self

    @model_validator(mode="after")
    def _contrasts_whole_batches(self) -> Stage:
        if self.contrastive and self.depth:
            raise ValueError(
                f"contrastive {self.contrastive:g} needs depth 0, got {self.depth}: it compares all images of a batch "
                "with each other, and where blocks are open a batch may be trained in pieces"
            )
        return self

    @model_validator(mode="after")
    def _part_is_there(self) -> Stage:
        which, _, of = self.part.partition("/")
        first, _, last = which.partition("-")
        if first.isdigit() and not int(first) <= int(last or first) <= int(of):
            raise ValueError(f"there is no part {self.part} of the training images")
        return self


class Recipe(_Frozen):
    """Everything that defines one trial."""

    backbone: str
    """A name in the registry of `raysearch.models`, or timm/NAME."""
    weights: str = "auto"
    """auto, imagenet, random, or the path of a weights file."""
    image_size: Annotated[int, Field(ge=8)]
    """Height and width that the network sees, in pixels."""
    fit: Fit = "squash"
    """How an image that is not square becomes one."""
    pooling: Literal["avg", "max", "both"] = "avg"
    """Pooling of the last feature map, or of the last tokens; both concatenates avg and max. Of tokens, avg is what the
    network's own classifier reads: their mean, or the class token where there is one."""
    head: Head = Head()
    augmentation: Augmentation = Augmentation()
    schedule: Annotated[tuple[Stage, ...], Field(min_length=1)]
    """The stages, in order; depth never decreases."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seeds the head's first weights, batch order, dropout and augmentation views."""

    @model_validator(mode="after")
    def _stages_fit_together(self) -> Recipe:
        depths = [stage.depth for stage in self.schedule]
        if depths != sorted(depths):
            raise ValueError(f"depth must never decrease along the schedule, got {depths}")
        if self.schedule[0].inherit is not None:
            raise ValueError("the first stage has no stage before it whose learning rate it could inherit")
        return self

    @property
    def depth(self) -> int:
        """How many blocks the last stage has unfrozen."""
        return self.schedule[-1].depth

    @property
    def network(self) -> str:
        """What is fine-tuned, as `network_name` has it."""
        return network_name(self.backbone, self.weights, self.image_size)


NATIVE = "native"
"""What an image size says that is the one which a network's weights were trained with."""
AT_HAND = "at_hand"
"""What `backbone` says for every network whose weights are on this machine."""


class Network(NamedTuple):
    """A backbone with its weights, and the size in which it sees images."""

    backbone: str
    weights: str | None
    """None: those of the whole search."""
    image_size: int | Literal["native"] | None
    """Pixels; native: what the weights were trained with; None: that of the whole search."""


def network_name(backbone: str, weights: str, image_size: int | str) -> str:
    """A network as one value: "densenet121=bundled@32"."""
    return f"{backbone}={weights}@{image_size}"


def named_network(name: str) -> Network:
    """What NAME[=WEIGHTS][@PX|@native] says.

    >>> named_network("resnet18=imagenet@64"), named_network("resnet18@native")[2], named_network("resnet18")[1:]
    (Network(backbone='resnet18', weights='imagenet', image_size=64), 'native', (None, None))
    """
    named, _, size = name.rpartition("@")
    if not (size.isdecimal() or size == NATIVE):
        named, size = name, ""
    backbone, _, weights = named.partition("=")
    pixels: int | Literal["native"] | None = "native" if size == NATIVE else int(size) if size else None
    return Network(backbone.strip(), weights.strip() or None, pixels)


class Shared(TypedDict, total=False):
    """The fields of a recipe that all trials of a search share: the command or the space fixes them.

    But for backbone, weights and image size, where the search chooses among several networks.
    """

    backbone: str
    weights: str
    image_size: int
    fit: Fit
    seed: int


SHARED = tuple(Shared.__annotations__)


def shared(values: Mapping[str, Any]) -> Shared:
    """What the values, by the names of a recipe's fields and others, say of the fields in `Shared`."""
    return cast(Shared, {name: values[name] for name in SHARED if name in values})


def networks_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The networks that the settings of a run name: those that it chose among, or its only one."""
    return tuple(settings.get("networks") or (settings["backbone"],))


def flatten(tree: Any, prefix: str = "", whole: Collection[str] = ()) -> Values:
    """{"a": {"b": 1}, "s": [{"c": 2}]} -> {"a.b": 1, "s.0.c": 2}: the recipe as table columns, and a space's keys.

    `class_weights` given per class stays one value: its keys are the user's class names, not fields. So does what is
    at a dotted path of `whole`.
    """
    if prefix in whole:
        return {prefix: tree}
    if isinstance(tree, dict) and not prefix.endswith(".class_weights"):
        children: Any = tree.items()
    elif isinstance(tree, list | tuple):
        children = enumerate(tree)
    else:
        return {prefix: tree}
    flat: Values = {}
    for key, value in children:
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key), whole)
    return flat
