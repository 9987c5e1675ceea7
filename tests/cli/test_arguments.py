"""Arguments are checked against each other, kept in a record and read back; they name kernels and data."""

import dataclasses
import json
import math

import pytest
import torch

import leftout as lo
from leftout.cli.arguments import Arguments
from leftout.cli.commands import (
    AuditArguments,
    CurveArguments,
    ElasticityArguments,
    FittedArguments,
    InfluenceArguments,
    LearnabilityArguments,
    LinearityArguments,
    PruneArguments,
)
from leftout.cli.model import kernel_and_examples, kernel_of, load_examples, rule_for, rule_of
from leftout.core.errors import LeftoutError, OptionError

ALL = AuditArguments.from_options(
    data="mnist:data",
    initialisation="pytorch",
    solver="tiled",
    tile_dtype="float32",
    classes="7,9",
    n_train=5,
    n_query=3,
    seed=2,
    normalise="none",
    centre="mean",
    target="price",
    columns="size,age",
    drop="name",
    header="yes",
    task="regression",
    pictures="no",
    kernel="relu",
    depth=4,
    weight_variance=1.5,
    bias_variance=0.1,
    kind="nngp",
    kernel_size=5,
    stride=2,
    padding="valid",
    pooling="mean",
    activation="erf",
    units=7,
    time=0.5,
    label_aware="kr-v2",
    strength="0.2",
    labels_frozen=True,
    minutes=1.0,
    rule="descent",
    ridge=0.5,
    rate=0.1,
    loss="squared",
    reduction="mean",
    learning_rate=0.2,
    steps=100,
    momentum=0.9,
    weight_decay=0.001,
    at=(1.0, math.inf),
    model="net.py:build",
    weights="w.pt",
    labels="fixed.csv",
    resize="32x48",
    crop="yes",
    background="white",
    embeddings="features.npy",
    embed="net.py:features",
    linearised_at="initial",
    parameters=("fc.*",),
    outputs="trace",
    projection="sparse:9",
    refit_examples=1,
    retrain_examples=4,
    retrain_subsets=9,
    batch_size=11,
    provenance="where",
)
"""Every recorded option differs from its default; not all of them go together."""

WIDE = {"depth": 4, "weight_variance": 1.5, "bias_variance": 0.1, "kind": "nngp"}


def given(**options):
    return Arguments.from_options(**options)


def test_the_example_differs_from_every_default():
    defaults = AuditArguments().record
    assert [name for name, value in ALL.record.items() if value == defaults[name]] == []


@pytest.mark.parametrize("arguments", [AuditArguments(), ALL], ids=["defaults", "all"])
def test_arguments_come_back_from_their_record(arguments):
    assert AuditArguments.from_record(arguments.record) == arguments
    # As `run.json` holds it: lists for tuples, and infinity as text.
    written = arguments.record | {"at": [t if t < math.inf else "inf" for t in arguments.at]}
    read = AuditArguments.from_record(json.loads(json.dumps(written)))
    assert read == arguments
    assert read.explicit == arguments.explicit


def test_the_record_holds_what_decides_the_numbers_and_nothing_else():
    assert {"out", "repeat", "memory", "device", "explicit"}.isdisjoint(AuditArguments().record)
    assert {"data", "kernel", "ridge", "at", "refit_examples", "provenance"} <= AuditArguments().record.keys()


def test_whole_numbers_stand_for_real_ones():
    assert Arguments.from_record({"ridge": 1, "at": [10]}) == given(ridge=1.0, at=(10.0,))


def test_an_unknown_name_is_refused():
    with pytest.raises(OptionError, match="`command` holds 'depht', which this version does not know"):
        Arguments.from_record({"depht": 3})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("data", None, "text"),
        ("classes", ["7", "9"], "text or null"),
        ("n_train", 2.5, "a whole number or null"),
        ("n_train", "100", "a whole number or null"),
        ("seed", True, "a whole number"),
        ("seed", None, "a whole number"),
        ("normalise", "sometimes", "one of 'unit', 'sphere', 'standard', 'none' or null"),
        ("centre", 0, "one of 'uniform', 'mean', 'none' or null"),
        ("kind", "ntkk", "one of 'ntk', 'nngp'"),
        ("ridge", "much", "a number or one of 'auto' or null"),
        ("rate", False, "a number or null"),
        ("loss", "median", "one of 'squared', 'cross-entropy' or null"),
        ("reduction", "median", "one of 'sum', 'mean'"),
        ("at", 3, "a list of numbers"),
        ("at", ["soon"], "a list of numbers"),
        ("at", [None], "a list of numbers"),
        ("at", [True], "a list of numbers"),
        ("parameters", [1], "a list of texts"),
        ("labels_frozen", 1, "true or false"),
        ("depth", 2.0, "a whole number"),
        ("kernel", "svm", "one of 'two-layer-relu', .*'hierarchy', .*'auto' or null"),
        ("rule", "adam", "one of 'ridge', 'flow', 'descent' or null"),
    ],
)
def test_a_value_of_another_type_is_refused(name, value, words):
    with pytest.raises(OptionError, match=rf"`command` must hold {words} for '{name}'; got "):
        Arguments.from_record({name: value})


