"""Heads a second of the head search on pooled features: packs against one head at a time.

    python benchmarks/heads.py [--data PATH/TO/cifar10.zip] [--heads 256] [--epochs 10] [--arms loop tune frozen]

DenseNet121 with the bundled weights, 32 px, 5,000 training and 1,000 validation images, the same recipes and epochs in
every arm, an evaluation after each epoch. Computing the features once ("fill") is reported apart.
    ours     a whole search, `Run.start` with a space of heads alone, its successive halving off: packs through Tune
    loop     a tuned plain torch loop on the same features in memory, one head after the other (the first --loop-heads)
    tune     one head per Ray Tune trial on the same features (the first --tune-heads), actors reused
    frozen   plain Tune trials that run the frozen network every epoch (--frozen-heads trials of --frozen-epochs)
The recipes are those that our search drew at random. An arm that trains fewer heads or epochs is extrapolated to heads
a second: "measured" says what it really did. Starting Ray and its actors is left out of all three Tune arms; what the
whole command took, everything included, is "command_seconds". Best accuracies are compared on equal heads. Run it
alone on the machine. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from torch import Tensor, nn
from torch.nn import functional

from raysearch.data.dataset import Dataset
from raysearch.data.pixels import load
from raysearch.models.boundary import build_classifier, cut, pin, prepare
from raysearch.models.head import make_head
from raysearch.models.weights import load_weights
from raysearch.recipe import Recipe, Stage
from raysearch.run import Run
from raysearch.training.bench import Bench
from raysearch.training.class_weights import class_weights
from raysearch.training.course import learning_rate
from raysearch.training.numerics import on_threads
from raysearch.training.stage import open_stage

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10.zip"
TRAIN_IMAGES, VAL_IMAGES, TEST_IMAGES = 500, 100, 10
"""Images of each class; the test images are there because a source needs them, nothing reads them."""
CPU = torch.device("cpu")

Figures = dict[str, Any]


@dataclass
class Work:
    """What every arm trains on."""

    dataset: Dataset
    features: Tensor
    """Those of the training images, (n, 1024)."""
    val_features: Tensor
    fill_seconds: float
    images: Path
    """The zip that they came from."""
    recipes: list[Recipe] = field(default_factory=list)
    """Those of our search, in its order."""

    @property
    def labels(self) -> Tensor:
        """The training images' classes."""
        return torch.tensor(np.asarray(self.dataset.train.labels))

    @property
    def val_labels(self) -> Tensor:
        """The validation images' classes."""
        return torch.tensor(np.asarray(self.dataset.val.labels))


SPACE = """
from ray import tune

from raysearch.space import Search

space = {{
    "pooling": "avg",
    "schedule": [
        {{
            "depth": 0,
            "epochs": {epochs},
            "course": "cosine",
            "learning_rate": tune.loguniform(3e-4, 1e-2),
            "weight_decay": tune.loguniform(1e-3, 1e-1),
            "dropout": tune.quniform(0.0, {dropout}, 0.1),
            "class_weights": tune.choice(["none", "balanced"]),
            "label_smoothing": tune.quniform(0.0, 0.1, 0.05),
        }}
    ],
}}
stage = {{"learning_rate": 2e-3, "weight_decay": 1e-2, "dropout": 0.0, "class_weights": "none", "label_smoothing": 0.0}}
default = {{"schedule": [stage]}}
search = Search(sampler="random", heads=256, pack={pack}, first_rung_epochs={epochs})
"""
"""Linear heads of every learning rate, decay, dropout, class weights and smoothing."""


def subset(source: Path, target: Path) -> None:
    """A zip of the first images of each class, validation from the training half."""
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w") as taken:
        by_class: dict[tuple[str, str], list[str]] = {}
        for name in sorted(given.namelist()):
            if name.endswith((".jpg", ".png")):
                split, label, _ = name.split("/")
                by_class.setdefault((split, label), []).append(name)
        for (split, label), names in by_class.items():
            parts = {"test": names[:TEST_IMAGES]}
            if split == "train":
                last = TRAIN_IMAGES + VAL_IMAGES
                parts = {"train": names[:TRAIN_IMAGES], "val": names[TRAIN_IMAGES:last]}
            for part, chosen in parts.items():
                for name in chosen:
                    taken.writestr(f"{part}/{label}/{Path(name).name}", given.read(name))


