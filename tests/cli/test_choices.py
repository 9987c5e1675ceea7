"""Words of the command line become kernels, rules and data, and come back from their record."""

import dataclasses
import json
import math

import pytest

import leftout as lo
from leftout.cli.arguments import Choices, KernelName, RuleName
from leftout.core.errors import OptionError

ALL = Choices(
    data="mnist:data",
    classes="7,9",
    n_train=5,
    n_query=3,
    seed=2,
    normalise="none",
    centre="mean",
    target="price",
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
    loss="mean",
    at=(1.0, math.inf),
    source="where",
    model="net.py:build",
    weights="w.pt",
    parameters=("fc.*",),
    outputs="trace",
    projection="sparse:9",
)
"""Every choice differs from its default."""


def test_the_example_differs_from_every_default():
    plain = Choices().record
    assert [name for name, value in ALL.record.items() if value == plain[name]] == []


@pytest.mark.parametrize("choices", [Choices(), ALL], ids=["defaults", "all"])
def test_choices_come_back_from_their_record(choices):
    assert Choices.of(choices.record) == choices
    # As `run.json` holds it: lists for tuples, and infinity as text.
    written = choices.record | {"at": [t if t < math.inf else "inf" for t in choices.at]}
    assert Choices.of(json.loads(json.dumps(written))) == choices


def test_whole_numbers_stand_for_real_ones():
    assert Choices.of({"ridge": 1, "at": [10]}) == Choices(ridge=1.0, at=(10.0,))


def test_an_unknown_word_is_refused():
    with pytest.raises(OptionError, match="`asked` holds 'depht', which this version does not kno"):
        Choices.of({"depht": 3})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", None),
        ("classes", ["7", "9"]),
        ("n_train", 2.5),
        ("n_train", "100"),
        ("seed", True),
        ("seed", None),
        ("normalise", "sometimes"),
        ("centre", 0),
        ("kind", "ntkk"),
        ("ridge", "much"),
        ("rate", False),
        ("loss", "median"),
        ("at", 3),
        ("at", ["soon"]),
        ("at", [None]),
        ("at", [True]),
        ("depth", 2.0),
    ],
)
def test_a_value_of_another_kind_is_refused(name, value):
    with pytest.raises(OptionError, match=rf"`asked` holds .* for `{name}`, which it cannot be"):
        Choices.of({name: value})


def test_a_record_that_is_no_mapping_is_refused():
    with pytest.raises(OptionError, match=r"`asked` must hold choices by name; got \[1\]"):
        Choices.of([1])


def test_choices_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Choices().seed = 1


def test_kernels_are_made_by_name_with_their_parameters():
    assert Choices().made_kernel() == lo.kernels.TwoLayerReLU()
    wide = dataclasses.replace(
        ALL,
        model=None,
        weights=None,
        parameters=(),
        outputs="full",
        projection=None,
        kernel_size=3,
        stride=1,
        padding="same",
        pooling="flatten",
        label_aware=None,
        strength="auto",
        labels_frozen=False,
        activation="gelu",
        units=1024,
        time=None,
    )
    made = dataclasses.replace(wide, kernel=KernelName.RELU).made_kernel()
    assert made == lo.kernels.ReLU(4, weight_variance=1.5, bias_variance=0.1, kind="nngp")
    images = dataclasses.replace(wide, kernel="conv-relu", kernel_size=5, stride=2, pooling="mean")
    assert images.made_kernel() == lo.kernels.ConvReLU(
        wide.depth, 5, 2, "same", "mean", wide.weight_variance, wide.bias_variance, wide.kind
    )
    with pytest.raises(OptionError, match="--stride belongs to --kernel conv-relu; relu has none"):
        Choices(kernel="relu", stride=2).made_kernel()
    made = dataclasses.replace(wide, kernel="tanh").made_kernel()
    assert made == lo.kernels.Tanh(4, weight_variance=1.5, bias_variance=0.1, kind="nngp")
    made = dataclasses.replace(wide, kernel="erf").made_kernel()
    assert made == lo.kernels.Erf(4, weight_variance=1.5, bias_variance=0.1, kind="nngp")


def test_every_name_has_its_kernel_and_its_rule():
    for name in set(KernelName) - {KernelName.AUTO, KernelName.HIERARCHY}:
        assert Choices(kernel=name).made_kernel().record["name"] == name
    for name in RuleName:
        made = Choices(rule=name, rate=None if name == "ridge" else 0.1).made_rule()
        assert name in type(made).__name__.lower()


def test_a_kernel_that_sees_labels_is_built_on_the_chosen_one():
    base = lo.kernels.ReLU(2)
    aware = Choices(kernel="relu", label_aware="kr-v1", strength="0.3", labels_frozen=True)
    assert aware.made_kernel() == lo.kernels.LabelAware(base, "kr-v1", 0.3, frozen=True)
    chosen = Choices(kernel="relu", label_aware="fjlt-v2").made_kernel()
    assert chosen == lo.kernels.LabelAware(base, "fjlt-v2", None)


def test_the_hierarchy_has_flags_of_its_own():
    made = Choices(
        kernel="hierarchy", activation="tanh", units=50, time=2.5, labels_frozen=True
    ).made_kernel()
    assert made == lo.kernels.NeuralTangentHierarchy(width=50, activation="tanh", time=2.5, frozen=True)


