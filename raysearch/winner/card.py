"""The model card, `best/README.md`: what a person should know of the classifier before using it, or passing it on.

Its parts are those of Mitchell et al. (2019), "Model Cards for Model Reporting", as far as a search knows them; the
head of the file is the metadata that the Hugging Face Hub reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from raysearch.data.dataset import Dataset
from raysearch.recipe import Augmentation, Recipe, Stage
from raysearch.record.decision import decided
from raysearch.record.evaluation import EvaluationDocument, ShippedFigures
from raysearch.record.folder import RunFolder
from raysearch.record.info import RunInfo, weights_info
from raysearch.reporting.comparison import comparison_of
from raysearch.reporting.intake import leak, left_out
from raysearch.winner.card_results import choice_part, markdown_table, results_part, sureness_part
from raysearch.winner.shipment import Shipment

_PROMISE = 0.05  # the error that the example of --abstain promises
_STAGE_FIELDS = (
    "depth", "epochs", "part", "learning_rate", "layer_decay", "weight_decay", "course", "strength", "dropout",
    "class_weights", "loss", "focal_gamma", "adjustment_tau", "label_smoothing", "mixing", "mixing_rate",
    "mixing_alpha", "batch_size", "batch_norm",
)  # fmt: skip


def model_card(
    run: RunFolder,
    shipment: Shipment,
    data: Dataset,
    evaluation: EvaluationDocument,
    probabilities: Mapping[str, np.ndarray],
) -> str:
    """The card in Markdown.

    Args:
        run: the search; its log and run.json are read.
        shipment: the classifier.
        data: what it was trained, chosen and measured on.
        evaluation: evaluation.json, with the figures of the classifier.
        probabilities: on the test images, (n, classes), of the classifier ("winner"), and of "default" and "head".
    """
    recipe, shipped = shipment.networks[0].recipe, evaluation["shipped"]
    metric = run.info.get("settings", {}).get("metric", "accuracy")
    parts = [
        _metadata(run.folder.name, recipe, data, shipped),
        _introduction(run.folder.name, recipe, data),
        _use(run.folder.name, shipment),
        choice_part(shipment, evaluation, comparison_of(run.events()), metric),
        results_part(evaluation, probabilities, data),
        sureness_part(evaluation),
        _data(data, run.info),
        _recipe(recipe, run, len(shipment.networks)),
        _limits(shipment, data, probabilities["winner"]),
    ]
    return "\n\n".join(parts)


def _metadata(name: str, recipe: Recipe, data: Dataset, shipped: ShippedFigures) -> str:
    """YAML front matter, a key a line; values are JSON, which YAML includes. No licence: that is the owner's to say."""
    test, source = shipped["test"], _source(data)
    figures = [("accuracy", "accuracy", test["accuracy"]), ("f1", "macro-F1", test["macro_f1"])]
    results = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"name": source, "type": source, "split": "test"},
        "metrics": [{"type": kind, "name": label, "value": figure} for kind, label, figure in figures],
    }
    head = {
        "library_name": "raysearch",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "fine-tuning", "raysearch", recipe.backbone],
        "metrics": ["accuracy", "f1"],
        "model-index": [{"name": name, "results": [results]}],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    return "\n".join(["---", *lines, "---"])


def _introduction(name: str, recipe: Recipe, data: Dataset) -> str:
    classes = ", ".join(data.classes[:20]) + (" …" if len(data.classes) > 20 else "")
    return (
        f"# {name}: {recipe.backbone} for {len(data.classes)} classes\n\n"
        f"Tells {classes} apart, one class an image, in RGB images of {recipe.image_size} x {recipe.image_size} px; "
        f"other sizes are fitted ({recipe.fit}). Found and trained by raysearch; no person has reviewed it: what "
        "it is for, who may use it under which licence, and whom its mistakes would hurt, is for its owner to add here."
    )


def _use(name: str, shipment: Shipment) -> str:
    mirrored = " --tta" if shipment.networks[0].recipe.augmentation.flip and not shipment.mirrored else ""
    promised = shipment.confidence.least(_PROMISE) is not None
    abstaining = f"\n    raysearch predict {name} IMAGE... --abstain {_PROMISE:g}" * promised
    return f"""## Use

    raysearch predict {name} IMAGE...{mirrored}{abstaining}
    raysearch export {name} --format onnx

```python
from pathlib import Path
from raysearch.predict import load_best

best = load_best(Path("best"))  # this folder
best.predict(["cat.jpg", "holiday/"])  # a DataFrame, a row an image
best.model()  # a plain torch.nn.Module, in eval mode
```

`model.safetensors` has the tensors in fp32, `recipe.json` how they were trained, `labels.json` the order of the
classes, what is done to an image before the network, and how answers are put together and how sure they may be.
`known.safetensors`, where it is, has features of training images: `best.predict(…, unknown=0.05)` tells by them what is
like none of these."""


