"""Which trainings are wanted after a search, and which recipe they choose."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.intervals import mean_interval
from raysearch.pipeline.effort import Effort, final_recipe, student_recipe
from raysearch.pipeline.finals import Finalist, Finals
from raysearch.pipeline.races import choose
from raysearch.recipe import Recipe, Stage
from raysearch.record.goal import Goal
from raysearch.workers.order import Training
from raysearch.workers.trainings import Outcome

CLASSES = ("cat", "dog")
LABELS = np.arange(60) % 2


def recipe(epochs=6, **fine) -> Recipe:
    stages = (Stage(depth=0, epochs=4), Stage(depth=1, epochs=epochs, **fine))
    return Recipe(backbone="simple_cnn", weights="random", image_size=32, schedule=stages)


@dataclass(frozen=True)
class Known(Outcome):
    """An outcome whose held-out answers are known without a file."""

    logits: torch.Tensor | None = None

    def held_out_logits(self) -> torch.Tensor:
        assert self.logits is not None
        return self.logits


def finals(names=("t0000", "t0001"), folds=3, seeds=2, refits=2) -> Finals:
    effort = Effort(folds=folds, challengers=len(names) - 1, seeds=seeds, refits=refits, on="train+val")
    finalists = tuple(Finalist(name, on_folds=recipe(), for_good=recipe(epochs=18)) for name in names)
    return Finals(finalists, effort, LABELS, CLASSES, Goal("accuracy"), seed=0)


def trained(which: Finals, training: Training, wrong: float, error: str | None = None) -> Outcome:
    """A training that gets this share of the held-out images wrong: the last ones of the fold."""
    if error is not None or training.fold is None:
        return Outcome(training, error=error)
    labels = torch.as_tensor(LABELS[which.held_out[training.fold[0]]])
    answers = labels.clone()
    n = round(wrong * len(labels))
    answers[len(labels) - n :] = 1 - answers[len(labels) - n :]
    return Known(training, logits=torch.nn.functional.one_hot(answers, 2).float() * 4)


def run(which: Finals, wrong, errors=()) -> tuple[dict[str, Outcome], list[str]]:
    """Trains what is wanted, one after another, as long as anything is."""
    done: dict[str, Outcome] = {}
    order = []
    while missing := [one for one in which.wanted(done) if one.name not in done]:
        training = missing[0]
        order.append(training.name)
        trial = training.trial
        error = "diverged" if training.name in errors else None
        done[training.name] = trained(which, training, wrong[trial], error)
    return done, order


def test_a_challenger_that_is_surely_better_replaces_the_default():
    which = finals()
    done, _ = run(which, {"t0000": 0.5, "t0001": 0.0})
    assert which.chosen(done).trial == "t0001"


def test_one_that_somebody_asks_for_is_trained_on_all_folds_and_taken():
    which = replace(finals(), asked="t0001")
    done, _ = run(which, {"t0000": 0.0, "t0001": 0.5})
    assert which.chosen(done).trial == "t0001"
    assert [race.folds for race in which.races(done)] == [1, 2, 3]
    assert which.chosen_seeds(which.chosen(done), done)
    assert replace(finals(), asked="t0000").chosen(done).trial == "t0000"


def test_one_that_somebody_asks_for_is_trained_on_all_folds_though_the_default_fails():
    which = replace(finals(), asked="t0001")
    default, asked = which.finalists
    done, _ = run(which, {"t0000": 0.0, "t0001": 0.5}, errors=[which.in_fold(default, 0, 0).name])
    assert which.chosen(done) is asked
    assert len(which.chosen_seeds(asked, done)) == 2
    done, order = run(which, {"t0000": 0.0, "t0001": 0.5}, errors=[which.in_fold(asked, 0, 0).name])
    assert which.chosen(done) is asked
    assert which.in_fold(asked, 1, 0).name not in order, "it cannot be made whole any more"


def test_one_that_is_a_little_better_does_not():
    which = finals(folds=2)
    done, _ = run(which, {"t0000": 3 / 30, "t0001": 2 / 30})
    assert [race.difference.mean > 0 for race in which.races(done)] == [True] * 2
    assert which.races(done)[-1].difference.low <= 0
    assert which.chosen(done).trial == "t0000"


def test_of_several_challengers_each_must_be_the_surer():
    """Three images of sixty more are enough for one challenger, at one chance in twenty, and not for one of four."""
    wrong = {f"t000{number}": 0.05 * (number != 1) for number in range(5)}
    for challengers, taken in ((1, "t0001"), (4, "t0000")):
        which = finals(tuple(wrong)[: 1 + challengers])
        done, _ = run(which, wrong)
        assert which.confidence == pytest.approx(1 - 0.1 / challengers)
        assert which.chosen(done).trial == taken


def test_one_that_is_behind_after_a_fold_is_not_trained_on_the_next():
    _, order = run(finals(), {"t0000": 0.1, "t0001": 0.4})
    assert [name for name in order if "t0001" in name] == ["fold-t0001-1of3-1000"]


def test_more_seeds_and_the_refits_are_trained_of_the_chosen_recipe_alone():
    _, order = run(finals(), {"t0000": 0.5, "t0001": 0.0})
    assert [name for name in order if name.endswith("-1001")] == [
        "fold-t0001-1of3-1001",
        "fold-t0001-2of3-1001",
        "fold-t0001-3of3-1001",
        "refit-t0001-1001",
    ]
    assert [name for name in order if name.startswith("refit")] == ["refit-t0001-1000", "refit-t0001-1001"]


def test_a_fold_takes_as_long_as_a_trial_and_a_training_for_good_longer():
    done, _ = run(finals(), {"t0000": 0.5, "t0001": 0.0})
    trained_for = {(name.split("-")[0], one.training.recipe.schedule[1].epochs) for name, one in done.items()}
    assert trained_for == {("fold", 6), ("refit", 18)}


def test_of_what_is_chosen_one_training_on_a_fold_is_as_long_as_for_good():
    which = finals()
    assert which.longer(which.finalists[0]) == []
    short = replace(which, effort=replace(which.effort, final_length=3.0))
    _, order = run(short, {"t0000": 0.1, "t0001": 0.4})
    (longer,) = short.longer(short.finalists[0])
    assert [name for name in order if name.endswith("longer")] == [longer.name]
    one = short.in_fold(short.finalists[0], 0, 0)
    assert (longer.fold, longer.head_seed, longer.recipe.seed) == (one.fold, one.head_seed, one.recipe.seed)
    assert (one.recipe.schedule[1].epochs, longer.recipe.schedule[1].epochs) == (6, 18)


def test_without_folds_the_one_that_was_given_is_refitted():
    _, order = run(finals(("t0003",), folds=0, seeds=0), {"t0003": 0.0})
    assert order == ["refit-t0003-1000", "refit-t0003-1001"]


def test_trainings_that_are_averaged_share_their_head_and_differ_in_their_seed():
    which = finals()
    one, other = (which.in_fold(which.finalists[0], 1, number) for number in (0, 1))
    assert one.head_seed == other.head_seed
    assert one.recipe.seed != other.recipe.seed
    assert one.fold == other.fold == (1, 3)
    assert len({training.head_seed for training in which.refits(which.finalists[0])}) == 1


@pytest.mark.parametrize("failed", ["fold-t0001-1of3-1000", "fold-t0001-3of3-1000", "fold-t0000-2of3-1000"])
def test_a_training_that_fails_costs_a_challenger_its_chance_and_nothing_else(failed):
    which = finals()
    done, order = run(which, {"t0000": 0.5, "t0001": 0.0}, errors={failed})
    assert which.chosen(done).trial == "t0000"
    assert "refit-t0000-1001" in order


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_in_whatever_order_trainings_end_nothing_is_trained_twice_and_the_choice_is_the_same(data):
    names = ("t0000", "t0001", "t0002")
    which = finals(names)
    wrong = {name: data.draw(st.sampled_from([0.0, 0.1, 0.3, 0.5])) for name in names}
    in_order, _ = run(which, wrong)
    done: dict[str, Outcome] = {}
    while missing := [one for one in which.wanted(done) if one.name not in done]:
        training = data.draw(st.sampled_from(missing))
        done[training.name] = trained(which, training, wrong[training.trial])
    assert done.keys() == in_order.keys()
    assert which.chosen(done).trial == which.chosen(in_order).trial


def test_each_image_is_held_out_once():
    held_out = np.concatenate(finals().held_out)
    assert sorted(held_out.tolist()) == list(range(len(LABELS)))


def test_a_race_counts_groups_where_images_belong_together():
    """All images of a group are answered alike, so that they say what one of them says."""
    labels = np.repeat(np.arange(30) % 2, 4)
    which = replace(finals(folds=2), labels=labels, groups=np.repeat(np.arange(30), 4))
    done = {}
    for one, wrong in zip(which.finalists, (5, 3), strict=True):
        for fold, places in enumerate(which.held_out):
            answers = np.where(which.groups[places] % 10 < wrong, 1 - labels[places], labels[places])
            training = which.in_fold(one, fold, 0)
            done[training.name] = Known(training, logits=torch.from_numpy(np.eye(2)[answers]))
    assert which.held_out_groups.tolist() == which.groups[np.concatenate(which.held_out)].tolist()
    found = which.races(done)[-1].difference
    assert found.mean == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx(mean_interval([1, 1, 0, 0, 0, 0, 0, 0, 0, 0] * 3, 0.9)[1:])


def test_the_choice_follows_from_the_races_alone():
    which = finals()
    for wrong in ({"t0000": 0.5, "t0001": 0.0}, {"t0000": 0.0, "t0001": 0.5}, {"t0000": 0.1, "t0001": 0.05}):
        done, _ = run(which, wrong)
        assert choose("t0000", which.races(done), 3) == which.chosen(done).trial


def test_a_recipe_is_trained_longer_for_good_and_has_nothing_to_stop_by():
    before = recipe(course="plateau", early_stopping_epochs=2, keep="best", learning_rate=1e-4)
    head, fine = final_recipe(before, kept_epochs=(3, 5), length=2.0).schedule
    assert (head.epochs, fine.epochs) == (3, 10)
    assert (fine.course, fine.keep, fine.early_stopping_epochs) == ("cosine", "last", None)
    assert fine.learning_rate == 1e-4
    assert final_recipe(before, kept_epochs=(3, 0), length=2.0).schedule[1].epochs == 1


def inheriting() -> Recipe:
    """Three stages, each on a plateau, the last of which takes over half the rate of the one before."""
    stages = (
        Stage(depth=0, epochs=4),
        Stage(depth=1, epochs=6, learning_rate=1e-3),
        Stage(depth=2, epochs=6, inherit=0.5),
    )
    schedule = tuple(stage.model_copy(update={"course": "plateau"}) for stage in stages)
    return recipe().model_copy(update={"schedule": schedule})


def test_a_stage_that_inherits_begins_for_good_at_the_rate_that_it_began_with_in_the_search():
    schedule = final_recipe(inheriting(), (3, 5, 4), 2.0, ended_rates=(1e-3, 2e-4, None)).schedule
    assert [stage.course for stage in schedule] == ["cosine"] * 3
    assert (schedule[2].inherit, schedule[2].learning_rate) == (None, 1e-4)
    assert schedule[1].learning_rate == 1e-3


def test_where_that_rate_is_not_known_the_stage_before_does_not_end_at_none():
    schedule = final_recipe(inheriting(), (3, 5, 4), 2.0, ended_rates=(1e-3, None, None)).schedule
    assert [stage.course for stage in schedule] == ["cosine", "constant", "cosine"]
    assert schedule[2].inherit == 0.5


def test_less_effort_ends_with_the_refits_alone():
    effort, seen = Effort(folds=5, challengers=3, seeds=2, refits=3, on="train+val"), []
    while effort is not None:
        seen.append(effort)
        effort = effort.less()
    assert [one.trainings() for one in seen] == sorted((one.trainings() for one in seen), reverse=True)
    assert seen[-1] == Effort(folds=0, challengers=0, seeds=0, refits=3, on="train+val")


def with_students(**changes) -> Finals:
    which = finals(**changes)
    return replace(which, effort=replace(which.effort, student=2.0))


def test_a_student_waits_for_its_teachers_who_never_saw_what_judges_it():
    which = with_students(folds=3, seeds=2, refits=2)
    done, order = run(which, {"t0000": 0.2, "t0001": 0.5})
    students = [one for one in which.wanted(done) if one.teachers]
    assert [one.name for one in students] == [f"student-t0000-{where}" for where in ("1of3", "2of3", "3of3", "all")]
    for one in students:
        teachers = [done[name].training for name in one.teachers]
        assert {teacher.fold for teacher in teachers} == {one.fold}
        assert len(teachers) == 2
        assert all(order.index(teacher.name) < order.index(one.name) for teacher in teachers)
    chosen = which.chosen(done)
    assert which.student_out_of_fold(chosen, done).shape == (60, 2)
    assert which.student(chosen, done).training.fold is None


@pytest.mark.parametrize(("in_fold", "labelled"), [(False, 1.0), (True, 0.5)])
def test_a_student_is_trained_on_at_most_twice_as_many_images_as_its_teachers(in_fold, labelled):
    """There are five times as many images without labels as with; of two folds, half of those with labels are left."""
    which = finals()
    effort, teachers = replace(which.effort, folds=2, student=6.0), which.finalists[0].for_good
    teachers = teachers.model_copy(
        update={"schedule": (*teachers.schedule[:-1], teachers.schedule[-1].model_copy(update={"epochs": 60}))}
    )
    epochs = student_recipe(teachers, effort, in_fold=in_fold).schedule[-1].epochs
    seen, of_teachers = epochs * (labelled + 5.0), 60 * labelled
    assert 1.7 * of_teachers < seen <= 2 * of_teachers + 0.5 * (labelled + 5.0)


def test_a_teacher_or_a_student_that_failed_costs_no_more_than_itself():
    which = with_students(names=("t0000",))
    missing = which.in_fold(which.finalists[0], 1, 1).name
    done, _ = run(which, {"t0000": 0.2}, errors=(missing, "student-t0000-3of3"))
    by_name = {one.name: one for one in which.wanted(done)}
    assert len(by_name["student-t0000-2of3"].teachers) == 1
    assert which.student_out_of_fold(which.finalists[0], done) is None, "a fold has no answers"


def test_without_unlabelled_images_there_is_no_student():
    which = finals(names=("t0000",))
    done, order = run(which, {"t0000": 0.2})
    assert not any("student" in name for name in order)
    assert which.student_out_of_fold(which.finalists[0], done) is None
    assert which.student(which.finalists[0], done) is None


def test_a_student_is_the_first_to_go_when_time_is_short():
    effort = Effort(folds=4, challengers=2, seeds=2, refits=4, on="train+val", student=3.0)
    assert effort.trainings() == 4 + 3 * (2 + 2) + 2 * 2 * (3 + 1)
    assert effort.less() == replace(effort, student=0.0)
