"""Spaces: those that ship are sound, and whatever is wrong with one is said before a trial starts, all of it."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from raysearch.errors import InputError
from raysearch.models.registry import BACKBONES
from raysearch.recipe import flatten
from raysearch.space.first import first_recipes
from raysearch.space.load import load_space
from raysearch.space.names import SPACES, find_space
from raysearch.space.space import decode, describe, encode

FIXED = {"backbone": "vgg19", "weights": "random", "image_size": 32, "fit": "squash", "seed": 0}
NAMES = sorted(path.stem for path in SPACES.glob("*.py"))

# Sound, of each kind something; the tests replace a line of it.
SOUND = """
from ray import tune
from raysearch.space import Search
space = {
    "pooling": tune.choice(["avg", "max"]),
    "schedule": [
        {"depth": 0, "epochs": 4, "learning_rate": tune.loguniform(1e-4, 1e-2)},
        {
            "depth": tune.choice([1, 2]),
            "learning_rate": tune.loguniform(1e-5, 1e-2),
            "course": tune.choice(["plateau", "cosine"]),
            "dropout": tune.quniform(0.0, 0.5, 0.1),
            "batch_size": tune.randint(16, 65),
            "class_weights": tune.choice(["none", {"cat": 2.0, "dog": 1.0}]),
        },
    ],
}
default = {
    "pooling": "avg",
    "schedule": [
        {"learning_rate": 1e-3},
        {"depth": 2, "learning_rate": 1e-3, "course": "plateau", "dropout": 0.3, "batch_size": 64, "class_weights": "none"},
    ],
}
search = Search(heads=2)
"""  # noqa: E501


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "mine.py") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


@pytest.fixture
def problems(write):
    """The problems of the sound space with some of its text replaced; checks what holds of every complaint."""

    def problems(*changes: tuple[str, str], text: str = SOUND, **fixed) -> list[str]:
        for old, new in changes:
            assert text.count(old) == 1, f"the test is stale: {old!r}"
            text = text.replace(old, new)
        path = write(text)
        with pytest.raises(InputError) as caught:
            load_space(path, fixed=FIXED | fixed)
        found = list(caught.value.problems)
        assert len(set(found)) == len(found)
        assert all(problem.startswith(path) and "\n" not in problem for problem in found)
        return [problem.removeprefix(f"{path}: ") for problem in found]

    return problems


# ---- what is sound -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", NAMES)
def test_every_space_that_ships_loads_for_every_backbone(name, backbone):
    space = load_space(name, fixed=FIXED | {"backbone": backbone}, networks=(backbone,))
    assert space.name == name
    assert space.source == find_space(name).read_text()
    space.recipe({}, 12)


@pytest.mark.parametrize("name", [*NAMES, "sound"])
def test_100_samples_are_valid_recipes_with_every_key_consumed(name, write):
    space = load_space(write(SOUND) if name == "sound" else name, fixed=FIXED, networks=(FIXED["backbone"],))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values: dict[str, set] = {path: set() for path in space.distributions}
    for _ in range(100):
        params = study.ask(space.distributions).params
        flat = flatten(space.recipe(params, 12).model_dump(mode="json"))
        for path, value in params.items():
            assert flat[path] == decode(value)
            values[path].add(value)
        for path, value in flatten(space.tree).items():
            if path not in params and not path.endswith(".epochs"):
                assert flat[path] == value, "what the space fixes is in the recipe"
    assert all(len(seen) > 1 for seen in values.values())


def test_tunes_domains_mean_what_they_mean_in_tune(write):
    text = SOUND.replace("tune.quniform(0.0, 0.5, 0.1)", "tune.uniform(0.0, 0.5)")
    found = load_space(write(text), fixed=FIXED).distributions
    assert found == {
        "pooling": CategoricalDistribution(["avg", "max"]),
        "schedule.0.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "schedule.1.depth": CategoricalDistribution([1, 2]),
        "schedule.1.learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
        "schedule.1.course": CategoricalDistribution(["plateau", "cosine"]),
        "schedule.1.dropout": FloatDistribution(0.0, 0.5),
        "schedule.1.batch_size": IntDistribution(16, 64),
        "schedule.1.class_weights": CategoricalDistribution(["none", encode({"cat": 2.0, "dog": 1.0})]),
    }
    for domain, expected in (
        ("tune.lograndint(16, 65)", IntDistribution(16, 64, log=True)),
        ("tune.qrandint(16, 64, 16)", IntDistribution(16, 64, step=16)),
        ("tune.qrandint(16, 65, 1)", IntDistribution(16, 64)),
        ("tune.quniform(16, 64, 16)", FloatDistribution(16, 64, step=16)),
    ):
        space = load_space(write(SOUND.replace("tune.randint(16, 65)", domain)), fixed=FIXED)
        assert space.distributions["schedule.1.batch_size"] == expected


def test_heads_and_trials_share_what_belongs_to_no_stage(write):
    space = load_space(write(SOUND), fixed=FIXED)
    assert space.head_paths() == ["pooling", "schedule.0.learning_rate"]
    assert space.trial_paths(1)[:2] == ["pooling", "schedule.1.depth"]
    assert set(space.head_paths()) | set(space.trial_paths(1)) == set(space.distributions)
    assert space.head_shape_paths() == ["pooling"]


def test_the_last_stage_trains_as_long_as_the_command_says_or_shorter(write):
    space = load_space(write(SOUND), fixed=FIXED)
    assert [stage.epochs for stage in space.recipe({}, 7).schedule] == [4, 7]
    short = load_space(write(SOUND.replace('"depth": tune', '"epochs": 3, "depth": tune')), fixed=FIXED)
    assert [stage.epochs for stage in short.recipe({}, 7).schedule] == [4, 3]
    assert [stage.epochs for stage in short.recipe({}, 2).schedule] == [4, 2]


def test_a_whole_head_can_be_a_choice(write):
    heads = '{"kind": "linear"}, {"kind": "hidden", "hidden_units": 32}'
    text = SOUND.replace('"pooling": tune.choice(["avg", "max"])', f'"head": tune.choice([{heads}])')
    text = text.replace('"pooling": "avg"', '"head": {"kind": "hidden", "hidden_units": 32}')
    space = load_space(write(text), fixed=FIXED)
    assert space.recipe({}, 5).head.hidden_units == 32
    assert space.head_shape_paths() == ["head"]


def test_the_space_goes_before_the_command(write):
    text = SOUND.replace('"pooling": tune', '"backbone": "simple_cnn", "pooling": tune')
    assert load_space(write(text), fixed=FIXED).recipe({}, 1).backbone == "simple_cnn"


@pytest.mark.parametrize("value", ["none", 0.5, None, 3, {"a": 1.0, "b": [1, 2]}])
def test_categorical_values_come_back(value):
    assert decode(encode(value)) == value
    assert decode(json.loads(json.dumps(encode(value)))) == value


def test_distributions_are_told_as_people_read_them(write):
    space = load_space(write(SOUND), fixed=FIXED)
    assert describe(space.distributions["schedule.1.learning_rate"]) == "1e-05 to 0.01, log"
    assert describe(space.distributions["schedule.1.dropout"]) == "0 to 0.5, in steps of 0.1"
    assert describe(space.distributions["pooling"]) == "avg or max"


# ---- what is not -------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(InputError, match=r"--space finetune: .*did you mean fine_tune\?"):
        find_space("finetune")
    with pytest.raises(InputError, match="there are: baseline, feature_extraction, fine_tune"):
        find_space("zzz")
    with pytest.raises(InputError, match="no such file"):
        find_space(str(tmp_path / "mine.py"))


def test_a_space_is_found_by_path(write):
    path = write(SOUND)
    assert find_space(path) == Path(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("space = {\n\n  'a': (\n", r"mine\.py, line 3: '\(' was never closed"),
        ("space = {}\n  default = {}", r"mine\.py, line 2: unexpected indent"),
        ("1 / 0", "cannot be run: ZeroDivisionError: division by zero"),
        ("import nowhere_to_be_found", "cannot be run: ModuleNotFoundError"),
        ("raise SystemExit(0)", "cannot be run: SystemExit"),
        ("from ray import tune\ntune.quniform(0, 1, 0.3)", "cannot be run: ValueError: .*not divisible"),
        (
            "from raysearch.space.space import Search\nSearch(heads=-1, reducton=2)",
            r"Search\.heads: .*greater than or equal",
        ),
        ("from raysearch.space.space import Search\nSearch(heads=-1, reducton=2)", r"Search\.reducton: Extra inputs"),
    ],
)
def test_a_file_that_cannot_be_run_is_refused_with_the_place(write, text, says):
    with pytest.raises(InputError, match=says):
        load_space(write(text), fixed=FIXED)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "mine.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"mine\.py cannot be read"):
        load_space(str(tmp_path / "mine.py"), fixed=FIXED)


@pytest.mark.parametrize("schedule", ["3", "[]", "{}", "['stage']", "[[{}]]"])
def test_a_space_without_a_list_of_stages_is_refused(problems, schedule):
    (found,) = problems(text=f"space = {{'schedule': {schedule}}}\ndefault = {{}}")
    assert "list of stages" in found


def test_all_that_a_file_lacks_is_said(problems):
    found = problems(text="space = 3\nsearch = 'tpe'")
    assert [problem.split(" must ")[0] for problem in found] == ["`space`", "`default`", "`search`"]
    assert "got 'tpe'" in found[2]
    assert problems(text="default = {}\nspace = {}") == [
        "`space` needs a schedule: a list of stages, each a dict; got None"
    ]


RATE = "tune.loguniform(1e-5, 1e-2)"
BATCH = "tune.randint(16, 65)"
DROPOUT = "tune.quniform(0.0, 0.5, 0.1)"
WEIGHTS = 'tune.choice(["none", {"cat": 2.0, "dog": 1.0}])'
NO_DEFAULT = ('"learning_rate": 1e-3, "course"', '"course"')


def top(more):
    return ('"pooling": tune', f'{more}, "pooling": tune')


def head(more):
    return ('{"depth": 0,', f'{{{more}, "depth": 0,')


def stage(more):
    return ('"depth": tune', f'{more}, "depth": tune')


def default(more):
    return ('{"depth": 2,', f'{{{more}, "depth": 2,')


KEYS = [
    ("poling: nothing reads this key; did you mean pooling?", top('"poling": 1')),
    ("schedule.0.dept: nothing reads this key; did you mean depth?", head('"dept": 1')),
    ("schedule.0.pooling: nothing reads this key; pooling belongs beside schedule", head('"pooling": "avg"')),
    ("epochs: nothing reads this key; epochs belongs into schedule", top('"epochs": 3')),
    ("head.knd: nothing reads this key; did you mean kind?", top('"head": {"knd": 1}')),
    ("7: nothing reads this key", top("7: 1")),
    (
        "moom: nothing reads this key",
        top('"moom": tune.choice([1])'),
        ('"pooling": "avg"', '"pooling": "avg", "moom": 1'),
    ),
    ("schedule.0.epochs is missing", ('"epochs": 4, ', "")),
]
RANGES = [
    ("schedule.0.l1: Input should be greater than or equal to 0, got -1", head('"l1": -1')),
    ("schedule.0.drop_label_errors: heads train on all images", head('"drop_label_errors": 0.02')),
    ("schedule.0.epochs: Input should be greater than or equal to 1, got 0", ('"epochs": 4', '"epochs": 0')),
    ("schedule.1.epochs: Input should be a valid integer, unable to parse", stage('"epochs": "ten"')),
    ("schedule.1.epochs: must be a whole number, got 2.5", stage('"epochs": 2.5')),
    ("schedule.1.dropout: Input should be less than 1, got 1.0", (DROPOUT, "tune.uniform(0.0, 1.0)")),
    ("pooling: Input should be 'avg', 'max' or 'both', got 'mean'", ('["avg", "max"]', '["avg", "mean"]')),
    ("schedule.1.batch_size: must be a whole number, got 50.6", (BATCH, "tune.uniform(16, 65)")),
    ("schedule.1.class_weights: must be none, balanced, a power from", ('["none", {', '["nonne", "none", {')),
    ("schedule.1.class_weights: must be none, balanced, a power from", ('"cat": 2.0', '"cat": 0')),
    ("schedule.1.class_weights: must be none, balanced, a power from", ('["none", {', '["effective:2", "none", {')),
    ("schedule.0.loss: Input should be 'cross_entropy', 'focal' or 'logit_adjusted'", head('"loss": "hinge"')),
]
BLOCKS = [
    (
        "depth: 7 blocks to unfreeze, but vgg19 has 5: block1, block2, block3, block4, block5",
        ("([1, 2])", "([1, 2, 7])"),
    ),
    ("schedule.1.depth: 7 blocks to unfreeze, but vgg19 has 5", ("tune.choice([1, 2])", "tune.randint(1, 8)")),
    ("unknown backbone 'vgg91': did you mean vgg19?", top('"backbone": "vgg91"')),
    ("schedule.1.depth: Input should be a valid integer", ("([1, 2])", '([1, 2, "block4"])')),
]
DEFAULT = [
    ("`default` has no value for schedule.1.learning_rate", NO_DEFAULT),
    ("`default` gives schedule.1.l1, which is not searched", default('"l1": 0.0')),
    ("schedule.1.dropout is 0.6, which is not in 0 to 0.5, in steps of 0.1", ('"dropout": 0.3', '"dropout": 0.6')),
    ("schedule.1.dropout is 0.25, which is not in 0 to 0.5, in steps", ('"dropout": 0.3', '"dropout": 0.25')),
    ("schedule.1.dropout is 'x', which is not in 0 to 0.5", ('"dropout": 0.3', '"dropout": "x"')),
    ("pooling is 'both', which is not in avg or max", ('"pooling": "avg"', '"pooling": "both"')),
    ("schedule.1.batch_size is 65, which is not in 16 to 64", ('"batch_size": 64', '"batch_size": 65')),
    ("schedule.1.course is ['plateau'], which is not in", ('"course": "plateau"', '"course": ["plateau"]')),
]
IN_VAIN = [
    ("schedule.0.focal_gamma is set, but it is read only when schedule.0.loss is focal", head('"focal_gamma": 1.0')),
    ("adjustment_tau is set, but it is read only when schedule.0.loss is logit_", head('"adjustment_tau": 1.0')),
    ("mixing_rate is set, but it is read only when schedule.0.mixing is mixup or", head('"mixing_rate": 0.3')),
    ("batch_norm is set, but it is read only when schedule.0.depth is above 0", head('"batch_norm": "train"')),
    ("schedule.0.plateau_factor is set, but it is read only when schedule.0.course", head('"plateau_factor": 0.1')),
    ("head.hidden_units is set, but it is read only when head.kind is hidden", top('"head": {"hidden_units": 3}')),
    ("head.dimensions is set, but it is read only when head.kind is embedding", top('"head": {"dimensions": 3}')),
    ("schedule.0.contrastive is set, but it is read only when head.kind is embed", head('"contrastive": 1.0')),
    (
        "contrastive_temperature is set, but it is read only when schedule.0.contrastive is above 0",
        top('"head": {"kind": "embedding"}'),
        head('"contrastive_temperature": 0.2'),
    ),
    ("augmentation.zoom is set, but it is read only when a stage's strength", top('"augmentation": {"zoom": 0.1}')),
    (
        "schedule.1.plateau_factor is searched, but it is read only when schedule.1.course is plateau",
        ('["plateau", "cosine"]', '["cosine"]'),
        ('"course": "plateau"', '"course": "cosine"'),
        stage('"plateau_factor": tune.uniform(0.1, 0.5)'),
        default('"plateau_factor": 0.2'),
    ),
    (
        "image_size: give the sizes",
        top('"image_size": tune.randint(32, 64)'),
        ('"pooling": "avg"', '"pooling": "avg", "image_size": 32'),
    ),
    (
        "fit cannot be searched: a run has one",
        top('"fit": tune.choice(["squash", "pad"])'),
        ('"pooling": "avg"', '"pooling": "avg", "fit": "pad"'),
    ),
]
DOMAINS = [
    ("is not supported; use tune.choice, uniform", (RATE, "tune.sample_from(lambda spec: 1)")),
    ("is not supported; use tune.choice, uniform", (RATE, "tune.randn(0, 1)")),
    ("a logarithmic domain with steps cannot be searched", (RATE, "tune.qloguniform(1e-5, 1e-2, 1e-5)")),
    ("learning_rate: tune.grid_search is not supported; use tune.choice", (RATE, "tune.grid_search([1e-3, 1e-2])")),
    ("class_weights: tune.grid_search is not supported", (WEIGHTS, 'tune.grid_search(["none", "balanced"])')),
    ("is neither a value nor one of tune's domains", (RATE, "lambda: 1e-3")),
    ("`low <= high` must hold", (RATE, "tune.loguniform(1e-2, 1e-5)")),
    ("pooling: The `choices` must contain one or more elements", ('["avg", "max"]', "[]")),
    ("cannot be one of the choices", ('["avg", "max"]', '["avg", object]')),
    ("from 16 to 65 is not a whole number of steps of 16", (BATCH, "tune.qrandint(16, 65, 16)")),
    ("use tune.choice over whole dicts", (WEIGHTS, '{"cat": tune.uniform(1, 3)}')),
]
SEARCH = [
    ("the schedule must begin with the head's stage, of depth 0", ('{"depth": 0', '{"depth": 1')),
    ("search.heads is 0, so a trial is one stage, but the schedule has 2", ("heads=2", "heads=0")),
    ("search.heads is 1, but pooling and head have 2 combinations", ("heads=2", "heads=1")),
    ("search.folds is 2, but trials that unfreeze blocks are compared on", ("heads=2", "heads=2, folds=2")),
    (
        "schedule.1.learning_rate varies continuously, which a grid cannot cover; use tune.choice or tune.quniform",
        ("heads=2", 'heads=2, sampler="grid"'),
    ),
    ("search.levels is 2, but the schedule has 1 stages after the head's", ("heads=2", "heads=2, levels=2")),
    ("schedule.0.part: heads train on all images, got '1/6'", ('"epochs": 4,', '"epochs": 4, "part": "1/6",')),
    (
        "schedule.1.inherit takes over the rate at which the stage before ends, but schedule.0.course may be one_cycle",
        ('"batch_size": tune', '"inherit": 0.5, "batch_size": tune'),
    ),
]

TREE = SOUND.replace(
    '"class_weights": tune.choice(["none", {"cat": 2.0, "dog": 1.0}]),\n        },',
    '"class_weights": "none",\n        },\n        {"depth": 2, "learning_rate": tune.choice([1e-3, 1e-4])},',
).replace(', "class_weights": "none"},', '}, {"learning_rate": 1e-3},')


def test_a_schedule_of_more_stages_is_a_tree_of_levels(write):
    space = load_space(write(TREE), fixed=FIXED)
    assert list(space.levels) == [1, 2]
    assert space.tested
    assert space.trial_paths(1)[0] == "pooling"
    assert space.trial_paths(2) == ["schedule.2.learning_rate"]
    assert [stage.epochs for stage in space.recipe({}, 9).schedule] == [4, 4, 4], "half of the path's epochs each"
    given = load_space(write(TREE.replace("heads=2", "heads=2, levels=2")), fixed=FIXED)
    assert not given.tested


def test_a_grid_cannot_cover_a_tree(problems):
    found = problems(("heads=2", 'heads=2, sampler="grid"'), text=TREE)
    assert any("cannot cover a tree" in problem for problem in found)


@pytest.mark.parametrize(
    ("says", "changes"),
    [(says, changes) for says, *changes in (*KEYS, *RANGES, *BLOCKS, *DEFAULT, *IN_VAIN, *DOMAINS, *SEARCH)],
)
def test_one_mistake_is_one_complaint_that_says_where_and_what(problems, says, changes):
    (found,) = problems(*changes)
    assert says in found


def test_stages_that_might_close_blocks_again_are_refused(problems):
    found = problems(('{"depth": 0,', '{"depth": 2,'))
    assert (
        "schedule.0.depth may be 2 where schedule.1.depth is 1: depth must never decrease along the schedule" in found
    )


def test_a_head_needs_its_values_one_by_one(problems):
    found = problems(
        ('"pooling": tune.choice(["avg", "max"])', '"head": {"kind": "hidden", "hidden_units": tune.randint(8, 64)}'),
        ('"pooling": "avg"', '"head": {"hidden_units": 32}'),
    )
    assert found == ["head.hidden_units: each value needs a head of its own, so give the values: tune.choice([…])"]


def test_everything_is_said_at_once(problems):
    found = problems(
        ('"pooling": tune', '"poling": "avg", "pooling": tune'),
        ("tune.choice([1, 2])", "tune.choice([1, 7])"),
        (RATE, "tune.grid_search([1, 2])"),
        ('"dropout": 0.3', '"dropout": 3'),
        ('"epochs": 4', '"epochs": 0'),
        ('{"depth": 0,', '{"batch_norm": "train", "depth": 0,'),
        ("heads=2", "heads=1"),
    )
    for piece in ("poling", "7 blocks", "grid_search", "is 3", "schedule.0.epochs", "batch_norm", "combinations"):
        assert sum(piece in problem for problem in found) == 1, (piece, found)
    assert [problem for problem in found if "depth" in problem and "default" in problem] == [
        "`default` for schedule.1.depth is 2, which is not in 1 or 7"
    ]
    assert len(found) == 8


# ---- heads alone -------------------------------------------------------------------------------------------------

HEADS = """
from ray import tune
from raysearch.space import Search
space = {
    "pooling": tune.choice(["avg", "max", "both"]),
    "schedule": [
        {
            "depth": 0,
            "epochs": 8,
            "dropout": tune.quniform(0.0, 0.4, 0.2),
            "batch_size": tune.qrandint(32, 64, 16),
            "learning_rate": tune.choice([1e-3, 1e-2]),
        }
    ],
}
default = {"pooling": "max", "schedule": [{"dropout": 0.2, "batch_size": 64, "learning_rate": 1e-2}]}
search = Search(heads=20, folds=3, sampler="grid")
"""


def test_a_space_of_one_stage_searches_heads_alone(write):
    space = load_space(write(HEADS), fixed=FIXED)
    assert space.heads_only
    assert space.head_paths() == list(space.distributions)
    assert space.trial_paths(1) == []
    assert space.head_epochs() == 8
    assert set(space.pack_paths()) == {"pooling", "schedule.0.batch_size"}
    assert not load_space(write(SOUND), fixed=FIXED).heads_only
    assert not load_space("baseline", fixed=FIXED).heads_only, "it has one stage but no heads"


def test_a_grid_counts_every_combination_from_the_default_on(write):
    space = load_space(write(HEADS), fixed=FIXED)
    paths = space.head_paths()
    assert space.grid_size(paths) == 3 * 3 * 3 * 2
    points = [space.grid_point(paths, number) for number in range(54)]
    assert len({tuple(point.values()) for point in points}) == 54
    assert points[0] == space.default
    assert {point["schedule.0.dropout"] for point in points} == {0.0, 0.2, 0.4}
    assert {point["schedule.0.batch_size"] for point in points} == {32, 48, 64}
    assert points[0]["schedule.0.learning_rate"] != points[1]["schedule.0.learning_rate"], "the last changes fastest"
    for point in points:
        assert len(space.recipe(point, 8).schedule) == 1


def test_the_epochs_of_heads_may_be_searched(write):
    text = HEADS.replace('"epochs": 8', '"epochs": tune.choice([4, 16])')
    space = load_space(write(text.replace('{"dropout": 0.2', '{"epochs": 4, "dropout": 0.2')), fixed=FIXED)
    assert space.head_epochs() == 16, "the longest"
    assert space.recipe({"schedule.0.epochs": 16}, 9).schedule[0].epochs == 9, "--max-epochs still caps it"


def test_heads_train_as_long_as_the_space_says(write):
    space = load_space(write(HEADS.replace('"epochs": 8', '"epochs": 40')), fixed=FIXED)
    assert space.head_epochs() == 40


def test_heads_train_thirty_epochs_where_the_space_does_not_say(write):
    assert load_space(write(HEADS.replace('"epochs": 8,', "")), fixed=FIXED).head_epochs() == 30


def test_each_field_that_a_grid_cannot_cover_is_named(problems):
    found = problems(
        ("tune.choice([1e-3, 1e-2])", "tune.loguniform(1e-3, 1e-2)"),
        ("tune.quniform(0.0, 0.4, 0.2)", "tune.uniform(0.0, 0.4)"),
        text=HEADS,
    )
    assert [problem.split(" varies continuously")[0] for problem in found] == [
        "schedule.0.dropout",
        "schedule.0.learning_rate",
    ]


def test_a_grid_covers_whole_numbers_and_steps_and_choices_of_dicts(write):
    text = HEADS.replace("tune.choice([1e-3, 1e-2])", 'tune.choice(["none", {"cat": 2.0}])')
    text = text.replace('"learning_rate": 1e-2', '"class_weights": {"cat": 2.0}').replace(
        "learning_rate", "class_weights"
    )
    space = load_space(write(text.replace("tune.qrandint(32, 64, 16)", "tune.randint(62, 65)")), fixed=FIXED)
    values = {path: space.every_value(path) for path in space.head_paths()}
    assert values["schedule.0.batch_size"] == [64, 62, 63], "the default first"
    assert [decode(value) for value in values["schedule.0.class_weights"]] == [{"cat": 2.0}, "none"]


def test_a_grid_of_trials_may_have_heads_that_vary_continuously(write):
    text = SOUND.replace("heads=2", 'heads=2, sampler="grid"').replace(
        "tune.loguniform(1e-5, 1e-2)", "tune.choice([1e-3])"
    )
    space = load_space(write(text), fixed=FIXED)
    assert space.grid_size(space.trial_paths(1)) == 2 * 2 * 2 * 6 * 49 * 2


def test_one_fold_is_none(problems):
    (found,) = problems(("folds=3", "folds=1"), text=HEADS)
    assert found == "search.folds is 1: cross-validation needs at least 2 folds (0: the validation images decide)"
    (found,) = problems(("folds=3", "folds=-1"), text=HEADS)
    assert found.startswith("Search.folds: Input should be greater than or equal to 0")


def test_two_folds_of_a_space_without_heads_are_refused(problems):
    assert any("search.folds is 3, but" in problem for problem in problems(("heads=20", "heads=0"), text=HEADS))


def test_a_given_head_takes_the_place_of_what_is_searched_of_heads(write):
    space = load_space(write(SOUND), fixed=FIXED)
    head = load_space(write(HEADS, "heads.py"), fixed=FIXED).recipe({"pooling": "both"}, 8)
    fixed = space.with_head(head)
    assert fixed.head_shape_paths() == []
    assert fixed.head_paths() == []
    assert fixed.trial_paths(1) == [path for path in space.trial_paths(1) if path != "pooling"]
    assert set(fixed.default) == set(fixed.distributions)
    recipe = fixed.recipe({"schedule.1.depth": 1}, 7)
    assert (recipe.pooling, recipe.head, recipe.schedule[0]) == ("both", head.head, head.schedule[0])
    assert (recipe.schedule[1].depth, recipe.schedule[1].epochs) == (1, 7)
    assert space.head_shape_paths() == ["pooling"], "the space itself stays as it was"


# ---- recipes that are tried first --------------------------------------------------------------------------------


FIRST = 'search = Search(heads=2, first=[{"schedule": [{}, {"depth": 1}]}, {"schedule.1.learning_rate": 1e-4}])'


def test_first_recipes_are_shaped_like_the_default_or_dotted_and_the_default_is_the_rest(write):
    space = load_space(write(SOUND.replace("search = Search(heads=2)", FIRST)), fixed=FIXED)
    default = {path: space.default[path] for path in space.trial_paths(1)}
    assert [one.values for one in first_recipes(space)] == [
        default | {"schedule.1.depth": 1},
        default | {"schedule.1.learning_rate": 1e-4},
    ]


def test_a_first_recipe_like_the_default_or_one_before_is_not_tried_again(write):
    alike = 'search = Search(heads=2, first=[{}, {"pooling": "avg"}, {"pooling": "max"}, {"pooling": "max"}])'
    space = load_space(write(SOUND.replace("search = Search(heads=2)", alike)), fixed=FIXED)
    assert [one.number for one in first_recipes(space)] == [2]


def test_whatever_is_wrong_with_first_recipes_is_said_with_place_path_and_value(problems):
    wrong = (
        'search = Search(heads=2, first=[{"pooling": "sum"}, {"schedule": [{"learning_rate": 1e-3}, {"depth": 4}]}, '
        '{"schedule.1.momentum": 0.9}])'
    )
    found = problems(("search = Search(heads=2)", wrong))
    assert found[0] == "search.first[0] for pooling is 'sum', which is not in avg or max"
    assert found[1].startswith(
        "search.first[1] gives schedule.0.learning_rate, but it is tried as a trial of the first"
    )
    assert found[2] == "search.first[1] for schedule.1.depth is 4, which is not in 1 or 2"
    assert found[3].startswith("search.first[2] gives schedule.1.momentum, which is not searched; there are pooling, ")
    assert len(found) == 4


def test_a_grid_has_no_first_recipes(problems):
    found = problems(("Search(heads=2)", 'Search(heads=2, sampler="grid", first=[{"pooling": "max"}])'))
    assert any(problem.startswith("search.first has no place in a grid") for problem in found)
