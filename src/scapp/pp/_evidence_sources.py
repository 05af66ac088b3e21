"""Read the recommended evidence from a folder of files, or from the downloads of `scapp.resources`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd

from scapp import resources
from scapp._genes import shorten
from scapp._keys import Key
from scapp._provenance import noted, taxon
from scapp._tables import PathLike, find_column, is_path, read_table

# Kinds of evidence of STRING and the columns that hold them: in its files, in its web exports, in tables made of these.
CHANNELS: Final = {
    "experiments": ["experiments", "experimental", "experimentally_determined_interaction"],
    "database": ["database", "databases", "database_annotated"],
    "coexpression": ["coexpression"],
}
SOURCES: Final = ("string", "go", "reactome")
TABLE: Final = r"\.(?:tsv|csv|txt|parquet)"
LICENSES: Final = {"STRING": "CC BY 4.0", "Gene Ontology": "CC BY 4.0", "Reactome": "CC0 1.0"}


@dataclass(frozen=True)
class SourceOptions:
    """Options that every source is read with.

    Everything is read from the folder `local`; where it is None, from downloads with the options `download`. Edges of STRING with a
    combined score below `min_score` are left out.
    """

    organism: str
    local: Path | None
    download: dict[str, Any]
    min_score: float


@dataclass(frozen=True)
class Evidence:
    """Networks and gene features by key; `parents` of terms, for annotations that must still be propagated."""

    networks: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)
    parents: dict[str, pd.DataFrame] = field(default_factory=dict)


def read_sources(names: Iterable[str], options: SourceOptions) -> Evidence:
    """Read the named sources, from the folder or from downloads."""
    read = Evidence()
    for found in (_READERS[name](options) for name in names):
        read.networks.update(found.networks)
        read.features.update(found.features)
        read.parents.update(found.parents)
    return read


def check_sources(names: Iterable[str], options: SourceOptions) -> list[str]:
    """Return the sources, each once, or raise if one is unknown or the organism does not have it."""
    names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    unknown = [name for name in names if name not in SOURCES]
    if unknown:
        raise ValueError(
            f"sources must be some of {', '.join(map(repr, SOURCES))}, found {', '.join(map(repr, unknown))}. Evidence of your "
            "own goes into networks={name: edges} and features={name: table}."
        )
    taxon(options.organism)
    if "reactome" in names and options.organism != "human" and options.local is None:
        others = [name for name in names if name != "reactome"]
        raise ValueError(
            f"Reactome publishes gene sets of human only, found organism={options.organism!r}. Pass sources={others}, or the folder "
            "of a GMT file with local=…."
        )
    return names


def read_aliases(options: SourceOptions) -> pd.DataFrame | None:
    """Return gene aliases from the folder or, for human, from HGNC; None if there are none."""
    if options.local is not None:
        path = _one_file(options.local, "names of genes", rf"(?:.*alias|hgnc).*{TABLE}")
        return None if path is None else read_table(path)
    return resources.hgnc(**options.download) if options.organism == "human" else None


def _string(options: SourceOptions) -> Evidence:
    folder, number, files, path = options.local, taxon(options.organism), options.download, None
    if folder is not None:
        links = _one_file(folder, "STRING links", rf"{number}\.protein\.links.*{TABLE}")
        if links is not None:
            missing = ("names of STRING's proteins", f"{number}.protein.info.v12.0.txt.gz")
            info = _the_file(folder, "STRING names", rf"{number}\.protein\.info.*{TABLE}", *missing)
            files = {"file": links, "info_file": info, "progress_bar": files["progress_bar"]}
        else:
            pattern = rf"(?!.*protein\.info).*string.*{TABLE}"
            path = _the_file(folder, "STRING", pattern, "STRING", "string*.tsv.gz")
    if path is None:
        edges = resources.string(organism=options.organism, min_score=options.min_score, **files)  # type: ignore[arg-type]
    else:
        edges = resources.from_table(path, name="STRING", license=LICENSES["STRING"])
        strong = edges["weight"] >= options.min_score
        if not strong.any():
            raise ValueError(
                f"No edge of {path.name!r} has a score of min_score={options.min_score:g} or more; the largest is "
                f"{edges['weight'].max():g}. Lower min_score."
            )
        edges = _described(edges[strong], "STRING", path)
    found = {channel: _channel(edges, names) for channel, names in CHANNELS.items()}
    return Evidence({key: table for key, table in found.items() if table is not None} | {Key.varp.NETWORK: edges})


def _channel(edges: pd.DataFrame, names: list[str]) -> pd.DataFrame | None:
    """Return the edges that have evidence of one kind, weighted by it; None if there are none."""
    column = find_column(edges, names)
    if column is None or not (edges[column] > 0).any():
        return None
    channel = edges.loc[edges[column] > 0, ["source", "target", column]]
    channel = channel.set_axis(["source", "target", "weight"], axis=1)
    channel.attrs = dict(edges.attrs)
    return channel


def _go(options: SourceOptions) -> Evidence:
    folder = options.local
    if folder is None:
        return Evidence(features={"go": resources.gene_ontology(organism=options.organism, **options.download)})
    gaf = _one_file(folder, "GO annotations", r".*\.gaf")
    if gaf is not None:
        missing = ("the ontology, to pass GO annotations on to broader terms", "go-basic.obo")
        ontology = _the_file(folder, "the Gene Ontology", r".*\.obo", *missing)
        table = resources.gene_ontology(organism=options.organism, file=gaf, ontology_file=ontology)
        return Evidence(features={"go": table})
    missing = ("GO annotations", "gene2go*.tsv.gz or *.gaf.gz")
    path = _the_file(folder, "GO annotations", rf".*(?:gene2go|go_annotation).*{TABLE}", *missing)
    missing = ("the parents of GO terms, to pass annotations on to them", "go*parents*.tsv.gz")
    parents = _the_file(folder, "parents of GO terms", rf"(?=.*go)(?=.*parent).*{TABLE}", *missing)
    annotations = _described(read_table(path), "Gene Ontology", path)
    return Evidence(features={"go": annotations}, parents={"go": read_table(parents)})


def _reactome(options: SourceOptions) -> Evidence:
    if options.local is None:
        return Evidence(features={"reactome": resources.reactome(organism=options.organism, **options.download)})
    path = _the_file(options.local, "Reactome", r".*reactome.*\.gmt", "Reactome gene sets", "reactome*.gmt.gz")
    if options.organism == "human":
        sets = resources.reactome(file=path)
    else:
        sets = resources.from_gmt(path, source="Reactome", license=LICENSES["Reactome"])
    return Evidence(features={"reactome": _described(sets, "Reactome", path)})


def _one_file(folder: Path, what: str, pattern: str) -> Path | None:
    """Return the only file of the folder whose name in lower case, but for .gz or .zip, matches; None if none does."""
    names = {path: path.name.lower().removesuffix(".gz").removesuffix(".zip") for path in sorted(folder.iterdir())}
    found = [path for path, name in names.items() if path.is_file() and re.fullmatch(pattern, name)]
    if len(found) > 1:
        raise ValueError(
            f"{str(folder)!r} has {len(found)} files for {what}: {shorten([path.name for path in found])}. Which is meant is not "
            "known: keep one of them there."
        )
    return found[0] if found else None


def _the_file(folder: Path, what: str, pattern: str, missing: str, called: str) -> Path:
    """Return the only such file, or raise with what is missing and how it is called."""
    path = _one_file(folder, what, pattern)
    if path is None:
        held = sorted(path.name for path in folder.iterdir())
        raise ValueError(
            f"{str(folder)!r} has no file for {missing}, which is named like {called}; it holds "
            f"{shorten(held, 8) or 'nothing'}. Put the file there, leave the source out with sources=[…], or pass local=None to "
            "download it."
        )
    return path


def _described(table: pd.DataFrame, source: str, path: Path) -> pd.DataFrame:
    """Return the table with its origin, and the name of its file, in ``attrs``."""
    known = table.attrs
    table = noted(
        table,
        source=source,
        license=known.get("license") or LICENSES[source],
        version=known.get("version", ""),
        path=path,
        url=known.get("url", ""),
    )
    table.attrs["file"] = path.name
    return table


def check_folder(local: PathLike | None) -> Path | None:
    """Return the folder of files, ``~`` for the home folder, or raise if it is none."""
    if local is None:
        return None
    if not is_path(local):
        raise TypeError(f"local must be the path of a folder, or None, found {type(local).__name__}.")
    folder = Path(local).expanduser()
    if not folder.is_dir():
        raise ValueError(
            f"There is no folder {str(folder)!r} to read evidence from. Correct local=…, or leave it out to download the files."
        )
    return folder


_READERS: Final = {"string": _string, "go": _go, "reactome": _reactome}
