"""The settings of a search that begins, from its flags and from what they name."""

from __future__ import annotations

from raysearch.activations.store import default_limit
from raysearch.data.continued import RULES
from raysearch.data.dataset import Dataset
from raysearch.data.source import in_full
from raysearch.job.budget import budget_of, trial_rungs
from raysearch.job.flags import Flags
from raysearch.job.settings import BALANCE, Settings
from raysearch.job.starting_head import StartingHead
from raysearch.job.wanted import Wanted
from raysearch.models.weights import Weights
from raysearch.record.goal import Requirement
from raysearch.space.space import Space
from raysearch.storage.remote import Storage
from raysearch.workers.machine import Machine, ask_numerics


def new_settings(
    flags: Flags,
    wanted: Wanted,
    metric: str,
    space: Space,
    dataset: Dataset,
    weights: Weights,
    machine: Machine,
    head: StartingHead | None,
    storage: Storage | None,
    time_budget: float | None,
) -> Settings:
    """The settings of a search, with every default filled in.

    Args:
        flags: as they were typed; all that they name is there.
        wanted: what they say of images and networks.
        metric: what leads the search.
        space: with the head that it starts from, if one is given.
        dataset: its images.
        weights: of its network, or of the first of several.
        machine: where it runs.
        head: of another run, that its trials start from.
        storage: where its folder is copied to.
        time_budget: in seconds.
    """
    assert flags.space is not None
    device, precision = ask_numerics(machine, wanted.device)
    images = len(dataset.train) + len(dataset.val)
    budget = budget_of(space, flags, has_head=head is not None, images=images)
    epochs = space.level_epochs(budget.max_epochs)
    return Settings(
        space=flags.space,
        data=in_full(wanted.data),
        images=None if flags.images is None else in_full(str(flags.images)),
        unlabelled=None if flags.unlabelled is None else in_full(str(flags.unlabelled)),
        columns=flags.columns,
        group_by=flags.group_by,
        fraction=1.0 if flags.fraction is None else flags.fraction,
        subsets=flags.subsets or 1,
        subset=flags.subset or 0,
        keep_copies=flags.keep_copies,
        image_size=dataset.image_size,
        fit=wanted.fit,
        backbone=wanted.backbone,
        weights=weights.again,
        networks=wanted.networks,
        metric=metric,
        require=tuple(str(Requirement.parse(one)) for one in flags.requirements),
        seed=max(0, wanted.seed),
        device=device,
        precision=precision,
        preset=flags.preset,
        concurrent=machine.concurrent,
        workers_per_trial=machine.workers,
        cpus_per_trial=machine.cpus,
        trials=budget.trials,
        heads=budget.heads,
        head=head.run if head is not None and flags.continue_ is None else None,
        continues=head.run if head is not None and flags.continue_ is not None else None,
        continuing_rules=RULES,
        learn_from=flags.earlier_runs,
        max_epochs=budget.max_epochs,
        rungs=trial_rungs(space, epochs),
        reduction=space.search.reduction,
        cache=flags.cache,
        cache_bytes=int(flags.cache_gb * 1e9) if flags.cache_gb is not None else default_limit(),
        refits=budget.refits,
        refit_on=flags.refit_on,
        folds=budget.folds,
        challengers=budget.challengers,
        fold_seeds=budget.fold_seeds,
        fold_length=budget.fold_length,
        final_length=budget.final_length,
        ship=flags.ship,
        ship_point=flags.ship_point or BALANCE,
        max_batches=budget.max_batches,
        max_failures=3 if flags.max_failures is None else flags.max_failures,
        time_budget=time_budget,
        wandb=flags.wandb,
        wandb_mode=flags.wandb_mode,
        tensorboard=flags.tensorboard,
        storage=storage.uri if storage is not None else None,
    )
