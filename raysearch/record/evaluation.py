"""What evaluation.json says: how good a search's winner is, and what it is held against."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

Kind = Literal["single", "averaged", "student", "mirror", "ensemble"]
"""What can be shipped: one training, the mean of several's tensors, what learned from their answers, the mean's answers
to an image and to its mirror image, or several networks."""


class ClassFigures(TypedDict):
    """One model on the images of one class."""

    precision: float
    recall: float
    f1: float
    support: int
    """Images of the class."""


class Metrics(TypedDict):
    """One model on some images."""

    loss: float
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    auroc: NotRequired[float]
    """The mean over the classes of each one's against all others; it is missing where there are not images of two."""
    average_precision: NotRequired[float]
    """The same."""
    precision_at_10: NotRequired[float]
    """Of embeddings, where the head makes any, of which there are not too many."""
    precision_at_20: NotRequired[float]
    per_class: dict[str, ClassFigures]
    confusion: list[list[int]]
    """Images: rows are the true class, columns the predicted one."""


class Spread(TypedDict):
    """One figure of several models."""

    mean: float
    std: float | None
    """The sample's standard deviation (n - 1); None where there is one value, or one that is not finite."""
    values: list[float]


class ClassSpreads(TypedDict):
    """Several models on the images of one class."""

    precision: Spread
    recall: Spread
    f1: Spread
    support: int


class Figures(TypedDict):
    """Several models on the same images."""

    loss: Spread
    accuracy: Spread
    balanced_accuracy: Spread
    macro_f1: Spread
    auroc: NotRequired[Spread]
    average_precision: NotRequired[Spread]
    precision_at_10: NotRequired[Spread]
    precision_at_20: NotRequired[Spread]
    per_class: dict[str, ClassSpreads]
    confusion: list[list[float]]
    """The mean over the models."""


class Other(TypedDict):
    """A model that the winner is held against, on the test images."""

    trial: str
    test: Figures


class CalibrationErrors(TypedDict):
    """How far confidence and accuracy are apart on the test images."""

    before: float
    """The error of the probabilities as the network gives them."""
    after: float
    """The error once the logits are divided by the temperature."""


class ReliabilityBin(TypedDict):
    """Answers that are about equally sure."""

    confidence: float
    """The mean probability of the answers."""
    accuracy: float
    """Share of right ones."""
    images: int


class Reliability(TypedDict):
    """Confidence against accuracy on the test images, before and after the temperature; empty bins are left out."""

    before: list[ReliabilityBin]
    after: list[ReliabilityBin]


class CurvePoint(TypedDict):
    """What comes of giving all answers that are at least so sure."""

    confidence: float
    coverage: float
    """Share of the images that have an answer."""
    risk: float
    """Share of wrong ones among the answers."""
    bound: float
    """Its upper bound (95 %)."""


class Promise(TypedDict):
    """What `--abstain` does for one promised error."""

    error: float
    """The error that is promised at most, as a share of the answers."""
    confidence: float | None
    """The least probability of an answer that is given; None: with so few images nobody can promise it."""
    coverage: float | None
    """Share of the out-of-fold images that have an answer then."""
    test_coverage: float | None
    test_error: float | None
    """The same on the test images, and the share of wrong answers found there; None: nothing was answered."""


class EnsembleShare(TypedDict):
    """One recipe of an ensemble."""

    trial: str
    weight: float
    networks: int
    """How many trainings of it there are."""