def test_a_command_that_takes_the_kernel_as_it_is_must_be_told_so():
    aware = Choices(kernel="relu", label_aware="kr-v1", strength="0.1")
    with pytest.raises(OptionError, match=r"takes the kernel as it is.*add --labels-frozen"):
        aware.fixed_kernel()
    frozen = dataclasses.replace(aware, labels_frozen=True)
    assert frozen.fixed_kernel() == frozen.made_kernel()
    with pytest.raises(OptionError, match="--strength must be a number here"):
        dataclasses.replace(frozen, strength="auto").fixed_kernel()
    with pytest.raises(OptionError, match="takes the kernel as it is"):
        Choices(kernel="hierarchy").fixed_kernel()
    assert Choices(kernel="relu").fixed_kernel() == lo.kernels.ReLU(2)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"time": 5.0}, "--time belongs to --kernel hierarchy; two-layer-relu has none"),
        ({"units": 5}, "--units belongs to --kernel hierarchy; two-layer-relu has none"),
        ({"kernel": "hierarchy", "depth": 3}, "--depth must be left out with --kernel hierarchy"),
        ({"kernel": "hierarchy", "label_aware": "kr-v1"}, "--label-aware must be left out with"),
        ({"strength": "0.1"}, "--strength belongs to --label-aware; give the estimator with it."),
        ({"labels_frozen": True}, "--labels-frozen belongs to --label-aware"),
        ({"label_aware": "kr-v1", "strength": "much"}, "--strength must be a number ≥ 0, or auto"),
        ({"label_aware": "kr-v1", "strength": "-1"}, "`strength` must be"),
        ({"kernel": "auto"}, "--kernel auto is for leftout audit, influence and curve"),
    ],
)
def test_flags_of_labels_that_mean_nothing_are_refused(flags, said):
    with pytest.raises(OptionError, match=said):
        Choices(**flags).made_kernel()


def test_names_from_a_file_that_are_none_are_refused():
    with pytest.raises(OptionError, match=r"`kernel` must be one of 'two-layer-relu', .*got 'svm'"):
        Choices.of({"kernel": "svm"}).made_kernel()
    with pytest.raises(OptionError, match=r"`rule` must be one of 'ridge', .*got 'adam'"):
        Choices.of({"rule": "adam"}).made_rule()


def test_the_rule_is_ridge_or_flow_where_a_time_is_asked_for():
    assert Choices().made_rule() == lo.Ridge(1.0)
    assert Choices(ridge=0.0, loss="mean").made_rule() == lo.Ridge(0.0, "mean")
    assert Choices(at=(3.0,)).made_rule() == lo.GradientFlow(1.0, 0.0)
    assert Choices(at=(3.0,), rate=2.0, ridge=0.5).made_rule() == lo.GradientFlow(2.0, 0.5)
    assert ALL.made_rule() == lo.GradientDescent(0.1, 0.5, "mean")


def test_a_rate_where_none_belongs_or_none_where_one_does_is_refused():
    with pytest.raises(OptionError, match="--rate belongs to --rule flow or descent"):
        Choices(rate=0.1).made_rule()
    with pytest.raises(OptionError, match="--rule descent needs --rate, below 2 / "):
        Choices(rule="descent").made_rule()


def test_the_end_is_asked_for_where_no_time_was():
    assert Choices().times() == [None]
    assert Choices(at=(1.0, math.inf)).times() == [1.0, math.inf]


def test_data_are_scaled_as_the_kernel_asks_unless_said_otherwise():
    small = Choices(n_train=30, n_query=10)
    for choices, scaled in (
        (small, "unit"),
        (dataclasses.replace(small, kernel="relu"), "sphere"),
        (dataclasses.replace(small, kernel="relu", normalise="unit"), "unit"),
        (dataclasses.replace(small, kernel="relu", normalise="none"), None),
    ):
        train, query = choices.examples(choices.made_kernel())
        assert train.preparation["normalise"] == scaled
        assert (len(train), len(query)) == (30, 10)


def test_classes_are_read_from_text_in_their_order():
    choices = Choices(classes=" 9, 7", n_train=20, n_query=10, centre="none")
    train, _ = choices.examples(choices.made_kernel())
    assert train.classes == ("9", "7")
    assert train.encoding.centre == "none"


def test_the_seed_chooses_the_examples():
    one, again, other = (Choices(n_train=20, n_query=5, seed=seed) for seed in (0, 0, 1))
    ids = [choices.examples(choices.made_kernel())[0].ids for choices in (one, again, other)]
    assert ids[0] == ids[1] != ids[2]


def test_a_target_belongs_to_a_table(tmp_path):
    table = tmp_path / "houses.csv"
    rows = [f"{i},{i % 3},{2.5 * i}" for i in range(1, 21)]
    table.write_text("\n".join(["rooms,floors,price", *rows]) + "\n")
    choices = Choices(data=str(table), target="floors", normalise="standard")
    train, _ = choices.examples(choices.made_kernel())
    assert train.columns == ("rooms", "price")
    with pytest.raises(OptionError, match="`target` must be left out unless the data are a table"):
        Choices(target="price").examples(choices.made_kernel())
