"""Kernels, rules and data from the options of a command."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from leftout.cli.arguments import Arguments
from leftout.cli.commands import AuditArguments
from leftout.cli.module_file import network
from leftout.cli.options import FAMILIES_BY_KERNEL, ProvenanceOptions
from leftout.cli.provenance_names import provenance_column
from leftout.core.errors import OptionError
from leftout.core.modules import last_layers
from leftout.core.wording import plain
from leftout.data.examples import Examples
from leftout.diagnostics.retraining.sgd_training import SGDTraining
from leftout.diagnostics.trust.architecture_model import has_architecture_kernel
from leftout.diagnostics.trust.ridge_from_loss import ridge_from_loss
from leftout.dynamics.default_model import defaults_for
from leftout.dynamics.fit import fit
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.options import AUTO, SolverOptions
from leftout.dynamics.rules import GradientDescent, GradientFlow, Logistic, Ridge, Rule
from leftout.dynamics.training_ridge import training_ridge
from leftout.kernels import assemble
from leftout.kernels.base import Kernel
from leftout.kernels.hierarchy.hierarchy import NeuralTangentHierarchy
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.kernels.module.of_module import check_takes, of
from leftout.kernels.network.empirical import Empirical
from leftout.kernels.network.last_layers import MOST, affordable_layers
from leftout.kernels.network.projection import Gaussian, Projection, Rademacher, RandomCoordinates, Sparse
from leftout.kernels.pairwise.label_aware import LabelAware
from leftout.kernels.wide.architecture import Architecture
from leftout.kernels.wide.conv_relu import ConvReLU
from leftout.kernels.wide.erf import Erf
from leftout.kernels.wide.relu import ReLU
from leftout.kernels.wide.tanh import Tanh
from leftout.kernels.wide.two_layer_relu import TwoLayerReLU

KERNELS: dict[str, Callable[..., Kernel]] = {
    "two-layer-relu": TwoLayerReLU,
    "relu": ReLU,
    "erf": Erf,
    "tanh": Tanh,
    "conv-relu": ConvReLU,
}
RULES: dict[str, type[Ridge | GradientFlow | GradientDescent]] = {
    "ridge": Ridge,
    "flow": GradientFlow,
    "descent": GradientDescent,
}
PROJECTIONS: dict[str, Callable[..., Projection]] = {
    "coordinates": RandomCoordinates,
    "gaussian": Gaussian,
    "rademacher": Rademacher,
    "sparse": Sparse,
}


def kernel_of(arguments: Arguments) -> Kernel | LabelDependentKernel:
    """Return the kernel; of one that sees labels the strength is None where it is to be chosen.

    Raises:
        OptionError, DataError: options that do not go together, a network or weights that cannot be read.
    """
    arguments.check_kernel()
    if arguments.model is not None and not arguments.is_network:
        module = network(arguments.model, arguments.weights)
        base: Kernel = of(module, initialisation=arguments.initialisation)
    elif arguments.model is not None:
        base = Empirical(
            network(arguments.model, arguments.weights),
            arguments.outputs,
            weights=arguments.network_weights,
            parameters=arguments.parameters or None,
            projection=projection_of(arguments.projection),
        )
    elif arguments.kernel == "hierarchy":
        return NeuralTangentHierarchy(
            width=arguments.units,
            activation=arguments.activation,
            time=arguments.time,
            frozen=arguments.labels_frozen,
        )
    elif arguments.takes_defaults:
        return defaults_for(None).kernel
    else:
        name = arguments.kernel_name
        base = KERNELS[name](**arguments.options_of(*FAMILIES_BY_KERNEL[name]))
    if arguments.label_aware is None:
        return base
    return LabelAware(base, arguments.label_aware, arguments.strength_number, arguments.labels_frozen)


UNIT = Logistic(1.0)
"""Cross-entropy, at whatever ridge."""

DIAGONAL_SHARE = 0.01
"""Ridge of cross-entropy where nothing is said of it, as a share of the kernel's mean diagonal."""


