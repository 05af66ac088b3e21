"""Every example in a docstring runs.

Examples speak of a screen of real genes; here they find a small planted one under the names that they use, and files of the names that
they read in the working folder. Where an example shows an output it must come out; where it shows none, it must run.
"""

from __future__ import annotations

import doctest
import gzip
import importlib
import itertools
import json
import pkgutil
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scvi
import torch
import zarr
from scipy import sparse

import scapp

SINGLES = ["CEBPA", "GATA1", "KLF1", "MAP2K6", "SPI1", "MYC", "TAL1", "RUNX1"]
GENES = [*SINGLES, "CEBPB", "HBG1", "ACTB", *[f"G{i}" for i in range(20)]]
PAIRS = [f"{a}+{b}" for i, a in enumerate(SINGLES) for b in SINGLES[i + 1 :]]


class ShownOutput(doctest.OutputChecker):
    """Compares where an example shows an output."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = [m.name for m in pkgutil.walk_packages(scapp.__path__, "scapp.") if m.ispkg or "." in m.name]
    found: dict[str, doctest.DocTest] = {}
    for name in names:
        module = importlib.import_module(name)
        found |= {test.name: test for test in finder.find(module, module=module, globs={}) if test.examples}
    return [found[name] for name in sorted(found)]


EXAMPLES = examples()


@pytest.fixture(scope="session")
def screen() -> SimpleNamespace:
    """Effects and cells of a planted screen, and a model of it."""
    rng = np.random.default_rng(0)
    labels = [*SINGLES, *PAIRS[1:23]]
    single = dict(zip(SINGLES, rng.normal(size=(len(SINGLES), len(GENES))), strict=True))
    lfc = np.array([0.8 * sum(single[gene] for gene in label.split("+")) for label in labels], dtype=np.float32)
    edges = [(a, b, 1.0) for a in GENES for b in GENES if a < b and rng.random() < 0.2]
    network = pd.DataFrame([*edges, ("KLF1", "HBG1", 2.0)], columns=["source", "target", "weight"])
    terms = pd.DataFrame([(gene, f"GO:{term}") for gene in GENES for term in rng.choice(6, 2, replace=False)])
    effects = ad.AnnData(
        lfc,
        obs=pd.DataFrame({"perturbation": labels}, index=labels),
        var=pd.DataFrame({"control_mean": np.float32(2)}, index=GENES),
        layers={"lfc": lfc.copy(), "lfc_se": np.full_like(lfc, 0.1)},
    )
    scapp.pp.add_network(effects, network, control=None)
    scapp.pp.add_gene_features(effects, terms.set_axis(["gene", "term"], axis=1), key_added="go", control=None)
    drawn = ["control", *labels] * 6
    rate = {"control": np.zeros(len(GENES))} | dict(zip(labels, lfc, strict=True))
    counts = rng.poisson(5 * np.exp(0.3 * np.array([rate[label] for label in drawn]))).astype(np.float32)
    obs = pd.DataFrame({"perturbation": drawn}, index=[f"cell{i}" for i in range(len(drawn))])
    obs["cell_line"] = np.where(np.arange(len(obs)) % 2, "K562", "RPE1")
    obs["replicate"] = np.where(np.arange(len(obs)) // len(rate) % 2, "a", "b")
    cells = ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=GENES))
    scvi.settings.seed = 0
    scapp.model.APP.setup_anndata(effects, control=None, layer="lfc")
    model = scapp.model.APP(effects)
    model.train(max_epochs=2, enable_progress_bar=False)
    lines = scapp.pp.pseudobulk(cells, context_key="cell_line")
    k562, rpe1 = (scapp.pp.select_context(lines, line) for line in ("K562", "RPE1"))
    scapp.pp.add_network(k562, network, control=None)
    mdata, truth = scapp.datasets.simulated_perturb_seq(
        n_genes=80, n_regulators=20, n_singles=12, n_doubles=8, n_cells_per_perturbation=12, n_control_cells=60,
        return_mudata=True,
    )  # fmt: skip
    scapp.pp.add_network(mdata["rna"], truth.network, directed=True)
    return SimpleNamespace(
        effects=effects, cells=cells, model=model, network=network, terms=terms, mdata=mdata, k562=k562, rpe1=rpe1
    )


@pytest.fixture
def files(
    test: doctest.DocTest,
    screen: SimpleNamespace,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The working folder, with files of the names that examples read; the public files that scapp would download."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCAPP_DATA_DIR", str(tmp_path))
    screen.network.to_csv("string.tsv", sep="\t", index=False)
    screen.network.to_csv("collectri.csv", index=False)
    named = screen.terms.set_axis(["gene", "term"], axis=1)
    named.to_csv("gene2go.tsv", sep="\t", index=False)
    pd.DataFrame({"child": ["GO:1"], "parent": ["GO:0"]}).to_csv("go_parents.tsv", sep="\t", index=False)
    sets = named.groupby("term")["gene"].agg(lambda genes: "\t".join(genes))
    Path("reactome.gmt").write_text("".join(f"{term}\t{term}\t{genes}\n" for term, genes in sets.items()))
    Path("evidence").mkdir()
    evidence = screen.network.rename(columns={"weight": "combined_score"})
    evidence = evidence.assign(combined_score=900, experiments=900, database=800, coexpression=150)
    evidence.to_csv("evidence/string.tsv", sep="\t", index=False)
    Path("evidence/gene2go.tsv").write_text(Path("gene2go.tsv").read_text())
    Path("evidence/go_parents.tsv").write_text(Path("go_parents.tsv").read_text())
    reactome = sets.rename(index=lambda term: term.replace("GO:", "R-HSA-"))
    Path("evidence/reactome.gmt").write_text("".join(f"{term}\t{term}\t{genes}\n" for term, genes in reactome.items()))
    vectors = np.random.default_rng(1).normal(size=(len(GENES), 12)).astype(np.float32)
    pd.DataFrame(vectors, index=pd.Index(GENES, name="gene")).to_csv("genept.csv")
    Path("scGPT_human").mkdir()
    weights = {
        "encoder.embedding.weight": vectors,
        "encoder.enc_norm.weight": vectors[0],
        "encoder.enc_norm.bias": vectors[1],
    }
    torch.save(OrderedDict({k: torch.as_tensor(v) for k, v in weights.items()}), "scGPT_human/best_model.pt")
    Path("scGPT_human/vocab.json").write_text(json.dumps({gene: row for row, gene in enumerate(GENES)}))
    Path("scGPT_human/args.json").write_text("{}")
    screen.cells.write_h5ad("run1.h5ad")
    second = screen.cells.copy()
    second.obs_names = "second_" + second.obs_names
    second.write_zarr("run2.zarr")
    if "norman_2019" in (test.docstring or ""):  # only this one needs the real data
        bundle = request.getfixturevalue("shared_data") / "originals" / "norman_effect_bundle.npz"
        (tmp_path / "norman_effect_bundle.npz").symlink_to(bundle)
    if "replogle_2022_k562_zscores" in (test.docstring or ""):
        table = request.getfixturevalue("shared_data") / "replogle_2022_k562_zscores.parquet"
        (tmp_path / table.name).symlink_to(table)
    if "papalexi_2021_guides" in (test.docstring or ""):
        cells = request.getfixturevalue("shared_data") / "papalexi_2021_counts.h5ad"
        (tmp_path / cells.name).symlink_to(cells)
    proteins = {gene: f"9606.{gene}" for gene in GENES}
    channels = "neighborhood fusion cooccurence coexpression experimental database textmining combined_score"
    links = [f"protein1 protein2 {channels}"]
    for a, b in zip(screen.network["source"], screen.network["target"], strict=True):
        links += [f"{proteins[x]} {proteins[y]} 0 0 0 150 900 800 0 980" for x, y in ((a, b), (b, a))]
    info = [
        "#string_protein_id\tpreferred_name\tprotein_size\tannotation",
        *(f"{p}\t{g}\t10\t" for g, p in proteins.items()),
    ]
    for name, lines in (("links.detailed", links), ("info", info)):
        with gzip.open(f"9606.protein.{name}.v12.0.txt.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")


def namespace(screen: SimpleNamespace) -> dict[str, Any]:
    """Copies of everything that examples take as given."""
    known = {name: getattr(scapp.baselines, name) for name in scapp.baselines.__all__}
    modules = {"scapp": scapp, "sc": sc, "scvi": scvi, "np": np, "pd": pd, "itertools": itertools, "zarr": zarr}
    data = {name: getattr(screen, name).copy() for name in ("cells", "effects", "mdata", "k562", "rpe1")}
    disease = pd.DataFrame({"lfc": np.linspace(-1, 1, len(GENES))}, index=GENES)
    return (
        known | modules | data | {"disease": disease} | {"adata": data["cells"], "model": screen.model, "genes": GENES}
    )


def test_there_are_examples_and_none_is_skipped():
    assert len(EXAMPLES) > 30
    skipped = [test.name for test in EXAMPLES for example in test.examples if example.options.get(doctest.SKIP)]
    assert skipped == []


@pytest.fixture
def few_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for two epochs where an example does not say how long."""
    train = scapp.model.APP.train

    def briefly(model: scapp.model.APP, max_epochs: int | None = None, **options: Any) -> None:
        train(model, 2 if max_epochs is None else max_epochs, **options)

    monkeypatch.setattr(scapp.model.APP, "train", briefly)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("few_epochs")
@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.name.removeprefix("scapp."))
def test_example_runs(test: doctest.DocTest, screen: SimpleNamespace, files: None):
    test.globs = namespace(screen)
    said: list[str] = []
    runner = doctest.DocTestRunner(ShownOutput(), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    try:
        runner.run(test, out=said.append, clear_globs=False)
    finally:
        plt.close("all")
    assert runner.tries == len(test.examples)
    assert runner.failures == 0, "".join(said)
