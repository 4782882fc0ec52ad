"""Lists of indices out of npy files of objects, read as data: nothing that such a file names is called or imported.

The ground truth of GSV-Cities' and OpenVPRLab's validation sets is an npy file of dtype object: one array of database
indices a query, pickled. numpy would load it with `allow_pickle` only, which runs whatever the file says. Here every
name in the pickle is looked up in a list of three, and what stands for them can do nothing but hold bytes.
"""

from __future__ import annotations

import io
import pickle
import tokenize
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError

_INTEGERS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)}
_DAMAGED = (
    # of the pickle, of its stand-ins, and of the header, which numpy parses as a literal
    *(pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError),
    *(SyntaxError, tokenize.TokenError, MemoryError, RecursionError),
)
_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")


class _Dtype:
    """Stands for numpy.dtype: its name and byte order, nothing else."""

    def __init__(self, name: str, *flags: object) -> None:
        self.name, self.order = name, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """Stands for numpy.ndarray: a list of objects, or the bytes of integers."""

    content: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, _, content = state
        if dtype.name.startswith("O"):
            self.content = list(content)
        elif dtype.name in _INTEGERS and dtype.order in "<>|=" and len(shape) == 1:
            order = "" if dtype.order == "|" else dtype.order
            self.content = np.frombuffer(content, np.dtype(order + dtype.name)).astype(np.int64)
            if len(self.content) != shape[0]:
                raise pickle.UnpicklingError("an array is shorter than it says")
        else:
            raise pickle.UnpicklingError(f"an array of {dtype.name} with {len(shape)} axes")


def _reconstruct(*ignored: object) -> _Array:
    return _Array()


class _Reader(pickle.Unpickler):
    """Knows three names; every other one ends the reading before anything is called."""

    def find_class(self, module: str, name: str) -> Any:
        known = {"_reconstruct": _reconstruct, "ndarray": _Array, "dtype": _Dtype}
        if module in _MODULES and name in known:
            return known[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def read_index_lists(path: Path) -> list[npt.NDArray[np.int64]]:
    """One 1-D int64 array of indices a row, of an npy file of object, of integers (N,) or of integers (N, M).

    Raises:
        UserError: the file is missing, or holds anything else than lists of integers.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
            reading = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = reading(file)  # type: ignore[no-untyped-call]
            if dtype.kind in "iu":
                file.seek(0)
                numbers = np.load(file, allow_pickle=False).astype(np.int64)
                return list(numbers.reshape(len(numbers), -1))
            if dtype.kind != "O" or len(shape) != 1:
                raise pickle.UnpicklingError(f"it is an array of {dtype} of shape {shape}")
            outer = _Reader(io.BytesIO(file.read())).load()
        if not isinstance(outer, _Array) or not isinstance(outer.content, list) or len(outer.content) != shape[0]:
            raise pickle.UnpicklingError("it is no list of lists")
        return [_indices(row) for row in outer.content]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected the ground truth as an npy file") from None
    except _DAMAGED as error:
        raise UserError(
            f"{path}: cannot be read ({error}); expected one list of whole numbers per query and nothing else. If you "
            "trust the file, save it again as an integer array (queries, positives)"
        ) from None


def _indices(row: object) -> npt.NDArray[np.int64]:
    content = row.content if isinstance(row, _Array) else row
    if isinstance(content, np.ndarray):
        return content
    if isinstance(content, list) and all(type(number) is int for number in content):
        return np.array(content, np.int64)
    raise pickle.UnpicklingError("a row is no list of whole numbers")