def rule_for(
    arguments: Arguments, kernel: Kernel | LabelDependentKernel, train: Examples, *, sample: int | None = None
) -> Rule:
    """Return the rule of a kernel and its data, and print what was not asked for in so many words.

    Args:
        sample: examples whose mean diagonal stands for that of all, where a ridge about right will do.

    Raises:
        OptionError: options that do not go together.
    """
    arguments.check_rule()
    if not arguments.is_cross_entropy(train.labels is not None):
        if arguments.retrains and not arguments.is_trained and arguments.loss is None:
            print("note: the loss is squared, by which the network is trained again")
        return rule_of(arguments)
    ridge, origin = arguments.ridge_number, ""
    per_example = len(train) if arguments.reduction == "mean" else 1
    if arguments.training_run:
        run = dict(arguments.training_run)
        ridge = training_ridge(n=len(train), learning_rates=run.pop("learning_rate"), **run) / per_example
        origin = "that of the training run"
    elif ridge is None:
        by_loss = isinstance(kernel, Empirical) and has_architecture_kernel(kernel, UNIT, train)
        if by_loss and sample is None:
            assert isinstance(kernel, Empirical)
            ridge = ridge_from_loss(kernel, train, memory=arguments.memory) / per_example
        else:
            base = kernel.base if isinstance(kernel, LabelDependentKernel) else kernel
            inputs = train.inputs if sample is None else train.inputs[:sample]
            diagonal = assemble.diagonal(base, inputs, dtype=base.dtype or torch.float64)
            ridge = DIAGONAL_SHARE * float(diagonal.mean()) / per_example
        origin = (
            "at which the kernel of its architecture has the network's training loss"
            if by_loss
            else "a hundredth of the kernel's mean diagonal"
        ) + ", as nothing is said of the training run"
        if sample is not None:
            first = f"that of the first {sample} examples" if sample < len(train) else ""
            shown = ["here about a hundredth of the diagonal"] if by_loss else []
            shown += [first if by_loss else f"{first} here"] if first else []
            origin += f" ({', '.join(shown)})" if shown else ""
    if origin or arguments.loss is None:
        print(f"note: the loss is cross-entropy, its ridge {ridge:.4g}{origin and ', ' + origin}")
    return Logistic(ridge, arguments.reduction)


def training_of(arguments: AuditArguments, n: int) -> SGDTraining | None:
    """Return how trained weights are trained again, on n examples; None where they are not.

    Training counts epochs: a run that ended within one is rounded to whole ones, which is printed.
    """
    if not arguments.retrains or not arguments.is_trained:
        return None
    batch, steps = arguments.batch_size, arguments.steps
    assert arguments.model is not None
    assert batch is not None
    assert steps is not None
    assert arguments.learning_rate is not None
    file, _, function = arguments.model.rpartition(":")
    source = f"{Path(file).expanduser().resolve()}:{function}"  # of another process, elsewhere
    for_an_epoch = math.ceil(n / batch)
    epochs = max(1, round(steps / for_an_epoch))
    if epochs * for_an_epoch != steps:
        print(
            f"note: {steps} steps are taken as {epochs} epochs of {for_an_epoch}, {epochs * for_an_epoch} "
            f"steps"
        )
    return SGDTraining(
        build=lambda: network(source),
        epochs=epochs,
        batch_size=batch,
        learning_rate=arguments.learning_rate,
        momentum=arguments.momentum or 0.0,
        weight_decay=arguments.weight_decay or 0.0,
    )


def fit_model(
    arguments: Arguments, kernel: Kernel | LabelDependentKernel, train: Examples, rule: Rule
) -> Fitted:
    """Return the fitted model, and print which ridge was chosen where one was."""
    fitted = fit(
        kernel, train, rule=rule, **solver_of(arguments), device=arguments.device, memory=arguments.memory
    )
    if fitted.ridge_choice is not None:
        print(f"note: {fitted.ridge_choice.text}")
    return fitted


def rule_of(arguments: Arguments) -> Rule:
    """Return the rule of squared loss; what is not given is the default of its class.

    Raises:
        OptionError: a rate for a rule that has none, or none for one that needs it.
    """
    arguments.check_rule()
    if arguments.ridge is None and arguments.takes_defaults:
        return defaults_for(None, loss=arguments.reduction).rule
    if arguments.ridge == AUTO:
        return Ridge(AUTO, arguments.reduction)
    options = {"ridge": arguments.ridge_number, "rate": arguments.rate}
    numbers = {name: number for name, number in options.items() if number is not None}
    return RULES[arguments.rule_name](**numbers, loss=arguments.reduction)


def names_of(text: str | None) -> list[str] | None:
    """Return the names that commas separate, or None where there is no text."""
    return None if text is None else [name.strip() for name in text.split(",")]


