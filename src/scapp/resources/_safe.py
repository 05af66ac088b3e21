"""Safe reading of files from elsewhere, without ever running code in them.

Unpickling runs whatever a file asks for. So tensors come through safetensors or torch's weights-only unpickler, arrays
through numpy without pickle, vocabularies through JSON; anything else is refused, with the lines that convert it.
"""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scapp._genes import shorten

PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".p", ".joblib"})
# Below 2.6, torch.load(weights_only=True) can be made to run code (CVE-2025-32434).
SAFE_TORCH = (2, 6)


# What torch's unpickler says of bytes that are no checkpoint, or not all of one.
BROKEN = (
    RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError, struct.error,
)  # fmt: skip


def is_pickle(path: Path) -> bool:
    """Return whether a file is a pickle, by its name or by its first byte (protocol 2 and later)."""
    if path.suffix.lower() in PICKLE_SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(1) == pickle.PROTO


def refuse_pickle(path: Path, snippet: str) -> ValueError:
    """Return the error for a pickle, with the lines of Python (`snippet`) that convert it."""
    lines = "\n".join(f"    {line}" for line in snippet.strip().splitlines())
    return ValueError(
        f"{str(path)!r} is a pickle, or holds one. Reading it would run any code that somebody put into it, so scapp does "
        "not. If you trust where it comes from, convert it once, in an environment that holds nothing of value:\n"
        f"{lines}\nThen pass the new file."
    )


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file; the error names `what` was expected."""
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{str(path)!r}, the {what}, is not JSON ({error}). Is it complete? Download it again."
        ) from error


def read_arrays(path: Path, snippet: str) -> NDArray | dict[str, NDArray]:
    """Read the array of an npy file, or the arrays of an npz file by name; ValueError if it is none, or holds pickled objects."""
    if is_pickle(path):
        raise refuse_pickle(path, snippet)
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return {name: found[name] for name in found.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, KeyError) as error:
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise refuse_pickle(path, snippet) from error
        raise ValueError(
            f"{str(path)!r} cannot be read as numpy arrays ({error}). Is it complete? Download it again, or save it "
            "with `numpy.savez(path, genes=np.array(names, dtype=str), embedding=matrix)`."
        ) from error


def read_tensor(path: Path, names: tuple[str, ...], *, inside: tuple[str, ...] = (), snippet: str) -> NDArray:
    """Read one tensor of a checkpoint; see :func:`read_tensors`."""
    return read_tensors(path, {"tensor": names}, inside=inside, snippet=snippet)["tensor"]


def read_tensors(
    path: Path, wanted: Mapping[str, tuple[str, ...]], *, inside: tuple[str, ...] = (), snippet: str
) -> dict[str, NDArray[np.float32]]:
    """Read some tensors of a checkpoint of safetensors or of torch, as float32.

    For each of the tensors, `wanted` has the names that it may have, the first being the published one. A prefix, as
    ``"module."`` of a model that was trained on several devices, is passed over. `inside` are keys that lead to the tensors in a
    torch checkpoint which nests them; `snippet` are lines that convert a checkpoint which holds more than tensors.

    Raises
    ------
    ValueError
        If it is incomplete, is no checkpoint, lacks a tensor, or holds objects that are neither tensors nor plain
        containers.
    ImportError
        If safetensors is needed and not installed, or torch is too old to be safe.
    """
    if path.suffix.lower() == ".safetensors":
        return _from_safetensors(path, wanted)
    import torch

    if tuple(map(int, str(torch.__version__).split(".")[:2])) < SAFE_TORCH:
        raise ImportError(
            f"{str(path)!r} is a checkpoint of torch, which torch {torch.__version__} cannot read safely. Update it: "
            "`pip install 'torch>=2.6'`."
        )
    whole = zipfile.is_zipfile(path)
    with path.open("rb") as file:
        if not whole and file.read(2) in (b"", b"PK"):
            raise ValueError(f"{str(path)!r} is empty or was cut short. Download it again.")
    try:
        # A zip file is memory-mapped, so that only the requested tensors are read.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=whole)
    except pickle.UnpicklingError as error:
        raise refuse_pickle(path, snippet) from error
    except BROKEN as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as a checkpoint of torch ({str(error).splitlines()[0] if str(error) else error!r}). "
            "Is it complete? Download it again."
        ) from error
    for key in inside:
        if not isinstance(checkpoint, Mapping) or key not in checkpoint:
            raise ValueError(
                f"{str(path)!r} has no {''.join(f'[{part!r}]' for part in inside)}: at {key!r} it holds "
                f"{_described(checkpoint)}. Is it the file of another model?"
            )
        checkpoint = checkpoint[key]
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"{str(path)!r} should hold tensors by name, found {_described(checkpoint)}.")
    tensors = {str(name): value for name, value in checkpoint.items() if isinstance(value, torch.Tensor)}
    return {key: _to_numpy(tensors[_pick(list(tensors), names, path)]) for key, names in wanted.items()}


def _from_safetensors(path: Path, wanted: Mapping[str, tuple[str, ...]]) -> dict[str, NDArray[np.float32]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError(
            f"{str(path)!r} is read by the package safetensors: `pip install 'scapp[embeddings]'`."
        ) from error
    try:
        # Convert with torch, because numpy has no bfloat16.
        with safe_open(path, framework="pt") as file:
            found = {key: _pick(list(file.keys()), names, path) for key, names in wanted.items()}
            return {key: _to_numpy(file.get_tensor(name)) for key, name in found.items()}
    except SafetensorError as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as safetensors ({error}). Is it complete? Download it again."
        ) from error


def _pick(found: list[str], names: tuple[str, ...], path: Path) -> str:
    for name in names:
        fits = [key for key in found if key == name] or [key for key in found if key.endswith(f".{name}")]
        if len(fits) == 1:
            return fits[0]
    expected = " or ".join(map(repr, names))
    raise ValueError(
        f"{str(path)!r} has no tensor {expected}. It has {len(found)} tensor(s): {shorten(sorted(found), 10) or 'none'}. "
        "Is it the checkpoint of another model, or of another version?"
    )


def _to_numpy(tensor: Any) -> NDArray[np.float32]:
    return tensor.detach().float().numpy().copy()


def _described(value: object) -> str:
    if isinstance(value, Mapping):
        return f"the keys {shorten(map(repr, value), 10) or '(none)'}"
    return f"a {type(value).__name__}"
