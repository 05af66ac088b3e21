"""Make a report: read the screen, write each section, and save the page."""

from __future__ import annotations

import contextlib
import datetime
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import anndata as ad
import pandas as pd
from anndata import AnnData

import scapp
from scapp._anndata_files import read_anndata
from scapp._checked import checked
from scapp._effects import perturbation_type
from scapp._files import replacing
from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR
from scapp.report._page import Section, render
from scapp.report._screen import Missing, Screen
from scapp.report._sections import SECTIONS

Tell = Callable[[str], None]

logger = logging.getLogger(__name__)


@checked(own=("control",))
def make_report(
    data: AnnData | Path | str | None = None,
    network: pd.DataFrame | Path | str | None = None,
    *,
    output: Path | str = "scapp_report.html",
    perturbation_key: str = Key.obs.PERTURBATION,
    control: str | Sequence[str] | None = "control",
    layer: str | None = None,
    batch_key: str | None = None,
    sep: str = SEPARATOR,
    aliases: Path | str | None = None,
    kind: str | None = None,
    n_splits: int = 2,
    seed: int = 0,
    overwrite: bool = False,
    tell: Tell | None = None,
) -> Path:
    """Write one page about a screen: what was read, how well it can be predicted, and what to do next.

    The page is a single, self-contained HTML file. It shows what was read, controls, cells and efficacy of each
    perturbation, coverage of the network, accuracy on held-out perturbations compared with baselines and the noise
    ceiling, the strongest predictions with their probabilities, interacting pairs, and what to measure next. If a
    section cannot be made, it says what is missing and how to supply it.

    Parameters
    ----------
    data
        Cells with controls, or effects, as an AnnData or an h5ad file. They are not changed. If None, a screen and its
        network are simulated.
    network
        A table of edges or its path, in a form that :func:`scapp.pp.add_network` accepts. If None, sections that need a
        network are left out.
    output
        The file to write.
    perturbation_key, control, layer, batch_key, sep
        As in :func:`scapp.pp.pseudobulk`; ``control=None`` for effects.
    aliases
        Names of genes for the network, as in :func:`scapp.pp.add_network`.
    kind
        Kind of perturbation: ``"interference"``, ``"activation"`` or ``"knockout"``, or a column of `obs` with it, as in
        :func:`scapp.pp.check_efficacy`. If None, it is inferred from the direction in which most targets changed.
    n_splits
        Number of held-out splits.
    seed
        Random seed of the simulation and the first split.
    overwrite
        Whether to replace an existing file.
    tell
        Function that is called with a sentence before each step.

    Returns
    -------
    The path of the page.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False, or there is a file in place of its folder.
    PermissionError
        If its folder cannot be written to.
    FileNotFoundError
        If `data` or `network` is a path that does not exist.
    ValueError
        If `data` is not an h5ad file of an AnnData or has no column of labels, `kind` is unknown, or `n_splits` is less
        than 1.
    TypeError
        If `data` or `network` has an unsupported type.

    Examples
    --------
    >>> page = scapp.report.make_report(adata, "string.tsv", n_splits=1, overwrite=True)
    """
    output = Path(output).expanduser()
    if output.is_dir():
        raise FileExistsError(f"{str(output)!r} is a folder. Name a file, such as {str(output / 'report.html')!r}.")
    if output.exists() and not overwrite:
        raise FileExistsError(f"The file {str(output)!r} is there. Name another, or replace it with overwrite=True.")
    if n_splits < 1:
        raise ValueError(f"n_splits must be at least 1, found {n_splits}.")
    tell = tell or (lambda _: None)
    options = {
        "perturbation_key": perturbation_key, "control": control, "layer": layer, "batch_key": batch_key, "sep": sep,
        "aliases": aliases,
    }  # fmt: skip
    tell("Reading the screen …")
    if data is None:
        cells, truth = scapp.datasets.simulated_perturb_seq(seed=seed)
        adata, name, network = cells, "a simulated screen", truth.network
        options["batch_key"] = batch_key or "batch"
        kind = kind or "perturbation_type"  # for a mixed screen
    else:
        adata, name = _read(data)
    if isinstance(network, str | Path) and not Path(network).expanduser().is_file():
        raise FileNotFoundError(f"There is no file {str(network)!r} with the network.")
    screen = Screen(adata, name, network, options, kind, n_splits, seed)
    if screen.key not in adata.obs:
        raise ValueError(
            f"adata.obs has no column {perturbation_key!r} with the perturbations; its columns are "
            f"{shorten(map(repr, adata.obs.columns), 10) or 'none'}. Name it with perturbation_key=…."
        )
    if kind is not None and kind not in adata.obs and perturbation_type(kind) is None:
        raise ValueError(
            f"kind={kind!r} is neither 'interference', 'activation' nor 'knockout', nor a column of adata.obs, which has "
            f"{shorten(map(repr, adata.obs.columns), 10)}."
        )
    # Check the folder first, because the contents of the page take minutes.
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output.parent).close()
    except FileExistsError:
        raise FileExistsError(f"{str(output.parent)!r} is a file, not a folder. Name another output=….") from None
    except OSError as error:
        raise PermissionError(
            f"The folder {str(output.parent)!r} cannot be written to ({error.strerror}). Name another output=…."
        ) from error
    sections = []
    with _quiet():
        for title, write in SECTIONS:
            tell(f"{title} …")
            section = Section(title)
            try:
                write(screen, section)
            except Missing as lack:
                section.missing(str(lack))
            except (ValueError, RuntimeError, TypeError, KeyError) as error:
                # If one section fails, keep the others; the page says why it is missing.
                logger.info("%s: %s", title, error, exc_info=True)
                section.missing(f"This could not be shown: {error}")
            sections.append(section)
    if screen.lacks:
        sections[0].missing("\n".join(["What is missing from this page:", *(f"• {what}" for what in screen.lacks)]))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    page = render(f"Report on {name}", f"scapp {scapp.__version__}, {today}", sections)
    with replacing(output) as scratch:
        scratch.write_text(page, encoding="utf-8")
    return output


def _read(data: ad.AnnData | Path | str) -> tuple[ad.AnnData, str]:
    if isinstance(data, ad.AnnData):
        return data, "a screen"
    path = Path(data).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(data)!r} with the screen.")
    return read_anndata(path), path.stem


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide messages and warnings of the steps, because the page shows what matters, including failed methods."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.ERROR))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
