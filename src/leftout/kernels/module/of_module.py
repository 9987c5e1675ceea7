"""Which kernel of an infinitely wide network stands for a module? That of its architecture.

The forward is traced (torch.fx) into a graph of calls. Each call is one layer (`module_layers`); a sum of two
branches is a residual block, from where their paths part to where they meet. Dropout is as in eval mode,
and changes nothing.
"""

from typing import get_args

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from leftout.core.checks import check_choice, check_kind, check_positive
from leftout.core.errors import LeftoutError, OptionError, ShapeError
from leftout.core.wording import exception_text
from leftout.kernels.module.graph import layers_of_graph
from leftout.kernels.module.initialisation import Variances
from leftout.kernels.module.options import Initialisation
from leftout.kernels.wide.architecture import Architecture
from leftout.kernels.wide.options import Kind


def of(
    module: nn.Module,
    *,
    initialisation: Initialisation = "he",
    weight_variance: float | None = None,
    bias_variance: float | None = None,
    kind: Kind = "ntk",
    tolerance: float = 1e-6,
) -> Architecture:
    """Return the kernel of the infinitely wide network of a module's architecture.

    Args:
        module: Linear, Conv2d, activations, averages, normalisations and sums of branches, in any forward
            that torch.fx traces. Its weights are looked at only for "measured".
        initialisation: from which variances the weights are taken to be drawn: "he", 2 over fan-in; "xavier",
            1 over the mean of fan-in and fan-out; "pytorch", its default of 1/3 over fan-in, biases too;
            "measured", the mean square of the weights and biases that each layer has.
        weight_variance, bias_variance: of all layers instead, times fan-in; layers without a bias have none.
        kind: "ntk" (all layers trained) or "nngp" (what the network starts as).
        tolerance: largest error of activations that have no closed form, as of `layers.Activation`.

    Returns:
        the composition of layers: `.layers`. Units and channels are infinitely many; windows, strides and
        padding are the module's. BatchNorm becomes what it is in eval mode before training, a division by
        √(1 + ε); weights of normalisations stay 1.

    Raises:
        OptionError: weights that are frozen, shared or computed from others; a layer, a call or an order of
            layers of which no such kernel is known; names the layer and says what to do.

    Cost:
        tracing of the forward, without numbers.

    Source:
        Jacot, Gabriel and Hongler 2018, "Neural tangent kernel"; Novak et al. 2019 for convolutions; Yang
        2019, "Tensor programs", for architectures in general.

    Example:
        >>> import leftout as lo
        >>> from torch import nn
        >>> module = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        >>> lo.kernels.of(module).words
        'Flatten, Dense, Relu, Dense'
        >>> lo.kernels.of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.Flatten(), nn.Linear(8, 2))).words
        'Conv 3 x 3, Gelu, Flatten, Dense'
    """
    check_kind("module", module, nn.Module, what="an nn.Module")
    check_choice("initialisation", initialisation, get_args(Initialisation))
    check_choice("kind", kind, get_args(Kind))
    check_positive("tolerance", tolerance)
    variances = Variances(initialisation, weight_variance, bias_variance)
    _check_apart(module)
    _check_plain(module, kind)
    layers = layers_of_graph(_trace(module), module, variances, tolerance)
    try:
        kernel = Architecture(layers, kind)
    except LeftoutError as error:
        raise OptionError(
            f"`module` must have layers that can follow each other in the limit: {error} Empirical(module) "
            "takes any network as it is."
        ) from error
    if kernel.end not in ("gaussian", "flattened"):
        raise OptionError(
            "`module` must end with a Linear layer, the readout of its outputs; it ends with "
            f"{layers[-1].words}. Take off what follows the readout: leftout works with logits."
        )
    return kernel


def check_takes(module: nn.Module, inputs: Tensor) -> None:
    """Raise unless a module in eval mode takes inputs like these, which its kernel might do all the same.

    A kernel of infinitely many units does not know of how many numbers or channels a layer was made for.
    Images without an axis of channels may be given one, and all may be flattened, as the kernel does.

    Raises:
        ShapeError: its forward raises, or returns no row for each of them; shows what.
    """
    examples = inputs[:2].to(next(iter(module.parameters()), inputs))
    channels = [examples[:, None]] if examples.ndim == 3 else []
    problem = ""
    for images in (examples, *channels, examples.flatten(1)):
        try:
            with torch.no_grad():
                outputs = module(images)
        except Exception as error:
            problem = problem or f"it raised {exception_text(error)}"
            continue
        if isinstance(outputs, Tensor) and outputs.ndim == 2 and len(outputs) == len(examples):
            return
        problem = problem or f"it returns {tuple(getattr(outputs, 'shape', ()))} for {len(examples)} of them"
    raise ShapeError(
        f"`module` must take inputs like these, each of shape {tuple(inputs.shape[1:])}, and return a row of "
        f"numbers for each. Load other inputs, or change its layers: {problem}"
    )


def _trace(module: nn.Module) -> fx.Graph:
    """Return the graph of a module's forward in eval mode.

    Raises:
        OptionError: it cannot be traced; shows what it raised.
    """
    modes = [(layer, layer.training) for layer in module.modules()]
    try:
        for layer, _ in modes:
            layer.training = False  # whatever its `train` does besides
        return fx.Tracer().trace(module)
    except LeftoutError:
        raise
    except Exception as error:
        text = exception_text(error)
        advice = "Write x.shape[0], or x.flatten(1): " if "'len' is not supported" in text else ""
        raise OptionError(
            "`module` must have a forward that torch.fx can trace, without choices that depend on numbers. "
            f"{advice}{'it' if advice else 'It'} raised {text}"
        ) from error
    finally:
        for layer, mode in modes:
            layer.training = mode


def _check_apart(module: nn.Module) -> None:
    """Raise if two layers share a weight: sums over it are not independent."""
    first: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        before = first.setdefault(id(parameter), name)
        if before != name and before.rpartition(".")[0] != name.rpartition(".")[0]:
            raise OptionError(
                f"`module` must have layers with weights of their own; {before} and {name} are one "
                "parameter. Of tied weights no kernel is known here: Empirical(module) takes them."
            )


def _check_plain(module: nn.Module, kind: Kind) -> None:
    """Raise if a layer does more than its class says, or is not trained."""
    for name, layer in module.named_modules():
        words = f"{name} ({type(layer).__name__})" if name else "it"
        if parametrize.is_parametrized(layer):
            raise OptionError(
                f"`module` must have weights that are drawn as they are; {words} computes them from others, "
                "as weight and spectral normalisation do. Empirical(module) takes it as it is."
            )
        if layer._forward_hooks or layer._forward_pre_hooks:
            raise OptionError(
                f"`module` must have layers without hooks, which may change what they compute; {words} has "
                "one. Remove it (PyTorch's pruning and older weight normalisation put one there), or take "
                "Empirical(module), which takes any network as it is."
            )
        if kind == "ntk" and isinstance(layer, nn.Linear | nn.Conv2d):
            frozen = [key for key, weight in layer.named_parameters() if not weight.requires_grad]
            if frozen:
                raise OptionError(
                    f"`module` must have weights that are trained, all of them: {frozen[0]} of {words} has "
                    'requires_grad=False. Set it to True, take kind="nngp" where the readout alone is '
                    "trained, or Empirical(module), which leaves frozen weights as they are."
                )
