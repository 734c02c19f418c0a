"""The model card, `best/README.md`: what a person should know of the classifier before using it, or passing it on.

Its parts are those of Mitchell et al. (2019), "Model Cards for Model Reporting", as far as a search knows them; the
head of the file is the metadata that the Hugging Face Hub reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raysearch.data.dataset import Dataset
from raysearch.intervals import mean_interval
from raysearch.recipe import Augmentation, Recipe, Stage
from raysearch.record.evaluation import ClassSpreads, EvaluationDocument
from raysearch.record.folder import RunFolder
from raysearch.record.info import RunInfo
from raysearch.reporting.intake import leak, left_out
from raysearch.reporting.measured import measured_models, plus_minus

_NAMED_CONFUSIONS = 5
_STAGE_FIELDS = (
    "depth", "epochs", "part", "learning_rate", "layer_decay", "weight_decay", "course", "strength", "dropout",
    "class_weights", "label_smoothing", "batch_size", "batch_norm",
)  # fmt: skip


def model_card(
    run: RunFolder,
    recipe: Recipe,
    data: Dataset,
    evaluation: EvaluationDocument,
    probabilities: Mapping[str, np.ndarray],
    shipped: int,
) -> str:
    """The card in Markdown.

    Args:
        run: the search; its trials, heads and run.json are read.
        recipe: the classifier's.
        data: what it was trained, chosen and measured on.
        evaluation: evaluation.json.
        probabilities: on the test images, (n, classes), of the classifier ("winner"), and of "default" and "head".
        shipped: which of the winner's trainings it is.
    """
    parts = [
        _metadata(run.folder.name, recipe, data, evaluation),
        _introduction(run.folder.name, recipe, data),
        _use(run.folder.name, recipe),
        _results(evaluation, probabilities, data, shipped),
        _data(data, run.info),
        _recipe(recipe, run),
        _limits(recipe, data, probabilities["winner"]),
    ]
    return "\n\n".join(parts)


def _metadata(name: str, recipe: Recipe, data: Dataset, evaluation: EvaluationDocument) -> str:
    """YAML front matter, a key a line; values are JSON, which YAML includes. No licence: that is the owner's to say."""
    test, source = evaluation["test"], _source(data)
    figures = [("accuracy", "accuracy", test["accuracy"]), ("f1", "macro-F1", test["macro_f1"])]
    results = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"name": source, "type": source, "split": "test"},
        "metrics": [{"type": kind, "name": label, "value": figure["mean"]} for kind, label, figure in figures],
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


def _use(name: str, recipe: Recipe) -> str:
    mirrored = " --tta" if recipe.augmentation.flip else ""
    return f"""## Use

    raysearch predict {name} IMAGE...{mirrored}
    raysearch export {name} --format onnx

```python
from pathlib import Path
from raysearch.predict import load_best

best = load_best(Path("best"))  # this folder
best.predict(["cat.jpg", "holiday/"])  # a DataFrame, a row an image
best.model()  # a plain torch.nn.Module, in eval mode
```

`model.safetensors` has the tensors in fp32, `recipe.json` how they were trained, `labels.json` the order of the classes
and what is done to an image before the network."""


def _results(
    evaluation: EvaluationDocument, probabilities: Mapping[str, np.ndarray], data: Dataset, shipped: int
) -> str:
    test = evaluation["test"]
    values = test["accuracy"]["values"]
    trainings = f"± is the standard deviation over {len(values)} trainings with fresh seeds. " * (len(values) > 1)
    by_split: Mapping[str, Any] = evaluation
    splits = ", ".join(
        f"{said} {plus_minus(by_split[key]['accuracy'])}"
        for key, said in (("train", "training images"), ("val", "validation"), ("test", "test"))
        if key in by_split
    )
    optimism = evaluation.get("optimism")
    flattered = "" if optimism is None else f" The search flattered it by {optimism:+.4f} on validation."
    unseen = "" if data.account.leaks else " that the search never saw"
    measured = (
        f"On {len(data.test)} test images{unseen}, read {_times(evaluation.get('test_reads', 1))}. "
        f"{trainings}The classifier in this folder has accuracy {values[shipped]:.4f}; the last column compares it "
        "with the others, image by image (95 % interval of the paired difference)."
    )
    return "\n\n".join(
        [
            "## Results",
            measured,
            _models(evaluation, probabilities, data.test.labels),
            f"Accuracy by split: {splits}.{flattered}",
            _classes(test["per_class"], data),
            _confusions(test["confusion"], data.classes),
        ]
    )


