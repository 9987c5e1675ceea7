"""Training as people do it, as a record: mini-batches, momentum, weight decay, a schedule; and its networks.

Each network begins with `torch.manual_seed(seed)`, which draws its initial weights, and takes the examples of
every epoch in an order drawn by a generator of its own with the same seed: the networks of one seed differ by
their examples alone. Small networks are trained many at once: their weights are stacked, so that a step of
all of them is one batched product for each layer. The steps of `torch.optim` act on each weight alone, so
these are the same networks, to rounding.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor, nn
from torch.func import functional_call, vmap

from leftout.core.checks import (
    check_at_least,
    check_between,
    check_choice,
    check_count,
    check_kind,
    check_positive,
    check_whole,
    is_real,
    shown,
)
from leftout.core.errors import DivergenceError, LeftoutError, OptionError, ShapeError
from leftout.core.module_call import copy_module, gradients_recorded, outside_inference_mode
from leftout.core.wording import exception_text
from leftout.data.examples import Examples
from leftout.diagnostics.retraining.query_losses import LOSSES, LossName, loss_name, loss_targets, losses

Schedule = Literal["constant", "linear", "cosine"] | Callable[[float], float]
OptimizerName = Literal["sgd", "adam", "adamw"]

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda share: 1.0,
    "linear": lambda share: 1 - share,
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
}
OPTIMIZERS = ("sgd", "adam", "adamw")

AGREES = 1e-3
"""Difference of a step taken together from the steps taken alone, relative to the largest, up to which
networks are trained together; a float32 network with ReLU is within 1e-5."""

Network = tuple[Int64[Tensor, " _"], int]
"""Rows of the training examples, and a seed."""


@final
@dataclass(frozen=True, kw_only=True)
class SGDTraining:
    """A recipe of training: mini-batches of mean loss, by the optimisers of torch.

    Args:
        build: a function without arguments that returns a new network with random weights; or a network, from
            whose weights every training starts.
        epochs: passes through the examples.
        batch_size: examples of a step; the last step of an epoch takes what remains.
        learning_rate: of the first step.
        momentum: of "sgd".
        weight_decay: as torch.optim has it: added to the gradient, but for "adamw" taken off the weights.
        schedule: what the rate is multiplied with, a name or a function of the share of steps that are done
            (0 ≤ share < 1); "linear" and "cosine" fall from 1 to 0.
        optimizer: "sgd", "adam" or "adamw".
        loss: mean over a batch of cross-entropy, or of ½ Σ (f − y)² over outputs; None for cross-entropy
            where there are classes.

    Raises:
        OptionError: an option out of range.

    Source:
        torch.optim.SGD, Adam and AdamW.

    Example:
        >>> import leftout as lo, torch
        >>> recipe = lo.SGDTraining(build=lambda: torch.nn.Linear(64, 10), epochs=2, batch_size=10,
        ...                         learning_rate=0.1, momentum=0.9, weight_decay=1e-3, schedule="cosine")
        >>> recipe.steps(50)
        10
    """

    build: nn.Module | Callable[[], nn.Module]
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    optimizer: OptimizerName = "sgd"
    loss: LossName | None = None

    def __post_init__(self) -> None:
        if not callable(self.build) or isinstance(self.build, type):
            raise OptionError(
                "`build` must be a network, or a function without arguments that returns one; got "
                f"{shown(self.build)}. Write `lambda: Network(…)`."
            )
        check_count("epochs", self.epochs)
        check_count("batch_size", self.batch_size)
        check_positive("learning_rate", self.learning_rate)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_at_least("momentum", self.momentum, 0)
        if self.momentum:
            check_between("momentum", self.momentum, 0, 1)
            if self.optimizer != "sgd":
                raise OptionError(
                    f"`momentum` belongs to optimizer='sgd'; {self.optimizer!r} has its own. Leave it out."
                )
        check_at_least("weight_decay", self.weight_decay, 0)
        if not callable(self.schedule):
            check_choice("schedule", self.schedule, tuple(SCHEDULES))
        if self.loss is not None:
            check_choice("loss", self.loss, tuple(LOSSES))

    def steps(self, n: int) -> int:
        """Return how many steps a training on n examples takes."""
        return self.epochs * math.ceil(n / self.batch_size)

    def rates(self, n: int) -> list[float]:
        """Return the learning rate of each step of a training on n examples.

        Raises:
            OptionError: a schedule that returns no number ≥ 0.
        """
        factor = self.schedule if callable(self.schedule) else SCHEDULES[self.schedule]
        steps = self.steps(n)
        rates = []
        for step in range(steps):
            share = factor(step / steps)
            if not is_real(share) or not 0 <= share < math.inf:
                raise OptionError(
                    f"`schedule` must return a number ≥ 0; of {step / steps:g} it is {shown(share)}."
                )
            rates.append(self.learning_rate * float(share))
        return rates

    def network(self, seed: int) -> nn.Module:
        """Return the network of a seed before training, in training mode.

        Raises:
            OptionError: `build` failed, or returned no network.
        """
        check_whole("seed", seed, 0)
        if isinstance(self.build, nn.Module):
            return copy_module(self.build).train()
        try:
            with torch.random.fork_rng(), outside_inference_mode():
                torch.manual_seed(seed)
                module = self.build()
        except Exception as error:
            raise OptionError(f"`build` must return a network; it raised {exception_text(error)}") from error
        check_kind("build", module, nn.Module, what="a function that returns a network, a torch.nn.Module")
        return module.train()

    def optimizer_of(self, weights: Sequence[Tensor]) -> torch.optim.Optimizer:
        """Return the optimiser of these weights."""
        rate, decay = self.learning_rate, self.weight_decay
        if self.optimizer == "sgd":
            return torch.optim.SGD(weights, lr=rate, momentum=self.momentum, weight_decay=decay)
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(weights, lr=rate, weight_decay=decay)

    @property
    def record(self) -> dict[str, Any]:
        """Return the settings, JSON-like; networks and functions by their text or name."""
        schedule = self.schedule
        return {
            "training": type(self).__name__,
            "epochs": int(self.epochs),
            "batch_size": int(self.batch_size),
            "learning_rate": float(self.learning_rate),
            "momentum": float(self.momentum),
            "weight_decay": float(self.weight_decay),
            "schedule": schedule
            if isinstance(schedule, str)
            else getattr(schedule, "__qualname__", "function"),
            "optimizer": self.optimizer,
            "loss": self.loss,
        }


def train_alone(recipe: SGDTraining, train: Examples, network: Network) -> nn.Module:
    """Return one network trained on its rows, in training mode.

    Raises:
        DivergenceError: a loss that is not finite.
    """
    rows, seed = network
    module = recipe.network(seed)
    loss = loss_name(recipe.loss, train)
    with torch.random.fork_rng(), gradients_recorded():
        torch.manual_seed(seed)  # dropout
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        inputs, targets = _tensors(module, train, loss)
        optimizer = recipe.optimizer_of(weights)
        generators = [Generator().manual_seed(seed)]
        for batch in _batches(recipe, rows[None], generators, optimizer):
            optimizer.zero_grad()
            value = losses(module(inputs[batch[0]]), targets[batch[0]], loss).mean()
            _check_loss(value, [network])
            torch.autograd.backward(value)
            optimizer.step()
    return module


def train_together(recipe: SGDTraining, train: Examples, networks: Sequence[Network]) -> list[nn.Module]:
    """Return the networks trained on their rows, as many each, by one batched product for each layer.

    Raises:
        DivergenceError: a loss that is not finite; names the seed.

    Cost:
        for each step the flops of all networks; the weights of all, and their momenta and gradients, are
        read.
    """
    modules = [recipe.network(seed) for _, seed in networks]
    loss = loss_name(recipe.loss, train)
    with gradients_recorded():
        inputs, targets = _tensors(modules[0], train, loss)
        stacked = _stack(modules)
        optimizer = recipe.optimizer_of(list(stacked.values()))
        rows = torch.stack([rows for rows, _ in networks])
        generators = [Generator().manual_seed(seed) for _, seed in networks]
        for batch in _batches(recipe, rows, generators, optimizer):
            optimizer.zero_grad()
            values = _batch_losses(modules[0], stacked, inputs[batch], targets[batch], loss)
            _check_loss(values, networks)
            torch.autograd.backward(values.sum())
            optimizer.step()
    for number, module in enumerate(modules):
        with torch.no_grad():
            for name, weight in module.named_parameters():
                if name in stacked:
                    weight.copy_(stacked[name][number])
    return modules


def reason_to_train_alone(recipe: SGDTraining, train: Examples) -> str:
    """Return why networks of this recipe cannot be trained together; "" where they can.

    A step of two networks is taken both ways and compared.
    """
    modules = [recipe.network(seed) for seed in (0, 1)]
    if any(True for _ in modules[0].buffers()):
        return "the network has buffers, such as batch statistics"
    loss = loss_name(recipe.loss, train)
    n = min(len(train), recipe.batch_size, 8)
    try:
        with torch.random.fork_rng(), gradients_recorded():
            inputs, targets = _tensors(modules[0], train.select(range(n)), loss)
            alone, repeated = (
                [losses(module(inputs), targets, loss).mean() for module in modules] for _ in range(2)
            )
            if any(bool(a != b) for a, b in zip(alone, repeated, strict=True)):
                return "the network answers at random while it is trained, as dropout does"
            stacked = _stack(modules)
            together = _batch_losses(
                modules[0], stacked, inputs.expand(2, *inputs.shape), targets.expand(2, *targets.shape), loss
            )
            torch.autograd.backward(together.sum())
            for mean_loss in alone:
                torch.autograd.backward(mean_loss)
    except LeftoutError:
        raise
    except Exception as error:
        return f"torch.func cannot stack the network ({type(error).__name__})"
    for number, module in enumerate(modules):
        for name, weight in module.named_parameters():
            if name not in stacked:
                continue
            gradient, stacked_gradient = weight.grad, stacked[name].grad
            if gradient is None or stacked_gradient is None:
                return f"no gradient reaches {name!r}"
            gap = (gradient - stacked_gradient[number]).abs().max()
            if not bool(gap <= AGREES * gradient.abs().max()):
                return f"the gradient of {name!r} is another one for stacked networks"
    return ""


def _stack(modules: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Return the trained weights of all networks by name, (c, …) each."""
    names = [name for name, weight in modules[0].named_parameters() if weight.requires_grad]
    weights = [dict(module.named_parameters()) for module in modules]
    return {name: torch.stack([named[name].detach() for named in weights]).requires_grad_() for name in names}