def prepare_work(data: Path, folder: Path) -> Work:
    """Images decoded, and their features computed once by our own live path."""
    subset(data, folder / "subset.zip")
    dataset = load(str(folder / "subset.zip"), image_size=32, cache=folder, progress=False)
    bench = Bench(dataset, load_weights("densenet121", "bundled", 0), CPU, "fp32")
    started = time.perf_counter()
    recipe = Recipe(backbone="densenet121", image_size=32, schedule=(Stage(depth=0, epochs=1),))
    images = open_stage(bench, recipe, 0).images
    features = images.train.activations.batch(np.arange(len(dataset.train.labels)), 0)
    val_features = images.val.activations.batch(np.arange(len(dataset.val.labels)), 0)
    seconds = time.perf_counter() - started
    return Work(dataset, features.contiguous(), val_features.contiguous(), seconds, folder / "subset.zip")


def ours_arm(work: Work, options: argparse.Namespace, folder: Path) -> Figures:
    """A search of heads alone, from an empty cache; then only the log is read.

    Its seconds go from the first epoch's beginning, when an actor was ready, to the last head's end, filling aside.
    """
    space = folder / "heads.py"
    space.write_text(SPACE.format(epochs=options.epochs, pack=options.pack, dropout=0.5 if options.dropout else 0.1))
    os.environ["RAYSEARCH_CACHE"] = str(folder / "cache")
    began = time.perf_counter()
    flags = {"trials": options.heads, "refits": 0, "seed": options.seed, "weights": "bundled", "image_size": 32}
    with redirect_stdout(sys.stderr):  # the run's summary
        run = Run.start(str(space), str(work.images), results=folder / "results", quiet=True, cache="on", **flags)
    command_seconds = time.perf_counter() - began
    log = run.events()
    work.recipes = [Recipe.model_validate(event["recipe"]) for event in log if event["event"] == "trial"]
    epochs = [event for event in log if event["event"] == "epoch"]
    ends = [event for event in log if event["event"] == "segment_end"]
    if len(ends) != options.heads:
        raise RuntimeError(f"{len(ends)} of {options.heads} heads came to their end")
    packs = {event["trial"]: event["pack"] for event in log if event["event"] == "trial"}
    first = min(epochs, key=lambda event: event["time"])
    # What had been trained when the first report came: of its pack, all epochs that were told with it.
    together = [one for one in epochs if one["time"] == first["time"] and packs[one["trial"]] == packs[first["trial"]]]
    ready = first["time"] - sum(one["seconds"] for one in together)
    fill = sum(event.get("fill_seconds", 0.0) for event in epochs)
    seconds = max(event["time"] for event in ends) - ready - fill
    best = {event["trial"]: event["best"]["val_accuracy"] for event in ends}
    found = figures(seconds / len(ends), seconds, len(ends), [best[name] for name in sorted(best)])
    return {**found, "fill_seconds": round(fill, 2), "command_seconds": round(command_seconds, 1)}


