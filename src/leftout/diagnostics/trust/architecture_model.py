"""A second, independent answer about a trained network: that of the kernel of its architecture.

It knows the layers of the network, the training examples and how strongly the training was held back; of the
trained weights it knows nothing but the size of their tangent kernel: its ridge has the same share of its
mean diagonal.
"""

from typing import Any

import torch
from torch import nn

from leftout.attribution.engine.cross_entropy_minimum import left_out_bytes
from leftout.core.errors import LeftoutError, OptionError
from leftout.core.work import WorkCount, passes, product
from leftout.data.examples import Examples
from leftout.dynamics.fit import fit
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import Logistic, Rule
from leftout.kernels import assemble
from leftout.kernels.layers.conv import Conv
from leftout.kernels.layers.dense import Dense
from leftout.kernels.layers.flatten import Flatten
from leftout.kernels.layers.pool import AveragePool, GlobalAveragePool
from leftout.kernels.layers.relu import Relu
from leftout.kernels.layers.residual import Residual
from leftout.kernels.module.of_module import of
from leftout.kernels.network.empirical import Empirical
from leftout.kernels.wide.architecture import Architecture
from leftout.solvers.logistic import ARRAYS, fit_logistic_work, newton_step_work

MEASURED = (Dense, Conv, Relu, AveragePool, GlobalAveragePool, Flatten)
"""Layers of the networks that agreement was compared with retraining on."""


def architecture_kernel(kernel: Any, rule: Rule, train: Examples) -> Architecture:
    """Return the kernel of the architecture of a trained network.

    Raises:
        OptionError: the model is no trained network under cross-entropy, or has no such kernel; says why.
    """
    if not isinstance(kernel, Empirical) or not kernel.is_trained:
        raise OptionError(
            "`fitted` must be one network at its trained weights, Empirical(module); its kernel is "
            f"{type(kernel).__name__}."
        )
    if not isinstance(rule, Logistic):
        raise OptionError(
            "`fitted` must be fitted by cross-entropy, as the networks were that agreement was measured on; "
            f"its rule is {type(rule).__name__}."
        )
    moved = sum(weight.numel() for weight in kernel.weights.values())
    total = sum(weight.numel() for weight in kernel.module.parameters())
    if kernel.reading != "full" or kernel.projection is not None or moved < total:
        raise OptionError(
            "`fitted` must have the whole tangent kernel of the network, as those had that agreement was "
            f"measured on: all outputs, no projection, and all weights; {moved} of {total} weights move here."
        )
    wide = of(kernel.module)
    first = next(layer for layer in kernel.module.modules() if isinstance(layer, nn.Linear | nn.Conv2d))
    numbers = train.inputs[0].numel()
    if isinstance(first, nn.Linear) and first.in_features != numbers:
        raise OptionError(
            f"`module` must take all {numbers} numbers of an input in its first Linear layer; that takes "
            f"{first.in_features}."
        )
    try:
        wide.check("train", train.inputs)
    except LeftoutError as error:
        raise OptionError(f"the kernel of its architecture cannot take these inputs: {error}") from error
    return wide


def check_measured(wide: Architecture) -> None:
    """Raise if agreement with this kernel was not measured against networks that were trained again.

    Raises:
        OptionError: names the layers.
    """
    others = sorted({layer.name for layer in wide.every_layer if not isinstance(layer, MEASURED)})
    if others or any(isinstance(layer, Residual) for layer in wide.layers):
        raise OptionError(
            "what agreement is worth was measured on ReLU networks in a chain, fully connected or "
            f"convolutional; this one has {', '.join(others) or 'residual blocks'}."
        )


def has_verdict(kernel: Any, rule: Rule, train: Examples) -> bool:
    """Return whether there is such a kernel, and agreement with it was measured."""
    try:
        check_measured(architecture_kernel(kernel, rule, train))
    except OptionError:
        return False
    return True


def has_architecture_kernel(kernel: Any, rule: Rule, train: Examples) -> bool:
    """Return whether there is such a kernel."""
    try:
        architecture_kernel(kernel, rule, train)
    except OptionError:
        return False
    return True


def architecture_model(fitted: Fitted) -> Fitted:
    """Return the kernel of a trained network's architecture, fitted to the same examples by the same loss.

    Raises:
        OptionError: as of `architecture_kernel`.
    """
    rule, train = fitted.rule, fitted.train
    wide = architecture_kernel(fitted.kernel, rule, train)
    assert isinstance(rule, Logistic)
    scales = [
        float(assemble.diagonal(kernel, train.inputs, dtype=kernel.dtype or torch.float64).mean())
        for kernel in (wide, fitted.kernel)
    ]
    ridge = rule.ridge * scales[0] / scales[1]
    return fit(wide, train, rule=Logistic(ridge, rule.loss), device=fitted.device, memory=fitted.memory)


def architecture_model_work(n: int, m: int, k: int) -> WorkCount:
    """Return the work of fitting it to n examples with k outputs, and of m queries without each example."""
    kernels = assemble.gram_work(n) + assemble.cross_work(m, n)
    answers = newton_step_work(n, k, n) + product(m, n, n * k) + passes(m * n * k, 20)
    return kernels + fit_logistic_work(n, k) + answers


def architecture_model_bytes(n: int, m: int, k: int, *, memory: int) -> int:
    """Return its bytes: kernel matrix, fit, and the models without each example."""
    return 8 * n * (n + m) + 4 * n * n + 8 * n * k * ARRAYS + left_out_bytes(n, k, n, memory=memory)