def _batch_losses(
    module: nn.Module, stacked: dict[str, Tensor], inputs: Tensor, targets: Tensor, loss: LossName
) -> Tensor:
    """Return the mean loss of each network on its batch, (c,)."""

    def mean_loss(weights: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        return losses(functional_call(module, weights, (inputs,)), targets, loss).mean()

    return vmap(mean_loss)(stacked, inputs, targets)


def _batches(
    recipe: SGDTraining,
    rows: Int64[Tensor, "c s"],
    generators: Sequence[Generator],
    optimizer: torch.optim.Optimizer,
) -> Any:
    """Yield the rows of each step of each network, (c, batch), after setting its rate."""
    size = rows.shape[1]
    rates = iter(recipe.rates(size))
    for _ in range(recipe.epochs):
        order = torch.stack(
            [torch.randperm(size, generator=generator, device="cpu") for generator in generators]
        )
        for batch in torch.split(rows.gather(1, order), recipe.batch_size, dim=1):
            for group in optimizer.param_groups:
                group["lr"] = next(rates)
            yield batch


def _tensors(module: nn.Module, train: Examples, loss: LossName) -> tuple[Tensor, Tensor]:
    """Return inputs and targets in the precision and on the device of the network."""
    like = next((weight for weight in module.parameters() if weight.requires_grad), None)
    if like is None:
        raise OptionError("`build` must return a network with parameters that are trained; it has none.")
    inputs = train.inputs.to(like)
    outputs = outputs_at(module, inputs[:2]).shape[1]
    targets = loss_targets(train, loss, outputs)
    return inputs, targets.to(like) if loss == "squared" else targets.to(like.device)


def outputs_at(model: Any, inputs: Tensor) -> Float64[Tensor, "m k"]:
    """Return what a network or a function of the inputs says, in eval mode and double precision.

    Raises:
        ShapeError: not one row of numbers for each input, or an exception of its own.
    """
    is_module = isinstance(model, nn.Module)
    was_training = is_module and model.training
    like = next(model.parameters(), None) if is_module else None
    try:
        if is_module:
            model.eval()
        with outside_inference_mode(), torch.no_grad():
            returned = model(inputs if like is None else inputs.to(like))
    except Exception as error:
        raise ShapeError(
            f"`train_function` must make networks that take inputs of shape {tuple(inputs.shape)}; one "
            f"raised {exception_text(error)}"
        ) from error
    finally:
        if was_training:
            model.train()
    try:
        outputs = torch.as_tensor(returned, device="cpu").detach().double()
    except (TypeError, ValueError, RuntimeError):
        outputs = torch.empty(0, dtype=torch.float64, device="cpu")
    if outputs.ndim != 2 or len(outputs) != len(inputs) or not outputs.shape[1]:
        came = tuple(returned.shape) if hasattr(returned, "shape") else type(returned).__name__
        raise ShapeError(
            "`train_function` must make networks that return (m, k), one row for each input and k outputs; "
            f"of {len(inputs)} inputs one returned {came}."
        )
    return outputs


def _check_loss(values: Tensor, networks: Sequence[Network]) -> None:
    """Raise where training has left the numbers."""
    broken = (~torch.isfinite(values.detach().reshape(-1))).nonzero().flatten()
    if len(broken):
        raise DivergenceError(
            f"`learning_rate` must be one at which training converges; the loss of the network of seed "
            f"{networks[int(broken[0])][1]} became NaN or infinite. Take a smaller one."
        )