def load_examples(arguments: Arguments, kernel: Kernel | LabelDependentKernel) -> tuple[Examples, Examples]:
    """Return training examples and queries, scaled for the kernel unless another scaling is given.

    What was taken for granted is printed first, and kept in `preparation`.
    Targets of a user's own network are not centred by default, and two classes get two columns where it has
    two outputs. A column of the table that says where examples come from is no feature.
    """
    scaling: dict[str, Any] = {}
    if arguments.normalise is not None:
        scaling["normalise"] = None if arguments.normalise == "none" else arguments.normalise
    classes = names_of(arguments.classes)
    centre = arguments.centre
    if centre is None and arguments.model is not None:
        centre = "none"
    header = arguments.yes_no("header")
    columns, drop = names_of(arguments.columns), names_of(arguments.drop) or []
    provenance = arguments.provenance if isinstance(arguments, ProvenanceOptions) else None
    source = provenance_column(provenance, arguments.data, arguments.target, header=header)
    if source is not None and source not in (columns or ()):
        drop.append(source)
    train, query = defaults_for(None if arguments.takes_defaults else kernel).load(
        arguments.data,
        classes=classes,
        n_train=arguments.n_train,
        n_query=arguments.n_query,
        seed=arguments.seed,
        **scaling,
        centre=centre,
        target=arguments.target,
        columns=columns,
        drop=drop or None,
        header=header,
        task=arguments.task,
        labels=arguments.labels,
        pictures=arguments.yes_no("pictures"),
        resize=arguments.resize,
        crop=arguments.yes_no("crop"),
        background=arguments.background,
        embeddings=arguments.embeddings,
        embed=arguments.embed,
    )
    for note in train.preparation.get("notes", ()):
        print(f"note: {plain(note, 2000)}")
    base = kernel.base if isinstance(kernel, LabelAware) else kernel
    if isinstance(base, Architecture) and arguments.model is not None:
        check_takes(network(arguments.model), train.inputs)
        print(f"note: the kernel is that of the infinitely wide network {base.words}.")
    if not isinstance(base, Empirical):
        return train, query
    if "linearised_at" not in arguments.refused:
        print(f"note: {weights_note(arguments)}")
    base.check("inputs", train.inputs)
    train = train.in_columns(base.width)
    return train, query.coded_as(train.encoding)


def kernel_and_examples(arguments: Arguments) -> tuple[Kernel | LabelDependentKernel, Examples, Examples]:
    """Return the kernel that is named, training examples and queries.

    Of a network at its trained weights it is the kernel of the last layers where that of all would take too
    long and no parameters were named; that is printed.
    """
    kernel = kernel_of(arguments)
    train, query = load_examples(arguments, kernel)
    if not isinstance(kernel, Empirical) or not kernel.is_trained or arguments.parameters:
        return kernel, train, query
    if kernel.outputs is None or kernel.projection is not None:
        return kernel, train, query
    count = affordable_layers(kernel, train.inputs, queries=len(query))
    if count is not None:
        kernel = kernel.with_parameters(last_layers(count))
        print(
            f"note: the model moves the weights of {kernel.part}, as the kernel of all would take more than "
            f"{MOST:.0e} products; --parameters all takes the rest too."
        )
    return kernel, train, query


def weights_note(arguments: Arguments) -> str:
    """Return how the weights of a network were read, and the flag that says otherwise."""
    if arguments.is_trained:
        return (
            "the model is your network at its trained weights, and only edits of the data move it; give "
            "--linearised-at initial if training starts from these weights."
        )
    return (
        "the model is your network trained from these initial weights, linearised there; give --weights, or "
        "--linearised-at trained, if it is trained already."
    )


def projection_of(text: str | None) -> Projection | None:
    """Return the projection that NAME or NAME:SIZE stands for."""
    if text is None:
        return None
    name, _, size = text.partition(":")
    if name not in PROJECTIONS or (size and not size.isdecimal()) or not (size or name == "coordinates"):
        raise OptionError(
            f"--projection must be coordinates[:SIZE] or one of gaussian, rademacher, sparse with "
            f":SIZE, the numbers that are kept; got {text!r}."
        )
    return PROJECTIONS[name](size=int(size)) if size else RandomCoordinates()


def solver_of(arguments: Arguments) -> dict[str, Any]:
    """Return how a model is to be solved, as `fit` takes it; nothing where the command does not ask."""
    if not isinstance(arguments, SolverOptions):
        return {}
    dtype = arguments.tile_dtype
    return {"solver": arguments.solver, "tile_dtype": None if dtype is None else getattr(torch, dtype)}