def _models(evaluation: EvaluationDocument, probabilities: Mapping[str, np.ndarray], labels: np.ndarray) -> str:
    right = {name: (shares.argmax(axis=1) == labels).astype(float) for name, shares in probabilities.items()}
    rows = []
    for one in measured_models(evaluation):
        against = ""
        if one.key != "winner" and len(labels) > 1:
            mean, low, high = (100 * value for value in mean_interval(right["winner"] - right[one.key], 0.95))
            against = f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}]"
        rows.append([one.label, one.trial, plus_minus(one.accuracy), plus_minus(one.macro_f1), against])
    return _table(["model", "trial", "accuracy", "macro-F1", "this one against it"], rows)


def _classes(per_class: Mapping[str, ClassSpreads], data: Dataset) -> str:
    train = np.bincount(data.train.labels, minlength=len(data.classes)).tolist()
    rows = [
        [name, *(plus_minus(one) for one in (row["precision"], row["recall"], row["f1"])), row["support"], train[i]]
        for i, (name, row) in enumerate(per_class.items())
    ]
    return _table(["class", "precision", "recall", "F1", "test images", "training images"], rows)


def _confusions(confusion: Sequence[Sequence[float]], classes: Sequence[str]) -> str:
    counts = np.array(confusion, dtype=float)
    np.fill_diagonal(counts, 0)
    worst = [np.unravel_index(place, counts.shape) for place in np.argsort(-counts, axis=None)[:_NAMED_CONFUSIONS]]
    named = [f"{classes[i]} for {classes[j]} ({counts[i, j]:.3g})" for i, j in worst if counts[i, j]]
    return f"Most often taken: {', '.join(named)}." if named else "No test image was taken for another class."


def _data(data: Dataset, info: RunInfo) -> str:
    seed, intake = info.get("settings", {}).get("seed", 0), data.account.as_json()
    skipped = f" {len(data.skipped)} files could not be read and were left out." * bool(data.skipped)
    told = "".join(f" {line}" for line in (leak(intake), left_out(intake)) if line is not None)
    return (
        f"## Data\n\n{_source(data)}: {len(data.train)} images to train on, {len(data.val)} to choose by, "
        f"{len(data.test)} to measure with. Splits that the data did not give were made stratified, with seed {seed}."
        f"{skipped}{told} SHA-256 of pixels, labels and splits: {data.fingerprint}."
    )


def _recipe(recipe: Recipe, run: RunFolder) -> str:
    info = run.info
    settings, versions = info.get("settings", {}), info.get("versions", {})
    weights, cpus = info.get("weights", {}).get("origin", recipe.weights), info.get("machine", {}).get("cpus", "?")
    made_with = ", ".join(f"{name} {versions[name]}" for name in ("raysearch", "torch", "ray") if name in versions)
    augmented = any(stage.strength for stage in recipe.schedule)
    searched = (
        f"Chosen by validation {settings.get('metric', 'accuracy')} among {len(run.trials)} trials and "
        f"{len(run.heads)} heads of the space {Path(settings.get('space', '?')).stem}, {info.get('created', '')[:10]}, "
        f"on {cpus} CPU cores (device {settings.get('device', '?')}), with {made_with}."
    )
    return "\n\n".join(
        [
            "## Training",
            f"{recipe.backbone} from {weights} weights, {recipe.pooling} pooling, {recipe.head.kind} head, seed "
            f"{recipe.seed}. Depth is how many blocks are open, counted from the output; the others stay as they were.",
            _table(
                ["stage", *(name.replace("_", " ") for name in _STAGE_FIELDS)],
                [[number, *_stage_cells(stage)] for number, stage in enumerate(recipe.schedule)],
            ),
            _augmentation(recipe.augmentation) if augmented else "No augmentation.",
            searched,
        ]
    )


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


def _limits(recipe: Recipe, data: Dataset, shares: np.ndarray) -> str:
    right, sure = float((shares.argmax(axis=1) == data.test.labels).mean()), float(shares.max(axis=1).mean())
    fewest = max(int(np.bincount(data.test.labels, minlength=len(data.classes)).min()), 1)
    limits = [
        "The figures hold for images like the test images; other cameras, places or people may give others. Measure "
        "with `raysearch evaluate`.",
        "Anything that is none of the classes is called one of them all the same.",
        f"Probabilities are the network's own, not calibrated: on the test images that of its answer is {sure:.3f} on "
        f"average, and {right:.3f} of its answers are right.",
        f"The class with the fewest test images has {fewest}: with so many, a recall of one half is known to "
        f"±{0.98 / fewest**0.5:.2f} (95 %).",
        "Whatever biases the images have, and those that the weights were trained on before, it has learnt.",
    ]
    if not recipe.augmentation.flip:
        limits.append("A mirrored image may be another class to it: it was trained without flips.")
    return "\n".join(["## Limits\n", *(f"- {limit}" for limit in limits)])


def _source(data: Dataset) -> str:
    """The source's name, without the folders of the machine that it lay on."""
    return Path(data.source).absolute().name or data.source


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times, so they are no longer quite unseen"


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "\\|").splitlines())
