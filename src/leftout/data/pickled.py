"""A reader of pickled plain data that never runs the pickle.

A pickle is a program for a small stack machine, and two of its instructions can call anything. This
machine knows only those that build dictionaries, lists, texts, bytes and numbers. Of the names that a
pickle may import, it knows only those that numpy writes for an array of bytes, and puts an inert record in
the place of the function. Anything else is refused.

Source: the opcode table of the standard library's `pickletools`, which also decodes arguments.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leftout.core.errors import DataError

MARK = object()

CORES = ("numpy.core.multiarray", "numpy._core.multiarray")
NUMERICS = ("numpy.core.numeric", "numpy._core.numeric")
NAMES = {(module, "_reconstruct"): "array" for module in CORES}
NAMES |= {(module, "_frombuffer"): "buffer" for module in NUMERICS}
NAMES |= {("numpy", "ndarray"): "type", ("numpy", "dtype"): "dtype", ("_codecs", "encode"): "bytes"}

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
LITERALS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "BINFLOAT", "FLOAT"}
LITERALS |= {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "BINUNICODE8"}
LITERALS |= {"SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
PUTS, GETS = {"PUT", "BINPUT", "LONG_BINPUT"}, {"GET", "BINGET", "LONG_BINGET"}


@dataclass
class Inert:
    """What a name in a pickle became: its kind, the arguments it was called with, its state."""

    kind: str
    arguments: Any = None
    state: Any = None


@dataclass
class PickleMachine:
    """The stack and the memo of one pickle."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def pop_to_mark(self) -> list[Any]:
        """Remove the topmost mark and all above it, and return the latter."""
        place = max(i for i, held in enumerate(self.stack) if held is MARK)
        above = self.stack[place + 1 :]
        del self.stack[place:]
        return above

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        if name in LITERALS:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in EMPTY:
            self.stack.append(EMPTY[name]())
        elif name in PUTS:
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in GETS:
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.stack.append(MARK)
        elif name in TUPLES:
            members = [self.stack.pop() for _ in range(TUPLES[name])]
            self.stack.append(tuple(reversed(members)))
        elif name not in ("PROTO", "FRAME"):
            self.build(name, argument)

    def build(self, name: str, argument: Any) -> None:
        """Carry out an instruction that makes a container, or an inert record."""
        match name:
            case "TUPLE":
                self.stack.append(tuple(self.pop_to_mark()))
            case "LIST":
                self.stack.append(self.pop_to_mark())
            case "DICT":
                self.stack.append(_dict_of_pairs(self.pop_to_mark()))
            case "APPEND":
                member = self.stack.pop()
                _of_type(list, self.stack[-1]).append(member)
            case "APPENDS":
                members = self.pop_to_mark()
                _of_type(list, self.stack[-1]).extend(members)
            case "SETITEM":
                member, key = self.stack.pop(), self.stack.pop()
                _of_type(dict, self.stack[-1]).update(_dict_of_pairs([key, member]))
            case "SETITEMS":
                members = self.pop_to_mark()
                _of_type(dict, self.stack[-1]).update(_dict_of_pairs(members))
            case "GLOBAL":
                self.stack.append(_inert_name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = self.stack.pop(), self.stack.pop()
                self.stack.append(_inert_name(module, attribute))
            case "REDUCE":
                arguments, function = self.stack.pop(), _of_type(Inert, self.stack.pop())
                self.stack.append(_call_inert(function, _of_type(tuple, arguments)))
            case "BUILD":
                state = self.stack.pop()
                _of_type(Inert, self.stack[-1]).state = state
            case _:
                raise ForbiddenError(f"the instruction {name}")


class ForbiddenError(DataError):
    """A pickle asks for more than plain data."""


def plain_pickle(content: bytes, name: str) -> dict[str, Any]:
    """Return the dictionary of a pickle, arrays of bytes as numpy arrays, nothing executed.

    Keys are texts, whether the pickle was written by Python 2 or 3.

    Raises:
        DataError: truncated or damaged; no dictionary; anything in it that is not plain data.

    Cost:
        About 2 µs an instruction; arrays are one instruction.
    """
    machine = PickleMachine()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                break
            machine.step(opcode.name, argument)
        (top,) = machine.stack
        return {
            key: _array(member) if isinstance(member, Inert) else member
            for key, member in _of_type(dict, top).items()
        }
    except ForbiddenError as error:
        raise DataError(
            f"`{name}` must be a pickle of plain data (dictionaries, lists, texts, numbers, arrays "
            f"of bytes); it asks for {error}, which could run code, and was not run. Use files "
            "from the original source, or convert them to .npz."
        ) from error
    # Any other failure (an empty stack, a missing memo, an unhashable key) means a damaged pickle.
    except Exception as error:
        raise DataError(
            f"`{name}` must be a whole pickle of plain data; it is damaged, truncated or none at "
            f"all ({type(error).__name__}: {error}). Fetch it again."
        ) from error


def _of_type(kind: type, operand: Any) -> Any:
    if type(operand) is not kind:
        raise TypeError(f"{type(operand).__name__} where {kind.__name__} belongs")
    return operand


def _dict_of_pairs(flat: list[Any]) -> dict[Any, Any]:
    # Texts only, and as texts: a key of deeply nested tuples would overflow the stack when hashed.
    return dict(zip(map(_text, flat[::2]), flat[1::2], strict=True))


def _inert_name(module: Any, attribute: Any) -> Inert:
    kind = NAMES.get((_of_type(str, module), _of_type(str, attribute)))
    if kind is None:
        raise ForbiddenError(f"`{module}.{attribute}`")
    return Inert(kind)


def _call_inert(name: Inert, arguments: tuple[Any, ...]) -> Any:
    """Return what a call stands for: bytes for an encoding, else a record of the call."""
    if name.arguments is not None or name.kind == "type":
        raise ForbiddenError("a call of something that is no function")
    if name.kind == "bytes":
        text, encoding = arguments
        if encoding not in ("latin1", "latin-1"):
            raise ForbiddenError(f"the encoding {encoding!r}")
        return text.encode("latin-1")
    return Inert(name.kind, arguments)


def _array(record: Inert) -> np.ndarray:
    """Return the array that a numpy pickle describes; only unsigned bytes in C order."""
    if record.kind == "array":
        _, shape, dtype, fortran, content = record.state
    elif record.kind == "buffer":
        content, dtype, shape, order = record.arguments
        fortran = order != "C"
    else:
        raise ForbiddenError(f"a value of kind {record.kind}")
    if isinstance(content, str):  # as Python 2 wrote bytes
        content = content.encode("latin-1")
    code = _of_type(Inert, dtype).arguments[0]
    if _text(code) not in ("u1", "|u1") or fortran:
        raise ForbiddenError(f"an array of type {code!r}, not of bytes in C order")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _text(key: Any) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else _of_type(str, key)