class ShippedFigures(TypedDict):
    """What is shipped."""

    kind: Kind
    cost: int
    """Passes through a network that a prediction takes."""
    temperature: float
    threshold: float | None
    """The probability from which on the second of two classes is the answer; None: the likelier class is.

    The images out of fold have chosen it, so what `out_of_fold` and `curve` have at it is a little too good.
    """
    out_of_fold: NotRequired[Metrics]
    """Its figures on labelled images, each judged by networks that had not trained on it."""
    test: Metrics
    independent: NotRequired[float]
    """How many test images that are independent draws would say as much of its accuracy, as groups say less."""
    calibration_error: CalibrationErrors
    trainings: NotRequired[int]
    """How many trainings it is made of: those whose tensors are averaged, or the networks of an ensemble."""
    members: NotRequired[list[EnsembleShare]]
    """The recipes of an ensemble; missing for any other kind."""
    images: NotRequired[int]
    """How many images temperature, threshold and curve are from; 0: nothing is known out of fold."""
    reliability: NotRequired[Reliability]
    curve: NotRequired[list[CurvePoint]]
    """The out-of-fold curve, the surest answers first."""
    promises: NotRequired[list[Promise]]
    """A promise for each of some errors, the smallest first; none where nothing is known out of fold."""


class AccuracyInterval(TypedDict):
    """A share of right answers, with its interval (95 %)."""

    accuracy: float
    low: float
    high: float


class FrontierPoint(TypedDict):
    """One thing that could be shipped."""

    kind: Kind
    cost: int
    out_of_fold: AccuracyInterval
    test: AccuracyInterval


class MetricFigures(TypedDict):
    """What is shipped by one metric."""

    metric: str
    on: Literal["out of fold", "validation"]
    """The images that say it: labelled ones that what is shipped had not trained on, if there are."""
    figure: float
    low: float | None
    high: float | None
    """Ends of its 90 % interval; None where only the search's own figure is known."""
    test: tuple[float, float, float] | None
    """On the test images, with the ends of the interval; None where they lack a class that the metric needs."""
    test_lacks: NotRequired[list[str]]
    """These classes."""


class RequirementFigures(MetricFigures):
    """One of the bounds that a search required."""

    requirement: str
    """As in `--require`."""
    bound: float
    met: bool


class Change(TypedDict):
    """The share of right answers before and after, on the same images."""

    images: int
    before: float
    after: float
    change: float
    low: float | None
    high: float | None
    """Ends of the 95 % interval of the change, image by image; None where there is one image, or all changed alike."""
    p: NotRequired[float]
    """Of `raysearch.intervals.p_of_change`; of a class corrected over all of them (Holm). Older runs lack it."""


class ContinuedFigures(TypedDict):
    """A continued search on the test images of the run before, as far as both know their classes."""

    run: str
    """The earlier run's name."""
    images: int
    found_again: int
    """Of all its test images here, those that the new data has."""
    same: dict[str, str]
    """The earlier run's name of each class that both know, by its name now."""
    new: list[str]
    gone: list[str]
    accuracy: Change
    per_class: dict[str, Change]
    called_new: float
    """Share of the images that are now taken for a class that the earlier run did not know."""


class EvaluationDocument(TypedDict):
    """evaluation.json: the winner's figures on each split, a model a fresh seed, and those of the others."""

    trial: str
    metric: str
    """What the search was led by, as in `--metric`."""
    train: Figures
    train_augmented: Figures
    val: NotRequired[Figures]
    """Missing where the winner was trained on these images too."""
    test: Figures
    best_validation: float
    """The winner's figure in the search, on the validation images that chose."""
    optimism: float | None
    """How much better `best_validation` is than the mean over fresh seeds; None: there is no such mean."""
    others: dict[str, Other]
    """"default": the known-good recipe; "head": the best head alone."""
    shipped: NotRequired[ShippedFigures]
    """What best/ holds; missing in what versions before 0.2 wrote."""
    frontier: NotRequired[list[FrontierPoint]]
    """All that could be shipped, cheapest first; empty where nothing was compared out of fold."""
    refits: NotRequired[int]
    test_reads: NotRequired[int]
    """How often the test images have been read."""
    requirements: NotRequired[list[RequirementFigures]]
    """What the search required beside its metric; missing where it required nothing."""
    objectives: NotRequired[list[MetricFigures]]
    """Each metric of a search that was after several; missing where it was after one."""
    unlabelled: NotRequired[int]
    """Images without labels that the student was trained on; missing where there is none."""
    continued: NotRequired[ContinuedFigures]
    """What has been forgotten of an earlier run; missing where none is continued."""