def plain_loop(
    recipe: Recipe, features: Tensor, labels: Tensor, val: Tensor, val_labels: Tensor, classes: tuple[str, ...]
) -> Iterator[float]:
    """One head as one would write it for speed; yields its best validation accuracy so far after each epoch.

    Features are gathered once an epoch, AdamW is torch's fused one, nothing waits for a number inside an epoch.
    """
    stage, n = recipe.schedule[0], len(labels)
    head = make_head(features.shape[1], recipe.head, len(classes), recipe.seed).get_submodule("linear")
    weights = class_weights(stage.class_weights, labels, classes)
    groups: list[dict[str, Any]] = [
        {"params": [head.get_parameter("weight")]},
        {"params": [head.get_parameter("bias")], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=stage.weight_decay, fused=True)
    generator = torch.Generator().manual_seed(recipe.seed)
    steps = -(-n // stage.batch_size)
    best = 0.0
    for epoch in range(stage.epochs):
        order = torch.randperm(n, generator=generator)
        inputs, targets = features[order].split(stage.batch_size), labels[order].split(stage.batch_size)
        for step, (batch, target) in enumerate(zip(inputs, targets, strict=True)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(stage, epoch + (step + 0.5) / steps)
            if stage.dropout:
                batch = functional.dropout(batch, stage.dropout)
            loss = functional.cross_entropy(head(batch), target, weights, label_smoothing=stage.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = (head(val).argmax(1) == val_labels).double().mean().item()
        if accuracy > best:
            best, _ = accuracy, {name: tensor.clone() for name, tensor in head.state_dict().items()}
        yield best


def loop_arm(work: Work, options: argparse.Namespace) -> Figures:
    """The plain loop with the number of threads that suits it best."""
    recipes = work.recipes[: options.loop_heads]
    tensors = (work.features, work.labels, work.val_features, work.val_labels)

    def train(recipe: Recipe) -> float:
        return list(plain_loop(recipe, *tensors, work.dataset.classes))[-1]

    def seconds_with(threads: int) -> float:
        with on_threads(threads):
            started = time.perf_counter()
            train(recipes[0])
            return time.perf_counter() - started

    train(recipes[0])  # once to warm up
    threads = min({1, options.threads}, key=seconds_with)
    with on_threads(threads):
        started = time.perf_counter()
        accuracies = [train(recipe) for recipe in recipes]
        seconds = time.perf_counter() - started
    return {"threads": threads, **figures(seconds / len(recipes), seconds, len(recipes), accuracies)}


def tune_arm(work: Work, options: argparse.Namespace) -> Figures:
    """One head per Tune trial on features that the trials find in Ray's object store; starting up is left out.

    Heads a second are those that ended after the first `--concurrent` of them, whose actors had to start.
    """
    from ray import tune

    recipes = work.recipes[: options.tune_heads]
    if len(recipes) <= options.concurrent:
        raise ValueError(f"--tune-heads must be above --concurrent, got {len(recipes)} and {options.concurrent}")
    tensors = {"features": work.features, "labels": work.labels}
    tensors |= {"val": work.val_features, "val_labels": work.val_labels}

    def trial(config: dict[str, Any], tensors: dict[str, Tensor], classes: tuple[str, ...]) -> None:
        torch.set_num_threads(1)
        recipe = Recipe.model_validate(config["recipe"])
        for accuracy in plain_loop(recipe, **tensors, classes=classes):
            tune.report({"val_accuracy": accuracy, "at": time.time()})

    with_work = tune.with_parameters(trial, tensors=tensors, classes=work.dataset.classes)
    with quiet_ray():
        results = fit(with_work, recipes, options.concurrent)
    ends = sorted(result["at"] for result in results)
    seconds = ends[-1] - ends[options.concurrent - 1]
    each = seconds / (len(ends) - options.concurrent)
    return figures(each, seconds, len(ends), [result["val_accuracy"] for result in results])


def frozen_arm(work: Work, options: argparse.Namespace) -> Figures:
    """Plain Tune trials: every epoch runs the whole frozen network over all images, training and validation.

    A head's seconds are those of its trial's epochs, times `--epochs`, shared by as many trials as run at once. The
    images are not augmented, so the features, and with them the accuracies, are those of the other arms.
    """
    from ray import tune

    recipes = [shortened(recipe, options.frozen_epochs) for recipe in work.recipes[: options.frozen_heads]]
    folder, classes = str(work.dataset.folder), work.dataset.classes

    def trial(config: dict[str, Any]) -> None:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // config["concurrent"]))
        recipe, dataset = Recipe.model_validate(config["recipe"]), Dataset.open(Path(folder))
        bench = Bench(dataset, load_weights("densenet121", "bundled", 0), CPU, "fp32")
        network = whole_network(bench, recipe, len(classes))
        for seconds, accuracy in frozen_epochs(network, recipe, dataset, classes):
            tune.report({"val_accuracy": accuracy, "epoch_seconds": seconds})

    with quiet_ray():
        results = fit(trial, recipes, options.concurrent)
    epoch = statistics.mean(result["epoch_seconds"] for result in results)
    at_once = min(options.concurrent, len(recipes))
    found = figures(epoch * options.epochs / at_once, epoch, len(results), [r["val_accuracy"] for r in results])
    return {**found, "epochs_measured": options.frozen_epochs, "epoch_seconds": round(epoch, 2)}


def shortened(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with so many epochs."""
    return recipe.model_copy(update={"schedule": (recipe.schedule[0].model_copy(update={"epochs": epochs}),)})


def whole_network(bench: Bench, recipe: Recipe, classes: int) -> nn.Sequential:
    """Frozen blocks with the bundled weights, and a trainable head."""
    network = build_classifier(recipe, classes)
    network.load_state_dict(dict(bench.weights.state), strict=False)
    network.get_submodule("head.dropout").p = recipe.schedule[0].dropout  # type: ignore[assignment]
    return network


def frozen_epochs(
    network: nn.Sequential, recipe: Recipe, dataset: Dataset, classes: tuple[str, ...]
) -> Iterator[tuple[float, float]]:
    """Seconds and validation accuracy of each epoch of the head, the features computed anew each time.

    It is sent to Ray's workers, so it may not say `dataset.classes`: cloudpickle takes that for torch.classes.
    """
    stage, (prefix, head) = recipe.schedule[0], cut(network, 0)
    pin(prefix)
    labels, val_labels = (torch.tensor(np.asarray(part.labels)) for part in (dataset.train, dataset.val))
    weights = class_weights(stage.class_weights, labels, classes)
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=stage.weight_decay, fused=True)
    generator, steps = torch.Generator().manual_seed(recipe.seed), -(-len(labels) // stage.batch_size)

    def features(pixels: np.ndarray) -> Tensor:
        with torch.no_grad():
            return prefix(prepare(pixels, CPU))

    for epoch in range(stage.epochs):
        started = time.perf_counter()
        head.train()
        for step, chosen in enumerate(torch.randperm(len(labels), generator=generator).split(stage.batch_size)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(stage, epoch + (step + 0.5) / steps)
            logits = head(features(dataset.train.pixels[chosen.numpy()]))
            loss = functional.cross_entropy(logits, labels[chosen], weights, label_smoothing=stage.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        head.eval()
        with torch.no_grad():
            places = torch.arange(len(val_labels)).split(256)
            logits = torch.cat([head(features(dataset.val.pixels[place.numpy()])) for place in places])
        accuracy = (logits.argmax(1) == val_labels).double().mean().item()
        yield time.perf_counter() - started, accuracy


def fit(trial: Callable[..., None], recipes: list[Recipe], concurrent: int) -> list[dict[str, Any]]:
    """The last report of every trial."""
    from ray import tune

    with tempfile.TemporaryDirectory(prefix="raysearch-heads-") as storage:
        results = tune.Tuner(
            tune.with_resources(trial, {"cpu": 1}),
            param_space={
                "recipe": tune.grid_search([recipe.model_dump(mode="json") for recipe in recipes]),
                "concurrent": concurrent,
            },
            tune_config=tune.TuneConfig(max_concurrent_trials=concurrent, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=storage, name="heads", verbose=0),
        ).fit()
        if results.num_errors:
            raise RuntimeError(f"{results.num_errors} of {len(recipes)} trials failed: {results.errors[0]}")
        return [dict(results[place].metrics or {}) for place in range(len(results))]


@contextmanager
def quiet_ray() -> Iterator[None]:
    """A local Ray without dashboard, usage report and Tune's files a trial."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    os.environ.update(quiet)
    import ray

    ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def figures(seconds_each: float, seconds: float, heads: int, accuracies: list[float]) -> Figures:
    """What every arm reports; `accuracies` are the heads' best, in the order of the recipes."""
    return {
        "heads_per_second": round(1 / seconds_each, 4),
        "seconds_a_head": round(seconds_each, 4),
        "measured": {"heads": heads, "seconds": round(seconds, 2)},
        "best_val": round(max(accuracies), 4),
        "accuracies": accuracies,
    }


ARMS: dict[str, Callable[[Work, argparse.Namespace], Figures]] = {
    "loop": loop_arm,
    "tune": tune_arm,
    "frozen": frozen_arm,
}


def compare(arms: dict[str, Figures], heads: int) -> Figures:
    """Each arm against ours: how many times slower, and both best accuracies on the heads that both trained."""
    ours, found = arms["ours"], {}
    for name, arm in arms.items():
        if name == "ours":
            continue
        same = ours["accuracies"][: len(arm["accuracies"])]
        found[name] = {
            "ratio": round(arm["seconds_a_head"] / ours["seconds_a_head"], 1),
            "best_val_of_the_same_heads": [round(max(same), 4), round(arm["best_val"], 4)],
        }
        if name == "frozen":
            del found[name]["best_val_of_the_same_heads"]  # of fewer epochs
            counted = ours["seconds_a_head"] + ours["fill_seconds"] / heads
            found[name]["ratio_fill_counted"] = round(arm["seconds_a_head"] / counted, 1)
    return found


def main() -> None:
    """Run the arms one after the other on the same features."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--heads", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pack", type=int, default=128, help="heads that train together")
    parser.add_argument("--loop-heads", type=int, default=32)
    parser.add_argument("--tune-heads", type=int, default=16)
    parser.add_argument("--frozen-heads", type=int, default=2)
    parser.add_argument("--frozen-epochs", type=int, default=1)
    parser.add_argument("--concurrent", type=int, default=2, help="trials at once in the two Tune arms")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch, for the loop")
    parser.add_argument(
        "--dropout",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="without it heads have little dropout or none",
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.data.is_file():
        parser.exit(2, f"--data {options.data}: no such file; say where cifar10.zip is\n")
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="raysearch-heads-") as folder:
        work = prepare_work(options.data, Path(folder))
        arms = {"ours": ours_arm(work, options, Path(folder))}
        print("ours", {k: v for k, v in arms["ours"].items() if k != "accuracies"}, file=sys.stderr)
        for name in options.arms:
            arms[name] = ARMS[name](work, options)
            print(name, {k: v for k, v in arms[name].items() if k != "accuracies"}, file=sys.stderr)
    compared = compare(arms, options.heads)
    for arm in arms.values():
        del arm["accuracies"]
    summary = {
        "benchmark": "heads",
        "epochs": options.epochs,
        "training_images": len(work.labels),
        "features_seconds": round(work.fill_seconds, 2),
        "threads": options.threads,
        "dropout": options.dropout,
        **arms,
        "compared_with_ours": compared,
        "machine": machine(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