def test_a_record_that_is_no_mapping_is_refused():
    with pytest.raises(OptionError, match=r"`command` must hold options by name; got \[1\]"):
        Arguments.from_record([1])


def test_arguments_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Arguments().seed = 1


def test_kernels_are_made_by_name_with_their_options():
    assert kernel_of(Arguments()) == lo.kernels.ReLU(2, bias_variance=0.3)
    for options in ({"kernel": "two-layer-relu"}, {"at": (3.0,)}, {"rule": "descent", "rate": 0.1}):
        assert kernel_of(given(**options)) == lo.kernels.TwoLayerReLU()
    assert kernel_of(given(kernel="relu", **WIDE)) == lo.kernels.ReLU(4, 1.5, 0.1, "nngp")
    images = given(kernel="conv-relu", kernel_size=5, stride=2, pooling="mean", **WIDE)
    assert kernel_of(images) == lo.kernels.ConvReLU(4, 5, 2, "same", "mean", 1.5, 0.1, "nngp")
    assert kernel_of(given(kernel="tanh", **WIDE)) == lo.kernels.Tanh(4, 1.5, 0.1, "nngp")
    assert kernel_of(given(kernel="erf", **WIDE)) == lo.kernels.Erf(4, 1.5, 0.1, "nngp")


@pytest.mark.parametrize("name", ["two-layer-relu", "relu", "erf", "tanh", "conv-relu"])
def test_every_name_has_its_kernel(name):
    assert kernel_of(given(kernel=name)).record["name"] == name


@pytest.mark.parametrize("name", ["ridge", "flow", "descent"])
def test_every_name_has_its_rule(name):
    rule = rule_of(given(rule=name, **({} if name == "ridge" else {"rate": 0.1})))
    assert name in type(rule).__name__.lower()


def test_a_kernel_that_sees_labels_is_built_on_the_chosen_one():
    base = lo.kernels.ReLU(2)
    aware = given(kernel="relu", label_aware="kr-v1", strength="0.3", labels_frozen=True)
    assert kernel_of(aware) == lo.kernels.LabelAware(base, "kr-v1", 0.3, frozen=True)
    chosen = kernel_of(given(kernel="relu", label_aware="fjlt-v2"))
    assert chosen == lo.kernels.LabelAware(base, "fjlt-v2", None)


OF_MODEL = {"kernel": "of-model", "model": "net.py:build"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel": "of-model"}, "needs --model"),
        (OF_MODEL | {"weights": "w.pt"}, "--weights must be left out .* --initialisation measured"),
        (OF_MODEL | {"depth": 2}, "--depth belongs to --kernel relu"),
        (OF_MODEL | {"projection": "sparse:5"}, "--projection is of a network's own weights"),
        (OF_MODEL | {"learning_rate": 0.1, "steps": 5}, "--learning-rate, --steps must be left out"),
        (OF_MODEL | {"retrain_examples": 2}, "trained again from its own weights"),
        ({"kernel": "relu", "initialisation": "he"}, "--initialisation belongs to --kernel of-model; relu"),
        ({"model": "net.py:build", "initialisation": "he"}, "leave it out with --model"),
    ],
)
def test_the_kernel_of_an_architecture_takes_what_it_sees(options, words):
    with pytest.raises(OptionError, match=words):
        AuditArguments.from_options(**options).check()


