"""The user's network: `FILE.py:FUNCTION` builds it, a file of weights fills it.

Weights are read without running code: `.safetensors`, or what `torch.save` wrote of a state dict.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from leftout.core.errors import DataError, OptionError
from leftout.core.wording import name_list
from leftout.data.data_name import check_file
from leftout.data.module import returned_by

NAMES_SHOWN = 3
"""Names of a list that a message gives."""


def network(source: str, weights: str | None = None) -> nn.Module:
    """Return the module that a user's function builds, with the weights of a file, in eval mode.

    Args:
        source: "FILE.py:FUNCTION"; the function takes nothing and returns an nn.Module.
        weights: FILE.safetensors, or a state dict saved by torch.save; None keeps what was built.

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


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return tensors by name.

    Raises:
        DataError: missing, damaged, or no mapping of names to tensors.
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
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise DataError(
            f"`{path}` must hold tensors by name, as module.state_dict() has them; got "
            f"{type(weights).__name__}. Save the state dict itself."
        )
    return weights


def _fill(module: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    state = module.state_dict()
    problems = {
        "lacks": [name for name in state if name not in weights],
        "has besides": [name for name in weights if name not in state],
        "has in another shape": [
            f"{name} {tuple(weights[name].shape)} for {tuple(state[name].shape)}"
            for name in state
            if name in weights and weights[name].shape != state[name].shape
        ],
        "has in another type": [
            f"{name} {weights[name].dtype}"
            for name in state
            if name in weights and weights[name].is_floating_point() != state[name].is_floating_point()
        ],
    }
    faults = [f"{verb} {name_list(names, NAMES_SHOWN)}" for verb, names in problems.items() if names]
    if faults:
        raise DataError(
            f"`{source}` must hold the weights of the module that --model builds; it {', '.join(faults)}."
        )
    module.load_state_dict(weights)
