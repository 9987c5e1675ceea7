"""The compiled code of `fused.c`: whether it is there, and which instructions of the processor it uses.

It is built when leftout is installed where there is a C compiler (`hatch_build.py`), or later by
`python -m leftout.kernels.fused.build`. Without it, on a GPU, and where derivatives are recorded, torch
computes the same.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

from leftout.core.errors import OptionError
from leftout.kernels.fused import build

Code = Literal["torch", "baseline", "avx2", "avx512"]
"""What computes kernels: torch, or C with what every processor of its kind has, or with more."""

LINE = 64
"""Bytes of the right images that are computed together, LINE of fused.c."""

SETS: tuple[Code, ...] = ("baseline", "avx2", "avx512")
"""In the order of fused.c, the fastest last."""

_wanted: ContextVar[Code | None] = ContextVar("code of kernels", default=None)


class Instruction(ctypes.Structure):
    """`Instruction` of fused.c."""

    _fields_ = (
        ("operation", ctypes.c_int32),
        ("slot", ctypes.c_int32),
        ("size", ctypes.c_int32 * 2),
        ("stride", ctypes.c_int32 * 2),
        ("before", ctypes.c_int32 * 2),
        ("sides_in", ctypes.c_int32 * 2),
        ("sides_out", ctypes.c_int32 * 2),
        ("steps_in", ctypes.c_int32 * 2),
        ("steps_out", ctypes.c_int32 * 2),
        ("rectify", ctypes.c_int32),
        ("roots", ctypes.c_int32),
        ("share", ctypes.c_double),
        ("bias", ctypes.c_double),
        ("slope", ctypes.c_double),
    )


class ProgramRecord(ctypes.Structure):
    """`Program` of fused.c."""

    _fields_ = (
        ("instructions", ctypes.POINTER(Instruction)),
        ("count", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("positions", ctypes.c_int64),
        ("tangent", ctypes.c_int64),
    )


class StackRecord(ctypes.Structure):
    """`Stack` of fused.c."""

    _fields_ = (
        ("depth", ctypes.c_int64),
        ("biased", ctypes.c_int64),
        ("tangent", ctypes.c_int64),
        ("ends_dense", ctypes.c_int64),
        ("features", ctypes.c_int64),
        ("slopes", ctypes.POINTER(ctypes.c_double)),
    )


@contextmanager
def use_code(code: Code) -> Iterator[None]:
    """Compute kernels by torch, or by C with these instructions of the processor, inside a `with` statement.

    Values differ by roundings. Without it C is used where it was built, with the fastest instructions.

    Args:
        code: "torch"; or "baseline", "avx2" or "avx512".

    Raises:
        OptionError: an unknown name, or what was not built or this processor does not have.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> x = torch.eye(2, dtype=torch.float64)
        >>> with lo.kernels.use_code("torch"):
        ...     lo.kernels.ReLU(1).block(x, x)
        tensor([[2.0000, 0.3183],
                [0.3183, 2.0000]], dtype=torch.float64)
    """
    if code not in get_args(Code):
        raise OptionError(f"`code` must be one of {', '.join(map(repr, get_args(Code)))}; got {code!r}.")
    if code != "torch" and code not in available_sets():
        why = why_not_built() or f"this processor has {', '.join(map(repr, available_sets()))}."
        raise OptionError(f"`code` {code!r} cannot run here: {why}")
    token = _wanted.set(code)
    try:
        yield
    finally:
        _wanted.reset(token)


def chosen_code() -> Code:
    """Return what computes kernels on the CPU."""
    return _wanted.get() or (*("torch",), *available_sets())[-1]


def compiled_set(*inputs: Tensor) -> Code | None:
    """Return the instructions of the processor with which C computes the kernel of these inputs.

    None where torch does: no library, another device or type, or derivatives to be recorded.
    """
    fits = all(
        rows.device.type == "cpu"
        and rows.dtype in (torch.float32, torch.float64)
        and not (torch.is_grad_enabled() and rows.requires_grad)
        for rows in inputs
    )
    code = chosen_code()
    return code if fits and code != "torch" else None


def available_sets() -> tuple[Code, ...]:
    """Return the sets of instructions that C can use here, the fastest last; () without a library."""
    library = load_library()
    return tuple(
        code for place, code in enumerate(SETS) if library is not None and library.leftout_runs(place)
    )


def why_not_built() -> str:
    """Return why there is no compiled code and what to do; empty where there is."""
    if load_library() is not None:
        return ""
    if build.LIBRARY.is_file():
        why = f"{build.LIBRARY.name} does not load, or is of another version of its source"
    else:
        why = "no C compiler was found at installation"
    return f"{why}: `python -m leftout.kernels.fused.build` compiles it."


def describe_code() -> str:
    """Return in words what computes kernels on the CPU, and why it is not C where it is not."""
    code = chosen_code()
    if code != "torch":
        return f"C ({code}), on GPUs by torch."
    return f"torch. C would be faster; {why_not_built()}" if why_not_built() else "torch, as was asked."


@lru_cache(maxsize=1)
def load_library() -> ctypes.CDLL | None:
    """Return the compiled code; None without any, or with that of another version of its source."""
    try:
        library = ctypes.CDLL(str(build.LIBRARY))
        library.leftout_source.restype = ctypes.c_char_p
        same = library.leftout_source().decode() == build.source_digest()
    except (OSError, AttributeError):
        return None
    if not same:
        return None
    pointer, whole, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    program = ctypes.POINTER(ProgramRecord)
    library.leftout_record_bytes.restype = whole
    library.leftout_deviations.argtypes = (number, number, program, whole, pointer, pointer)
    library.leftout_spread.argtypes = (number, whole, whole, pointer, pointer)
    library.leftout_spread.restype = None
    library.leftout_pairs.argtypes = (number, number, program, number, *(pointer,) * 2, whole)
    library.leftout_pairs.argtypes += (pointer,) * 5
    library.leftout_rows.argtypes = (number, number, ctypes.POINTER(StackRecord), *(whole,) * 3, number)
    library.leftout_rows.argtypes += (*(pointer,) * 6, whole, pointer)
    library.leftout_rows.restype = None
    records = (Instruction, ProgramRecord, StackRecord)
    sizes = [library.leftout_record_bytes(place) for place in range(len(records))]
    return library if sizes == [ctypes.sizeof(record) for record in records] else None