def _data(data: Dataset, info: RunInfo) -> str:
    seed, intake = info.get("settings", {}).get("seed", 0), data.account.as_json()
    skipped = f" {len(data.skipped)} files could not be read and were left out." * bool(data.skipped)
    told = "".join(f" {line}" for line in (leak(intake), left_out(intake)) if line is not None)
    return (
        f"## Data\n\n{_source(data)}: {len(data.train)} images to train on, {len(data.val)} to choose by, "
        f"{len(data.test)} to measure with. Splits that the data did not give were made stratified, with seed {seed}."
        f"{skipped}{told} SHA-256 of pixels, labels and splits: {data.fingerprint}."
    )


def _recipe(recipe: Recipe, run: RunFolder, networks: int) -> str:
    info = run.info
    settings, versions = info.get("settings", {}), info.get("versions", {})
    base, cpus = weights_info(info, recipe.network), info.get("machine", {}).get("cpus", "?")
    weights = base["origin"] if base is not None else recipe.weights
    made_with = ", ".join(f"{name} {versions[name]}" for name in ("raysearch", "torch", "ray") if name in versions)
    augmented = any(stage.strength for stage in recipe.schedule)
    searched = (
        f"Proposed by validation {settings.get('metric', 'accuracy')} among {len(run.trials)} trials and "
        f"{len(run.heads)} heads of the space {Path(settings.get('space', '?')).stem}, {info.get('created', '')[:10]}, "
        f"on {cpus} CPU cores (device {settings.get('device', '?')}), with {made_with}."
    )
    return "\n\n".join(
        [
            "## Training",
            "The recipe of the first network; those of the others are in labels.json. "
            * (networks > 1)
            + f"{recipe.backbone} from {weights} weights, {recipe.pooling} pooling, {recipe.head.kind} head, seed "
            f"{recipe.seed}. {_licensed(None if base is None else base.get('license'))}"
            "Depth is how many blocks are open, counted from the output; the others stay as they were.",
            markdown_table(
                ["stage", *(name.replace("_", " ") for name in _STAGE_FIELDS)],
                [[number, *_stage_cells(stage)] for number, stage in enumerate(recipe.schedule)],
            ),
            _augmentation(recipe.augmentation) if augmented else "No augmentation.",
            searched,
        ]
    )


def _licensed(licence: str | None) -> str:
    return f"The licence of those weights, as far as it is stated with them: {licence}. " if licence else ""


def _stage_cells(stage: Stage) -> list[str]:
    values = {name: getattr(stage, name) for name in _STAGE_FIELDS}
    if stage.inherit is not None:
        values["learning_rate"] = f"{stage.inherit:.3g} of the last"
    return [f"{value:.3g}" if isinstance(value, float) else str(value) for value in values.values()]


def _augmentation(ranges: Augmentation) -> str:
    return (
        f"Augmentation at strength 1: flips with probability {ranges.flip:g}, rotation within "
        f"{ranges.rotation_degrees:g} degrees, zoom within {ranges.zoom:g}, contrast within {ranges.contrast:g}, noise "
        f"up to {ranges.noise:g}; another strength scales all but the flips."
    )


def _limits(shipment: Shipment, data: Dataset, shares: np.ndarray) -> str:
    said = decided(shares, shipment.confidence.threshold)
    right, sure = float((said == data.test.labels).mean()), float(shares[np.arange(len(said)), said].mean())
    known = shipment.confidence.images > 0
    whose = f"Probabilities are the network's own{', over a temperature' if known else ', not calibrated'}"
    limits = [
        "The figures hold for images like the test images; other cameras, places or people may give others. Measure "
        "with `raysearch evaluate`.",
        "Anything that is none of the classes is called one of them all the same.",
        f"{whose}: on the test images that of its answer is {sure:.3f} on "
        f"average, and {right:.3f} of its answers are right.",
        _fewest(data),
        "Whatever biases the images have, and those that the weights were trained on before, it has learnt.",
    ]
    if not shipment.networks[0].recipe.augmentation.flip:
        limits.append("A mirrored image may be another class to it: it was trained without flips.")
    if known:
        limits.append("Temperature, threshold and what abstaining promises are from images like the labelled ones.")
    return "\n".join(["## Limits\n", *(f"- {limit}" for limit in limits)])


def _fewest(data: Dataset) -> str:
    """How well a recall is known of the class with the fewest test images, or of the fewest groups of such."""
    test, what = data.test, "test images"
    counted = np.arange(len(test)) if test.groups is None else test.groups
    if len(np.unique(counted)) < len(test):
        what = "groups of test images that belong together"
    each = [len(np.unique(counted[test.labels == label])) for label in range(len(data.classes))]
    fewest = min(each)
    if not fewest:
        return f"There are no test images of {data.classes[each.index(0)]}, so nothing is known of how it is told."
    return (
        f"The class with the fewest {what} has {fewest}: with so many, a recall of one half is known to "
        f"±{0.98 / fewest**0.5:.2f} (95 %)."
    )


def _source(data: Dataset) -> str:
    """The source's name, without the folders of the machine that it lay on."""
    return Path(data.source).absolute().name or data.source