def test_the_kernel_of_an_architecture_is_that_of_the_module(tmp_path, capsys):
    source = tmp_path / "net.py"
    source.write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 10))\n"
    )
    arguments = given(
        kernel="of-model", model=f"{source}:build", initialisation="xavier", n_train=30, n_query=10
    )
    kernel, train, _ = kernel_and_examples(arguments)
    conv, _, _, dense = kernel.layers
    assert conv.weight_variance == pytest.approx(2 * 9 / (9 + 36))
    assert dense.weight_variance == pytest.approx(2 * 144 / 154)
    assert "infinitely wide network Conv 3 x 3, Gelu, Flatten, Dense" in capsys.readouterr().out
    assert train.encoding.centre == "none"


def test_the_kernel_of_an_architecture_is_of_a_network_that_takes_the_data(tmp_path):
    source = tmp_path / "net.py"
    source.write_text("from torch import nn\ndef build():\n    return nn.Sequential(nn.Linear(6, 10))\n")
    arguments = given(kernel="of-model", model=f"{source}:build", n_train=30, n_query=10)
    with pytest.raises(LeftoutError, match=r"must take inputs like these, each of shape.*it raised"):
        kernel_and_examples(arguments)


def test_the_hierarchy_has_options_of_its_own():
    hierarchy = given(kernel="hierarchy", activation="tanh", units=50, time=2.5, labels_frozen=True)
    expected = lo.kernels.NeuralTangentHierarchy(width=50, activation="tanh", time=2.5, frozen=True)
    assert kernel_of(hierarchy) == expected


def test_a_command_that_takes_the_kernel_as_it_is_must_be_told_so():
    aware = FittedArguments.from_options(kernel="relu", label_aware="kr-v1", strength="0.1")
    with pytest.raises(OptionError, match=r"takes the kernel as it is.*add --labels-frozen"):
        aware.check()
    frozen = FittedArguments.from_options(
        kernel="relu", label_aware="kr-v1", strength="0.1", labels_frozen=True
    )
    frozen.check()
    FittedArguments.from_options(kernel="relu", label_aware="kr-v1", strength="0").check()
    with pytest.raises(OptionError, match="--strength must be a number here"):
        dataclasses.replace(frozen, strength="auto").check()
    with pytest.raises(OptionError, match="takes the kernel as it is"):
        FittedArguments.from_options(kernel="hierarchy").check()
    assert kernel_of(FittedArguments.from_options(kernel="relu")) == lo.kernels.ReLU(2)


TRAINED = {"model": "net.py:build", "weights": "w.pt"}

MISPLACED = [
    ({"depth": 2}, "--depth belongs to --kernel relu, erf, tanh or conv-relu; name one with it"),
    ({"kernel": "relu", "stride": 1}, "--stride belongs to --kernel conv-relu; relu has none"),
    ({"time": 5.0}, "--time belongs to --kernel hierarchy; name one with it"),
    ({"units": 1024}, "--units belongs to --kernel hierarchy; name one with it"),
    ({"kernel": "hierarchy", "depth": 2}, "--depth must be left out with --kernel hierarchy"),
    ({"kernel": "hierarchy", "label_aware": "kr-v1"}, "--label-aware must be left out with"),
    ({"strength": "auto"}, "--strength belongs to --label-aware; give the estimator with it."),
    ({"labels_frozen": True}, "--labels-frozen belongs to --label-aware"),
    ({"outputs": "full"}, "--outputs belongs to --model; give the network with it."),
    ({"model": "net.py:build", "kernel": "two-layer-relu"}, "--kernel chooses an infinitely wide network"),
    ({"model": "net.py:build", "depth": 2}, "--depth chooses an infinitely wide network"),
    ({"kernel": "relu", "minutes": 5.0}, "--minutes belongs to --kernel auto; leave it out here"),
    ({"linearised_at": "initial"}, "--linearised-at belongs to --model; give the network with it."),
    (TRAINED | {"label_aware": "kr-v1"}, "--label-aware starts from a kernel that has seen no labels"),
    (TRAINED | {"at": (3.0,)}, "--rule flow trains a network from its initial weights, .* --linearised-at"),
    (TRAINED | {"rule": "descent", "rate": 0.1}, "--rule descent trains a network from its initial weights"),
    ({"label_aware": "kr-v1", "strength": "much"}, "--strength must be a number ≥ 0, or auto"),
    ({"kernel": "auto"}, "--kernel auto is for leftout audit, influence and curve"),
    ({"rate": 1.0}, "--rate belongs to --rule flow or descent"),
    ({"rule": "descent"}, "--rule descent needs --rate, below 2 / "),
    ({"data": "digitz"}, "`data` must be one of digits, .*; got 'digitz'"),
]


