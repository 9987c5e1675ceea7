"""The empirical tangent kernel: of a network as it is, at its present weights.

    k(x, z)_oo' = ⟨∂f_o(x)/∂w, ∂f_o'(z)/∂w⟩

is the kernel of gradient descent in w, for any network, and the model behind it is f made linear in w
around these weights, with f_0 the network's own outputs. What the weights are decides what the model is:

    "trained"   the network as it stands: f_0 is its answer, and only edits of the data move it
    "initial"   where training starts from: f_0 is moved by all examples to where the rule takes it

With k outputs it is a k × k block for each pair of inputs. Two kernels of one number for each pair
approximate it, at 1/k² of the size:

    "sum"     of Σ_o f_o / √k: the network's outputs added up to one
    "trace"   Σ_o k_oo / k: every output learns as the average one does
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from leftout.core.blocks import blocks, memory_budget
from leftout.core.checks import (
    check_choice,
    check_count,
    check_finite,
    check_kind,
    check_seed,
    check_whole_kept,
    shown,
)
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.core.fingerprint import fingerprint
from leftout.core.module_call import copy_module, in_any_mode
from leftout.core.module_checks import (
    check_differentiable,
    check_function,
    check_takes,
    check_unwritten,
    evaluate,
    output_count,
    sample_rows,
)
from leftout.core.modules import Parameters, bytes_per_row, layers_of, parameters_matching, parameters_of
from leftout.core.progress import spinner, with_progress
from leftout.core.wording import dtype_name, name_list, percent
from leftout.kernels.assemble import gram
from leftout.kernels.base import Kernel
from leftout.kernels.distortion import Distortion, distortion
from leftout.kernels.network.extract import PASSES, Extract, Method, NetworkOutputs
from leftout.kernels.network.features import NetworkFeatures
from leftout.kernels.network.layerwise import check_batch
from leftout.kernels.network.linearised import pull_back, push_forward
from leftout.kernels.network.networks import NetworkKernels
from leftout.kernels.network.options import Outputs, Weights
from leftout.kernels.network.panels import CHUNK, KEPT, Panels, Shelf, feature_bytes
from leftout.kernels.network.projection import Projection
from leftout.kernels.tiles import FEATURES, FeatureBytes, Tile, TileWork


@final
class Empirical(Kernel):
    """The tangent kernel of a module at its present weights.

    The module is copied and never written to: training it later does not change the kernel.
    Parameters with requires_grad=False and buffers are constants. Everything is evaluated in the
    module's dtype, where the module lies, and accumulated in float64.

    Args:
        module: maps tensor inputs to outputs (n, k), each row by itself: in eval mode where it has dropout
            or batch statistics. Of a list of modules, such as checkpoints or seeds, `fit` makes a model that
            answers with the mean over them (`FittedNetworks`); the other arguments hold for all.
        outputs: "full" has a row for each output; "sum" and "trace" are approximations of it for k > 1, whose
            error `distortion` measures.
        weights: "trained" if the module was trained on these examples, and the fitted model is to be it;
            "initial" if training starts from these weights.
        parameters: patterns of parameter names, as of shells ("layer4.*"), or "last:3" for the last three
            layers: submodules with parameters of their own, in the order in which they were registered. All
            that are trained if None or "all".
        method: "jacobian" takes whole Jacobians by vmap; "layers" takes Linear and Conv2d layers from
            activations and backpropagated signals; "auto" whatever is cheaper, layer by layer. All
            give the same numbers to rounding.
        projection: shortens the rows of the Jacobian, at an error that `distortion` measures.
        memory: for calls without a budget of their own, in bytes or as "4GB"; 60 % of what is free if None.
            In a model, half of the model's budget at most.

    Raises:
        OptionError: an option that does not exist, a pattern that matches nothing, no trained parameters,
            or parameters of half or mixed precision.
        DataError: weights that hold NaN or infinity.

    Cost:
        a forward pass and k backward passes for each input, once; then products of n k rows of p
        numbers, or of activations and signals of layers, which are far fewer. The features of training
        inputs are kept between calls where they take no more than a quarter of the budget.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> x = torch.tensor([[3.0, 4.0], [4.0, -3.0]])
        >>> lo.kernels.Empirical(torch.nn.Linear(2, 1)).block(x, x)  # x·z + 1, of weight and bias
        tensor([[26.,  1.],
                [ 1., 26.]], dtype=torch.float64)
    """

    def __new__(cls, module: Any = None, *arguments: Any, **options: Any) -> Any:
        """Return a kernel of one module; of a list of them one for each."""
        if isinstance(module, list | tuple):
            return NetworkKernels([cls(member, *arguments, **options) for member in module])
        return super().__new__(cls)

    @in_any_mode
    def __init__(
        self,
        module: nn.Module,
        outputs: Outputs = "full",
        *,
        weights: Weights = "trained",
        parameters: str | Sequence[str] | None = None,
        method: Method = "auto",
        projection: Projection | None = None,
        memory: int | float | str | None = None,
    ) -> None:
        check_kind("module", module, nn.Module, what="an nn.Module")
        check_choice("outputs", outputs, ("full", "sum", "trace"))
        check_choice("weights", weights, ("trained", "initial"))
        check_choice("method", method, ("auto", "jacobian", "layers"))
        if projection is not None and not isinstance(projection, Projection):
            raise OptionError(
                "`projection` must be one of RandomCoordinates, Gaussian, Rademacher and Sparse; "
                f"got {shown(projection)}."
            )
        self.patterns = (parameters,) if isinstance(parameters, str) else parameters
        if not isinstance(self.patterns, list | tuple | None):
            raise OptionError(f"`parameters` must be names or a list of them; got {shown(parameters)}.")
        chosen = parameters_matching(module, self.patterns)
        _check_weights(module)
        self.module = copy_module(module)
        self._original = frozenset(map(id, module.parameters()))
        for name, weight in self.module.named_parameters():
            weight.grad = None
            weight.requires_grad_(name in chosen)
        named = dict(self.module.named_parameters())
        self.weights: Parameters = {name: named[name].detach() for name in chosen}
        self._trained = {name: weight.numel() for name, weight in parameters_of(module).items()}
        self.reading: Outputs = outputs
        self.is_trained = weights == "trained"
        self.method: Method = method
        self.projection = projection
        self.memory = memory
        self._budget: int | None = None
        # Shared by copies, as `within` makes them: what was learned of inputs belongs to all.
        self._widths: set[int] = set()
        self._extracts: dict[tuple[Any, ...], Extract] = {}
        self._checked: set[tuple[Any, ...]] = set()
        self._passed: set[str] = set()
        self._without: set[str] = set()
        self._shelf = Shelf()

    @property
    def outputs(self) -> int | None:
        """Return k for outputs="full", else None.

        Raises:
            OptionError: the kernel has not been evaluated or checked on inputs yet, from which k is known.
        """
        return self.width if self.reading == "full" else None

    @property
    def width(self) -> int:
        """Return k, the number of the network's outputs."""
        if not self._widths:
            raise OptionError(
                "`kernel` knows its number of outputs once it has seen inputs; call "
                "kernel.check(name, inputs) first."
            )
        return next(iter(self._widths))

    @property
    def part(self) -> str:
        if len(self.weights) == len(self._trained):
            return ""
        layers, chosen = layers_of(self._trained), list(layers_of(self.weights))
        numbers, total = sum(weight.numel() for weight in self.weights.values()), sum(self._trained.values())
        last = len(chosen) if chosen == list(layers)[-len(chosen) :] else 0
        which = (
            f"the last {last} of {len(layers)} layers" if last else f"{len(chosen)} of {len(layers)} layers"
        )
        return f"{which}, {name_list(chosen, 6)}: {numbers} of {total} weights ({percent(numbers / total)})"

    def with_parameters(self, parameters: str | Sequence[str]) -> "Empirical":
        """Return the kernel of fewer of the parameters; what was checked of inputs stays checked."""
        kernel = Empirical(
            self.module,
            self.reading,
            weights="trained" if self.is_trained else "initial",
            parameters=parameters,
            method=self.method,
            projection=self.projection,
            memory=self.memory,
        )
        kernel._trained, kernel._original, kernel._budget = self._trained, self._original, self._budget
        kernel._widths, kernel._without = set(self._widths), set(self._without)
        kernel._checked, kernel._passed = set(self._checked), set(self._passed)
        return kernel

    @property
    def dtype(self) -> torch.dtype:
        return self._like.dtype

    @property
    def device(self) -> torch.device:
        """Return where the network lies and the kernel is evaluated."""
        return self._like.device

    @in_any_mode
    def block(self, queries: Tensor, inputs: Tensor) -> Float64[Tensor, "mr nr"]:
        """Return the kernel between two batches, in float64, on the device of the inputs."""
        self.check("queries", queries)
        self.check("inputs", inputs)
        shape = (len(queries) * self._rows_per_input, len(inputs) * self._rows_per_input)
        work = self._work(8 * math.prod(shape), inputs.device)
        kernel = torch.empty(shape, dtype=torch.float64, device=inputs.device)
        for i, j, tile in self.tiles(queries, inputs, work):
            kernel[i, j] = tile
        return kernel

    @in_any_mode
    def diagonal(self, inputs: Tensor) -> Float64[Tensor, " nr"]:
        """Return k(x, x)_oo for every input and output, in float64, on the device of the inputs."""
        self.check("inputs", inputs)
        squares = torch.empty(len(inputs), self._rows_per_input, dtype=torch.float64, device=inputs.device)
        if not len(inputs):
            return squares.flatten()
        cast_inputs = self._cast(inputs)
        extract = self._extract(cast_inputs)
        size = max(1, self._room // (4 * (extract.bytes_working + 3 * extract.bytes_kept)))
        for rows in with_progress(list(blocks(len(cast_inputs), size)), what="gradients"):
            layers = extract(cast_inputs[rows])
            every = slice(0, rows.stop - rows.start)
            squares[rows] = torch.stack([layer.squares(every) for layer in layers]).sum(0).to(squares)
        return squares.flatten()

    @in_any_mode
    def features(self, inputs: Tensor) -> NetworkFeatures:
        """Return the gradient features of a few inputs, which pass through the network together."""
        cast_inputs = self._cast(inputs)
        layers = self._extract(cast_inputs)(cast_inputs)
        features = NetworkFeatures(layers, len(inputs))
        features.fill(slice(0, len(inputs)), layers)
        return features

    def row_numbers(self, inputs: Tensor) -> int | None:
        del inputs  # that many whatever they are
        sizes = [weight.numel() for weight in self.weights.values()]
        if self.reading == "trace":
            return None
        return sum(sizes) if self.projection is None else self.projection.width(sizes)

    @in_any_mode
    def rows(self, inputs: Tensor) -> Float64[Tensor, "nr d"]:
        """Return the rows of the Jacobian, whose products are the kernel."""
        self.check("inputs", inputs)
        whole = Empirical(
            self.module, self.reading, parameters=self.patterns, method="jacobian", projection=self.projection
        )
        whole._widths = self._widths
        cast_inputs, height = self._cast(inputs), self._rows_per_input
        numbers = self.row_numbers(inputs)
        assert numbers is not None, "a kernel of one number for several outputs has no rows"
        made = torch.empty(len(inputs), height, numbers, dtype=torch.float64, device=inputs.device)
        if not len(inputs):
            return made.flatten(0, 1)
        extract = whole._extract(cast_inputs)
        size = max(1, min(self._room // 4, CHUNK) // (extract.bytes_working + extract.bytes_kept))
        for part in with_progress(list(blocks(len(inputs), size)), what="gradients"):
            start = 0
            for layer in extract(cast_inputs[part]):
                (values,) = layer.tensors
                made[part, :, start : start + values.shape[2]] = values.to(made)
                start += values.shape[2]
        check_finite("kernel rows", made.flatten(1))
        return made.flatten(0, 1)

    def tiles(self, queries: Tensor, inputs: Tensor | None, work: TileWork) -> Iterator[Tile]:
        """Return tiles of the kernel, by as few passes as the memory allows."""
        if not len(queries) or (inputs is not None and not len(inputs)):
            return iter(())
        same = work.device == self.device
        room = work.budget - work.result if same else memory_budget(None, device=self.device)
        cast_queries = self._cast(queries)
        cast_inputs = None if inputs is None else self._cast(inputs)
        for cast, original in ((cast_queries, queries), (cast_inputs, inputs)):
            if cast is not None and cast is not original:
                room -= cast.numel() * cast.itemsize
        extract, keep = self._extract(cast_queries), room // KEPT
        if self._budget is not None:
            room = min(room, feature_bytes(extract, self.device).share(self._budget))
        return Panels(
            extract, cast_queries, cast_inputs, work=work, room=room, keep=min(keep, room), shelf=self._shelf
        ).tiles()

    def within(self, budget: int) -> "Empirical":
        bounded = copy(self)
        bounded._budget = budget
        return bounded

    @in_any_mode
    def feature_bytes(self, inputs: Tensor) -> FeatureBytes | None:
        return feature_bytes(self._extract(self._cast(inputs)), self.device) if len(inputs) else None

    @in_any_mode
    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless the network is a function of each of these inputs alone.

        Raises:
            DataError: NaN or infinity.
            ShapeError: inputs that the module does not take, or outputs that are not (n, k).
            OptionError: dropout or batch statistics at work, outputs that are no real numbers.
        """
        if inputs.ndim < 2:
            raise ShapeError(
                f"`{name}` must have shape (rows, features…); got {tuple(inputs.shape)}. A single "
                "feature needs a second axis of length 1."
            )
        check_finite(name, inputs)
        check_whole_kept(name, inputs, self.dtype)
        if not len(inputs):
            return
        if self._key(inputs) not in self._checked:
            with spinner("looking at the network"):
                self._check_sample(name, inputs)
        content = fingerprint(inputs)
        if content not in self._passed:
            self._check_rows(inputs)
            self._passed.add(content)

    def _check_sample(self, name: str, inputs: Tensor) -> None:
        """Raise unless the network is a function of an input, by a look at three of them."""
        sample = self._cast(sample_rows(inputs)).clone()
        check_takes(self.module, sample, name=name, as_given=True)
        width = output_count(self.module, sample)
        evaluate(self.module, self.weights, sample)
        check_unwritten(sample, self._cast(sample_rows(inputs)))
        check_function(self.module, sample)
        check_differentiable(self.module, self.weights, sample, original=self._original)
        if self._widths - {width}:
            raise ShapeError(
                f"`module` must have as many outputs for all inputs; it has {self.width} for others and "
                f"{width} for `{name}`."
            )
        self._widths.add(width)
        self._checked.add(self._key(inputs))

    def _check_rows(self, inputs: Tensor) -> None:
        """Raise unless no output depends on another input; note layers that some inputs use otherwise."""
        layers = self._extract(self._cast(inputs)).layers  # of others whole Jacobians are taken
        misused: set[str] = set()
        for rows in with_progress(list(self._chunks(inputs, passes=PASSES)), what="checking the network"):
            batch = self._cast(inputs[rows]).clone()
            misused |= check_batch(self.module, layers, batch, outputs=self.width, first=rows.start)
            check_unwritten(batch, self._cast(inputs[rows]))
        if misused:
            # What was made of these layers before is of another kind than what is made from now on.
            self._without |= misused
            self._extracts.clear()
            self._shelf.clear()

    @in_any_mode
    def initial(self, inputs: Tensor) -> Float64[Tensor, "n k"]:
        """Return the network's outputs, on its device.

        Raises:
            DataError: they are not finite; names the first such row.
        """
        self.check("inputs", inputs)
        empty = torch.empty(0, self.width, dtype=torch.float64, device=self.device)
        chunks = [
            evaluate(self.module, self.weights, self._cast(inputs[rows])).double()
            for rows in self._chunks(inputs, passes=1)
        ]
        outputs = torch.cat([empty, *chunks])
        check_finite("module outputs", outputs)
        return outputs

    @in_any_mode
    def pull_back(self, inputs: Tensor, dual: Tensor) -> Parameters:
        """Return J(inputs)ᵀ dual by parameter, in float64: the change of weights along a change of outputs.

        Args:
            dual: (n, k), or (n k, 1) in the order of the full kernel's rows.

        Raises:
            ShapeError: another shape.

        Cost:
            a forward and a backward pass.
        """
        self.check("inputs", inputs)
        n, k = len(inputs), self.width
        if tuple(dual.shape) not in ((n, k), (n * k, 1)):
            raise ShapeError(
                f"`dual` must have shape (n, k) = {(n, k)} or (n k, 1) = {(n * k, 1)}; "
                f"got {tuple(dual.shape)}."
            )
        dual = dual.reshape(n, k).to(self.device)
        chunks = ((self._cast(inputs[rows]), dual[rows]) for rows in self._chunks(inputs, passes=PASSES))
        return pull_back(self.module, self.weights, chunks)

    @in_any_mode
    def push_forward(self, inputs: Tensor, tangents: Mapping[str, Tensor]) -> Float64[Tensor, "n k"]:
        """Return J(inputs) tangents: how the outputs change with the weights, to first order.

        Args:
            tangents: a change of every parameter of the kernel, by name.

        Raises:
            ShapeError: parameters that are not those of the kernel.

        Cost:
            a forward and two backward passes: Jᵀu is linear in u, and its derivative along the
            tangents is wanted. More modules support it than have forward derivatives.
        """
        self.check("inputs", inputs)
        shapes = {name: tuple(weight.shape) for name, weight in self.weights.items()}
        if {name: tuple(weight.shape) for name, weight in tangents.items()} != shapes:
            raise ShapeError(
                "`tangents` must have the names and shapes of the kernel's parameters, such as "
                f"{next(iter(shapes.items()))}; got {list(tangents)[:3]}."
            )
        empty = torch.empty(0, self.width, dtype=torch.float64, device=self.device)
        changes = [
            push_forward(self.module, self.weights, self._cast(inputs[rows]), tangents)
            for rows in self._chunks(inputs, passes=2 * PASSES)
        ]
        return torch.cat([empty, *changes])

    def distortion(self, inputs: Tensor, *, sample: int = 100, seed: int = 0) -> Distortion | None:
        """Return how far this kernel is from the full one without projection; None where it is that.

        Args:
            sample: how many of the inputs it is measured on, drawn with `seed`; all if there are fewer.

        Cost:
            both Gram matrices of the sample, and the eigenvalues of two of side `sample` · k.
        """
        check_count("sample", sample)
        check_seed(seed)
        self.check("inputs", inputs)
        sizes = [weight.numel() for weight in self.weights.values()]
        lossless = self.projection is None or self.projection.exact(sizes)
        if lossless and (self.reading == "full" or self.width == 1):
            return None
        count = min(sample, len(inputs))
        chosen = np.random.default_rng(seed).choice(len(inputs), count, replace=False)
        points = inputs[torch.from_numpy(np.sort(chosen)).to(inputs.device)]
        exact = Empirical(self.module, parameters=self.patterns, method=self.method)
        grams = [gram(kernel, points, memory=self.memory) for kernel in (self, exact)]
        return distortion(*grams, examples=count, seed=seed)

    @property
    def record(self) -> dict[str, Any]:
        """Return which network, at which weights, and how its outputs were combined; JSON-like."""
        state = {key: array for key, array in self.module.state_dict().items() if isinstance(array, Tensor)}
        return {
            "name": "empirical",
            "module": type(self.module).__name__,
            "outputs": self.reading,
            "weights": "trained" if self.is_trained else "initial",
            "parameters": sum(weight.numel() for weight in self.weights.values()),
            **({"of_parameters": sum(self._trained.values())} if self.part else {}),
            "patterns": None if self.patterns is None else list(self.patterns),
            "dtype": dtype_name(self.dtype),
            "method": self.method,
            "projection": None if self.projection is None else self.projection.record,
            # Weights alone do not tell ReLU from tanh; the text that the module prints as does.
            "fingerprint": fingerprint(repr(self.module), list(state), *state.values(), list(self.weights)),
        }

    def __repr__(self) -> str:
        count = sum(weight.numel() for weight in self.weights.values())
        weights = "trained" if self.is_trained else "initial"
        module = type(self.module).__name__
        return f"Empirical({module}, {self.reading!r}, {weights} weights, {count} parameters)"

    @property
    def _like(self) -> Tensor:
        return next(iter(self.weights.values()))

    @property
    def _room(self) -> int:
        """Return the bytes that passes may take."""
        asked_for = memory_budget(self.memory, device=self.device)
        return asked_for if self._budget is None else min(asked_for, self._budget // FEATURES)

    @property
    def _rows_per_input(self) -> int:
        return self.outputs or 1

    def _work(self, result: int, device: torch.device) -> TileWork:
        budget = memory_budget(self.memory, device=device)
        return TileWork(dtype=self.dtype, device=device, budget=budget, result=result, block=None)

    def _cast(self, inputs: Tensor) -> Tensor:
        """Return inputs on the device and in the dtype of the module; whole numbers keep their dtype."""
        dtype = self.dtype if inputs.dtype.is_floating_point else inputs.dtype
        return inputs.detach().to(self.device, dtype)

    def _key(self, inputs: Tensor) -> tuple[Any, ...]:
        return *inputs.shape[1:], inputs.dtype.is_floating_point

    def _extract(self, inputs: Tensor) -> Extract:
        """Return what makes features of inputs of this shape, new or from before."""
        key = self._key(inputs)
        if key not in self._extracts:
            eye = torch.eye(self.width, dtype=self.dtype, device=self.device)
            combinations = {
                "full": eye,
                "sum": eye.sum(0, keepdim=True) / self.width**0.5,
                "trace": eye / self.width**0.5,
            }[self.reading]
            network = NetworkOutputs(self.module, self.weights, combinations, self.reading == "trace")
            with spinner("looking at the network"):
                self._extracts[key] = Extract(
                    network,
                    method=self.method,
                    projection=self.projection,
                    sample=sample_rows(inputs),
                    without=self._without,
                )
        return self._extracts[key]

    def _chunks(self, inputs: Tensor, *, passes: int) -> Iterator[slice]:
        """Yield slices of inputs whose passes fit the memory."""
        bytes_of_row = bytes_per_row(self.module, self._cast(inputs[:2])) if len(inputs) else 1
        return blocks(len(inputs), max(1, self._room // (2 * passes * bytes_of_row)))


def _check_weights(module: nn.Module) -> None:
    """Raise unless all weights are finite."""
    # Buffers may be infinite, as masks are; outputs are checked themselves.
    bad = [name for name, weight in module.named_parameters() if not bool(weight.detach().isfinite().all())]
    if bad:
        raise DataError(
            f"`module` must have finite weights; {bad[0]!r} holds NaN or infinity (and {len(bad) - 1} "
            "others). Its training diverged, or its file is damaged."
        )
