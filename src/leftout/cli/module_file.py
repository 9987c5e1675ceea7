"""The user's network: `FILE.py:FUNCTION` builds it, a file of weights fills it.

Weights are read without running code: `.safetensors`, or what `torch.save` wrote of a state dict.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from leftout.core.errors import DataError, OptionError
from leftout.core.wording import exception_text, name_list
from leftout.data.data_name import check_file
from leftout.data.module import returned_by

NAMES_SHOWN = 3
"""Names of a list that a message gives."""


def network(source: str, weights: str | None = None) -> nn.Module:
    """Return the module that a user's function builds, with the weights of a file, in eval mode.

    Args:
        source: "FILE.py:FUNCTION"; the function takes nothing and returns an nn.Module.
        weights: FILE.safetensors, or a state dict saved by torch.save, alone or in a checkpoint; None keeps
            what was built.

    Raises:
        OptionError: not of the form FILE.py:FUNCTION.
        DataError: no such file or function, no module came back, or weights that are damaged or do
            not fit; names that are missing, left over or of another shape are listed.
    """
    if ".py:" not in source:
        raise OptionError(f"--model must be FILE.py:FUNCTION; got {source!r}.")
    module = returned_by(source, "an nn.Module")
    if not isinstance(module, nn.Module):
        raise DataError(f"`{source}` must return an nn.Module; got {type(module).__name__}.")
    if weights is not None:
        _fill(module, read_weights(Path(weights).expanduser()), weights)
    # Dropout and batch statistics are no functions of an input: trained networks are asked in eval mode.
    return module.eval()


def read_weights(path: Path) -> dict[str, Any]:
    """Return tensors by name: of a state dict, or of the only one in a checkpoint.

    Raises:
        DataError: missing, damaged, or no mapping of names to tensors; a checkpoint with several of them.
    """
    check_file(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # whatever a reader of foreign bytes may stumble over
        raise DataError(
            f"`{path}` must hold weights, as .safetensors or as torch.save(module.state_dict(), …) "
            f"writes them: tensors by name, no pickled module; reading it raised {type(error).__name__}."
        ) from error
    if _is_state_dict(weights):
        return dict(weights)
    # A checkpoint holds optimiser, epoch and others beside it.
    inside = [key for key in weights if _is_state_dict(weights[key])] if isinstance(weights, dict) else []
    if len(inside) == 1:
        return dict(weights[inside[0]])
    if inside:
        raise DataError(
            f"`{path}` must hold one set of weights; it holds {name_list(map(str, inside), NAMES_SHOWN)}. "
            "Save one of them: torch.save(checkpoint[…], …)."
        )
    raise DataError(
        f"`{path}` must hold tensors by name, as module.state_dict() has them; got "
        f"{type(weights).__name__}. Save the state dict itself."
    )


def _is_state_dict(weights: Any) -> bool:
    """Return whether an object is a mapping of names to tensors; a module may add extra state."""
    return (
        isinstance(weights, dict)
        and any(isinstance(member, Tensor) for member in weights.values())
        and all(
            isinstance(name, str) and (isinstance(member, Tensor) or name.endswith("_extra_state"))
            for name, member in weights.items()
        )
    )


def _fill(module: nn.Module, weights: dict[str, Any], source: str) -> None:
    """Load what load_state_dict accepts, and a shared tensor under any of its names.

    Raises:
        DataError: names that are missing, left over, or of another shape or type.
    """
    state = module.state_dict()
    weights = _without_wrappers(weights, state)
    shapes = {
        name: f"{name} {tuple(weights[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in state.items()
        if _both_tensors(weights.get(name), tensor) and not _same_shape(weights[name], tensor)
    }
    types = {
        name: f"{name} {weights[name].dtype}"
        for name, tensor in state.items()
        if _both_tensors(weights.get(name), tensor)
        and weights[name].is_floating_point() != tensor.is_floating_point()
    }
    fitting = {name: tensor for name, tensor in weights.items() if name not in shapes | types}
    shared = _shared_names(module)
    try:
        # A module may read names of older versions of itself: it says what is missing and what is left over.
        loaded = module.load_state_dict(fitting, strict=False)
    except Exception as error:
        raise DataError(
            f"`{source}` must hold the weights of the module that --model builds; loading them raised "
            f"{exception_text(error)}"
        ) from error
    missing = [
        name
        for name in loaded.missing_keys
        if name not in shapes | types
        and not name.endswith("num_batches_tracked")  # counts batches of a training that is over
        and not any(alias in fitting for alias in shared.get(name, ()))
    ]
    problems = {
        "lacks": missing,
        "has besides": [name for name in loaded.unexpected_keys if name not in shapes | types],
        "has in another shape": list(shapes.values()),
        "has in another type": list(types.values()),
        "has different numbers for": [
            f"{name} and {alias}, which are one"
            for name, aliases in shared.items()
            for alias in aliases
            if name < alias
            and name in fitting
            and alias in fitting
            and not torch.equal(fitting[name], fitting[alias])
        ],
    }
    faults = [f"{verb} {name_list(names, NAMES_SHOWN)}" for verb, names in problems.items() if names]
    if faults:
        raise DataError(
            f"`{source}` must hold the weights of the module that --model builds; it {', '.join(faults)}."
        )


def _without_wrappers(weights: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """Return weights by the names that they have without torch.compile and DataParallel around the module."""
    names = {name: name if name in state else name.replace("_orig_mod.", "") for name in weights}
    while names and all(name.startswith("module.") and name not in state for name in names.values()):
        names = {key: name.removeprefix("module.") for key, name in names.items()}
    if len(set(names.values())) < len(names):  # two of them would be one
        return weights
    return {name: weights[key] for key, name in names.items()}


def _both_tensors(weight: Any, tensor: Any) -> bool:
    return isinstance(weight, Tensor) and isinstance(tensor, Tensor) and not is_lazy(tensor)


def _same_shape(weight: Tensor, tensor: Tensor) -> bool:
    # load_state_dict takes one number on an axis for a number without.
    return weight.shape == tensor.shape or (tensor.ndim == 0 and tuple(weight.shape) == (1,))


def _shared_names(module: nn.Module) -> dict[str, list[str]]:
    """Return for each name of a tensor that has several the others."""
    names: dict[int, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return {
        name: [alias for alias in aliases if alias != name]
        for aliases in names.values()
        if len(aliases) > 1
        for name in aliases
    }
