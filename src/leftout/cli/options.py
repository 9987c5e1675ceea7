"""The flags that every command shares, said once.

Typer reads a command's flags from its signature. `with_choices` gives a command the flags of `_flags`
beside its own, and hands them over as one `Choices` record.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from leftout.cli.arguments import AUTO, Choices, KernelName, RuleName
from leftout.kernels.convolution.convolutional import Pooling
from leftout.kernels.convolution.windows import Padding
from leftout.kernels.pairwise.estimates import Estimator
from leftout.kernels.wide.activations import Activation

DATA = "Data"
MODEL = "Model"
NETWORK = "Network"
MACHINE = "Machine"

Memory = Annotated[
    str | None, typer.Option(help="Budget such as 4GB; 60 % of what is free.", rich_help_panel=MACHINE)
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, …", rich_help_panel=MACHINE)]


def _flags(
    data: Annotated[
        str,
        typer.Argument(
            help="digits, mnist:DIR, cifar10:DIR, a folder or .zip of images by split and class, "
            "FILE.npz, FILE.csv, FILE.parquet, or FILE.py:FUNCTION returning (train, query)."
        ),
    ] = "digits",
    classes: Annotated[
        str | None, typer.Option(help="Classes to keep, in this order: 7,9.", rich_help_panel=DATA)
    ] = None,
    n_train: Annotated[
        int | None, typer.Option(help="Training examples to take.", rich_help_panel=DATA)
    ] = None,
    n_query: Annotated[int | None, typer.Option(help="Queries to take.", rich_help_panel=DATA)] = None,
    seed: Annotated[int, typer.Option(help="Of split and subsets.", rich_help_panel=DATA)] = 0,
    normalise: Annotated[
        Literal["unit", "sphere", "standard", "none"] | None,
        typer.Option(
            help="Scaling of inputs: norm 1, norm √d, mean 0 and deviation 1, none; what the "
            "kernel asks for if not said.",
            rich_help_panel=DATA,
        ),
    ] = None,
    centre: Annotated[
        Literal["uniform", "mean", "none"] | None,
        typer.Option(
            help="What is subtracted from targets: 1/classes, their mean, nothing.", rich_help_panel=DATA
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Column to predict in a table; the last.", rich_help_panel=DATA)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A network of your own: FILE.py:FUNCTION returning an nn.Module; linearised at its weights.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Its weights: FILE.safetensors, or a state dict by torch.save.", rich_help_panel=NETWORK
        ),
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            help="Parameters that training moves, by pattern (fc.*), again for each; all if not said.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    outputs: Annotated[
        Literal["full", "sum", "trace"],
        typer.Option(
            help="Outputs told apart, exactly; or as one kernel for all, approximately.",
            rich_help_panel=NETWORK,
        ),
    ] = "full",
    projection: Annotated[
        str | None,
        typer.Option(
            help="Shorten the Jacobian's rows: coordinates:2000 (of each tensor), gaussian:SIZE, "
            "rademacher:SIZE, sparse:SIZE.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    kernel: Annotated[
        KernelName,
        typer.Option(
            help="Which infinitely wide network; auto: the best by exact leave-one-out loss.",
            rich_help_panel=MODEL,
        ),
    ] = KernelName.TWO_LAYER_RELU,
    depth: Annotated[
        int, typer.Option(help="Hidden layers of relu, erf, tanh and conv-relu.", rich_help_panel=MODEL)
    ] = 2,
    weight_variance: Annotated[
        float, typer.Option(help="Of relu, erf, tanh and conv-relu, times fan-in.", rich_help_panel=MODEL)
    ] = 2.0,
    bias_variance: Annotated[
        float, typer.Option(help="Of relu, erf, tanh and conv-relu.", rich_help_panel=MODEL)
    ] = 0.0,
    kind: Annotated[
        Literal["ntk", "nngp"],
        typer.Option(help="All layers trained, or the last alone.", rich_help_panel=MODEL),
    ] = "ntk",
    kernel_size: Annotated[
        int, typer.Option(help="Side of the windows of conv-relu.", rich_help_panel=MODEL)
    ] = 3,
    stride: Annotated[int, typer.Option(help="Of the convolutions of conv-relu.", rich_help_panel=MODEL)] = 1,
    padding: Annotated[
        Padding, typer.Option(help="Of the images of conv-relu.", rich_help_panel=MODEL)
    ] = "same",
    pooling: Annotated[
        Pooling,
        typer.Option(
            help="All positions of conv-relu's last layer, or their mean: slower by far.",
            rich_help_panel=MODEL,
        ),
    ] = "flatten",
    activation: Annotated[
        Activation,
        typer.Option(
            help="Of hierarchy, the kernel of a two-layer network of so many --units once it is trained.",
            rich_help_panel=MODEL,
        ),
    ] = "gelu",
    units: Annotated[int, typer.Option(help="Neurons of hierarchy's network.", rich_help_panel=MODEL)] = 1024,
    time: Annotated[
        float | None,
        typer.Option(
            help="Training that the kernel of hierarchy has seen, in 1/eigenvalue of the kernel before; all "
            "of it if not said.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    label_aware: Annotated[
        Estimator | None,
        typer.Option(
            help="A kernel that sees labels, built on the chosen one: estimator of whether two inputs "
            "share a label.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    strength: Annotated[
        str,
        typer.Option(
            help="How much the labels say beside the kernel; auto: by exact leave-one-out.",
            rich_help_panel=MODEL,
        ),
    ] = AUTO,
    labels_frozen: Annotated[
        bool,
        typer.Option(
            "--labels-frozen",
            help="Keep that kernel as all labels made it when an example is left out: faster, not the same.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    minutes: Annotated[
        float, typer.Option(help="Longest that --kernel auto spends on a kernel.", rich_help_panel=MODEL)
    ] = 5.0,
    rule: Annotated[
        RuleName | None,
        typer.Option(help="How it is trained; flow where --at is given.", rich_help_panel=MODEL),
    ] = None,
    ridge: Annotated[
        float | None,
        typer.Option(
            help="λ, added to the kernel matrix as given; 1 for ridge, 0 for the others.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="η of flow (1) and descent (needed).", rich_help_panel=MODEL)
    ] = None,
    loss: Annotated[
        Literal["sum", "mean"],
        typer.Option(
            help="Over examples; mean stands for --rate / n and --ridge · n.", rich_help_panel=MODEL
        ),
    ] = "sum",
    at: Annotated[
        list[float] | None,
        typer.Option(
            help="Training time or number of steps, again for each; inf is the end.", rich_help_panel=MODEL
        ),
    ] = None,
) -> None:
    """Hold the shared flags."""


def with_choices(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the shared flags, which it gets as `choices`."""
    shared = inspect.signature(_flags).parameters
    own = [one for name, one in inspect.signature(command).parameters.items() if name != "choices"]

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        taken = {name: given.pop(name) for name in shared}
        for name in ("at", "parameters"):
            taken[name] = tuple(taken[name] or ())
        for name in ("kernel", "rule"):
            taken[name] = None if taken[name] is None else str(taken[name])
        command(choices=Choices(**taken), **given)

    both = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*shared.values(), *own)]
    wrapper.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {one.name: one.annotation for one in both}
    return wrapper