@pytest.mark.parametrize(("options", "message"), MISPLACED, ids=lambda case: str(case))
def test_options_that_would_be_ignored_are_refused_also_at_their_defaults(options, message):
    with pytest.raises(OptionError if "data" not in options else lo.LeftoutError, match=message):
        given(**options).check()


@pytest.mark.parametrize(
    ("record", "options", "message"),
    [
        (CurveArguments, {"at": (3.0,)}, "--at must be left out here: the learning curve is for the end"),
        (CurveArguments, {"kernel": "auto", "depth": 2}, "--depth must be left out with --kernel auto"),
        (ElasticityArguments, {"loss": "squared"}, "--loss is about training"),
        (ElasticityArguments, {"labels_frozen": False}, "--labels-frozen is about leaving examples out"),
        (LinearityArguments, {"model": "net.py:f", "outputs": "full"}, "--outputs and --projection approx"),
        (LinearityArguments, {}, "leftout linearity needs --model"),
        (LinearityArguments, TRAINED | {"linearised_at": "initial"}, "training starts from the weights as"),
        (ElasticityArguments, TRAINED | {"linearised_at": "trained"}, "--linearised-at is about training"),
        (CurveArguments, TRAINED, "A learning curve is of a kernel that has not seen the labels"),
        (LearnabilityArguments, TRAINED, "Learnability is of a kernel that has not seen the labels"),
        (FittedArguments, {"at": (1.0, 2.0)}, "--at must be given once here; got 1, 2."),
        (InfluenceArguments, {"of": "loss"}, "--of says what --out saves"),
        (InfluenceArguments, {"spread": True}, "--spread is of single queries"),
        (PruneArguments, {"jobs": 2}, "--jobs belongs to --retrain"),
        (PruneArguments, {"width": 4096}, "--width belongs to --retrain"),
    ],
)
def test_commands_refuse_options_that_they_would_ignore(record, options, message):
    with pytest.raises(OptionError, match=message):
        record.from_options(**options).check()


def test_an_option_out_of_range_is_refused_by_its_class():
    with pytest.raises(OptionError, match="`strength` must be"):
        kernel_of(given(label_aware="kr-v1", strength="-1"))


def test_the_rule_is_ridge_or_flow_where_a_time_is_asked_for():
    assert rule_of(Arguments()) == lo.Ridge("auto")
    assert rule_of(given(kernel="two-layer-relu")) == lo.Ridge(1.0)  # as always, where a kernel is named
    assert rule_of(given(kernel="relu", ridge="auto", reduction="mean")) == lo.Ridge("auto", "mean")
    assert rule_of(given(ridge=0.0, reduction="mean")) == lo.Ridge(0.0, "mean")
    assert rule_of(given(at=(3.0,))) == lo.GradientFlow(1.0, 0.0)
    assert rule_of(given(at=(3.0,), rate=2.0, ridge=0.5)) == lo.GradientFlow(2.0, 0.5)
    descent = given(rule="descent", rate=0.1, ridge=0.5, reduction="mean")
    assert rule_of(descent) == lo.GradientDescent(0.1, 0.5, "mean")


NETWORK = {"model": "net.py:build", "weights": "w.pt"}


@pytest.mark.parametrize(
    ("options", "has_classes", "is_cross_entropy"),
    [
        (NETWORK, True, True),
        (NETWORK, False, False),
        (NETWORK | {"loss": "squared"}, True, False),
        (NETWORK | {"rule": "ridge"}, True, False),
        ({"model": "net.py:build"}, True, True),
        ({"model": "net.py:build", "at": (3.0,)}, True, False),
        ({}, True, False),
        ({"loss": "cross-entropy"}, True, True),
    ],
)
def test_cross_entropy_is_the_loss_of_a_network_and_classes(options, has_classes, is_cross_entropy):
    arguments = AuditArguments.from_options(**options)
    arguments.check_loss()
    assert arguments.is_cross_entropy(has_classes) == is_cross_entropy
    assert not CurveArguments.from_options(**NETWORK).is_cross_entropy(True)  # which has no answer under it


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"loss": "cross-entropy", "at": (3.0,)}, "--loss cross-entropy asks about the end of training"),
        ({"loss": "cross-entropy", "kernel": "auto"}, "--kernel auto compares squared losses"),
        (NETWORK | {"steps": 5}, "--learning-rate and --steps are needed with --steps"),
        (NETWORK | {"learning_rate": 0.1, "steps": 5, "ridge": 1.0}, "--ridge must be left out with"),
        ({"learning_rate": 0.1, "steps": 5}, "how the network of --model was trained"),
        (NETWORK | {"loss": "squared", "learning_rate": 0.1, "steps": 5}, "pass --ridge for another loss"),
    ],
)
def test_a_loss_or_a_training_run_that_means_nothing_is_refused(options, sentence):
    with pytest.raises(OptionError, match=sentence):
        AuditArguments.from_options(**options).check_rule()


