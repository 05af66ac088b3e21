"""Base of the reports on additions to an AnnData: in words, as a table, and stored with the data."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from anndata import AnnData

from scapp._checked import checked
from scapp._genes import scapp_entry, scapp_uns, shorten
from scapp._keys import Key

What = Literal["network", "gene_features", "gene_names", "guides", "efficacy"]
_READERS: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "bool": bool,
    "str": str,
    "tuple[str, ...]": lambda names: tuple(map(str, names)),
}


@dataclass(frozen=True, repr=False)
class Report(ABC):
    """A report whose fields are numbers, names, lists of names and tables.

    Subclasses say where they are stored: in ``uns["scapp"][_group]``, under the key of what was added where there can be several
    of a kind; `_default_key` is the usual key.
    """

    _kinds: ClassVar[dict[str, type[Report]]] = {}
    _group: ClassVar[str]
    _default_key: ClassVar[str | None] = None

    def __init_subclass__(cls, what: What, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._kinds[what] = cls

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that an h5ad file can hold."""
        return _plain({field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the report that :meth:`to_dict` made these values of, also after they were in a file."""
        read = {field.name: _READERS.get(str(field.type), lambda value: value) for field in fields(cls)}
        return cls(**{name: read[name](value) for name, value in values.items() if name in read})

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per number or list of names, in the column ``value``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        shown = {
            name: shorten(value, len(value)) if isinstance(value, tuple) else value
            for name, value in values.items()
            if not isinstance(value, pd.DataFrame)
        }
        return pd.DataFrame({"value": pd.Series(shown, dtype=object)})

    @abstractmethod
    def _lines(self) -> Iterable[str]:
        """Yield the lines of the report; empty ones are left out."""

    def __repr__(self) -> str:
        return "\n".join(line for line in self._lines() if line)

    def store(self, adata: AnnData, params: Mapping[str, Any] | None = None) -> None:
        """Put the report, with the parameters that led to it, into ``adata.uns["scapp"]``, and log it once."""
        entry: dict[str, Any] = self.to_dict()
        if params is not None:
            given = {name: value for name, value in params.items() if value is not None}
            entry = {"report": entry, "params": _plain(given)}
        if hasattr(self, "key"):
            scapp_entry(adata, self._group)[self.key] = entry
        else:
            adata.uns.setdefault(Key.uns.SCAPP, {})[self._group] = entry
        logging.getLogger(type(self).__module__).info("%s", self)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with lists of names as arrays, which a file can hold."""
    return {name: np.array(x, dtype=object) if isinstance(x, list | tuple) else x for name, x in values.items()}


def listed(*lists: tuple[str, Iterable[str]], n: int = 10) -> Iterable[str]:
    """Yield a line for each list of names that is not empty."""
    for what, names in lists:
        names = list(names)
        if names:
            yield f"  {what}: {len(names):,} ({shorten(names, n)})"


@checked
def report(adata: AnnData, what: What, key: str | None = None) -> Any:
    """Return a stored report on the preprocessing of annotated data, even after it was saved to a file.

    Parameters
    ----------
    adata
        Annotated data; for a MuData, the modality with the expression.
    what
        ``"network"``, of :func:`add_network`, :func:`similarity_network` or :func:`coexpression_network`;
        ``"gene_features"``, of :func:`add_gene_features` or :func:`add_effects_as_features`; ``"gene_names"``, of
        :func:`harmonize_genes`; ``"guides"``, of :func:`guides_to_perturbations`; or ``"efficacy"``, of
        :func:`check_efficacy`.
    key
        The `key_added` of that call. If None, the only report, or else the one with the default key.

    Returns
    -------
    A report that prints as text, has numbers and lists as attributes, and gives a table with ``to_frame()``:
    :class:`NetworkReport`, :class:`GeneFeaturesReport`, :class:`GeneNamesReport`, :class:`GuidesReport` or
    :class:`EfficacyReport`.

    Raises
    ------
    ValueError
        If there is no such report, it was modified, or there are several and none was named.

    Examples
    --------
    >>> edges = pd.DataFrame({"source": ["KLF1"], "target": ["HBG1"]})
    >>> scapp.pp.add_network(effects, edges)
    >>> scapp.pp.report(effects, "network").n_edges
    1
    """
    kind = Report._kinds[what]
    entries = scapp_uns(adata).get(kind._group, {})
    if not entries:
        raise ValueError(
            f"There is no report on {what!r} in adata.uns['scapp']. It is written when networks, features, names, guides or the "
            "efficacy are added or checked by scapp.pp."
        )
    if "key" in kind.__dataclass_fields__:
        usual = next(iter(entries)) if len(entries) == 1 else kind._default_key
        if (key or usual) not in entries:
            found = "There are several reports on" if key is None else f"key={key!r} has no report on"
            raise ValueError(f"{found} {what!r}. Name one of these with key=…: {shorten(map(repr, entries), 12)}.")
        entries = entries[key or usual]
    try:
        return kind.from_dict(entries.get("report", entries))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"The report on {what!r} in adata.uns['scapp'][{kind._group!r}] cannot be read ({type(error).__name__}: {error}): it was "
            "changed, or written by another version of scapp.\nCall the function that wrote it again."
        ) from error
