"""Checks of the types of options, based on the annotations of the functions that take them."""

from __future__ import annotations

import functools
import inspect
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar, get_args, get_origin, overload

import numpy as np
import pandas as pd

Given = ParamSpec("Given")
Result = TypeVar("Result")
LONGEST_SHOWN = 60


class Kind(NamedTuple):
    """Hold the values that an annotation allows, and the words for them."""

    words: str
    holds: Callable[[Any], bool]
    choices: tuple[Any, ...] = ()


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not _is_bool(value) and not math.isnan(value)


def _is_texts(value: Any) -> bool:
    if isinstance(value, list | tuple | set | frozenset | pd.Series | pd.Index | np.ndarray):
        return all(isinstance(part, str) for part in value)
    # Do not consume generators; matrices and AnnData are not lists.
    return isinstance(value, Iterable) and not (isinstance(value, bytes) or hasattr(value, "shape"))


def _is_among(allowed: tuple, value: Any) -> bool:
    return any(type(value) is type(choice) and value == choice for choice in allowed)


def _named(name: str) -> Callable[[Any], bool]:
    """Return a check by the name of a class, which need not be imported for it."""
    return lambda value: any(base.__name__ == name for base in type(value).__mro__)


_PATH = Kind("a path", lambda value: isinstance(value, str | os.PathLike))
_TEXTS = Kind("a list of text", _is_texts)
_MAPPING = Kind("a dictionary", lambda value: isinstance(value, Mapping))
_KINDS = {
    "None": Kind("None", lambda value: value is None),
    "bool": Kind("True or False", _is_bool),
    "int": Kind("a whole number", lambda value: isinstance(value, Integral) and not _is_bool(value)),
    "float": Kind("a number", _is_number),
    "str": Kind("text", lambda value: isinstance(value, str)),
    "Path": _PATH,
    "PathLike": _PATH,
    "os.PathLike[str]": _PATH,
    "Sequence[str]": _TEXTS,
    "Iterable[str]": _TEXTS,
    "list[str]": _TEXTS,
    "tuple[float, float]": Kind(
        "two numbers",
        lambda value: isinstance(value, Sequence | np.ndarray) and len(value) == 2 and all(map(_is_number, value)),
    ),
    "pd.DataFrame": Kind("a DataFrame", lambda value: isinstance(value, pd.DataFrame)),
    "pd.Series": Kind("a Series", lambda value: isinstance(value, pd.Series)),
    "AnnData": Kind("an AnnData", _named("AnnData")),
    "MuData": Kind("a MuData", _named("MuData")),
    "Axes": Kind("axes of matplotlib", _named("Axes")),
    "Folder": Kind("a path or None", lambda value: value is None or isinstance(value, str | os.PathLike)),
    "nx.DiGraph": Kind("a directed graph of networkx", _named("DiGraph")),
    "dict": _MAPPING,
    "APP": Kind("a model (scapp.model.APP)", _named("APP")),
}


@overload
def checked(function: Callable[Given, Result], /) -> Callable[Given, Result]: ...


@overload
def checked(*, own: Sequence[str]) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]: ...


