"""A space in W&B's words, and back: what an agent gives becomes one recipe."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import wandb.apis.public.sweeps
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from raysearch.errors import InputError
from raysearch.job.flags import Flags
from raysearch.pipeline.entry import job_of
from raysearch.recipe import flatten
from raysearch.reporting.tracking.sweep import agents_file, parameter, sweep_config
from raysearch.space.check import read_fields
from raysearch.space.load import load_space
from raysearch.space.names import SPACES
from raysearch.space.replay import recipe_at, space_of
from raysearch.space.space import decode
from tests.trained import write_pictures

FIXED = {"backbone": "densenet121", "weights": "auto", "image_size": 32}


@pytest.fixture(params=sorted(path.stem for path in SPACES.glob("*.py")))
def space(request):
    return load_space(request.param, fixed=FIXED)


@pytest.mark.parametrize(
    ("distribution", "told"),
    [
        (CategoricalDistribution(["a", 'json:{"cat": 2.0}']), {"values": ["a", {"cat": 2.0}]}),
        (FloatDistribution(0.0, 1.0), {"distribution": "uniform", "min": 0.0, "max": 1.0}),
        (FloatDistribution(1e-4, 1e-2, log=True), {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}),
        (FloatDistribution(0.0, 1.0, step=0.25), {"distribution": "q_uniform", "q": 0.25, "min": 0.0, "max": 1.0}),
        (IntDistribution(1, 4), {"distribution": "int_uniform", "min": 1, "max": 4}),
        (IntDistribution(2, 8, step=2), {"values": [2, 4, 6, 8]}),
        (IntDistribution(1, 64, log=True), {"distribution": "q_log_uniform_values", "q": 1, "min": 1, "max": 64}),
    ],
)
def test_each_kind_of_distribution_has_its_equal(distribution, told):
    assert parameter(distribution) == told


def leaves(parameters, prefix=""):
    """Dotted path of each searched value, of W&B's nested parameters."""
    for name, one in parameters.items():
        if "parameters" in one:
            yield from leaves(one["parameters"], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_all_that_is_searched_is_a_parameter_and_wandb_takes_it(space):
    config = sweep_config(space, "loss", "it")
    assert sorted(leaves(config["parameters"])) == sorted(space.distributions)
    assert config["metric"] == {"name": "val_loss", "goal": "minimize"}
    wandb.apis.public.sweeps._validate_config_and_fill_distribution(config)


def test_a_sweep_file_has_the_command_of_an_agent(space):
    text = agents_file(space, "accuracy", "me/flowers", {"space": space.name, "data": "my flowers/", "backbone": None})
    told = yaml.safe_load(text)
    assert (told["entity"], told["project"]) == ("me", "flowers")
    assert told["command"] == [
        *("${env}", "${interpreter}", "-m", "raysearch.tune", "--space", space.name, "--data", "my flowers/"),
        *("--wandb", "me/flowers", "--parameters", "${args_json_file}"),
    ]
    assert sorted(leaves(told["parameters"])) == sorted(space.distributions)
    wandb.apis.public.sweeps._validate_config_and_fill_distribution(told)


def nested(values):
    """As an agent writes them: {"a.b": 1} -> {"a": {"b": 1}}."""
    tree = {}
    for path, value in values.items():
        *above, leaf = path.split(".")
        level = tree
        for key in above:
            level = level.setdefault(key, {})
        level[leaf] = value
    return tree


def test_an_agents_values_are_one_recipe(space, tmp_path):
    values = {path: decode(space.corners(path)[-1]) for path in space.distributions}
    (tmp_path / "args.json").write_text(json.dumps(nested(values)))
    recipe = recipe_at(space, tmp_path / "args.json", 6)
    flat = flatten(recipe.model_dump(mode="json"))
    assert {path: flat[path] for path in values} == values
    text, epochs = space_of(recipe, "--parameters args.json", without=("image_size", "seed"))
    (tmp_path / "single.py").write_text(text)
    single = load_space(str(tmp_path / "single.py"), fixed={"image_size": 32, "seed": 0})
    assert single.distributions == {}
    assert read_fields(single.recipe({}, epochs)) == read_fields(recipe)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"schedule": {"1": {"learning_rat": 0.1}}}', "'schedule.1.learning_rat' is not searched in fine_tune"),
        ('{"schedule": {"1": {"learning_rate": -1.0}}}', "greater than 0"),
        ('{"a": ', "Expecting value"),
        ("[1]", "expected an object"),
        (None, "No such file"),
    ],
)
def test_values_that_cannot_be_used_are_refused_with_the_reason(tmp_path, text, says):
    file = tmp_path / "args.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match="--parameters") as caught:
        recipe_at(load_space("fine_tune", fixed=FIXED), file, 6)
    assert says in str(caught.value)


def test_one_recipe_of_a_space_is_a_job_in_which_nothing_is_searched(tmp_path):
    photos = write_pictures(tmp_path / "photos", 10)
    (tmp_path / "args.json").write_text('{"schedule": {"1": {"learning_rate": 0.004, "depth": 1}}}')
    given = Flags(space="fine_tune", parameters=tmp_path / "args.json", data=str(photos), quiet=True, max_epochs=5)
    given = replace(given, backbone="simple_cnn", weights="random", seed=3)
    job = job_of(given, None)
    assert job.space.distributions == {}
    assert (job.settings.heads, job.settings.trials, job.settings.refits, job.settings.seed) == (1, 1, 0, 3)
    stage = job.space.recipe({}, job.settings.max_epochs).schedule[1]
    assert (stage.learning_rate, stage.depth, stage.epochs) == (0.004, 1, 5)
    assert job.settings.space.startswith("fine_tune --parameters ")


def test_flags_that_do_not_go_with_parameters_are_refused_together(tmp_path):
    with pytest.raises(InputError) as caught:
        job_of(Flags(parameters=tmp_path / "args.json", trials=3, head="another"), None)
    assert len(caught.value.problems) == 3
    for said in ("--head", "--trials", "--space NAME is missing"):
        assert said in str(caught.value)
