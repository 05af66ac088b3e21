"""Reading the expression of cells block by block, on one scale: the natural log of counts per 10,000 plus one.

A matrix is never held in memory twice. Every value is inspected once to recognise the scale of the matrix: either in a
pass before the blocks are handed out, or while they are summed, on a guess that is checked at the end. Blocks of a Dask
array are summed where they are read: in the threads of this process, or on the cluster of the active
`distributed.Client`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from scapp._genes import measured_mask, shorten
from scapp._labels import column_of_obs
from scapp._warn import warn_user
from scapp.expression._blocks import TARGET_SUM, Accumulator, Block, BlockTask, GroupSums, MatrixSummary
from scapp.expression._matrices import Piece, Source, get_matrix, is_dask
from scapp.expression._scale import N_SAMPLED, TO_NATURAL, FoundScale, Transform, find_scale

# No log of a molecule count in a cell comes near this, whatever the base and the library size.
LARGEST_LOG = 20.0
# With fewer genes, all counts may be at most one by chance.
MIN_GENES = 50
# Sums before the log up to which values are logs of shares, or of percentages if all cells have the same sum; and the
# deviation from 10,000 that is allowed without a warning.
LARGEST_SHARE, SMALLEST_TOTAL, FAR_FROM_TARGET = 1.01, 101.0, 3.0
# Names of columns of obs with the total counts of a cell over all genes; reads and counts of other molecules are not among them.
TOTALS = re.compile(
    r"(?:core_?adjusted_|sum_|total_?|n_?|num_?)?(?:umis?|counts?)(?:_(?:rna|gex|genes?|total|counts?))?|sum|total|lib(?:rary)?_?size",
    re.IGNORECASE,
)
# Median ratio of such totals to the sums of the matrix above which the matrix holds only some of the genes.
MUCH_LARGER = 1.05


class Scale(StrEnum):
    """Scale of the values of an expression matrix."""

    COUNTS = "raw counts"
    LOG_NORMALISED = "log-normalised"


class Expression:
    """The measured expression of all cells, checked, and returned in blocks on the scale log1p(CP10k).

    `adata` (cells by genes, in memory or backed, a view or not) is only read. `total_counts_key` names the column of ``adata.obs``
    with the total counts of each cell, if there are raw counts for only some of the genes; if None, the total is taken
    over the measured genes of the matrix. `sources` are the matrices, stacked by cells, if they are not one matrix of
    `adata`. With `inspect`, all values are inspected at once; otherwise `add_up` does it, and must be called first.

    Raises
    ------
    ValueError
        If the matrix is missing, or holds NaN, infinite or negative values, values that were normalised but not logged,
        or cells without counts; or if the total counts do not match.
    TypeError
        If the matrix has a type that cannot be read in blocks.
    """

    def __init__(
        self,
        adata: AnnData,
        *,
        layer: str | None = None,
        total_counts_key: str | None = None,
        chunk_size: int | None = None,
        sources: Sequence[Source] | None = None,
        inspect: bool = True,
    ) -> None:
        self.measured = measured_mask(adata)
        self.genes = adata.var_names[self.measured]
        if sources is None:
            sources = [Source(*get_matrix(adata, layer, chunk_size), chunk_size=chunk_size)]
        self._sources = list(sources)
        self._adata, self._total_counts_key = adata, total_counts_key
        self.name = self._sources[0].name
        if not len(self.genes):
            raise ValueError("No gene of adata was measured, by adata.var['measured']: there is nothing to read.")
        self.inspected = False
        self.scale = Scale.COUNTS
        self.found: FoundScale | None = None
        self.factor = 1.0
        self._totals: NDArray[np.float64] | None = None
        if inspect:
            self._look()

    def warn_of_scale(self) -> None:
        """Warn if logged values are not from counts per 10,000, or if counts cover only some genes and there are totals."""
        if self.found is not None:
            if np.isfinite(self.found.total):
                total, far, more = self.found.total, FAR_FROM_TARGET, ""
            else:  # the largest value is only a bound, because one gene may have all counts of a cell
                total, far, more = max(np.expm1(self.largest * self.factor), TARGET_SUM), 1 + 1e-2, " or more"
            if not 1 / FAR_FROM_TARGET <= total / TARGET_SUM <= far:
                warn_user(
                    f"{self.name} holds logs of counts per {total:,.0f}{more} and not per {TARGET_SUM:,}: these are logs on another "
                    "scale. They are taken as they are, and so are the effects; effects on the usual scale need "
                    "`sc.pp.normalize_total(adata, target_sum=1e4)` and `sc.pp.log1p(adata)` from the counts."
                )
        if self._totals is None or self._total_counts_key is not None:
            return
        larger = {}
        for key in self._adata.obs:
            column = self._adata.obs[key]
            if TOTALS.fullmatch(str(key)) and pd.api.types.is_numeric_dtype(column.dtype):
                totals = column.to_numpy(dtype=np.float64)
                ratio = float(np.median(totals / self._totals))
                if np.isfinite(totals).all() and (totals >= self._totals * (1 - 1e-6)).all() and ratio > MUCH_LARGER:
                    larger[key] = ratio
        if larger:
            key = max(larger, key=lambda name: larger[name])
            warn_user(
                f"adata.obs[{key!r}] is {larger[key]:.3g} times the sum of the counts of a cell in {self.name}, at the median: it "
                f"seems to hold only a part of the genes. Normalised by the {len(self.genes)} genes here, effects come out too large or "
                f"too small; pass total_counts_key={key!r}, or drop this column if it counts something else."
            )

    def blocks(self, cells: NDArray[np.bool_] | None = None, *, normalise: bool = True) -> Iterator[Block]:
        """Return all blocks of the measured genes, on the scale log1p(CP10k) or, if `normalise` is False, as raw counts.

        Blocks without any of `cells` are left out.
        """
        totals = False if self._totals is None or not normalise else self._totals
        for source in self._sources:
            jobs = list(self._jobs(source, (), cells, totals))
            values = source.read_all(piece for piece, _ in jobs)
            for (_, job), x in zip(jobs, values, strict=True):
                yield job.normalised(job.block(x))

    def add_up(self, sums: Callable[[], GroupSums], *per_cell: NDArray[Any], cells: NDArray[np.bool_]) -> Any:
        """Sum over all blocks, on the scale log1p(CP10k).

        If the values have not been inspected yet, this happens in the same pass, on a guess of the scale; if the guess
        is wrong, there is a second pass. Matrices that are stored gene by gene are inspected first. `sums` returns
        empty sums, to which those of the blocks are added; it must be importable, so that it can be sent to a cluster.
        `per_cell` are arrays with one value for each cell, which are passed to the sums with each block. Blocks without
        any of `cells` may be left out.
        """
        if not self.inspected and any(source.by_genes for source in self._sources):
            self._look()
        if not self.inspected:
            guess, totals, self.factor = self._guess()
            guessed = self.factor
            running = self._run(partial(Accumulator.begin, self._no_findings, sums), per_cell, None, totals)
            self._conclude(running)
            if self.scale is guess and self.factor == guessed:
                return running.sums
            del running  # free the memory for the next sums
        totals = False if self._totals is None else self._totals
        return self._run(partial(Accumulator.begin, None, sums), per_cell, cells, totals).sums

    @property
    def _no_findings(self) -> Callable[[], MatrixSummary]:
        n_obs = [source.shape[0] for source in self._sources]
        rows = [
            s.begin + np.linspace(0, n - 1, N_SAMPLED).astype(np.intp)
            for s, n in zip(self._sources, n_obs, strict=True)
        ]
        return partial(MatrixSummary.none, sum(n_obs), len(self.genes), np.unique(np.concatenate(rows)))

    def _look(self) -> None:
        self._conclude(self._run(partial(Accumulator.begin, self._no_findings, None), (), None, False))

    def _guess(self) -> tuple[Scale, NDArray[np.float64] | bool, float]:
        """Guess the scale of the matrix from its first block; return the totals and the factor for normalising cells."""
        source = self._sources[0]
        findings = self._no_findings()
        for piece, job in islice(self._jobs(source, (), None, False), 1):
            findings.add(job.block(source.read(piece)), source.name)
        if findings.n_fractions:
            found = find_scale(_cells(findings, source), self._adata.uns.get("log1p"))
            return Scale.LOG_NORMALISED, False, TO_NATURAL.get(found.transform, 1.0)  # type: ignore[arg-type]
        if self._total_counts_key is None:
            return Scale.COUNTS, True, 1.0
        return Scale.COUNTS, self._column_of_totals(), 1.0

    def _run(
        self,
        begin: Callable[[], Accumulator],
        per_cell: tuple[NDArray[Any], ...],
        cells: NDArray[np.bool_] | None,
        totals: NDArray[np.float64] | bool,
    ) -> Accumulator:
        """Pass over all blocks once, first those of this process, then those of Dask arrays."""
        running = None
        elsewhere: list[tuple[Any, BlockTask]] = []
        for source in self._sources:
            jobs = self._jobs(source, per_cell, cells, totals)
            if is_dask(source.matrix):
                elsewhere.extend((piece.read, job) for piece, job in jobs)
                continue
            running = running or begin()
            for piece, job in jobs:
                running.add(job, source.read(piece))
        if not elsewhere:
            return running or begin()
        from scapp.expression._dask import add_up

        found = add_up(begin, elsewhere)
        if running is None:
            return found
        running.join(found)
        return running

    def _jobs(
        self,
        source: Source,
        per_cell: tuple[NDArray[Any], ...],
        cells: NDArray[np.bool_] | None,
        totals: NDArray[np.float64] | bool,
    ) -> Iterator[tuple[Piece, BlockTask]]:
        position = np.concatenate([[0], np.cumsum(self.measured)])
        for piece in source.pieces():
            rows, columns = piece.rows, piece.columns
            if cells is not None and not cells[rows].any():
                continue
            measured = self.measured[columns]
            task = BlockTask(
                source=source.name,
                rows=rows,
                columns=slice(int(position[columns.start]), int(position[columns.stop])),
                order=source.order,
                measured=None if measured.all() else measured,
                totals=totals if isinstance(totals, bool) else _of_cells(totals, rows),
                factor=self.factor,
                per_cell=tuple(_of_cells(values, rows) for values in per_cell),
            )
            yield piece, task

    def _conclude(self, running: Accumulator) -> None:
        findings = running.findings
        assert findings is not None
        self.largest = findings.largest
        self.scale = self._recognise(findings)
        self.factor = 1.0
        if self.scale is Scale.LOG_NORMALISED:
            self.found = self._recognise_log(findings)
            self.factor = TO_NATURAL[self.found.transform]  # type: ignore[index]
        if self.scale is Scale.COUNTS:
            self._totals = self._check_totals(findings.totals)
        elif self._total_counts_key is not None:
            raise ValueError(
                f"total_counts_key={self._total_counts_key!r} is used to normalise raw counts, but {self.name} holds "
                "log-normalised values already. Leave it out, or name the layer of the raw counts with layer=…."
            )
        self.inspected = True

    def _recognise(self, findings: MatrixSummary) -> Scale:
        if findings.bad_in_gene.any():
            bad = self.genes[findings.bad_in_gene > 0]
            raise ValueError(
                f"{self.name} holds {findings.bad_in_gene.sum()} NaN or infinite values, in {len(bad)} gene(s): "
                f"{shorten(bad)}. Replace them, or leave these genes out. (Genes that were not measured are marked by "
                "False in adata.var['measured'], as `scapp.pp.add_unmeasured_genes` does.)"
            )
        if findings.n_negative:
            raise ValueError(
                f"{self.name} holds {findings.n_negative} negative values, so it is neither raw counts nor "
                "log-normalised expression; it looks like log-fold-changes, or like data that were scaled. "
                "If these are log-fold-changes, one observation per perturbation, they need no pseudobulk: pass "
                "control=None, also to `scapp.model.APP.setup_anndata`. If they were scaled (`sc.pp.scale`), name the "
                "layer of the counts or of the log-normalised values with layer=…" + self._raw_hint() + "."
            )
        if not findings.n_fractions:
            if findings.largest == 1 and len(self.genes) >= MIN_GENES:
                warn_user(
                    f"{self.name} holds only 0 and 1, which seem to say whether genes were detected and not to be counts. They are taken as counts; "
                    "name the layer of the counts with layer=… if there is one."
                )
            return Scale.COUNTS
        only_counts = findings.sources_of_counts - findings.sources_of_fractions
        if only_counts:
            raise ValueError(
                f"The screens are on different scales: raw counts in {shorten(sorted(only_counts))}, log-normalised values in "
                f"{shorten(sorted(findings.sources_of_fractions))}. Bring all to the same, raw counts if you have them."
            )
        return Scale.LOG_NORMALISED

    def _recognise_log(self, findings: MatrixSummary) -> FoundScale:
        """Return the base of the log; raise if the values are not logged, or if this is unclear."""
        found = [
            (source, find_scale(cells, self._adata.uns.get("log1p")))
            for source in self._sources
            if (cells := _cells(findings, source))
        ]
        for source, one in found:
            self._check_log(source.name, one, findings.largest)
        if len({one.transform for _, one in found}) > 1:
            (a, one), (b, other) = found[0], next(pair for pair in found if pair[1].transform != found[0][1].transform)
            raise ValueError(
                f"The screens are on different scales: {one.transform} in {a.name}, {other.transform} in {b.name}. Bring all to the "
                "same, raw counts if you have them."
            )
        return found[0][1]

    def _check_log(self, name: str, found: FoundScale, largest: float) -> None:
        normalise = "`sc.pp.normalize_total(adata, target_sum=1e4)` and `sc.pp.log1p(adata)`"
        normalised, stepped = np.isfinite(found.total), np.isfinite(found.step)
        sums = f"each cell sums to {found.total:,.4g}" if normalised else "by the steps between its values"
        layer = f"layer=…{self._raw_hint()}"
        if found.transform is None and largest <= LARGEST_LOG:
            raise ValueError(
                f"What {name} holds cannot be told: neither whole numbers, nor logs of counts in any base (by the steps between the "
                "values of a cell and by the sums of cells), nor is there uns['log1p']. Name the layer of the counts with "
                f"{layer}; if these are natural logs of counts per 10,000 plus one, say so by `adata.uns['log1p'] = {{'base': None}}`."
            )
        if found.transform is None or found.transform is Transform.NONE:
            what = f"counts times {found.step:.4g}" if stepped else "values that were normalised"
            how = f"values as large as {largest:.4g}" if found.transform is None or stepped else sums
            raise ValueError(
                f"{name} holds fractions, probably {what}, but not logged ({how}). Name the layer of the raw counts with "
                f"{layer}, or call {normalise} first. If these are counts that were estimated or corrected, "
                "round them to whole numbers."
            )
        if found.transform not in TO_NATURAL:
            raise ValueError(
                f"{name} holds the {found.transform} of normalised counts ({sums}), expected raw counts or log1p of normalised "
                f"ones. Name the layer of the counts with {layer}."
            )
        if stepped and not normalised:
            raise ValueError(
                f"{name} holds the {found.transform} of counts that were not normalised: all cells have the same steps, and their "
                f"sums differ. Name the layer of the counts with {layer}, or call {normalise} on the counts."
            )
        if found.told_by != "uns" and (0 < found.largest_total < LARGEST_SHARE or found.total < SMALLEST_TOTAL):
            raise ValueError(
                f"{name} holds the {found.transform} of shares: before the log, cells sum to {found.largest_total:.3g} at most, where "
                f"counts per 10,000 are expected. Call {normalise} on the counts, or name their layer with {layer}."
            )

    def _raw_hint(self) -> str:
        """Return a hint about ``adata.raw``, if there is one."""
        raw = getattr(self._adata, "raw", None)
        return "" if raw is None else f", or pass adata.raw.to_adata(), which has {raw.n_vars} genes"

    def say_scale(self) -> str:
        """Return a sentence on the scale of the matrix and how it was recognised."""
        if self.found is None:
            return f"{self.name} holds raw counts (whole numbers)."
        told = {"steps": "the steps between the values of a cell", "sums": "the sums of cells", "uns": "uns['log1p']"}
        per = f"counts per {self.found.total:,.0f} plus one" if np.isfinite(self.found.total) else "normalised counts"
        brought = "" if self.factor == 1 else ", which is brought to the natural one"
        return f"{self.name} holds the {self.found.transform} of {per}{brought} (told by {told[self.found.told_by]})."

    def _check_totals(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        adata = self._adata
        if self._total_counts_key is None:
            empty = int((sums == 0).sum())
            if empty:
                raise ValueError(
                    f"{empty} of the {adata.n_obs} cells have no counts in the {len(self.genes)} measured genes of "
                    f"{self.name}, so they cannot be normalised. Leave them out with "
                    "`sc.pp.filter_cells(adata, min_counts=1)`, or name the column of adata.obs with the total counts "
                    "of each cell over all genes with total_counts_key=…."
                )
            return sums
        totals = self._column_of_totals()
        wrong = ~np.isfinite(totals) | (totals <= 0) | (totals < sums)
        if wrong.any():
            raise ValueError(
                f"adata.obs[{self._total_counts_key!r}] cannot be the total counts: in {wrong.sum()} of the {adata.n_obs} "
                f"cells it is zero, infinite or less than the sum of the counts in {self.name}, as in the cell "
                f"{adata.obs_names[wrong][0]!r} ({totals[wrong][0]:.4g}, sum {sums[wrong][0]:.4g}). Name the right "
                "column, or leave total_counts_key out."
            )
        return totals

    def _column_of_totals(self) -> NDArray[np.float64]:
        assert self._total_counts_key is not None
        column = column_of_obs(self._adata, self._total_counts_key, "total_counts_key")
        if not pd.api.types.is_numeric_dtype(column.dtype):
            raise ValueError(
                f"adata.obs[{self._total_counts_key!r}] must hold total counts, found dtype {column.dtype}."
            )
        return column.to_numpy(dtype=np.float64)


def _cells(findings: MatrixSummary, source: Source) -> list[NDArray[np.float64]]:
    """Return the values of the sampled cells of a matrix."""
    rows = range(source.begin, source.begin + source.shape[0])
    return [np.concatenate(parts) for row, parts in sorted(findings.values.items()) if row in rows]


def _of_cells(values: NDArray[Any], rows: slice) -> NDArray[Any]:
    """Return the values of some cells; for all cells, the array itself, which is sent to a cluster only once."""
    return values if rows == slice(0, len(values)) else values[rows]
