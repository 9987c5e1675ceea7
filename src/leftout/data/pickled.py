"""How is a pickle of plain data read without running it?

A pickle is a program for a small stack machine, and two of its instructions can call anything. This
machine knows only those that build dictionaries, lists, texts, bytes and numbers; where the program
asks for a name, it may ask for the few by which numpy spells "an array of bytes", and gets an
inert record, never the function of that name. Anything else is refused.

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

    def popped_mark(self) -> list[Any]:
        """Remove and return all above the topmost mark."""
        place = max(i for i, value in enumerate(self.stack) if value is MARK)
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

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
            values = [self.stack.pop() for _ in range(TUPLES[name])]
            self.stack.append(tuple(reversed(values)))
        elif name not in ("PROTO", "FRAME"):
            self.build(name, argument)

    def build(self, name: str, argument: Any) -> None:
        """Carry out an instruction that makes a container, or an inert record."""
        match name:
            case "TUPLE":
                self.stack.append(tuple(self.popped_mark()))
            case "LIST":
                self.stack.append(self.popped_mark())
            case "DICT":
                self.stack.append(_paired(self.popped_mark()))
            case "APPEND":
                value = self.stack.pop()
                _of_type(list, self.stack[-1]).append(value)
            case "APPENDS":
                values = self.popped_mark()
                _of_type(list, self.stack[-1]).extend(values)
            case "SETITEM":
                value, key = self.stack.pop(), self.stack.pop()
                _of_type(dict, self.stack[-1]).update(_paired([key, value]))
            case "SETITEMS":
                values = self.popped_mark()
                _of_type(dict, self.stack[-1]).update(_paired(values))
            case "GLOBAL":
                self.stack.append(_named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = self.stack.pop(), self.stack.pop()
                self.stack.append(_named(module, attribute))
            case "REDUCE":
                arguments, called = self.stack.pop(), _of_type(Inert, self.stack.pop())
                self.stack.append(_called(called, _of_type(tuple, arguments)))
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
        (value,) = machine.stack
        return {key: _plain(item) for key, item in _of_type(dict, value).items()}
    except ForbiddenError as error:
        raise DataError(
            f"`{name}` must be a pickle of plain data (dictionaries, lists, texts, numbers, arrays "
            f"of bytes); it asks for {error}, which could run code, and was not run. Use files "
            "from the original source, or convert them to .npz."
        ) from error
    # Whatever the machine trips over (an empty stack, a missing memo, an unhashable key), the
    # program is no pickle that a writer of plain data makes.
    except Exception as error:
        raise DataError(
            f"`{name}` must be a whole pickle of plain data; it is damaged, truncated or none at "
            f"all ({type(error).__name__}: {error}). Fetch it again."
        ) from error


def _of_type(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
    return value


def _paired(values: list[Any]) -> dict[Any, Any]:
    # Texts only, and as texts: a key of deeply nested tuples would overflow the stack when hashed.
    return dict(zip(map(_text, values[::2]), values[1::2], strict=True))


def _named(module: Any, attribute: Any) -> Inert:
    kind = NAMES.get((_of_type(str, module), _of_type(str, attribute)))
    if kind is None:
        raise ForbiddenError(f"`{module}.{attribute}`")
    return Inert(kind)


def _called(name: Inert, arguments: tuple[Any, ...]) -> Any:
    """Return what a call stands for: bytes for an encoding, else a record of the call."""
    if name.arguments is not None or name.kind == "type":
        raise ForbiddenError("a call of something that is no function")
    if name.kind == "bytes":
        text, encoding = arguments
        if encoding not in ("latin1", "latin-1"):
            raise ForbiddenError(f"the encoding {encoding!r}")
        return text.encode("latin-1")
    return Inert(name.kind, arguments)


def _plain(value: Any) -> Any:
    return _array(value) if isinstance(value, Inert) else value


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
