"""Public files under the names and in the forms of their hosts, made of the small tables that this project has of each.

They stand for downloads: loaders read them from a mirror on this machine.
"""

from __future__ import annotations

import gzip
import shutil
import zipfile
from pathlib import Path

import anndata as ad
import mudata
import numpy as np
import pandas as pd
from scipy import sparse

ASPECTS = {
    "BP": ("P", "biological_process"),
    "MF": ("F", "molecular_function"),
    "CC": ("C", "cellular_component"),
}


def write_public_files(data: Path, folder: Path) -> None:
    """Write the files that the tutorials download into `folder`."""
    shutil.copy(data / "originals" / "norman_effect_bundle.npz", folder)
    shutil.copy(data / "replogle_2022_k562_zscores.parquet", folder)
    networks = data / "networks"
    pd.read_csv(networks / "collectri_2025-09.csv.gz").to_csv(folder / "CollecTRI_regulons.csv", index=False)
    _string(networks, folder)
    _hgnc(networks, folder)
    _ontology(networks, folder)
    _reactome(networks, folder)
    _papalexi(data / "papalexi_2021_counts.h5ad", folder)


def _table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", na_filter=False)


def _string(networks: Path, folder: Path) -> None:
    edges = _table(networks / "string_v12_no_textmining.tsv.gz")
    names = sorted({*edges["source"], *edges["target"]})
    protein = {name: f"9606.ENSP{i:011d}" for i, name in enumerate(names)}
    channels = edges[["coexpression", "experiments", "database"]]
    # What the channels of the small table do not explain comes from another.
    other = np.where(channels.max(axis=1) < edges["combined_score"] - 150, edges["combined_score"], 0)
    links = pd.DataFrame(
        {
            "protein1": edges["source"].map(protein),
            "protein2": edges["target"].map(protein),
            "neighborhood": other,
            "fusion": 0,
            "cooccurence": 0,
            "coexpression": edges["coexpression"],
            "experimental": edges["experiments"],
            "database": edges["database"],
            "textmining": 0,
            "combined_score": edges["combined_score"],
        }
    )
    turned = links.rename(columns={"protein1": "protein2", "protein2": "protein1"})[links.columns]
    both = pd.concat([links, turned])
    both.to_csv(folder / "9606.protein.links.detailed.v12.0.txt.gz", sep=" ", index=False)
    info = {"#string_protein_id": protein.values(), "preferred_name": names, "protein_size": 1, "annotation": "none"}
    pd.DataFrame(info).to_csv(folder / "9606.protein.info.v12.0.txt.gz", sep="\t", index=False)


def _hgnc(networks: Path, folder: Path) -> None:
    aliases = _table(networks / "gene_aliases.tsv.gz").groupby("symbol", as_index=False)
    genes = aliases.agg(alias_symbol=("alias_symbol", "|".join), entrez_id=("entrez", "first"))
    ids = _table(networks / "gene_ensembl_ids.tsv.gz").drop_duplicates("symbol").set_index("symbol")["ensembl_id"]
    genes["hgnc_id"] = [f"HGNC:{i}" for i in range(len(genes))]
    genes["prev_symbol"] = ""
    genes["ensembl_gene_id"] = genes["symbol"].map(ids).fillna("")
    columns = ["hgnc_id", "symbol", "alias_symbol", "prev_symbol", "entrez_id", "ensembl_gene_id"]
    genes[columns].to_csv(folder / "hgnc_complete_set.txt", sep="\t", index=False)


def _ontology(networks: Path, folder: Path) -> None:
    annotations = _table(networks / "gene2go_human_2022-09.tsv.gz")
    with gzip.open(folder / "goa_human.gaf.gz", "wt") as file:
        file.write("!gaf-version: 2.2\n!date-generated: 2022-09-01\n")
        for symbol, term, evidence, aspect in annotations.itertuples(index=False):
            fields = [
                "UniProtKB",
                "X",
                symbol,
                "involved_in",
                term,
                "ref",
                evidence,
                "",
                ASPECTS[aspect][0],
                "",
                "",
                "protein",
            ]
            file.write("\t".join([*fields, "taxon:9606", "20220901", "UniProt", "", ""]) + "\n")
    parents = _table(networks / "go_dag_parents.tsv.gz")
    parents = parents[parents["parent"].str.startswith("GO:")]
    lines: dict[str, list[str]] = {term: [] for term in {*annotations["go_id"], *parents["child"], *parents["parent"]}}
    for child, parent, kind in parents.itertuples(index=False):
        lines[child].append(f"is_a: {parent}" if kind == "isa" else f"relationship: {kind.replace(' ', '_')} {parent}")
    namespace = annotations.drop_duplicates("go_id").set_index("go_id")["ontology"].to_dict()
    with (folder / "go-basic.obo").open("w") as file:
        file.write("format-version: 1.2\ndata-version: releases/2022-09\n\n")
        for term in sorted(lines):
            head = f"[Term]\nid: {term}\nname: term {term}\nnamespace: {ASPECTS[namespace.get(term, 'BP')][1]}\n"
            file.write(head + "".join(f"{line}\n" for line in lines[term]) + "\n")


def _reactome(networks: Path, folder: Path) -> None:
    with gzip.open(networks / "reactome_2024-04.gmt.gz", "rt") as file:
        sets = [line.rstrip("\n").split("\t") for line in file]
    with zipfile.ZipFile(folder / "ReactomePathways.gmt.zip", "w") as archive:
        text = "\n".join("\t".join([name, number, *genes]) for number, name, *genes in sets)
        archive.writestr("ReactomePathways.gmt", text + "\n")


def _papalexi(path: Path, folder: Path) -> None:
    cells = ad.read_h5ad(path)
    guides = sorted(cells.obs["grna_id"].astype(str).unique())
    strongest = pd.Index(guides).get_indexer(cells.obs["grna_id"].astype(str))
    largest = cells.obs["grna_umi"].to_numpy()
    counts = np.zeros((cells.n_obs, len(guides)), dtype=np.float32)
    rows = np.arange(cells.n_obs)
    counts[rows, strongest] = largest
    rest = cells.obs["grna_umi_total"].to_numpy() - largest
    for step in range(1, len(guides)):  # the counts of other guides, each fewer than those of the strongest
        more = np.minimum(rest, np.maximum(largest - 1, 0))
        counts[rows, (strongest + step) % len(guides)] += more
        rest = rest - more
    obs = pd.DataFrame(
        {
            "gene_target": cells.obs["grna_target"].astype(str).replace("non-targeting", "NT").to_numpy(),
            "replicate": cells.obs["bio_rep"].astype(str).to_numpy(),
        },
        index=cells.obs_names,
    )
    rna = ad.AnnData(cells.X, obs=obs, var=cells.var[[]].copy())
    gdo = ad.AnnData(sparse.csr_matrix(counts), obs=obs[[]].copy(), var=pd.DataFrame(index=guides))
    mudata.MuData({"rna": rna, "gdo": gdo}).write(folder / "papalexi_2021.h5mu")