class WithoutArchitecture(torch.nn.Linear):
    """A network whose forward calls what has no kernel in the limit of many units."""

    def __init__(self) -> None:
        super().__init__(64, 10)

    def forward(self, x):
        return torch.atleast_2d(super().forward(x.flatten(1)))


def test_the_ridge_of_a_network_is_that_of_its_training_run(capsys):
    train, _ = load_small()
    run = {"learning_rate": 0.1, "steps": 40, "momentum": 0.9, "weight_decay": 1e-3}
    arguments = AuditArguments.from_options(**NETWORK, **run)
    kernel = lo.kernels.Empirical(WithoutArchitecture())
    rule = rule_for(arguments, kernel, train)
    n = len(train)
    assert rule.ridge == pytest.approx(n * 1e-3 + n / (0.1 * 40 / 0.1), rel=1e-12)
    assert "that of the training run" in capsys.readouterr().out
    unknown = rule_for(AuditArguments.from_options(**NETWORK), kernel, train)
    assert unknown.ridge == pytest.approx(0.01 * float((train.inputs.flatten(1) ** 2).sum(1).mean() + 1))
    assert "nothing is said of the training run" in capsys.readouterr().out


def test_the_end_is_asked_for_where_no_time_was():
    assert Arguments().times == [None]
    assert given(at=(1.0, math.inf)).times == [1.0, math.inf]


def load_small(**options):
    arguments = given(n_train=30, n_query=10, **options)
    return load_examples(arguments, kernel_of(arguments))


@pytest.mark.parametrize(
    ("options", "scaling"),
    [
        ({}, "standard"),
        ({"normalise": "unit"}, "unit"),
        ({"kernel": "two-layer-relu"}, "unit"),
        ({"kernel": "relu"}, "sphere"),
        ({"kernel": "relu", "normalise": "unit"}, "unit"),
        ({"kernel": "relu", "normalise": "none"}, None),
    ],
)
def test_data_are_scaled_as_the_kernel_asks_unless_another_scaling_is_given(options, scaling):
    train, query = load_small(**options)
    assert train.preparation["normalise"] == scaling
    assert (len(train), len(query)) == (30, 10)


def test_classes_are_read_from_text_in_their_order():
    train, _ = load_small(classes=" 9, 7", centre="none")
    assert train.classes == ("9", "7")
    assert train.encoding.centre == "none"


def test_the_seed_chooses_the_examples():
    ids = [load_small(seed=seed)[0].ids for seed in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2]


def test_a_target_belongs_to_a_table(tmp_path):
    table = tmp_path / "houses.csv"
    rows = [f"{2 * i},{i % 3},{2.5 * i}" for i in range(1, 21)]
    table.write_text("\n".join(["rooms,floors,price", *rows]) + "\n")
    arguments = given(data=str(table), target="floors", normalise="standard")
    train, _ = load_examples(arguments, kernel_of(arguments))
    assert train.columns == ("rooms", "price")
    with pytest.raises(OptionError, match="`target` must be left out unless the data are a table"):
        load_small(target="price")


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, "initial"),
        ({"weights": "w.pt"}, "trained"),
        ({"linearised_at": "trained"}, "trained"),
        ({"weights": "w.pt", "linearised_at": "initial"}, "initial"),
    ],
)
def test_weights_from_a_file_are_trained_unless_it_is_said_otherwise(options, weights):
    arguments = given(model="net.py:build", **options)
    arguments.check()
    assert arguments.network_weights == weights
    assert arguments.is_trained == (weights == "trained")


@pytest.mark.parametrize("record", [LinearityArguments, ElasticityArguments])
def test_commands_about_the_kernel_take_the_weights_as_they_are(record):
    arguments = record.from_options(**TRAINED)
    arguments.check()
    assert not arguments.is_trained