def checked(function: Any = None, /, *, own: Sequence[str] = ()) -> Any:
    """Refuse arguments that are not what their annotation says, before anything else happens.

    Annotations of simple types are checked; those of richer ones (tables of edges, guides) by the function itself, as are the
    arguments in `own`, with its own message. True is not a number, and ``"no"`` is not False. Tables of polars become those of
    pandas. The TypeError (ValueError for NaN) says the function, the argument, what was found and what is expected.
    """
    if function is None:
        return functools.partial(checked, own=own)
    signature = inspect.signature(function)
    # The public name, which is the module path without private parts.
    parts = [part for part in function.__module__.split(".") if not part.startswith("_")]
    public = ".".join([*parts, re.sub(r"\w+Mixin\.", "APP.", function.__qualname__.replace(".__init__", ""))])
    kinds: dict[str, list[Kind]] = {}
    for name, parameter in signature.parameters.items():
        single = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if name not in own and single and isinstance(parameter.annotation, str):
            kinds[name] = _read(parameter.annotation, function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        args = tuple(map(_of_pandas, args))
        kwargs = {name: _of_pandas(value) for name, value in kwargs.items()}
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # the error says which argument is missing or unknown
        for name, value in given.items():
            if kinds.get(name) and not any(kind.holds(value) for kind in kinds[name]):
                unknown = isinstance(value, str) and any(kind.choices for kind in kinds[name])
                error = ValueError if unknown or (isinstance(value, float) and math.isnan(value)) else TypeError
                raise error(_message(public, name, value, kinds[name]))
        return function(*args, **kwargs)

    return call


def _of_pandas(value: Any) -> Any:
    """Convert a polars data frame to pandas, and return anything else unchanged."""
    if type(value).__module__.split(".")[0] != "polars":
        return value
    if hasattr(value, "collect"):
        value = value.collect()
    if not hasattr(value, "to_dict"):
        return pd.Series(value.to_list(), name=value.name)  # a column
    return pd.DataFrame(value.to_dict(as_series=False))


def _read(annotation: str, function: Callable[..., Any]) -> list[Kind]:
    """Return the types that an annotation allows; empty if a part of it is a richer type."""
    found = []
    for part in re.split(r"\s*\|\s*(?![^\[]*\])", annotation):
        literal: Any = getattr(inspect.unwrap(function), "__globals__", {}).get(part)
        if part.startswith("Literal["):
            literal = eval(part, {"Literal": Literal})
        if part in _KINDS:
            found.append(_KINDS[part])
        elif part.startswith(("Mapping[", "dict[")):
            found.append(_MAPPING)
        elif get_origin(literal) is Literal:
            allowed = get_args(literal)
            found.append(Kind(" or ".join(map(repr, allowed)), functools.partial(_is_among, allowed), allowed))
        else:
            return []
    return found


def _message(call: str, name: str, value: Any, kinds: Sequence[Kind]) -> str:
    found = "None" if value is None else type(value).__name__
    if isinstance(value, str | int | float | bool | list | tuple | dict):
        shown = re.sub(r"\s+", " ", repr(value))
        found += f" {shown[:LONGEST_SHOWN]}{'…' if len(shown) > LONGEST_SHOWN else ''}"
    if call.endswith("setup_anndata") and found == "MuData":
        found = "MuData; for a MuData there is setup_mudata"
    choices = [repr(choice) for kind in kinds for choice in kind.choices]
    words = [*choices, *(kind.words for kind in kinds if not kind.choices)]
    expected = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    if isinstance(value, str) and choices:
        words = [word for word in words if word != "None"]
        expected = " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) < 4 else f"one of {', '.join(words)}"
        return f"{name} must be {expected}, found {value!r}.\nSee `help({call})`."
    expects_data = any(kind is _KINDS["AnnData"] for kind in kinds)
    mend = _data_mend(call, value) if expects_data else f"See `help({call})`."
    return f"{name} of {call} must be {expected}, found {found}.\n{mend}"


def _data_mend(call: str, value: Any) -> str:
    """Return advice on how to get an AnnData from a common wrong type."""
    if value is None:
        return "Functions that write into an AnnData return None: call them without assigning the result to adata."
    if isinstance(value, str | os.PathLike):
        return f"Read the file first: `{call}(anndata.read_h5ad({os.fspath(value)!r}), …)`."
    if _KINDS["MuData"].holds(value):
        modalities = list(value.mod)
        return f"Pass one modality, for example mdata[{modalities[0] if modalities else 'rna'!r}]; it has {modalities}."
    if isinstance(value, pd.DataFrame):
        return "Make an AnnData of the table: `anndata.AnnData(table)` of cells by genes, `scapp.pp.read_effects(table)` of effects."
    return "Make one of a matrix with `anndata.AnnData(X, obs=obs, var=var)`."
