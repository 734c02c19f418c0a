"""The end of a search: models named beforehand, one look at the test images, and what is left of the winner.

The models are the fresh trainings of the chosen recipe, all that could be shipped of them, the default recipe as the
search trained it, and the best head alone. Which of them goes into best/ was decided before.
"""

from __future__ import annotations

from dataclasses import replace

from raysearch.data.augment import Augmenter
from raysearch.job.job import Job
from raysearch.pipeline.evaluation_files import Measured
from raysearch.pipeline.finish import Finish
from raysearch.pipeline.forgetting import forgotten
from raysearch.pipeline.looking import Look, look, where_of
from raysearch.pipeline.measured_networks import Models, Seen, measured_networks
from raysearch.pipeline.unknown import known_images
from raysearch.record.final_events import TestRead
from raysearch.record.folder import RunFolder
from raysearch.search.controller import Controller
from raysearch.storage.files import replace_with
from raysearch.winner.best_files import write_best
from raysearch.winner.card import model_card
from raysearch.winner.evaluate import Evaluation
from raysearch.workers.cluster import Call, call_here


def evaluate_run(
    job: Job, run: RunFolder, controller: Controller, finish: Finish | None, call: Call = call_here
) -> bool:
    """Write best/, predictions.parquet and evaluation.json.

    Args:
        job: the settings and what they name.
        run: the run folder.
        controller: the search at its end; it has a winner.
        finish: what was trained after the search; None if the winner is not trained again.
        call: calls a function where trials run.

    Returns: whether the winner's answers to validation images are of networks that were trained on them.
    """
    asked = None if finish is None else finish.finals.asked
    winner = controller.winner if asked is None else controller.trials[asked]
    assert winner is not None and winner.best is not None
    finish = finish if finish is not None and finish.refits else None
    models = measured_networks(job, run, controller, winner, finish, call)
    single = _chosen_single(job, finish)
    # Everything is chosen by now. What follows only measures.
    reads = 1 + sum(1 for event in run.events() if event["event"] == "test_read")
    read = TestRead(event="test_read", winner=models.trial)
    if "default" in models.others:
        read["default"] = models.others["default"].trial
    if "head" in models.others:
        read["head"] = models.others["head"].trial
    run.append(read)
    seen = _look(job, finish, models, single, call)
    measured = Measured(job, finish, models, single, seen)
    document, on_test = measured.document(winner, reads), measured.on_test()
    if (changed := forgotten(job, on_test["winner"], measured.confidence.threshold, call)) is not None:
        document["continued"] = changed
    frame = measured.predictions()
    replace_with(run.folder / "predictions.parquet", lambda path: frame.to_parquet(path, index=False))
    shipment = measured.shipment()
    card = model_card(run, shipment, job.dataset, document, on_test)
    write_best(
        run.folder / "best",
        shipment,
        job.dataset.classes,
        job.weights_of(shipment.networks[0].recipe).digest,
        card,
        pixel_range=job.dataset.notes.pixel_range,
        known=known_images(job, finish, shipment, measured.first_trial, call),
    )
    run.write_json("evaluation.json", document)
    return measured.seen_val


def _chosen_single(job: Job, finish: Finish | None) -> int:
    """Which refit stands for all where one has to: the best on validation; the first if they trained on that too."""
    if finish is None or finish.finals.effort.on == "train+val":
        return 0
    rows = [one.row for one in finish.refits if one.row is not None]
    key = [job.rules.order(row) for row in rows]
    return key.index(max(key))


def _look(job: Job, finish: Finish | None, models: Models, single: int, call: Call) -> dict[Seen, Evaluation]:
    """All that is measured, in one pass."""
    base = models.averaged if models.averaged is not None and finish and finish.shipped != "single" else None
    base = models.student if finish and finish.shipped == "student" else base
    base = models.singles[single] if base is None else base
    recipe = models.recipes[single]
    augmenter = Augmenter(recipe.augmentation, recipe.schedule[-1].strength, job.settings.seed)
    both, size = ("val", "test"), recipe.image_size
    of_others = [
        (name, Look(one.network, "val", image_size=one.recipe.image_size)) for name, one in models.others.items()
    ]
    looks: dict[Seen, Look] = {
        **{(split, i): Look(one, split, image_size=size) for i, one in enumerate(models.singles) for split in both},
        **{(split, name): replace(one, split=split) for name, one in of_others for split in both},
        **{
            ("test", trial): Look(one.network, "test", image_size=one.recipe.image_size)
            for trial, one in models.members.items()
        },
        "train": Look(base, "train", image_size=size),
        "train_augmented": Look(base, "train", augmenter, image_size=size),
    }
    if _halves(job, finish):
        looks |= {("half", i): Look(model, "half", image_size=size) for i, model in enumerate(models.singles)}
    if models.averaged is not None:
        looks["test", "averaged"] = Look(models.averaged, "test", image_size=size)
    if models.student is not None:
        looks["test", "student"] = Look(models.student, "test", image_size=size)
    if any(point.kind == "mirror" for point in (finish.points if finish else ())):
        mirrored = models.averaged or models.singles[0]
        looks["test", "mirrored"] = Look(mirrored, "test", mirrored=True, image_size=size)
    return call(look, where_of(job), looks)


def _halves(job: Job, finish: Finish | None) -> bool:
    """Whether half of the validation images chose, and no refit was trained on them."""
    return job.space.tested and not (finish is not None and finish.finals.effort.on == "train+val")
