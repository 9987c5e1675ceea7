"""The bytes of a .npy file, or of a member of a .npz, as an array. Pickled objects are refused."""

import math
import warnings
from io import BytesIO

import numpy as np
from numpy.lib import format as npy

from leftout.core.errors import DataError
from leftout.data.zipped import reason

LONGEST_HEADER = 10_000


def array_of_bytes(content: bytes, name: str) -> np.ndarray:
    """Return the array, after checking that its bytes are as many as its header says.

    Args:
        name: what messages call it, in backquotes.

    Raises:
        DataError: no array, a damaged one, or pickled objects.
    """
    stream = BytesIO(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            version = npy.read_magic(stream)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = header(stream, max_header_size=LONGEST_HEADER)
            if dtype.hasobject:
                raise DataError(
                    f"{name} must hold numbers or texts; it holds pickled "
                    "objects, which could run code. Save it with a plain dtype."
                )
            expected = math.prod(shape) * dtype.itemsize
            if expected != len(content) - stream.tell():
                raise DataError(
                    f"{name} must hold {expected} bytes for shape {shape} "
                    f"of {dtype}; got {len(content) - stream.tell()}. It is damaged."
                )
            stream.seek(0)
            return npy.read_array(stream, allow_pickle=False, max_header_size=LONGEST_HEADER)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{name} is no whole array: {reason(error)}. Save it again.") from error
