"""The recommended evidence in one call: its content, what is noted of it, and effects that an error leaves unchanged."""

from __future__ import annotations

import dataclasses
import gzip
import inspect
import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scapp import benchmark, pp
from scapp.benchmark._measured import string_and_annotations

GENES = ["KLF1", "GATA1", "MYC", "SPI1", "NEW"]
STRING = pd.DataFrame(
    [("KLF1", "GATA1", 900, 0, 900, 0), ("GATA1", "MYC", 500, 500, 0, 0), ("MYC", "SPI1", 300, 0, 300, 0)],
    columns=["source", "target", "combined_score", "coexpression", "experiments", "database"],
)
GO = pd.DataFrame(
    [("KLF1", "GO:3"), ("GATA1", "GO:2"), ("MYC", "GO:1"), ("SPI1", "GO:1"), ("OLD", "GO:4"), ("GATA1", "GO:4")],
    columns=["symbol", "go_id"],
)
PARENTS = pd.DataFrame({"child": ["GO:3"], "parent": ["GO:2"], "relationship_type": ["isa"]})
ALIASES = pd.DataFrame({"symbol": ["NEW"], "alias_symbol": ["OLD"]})
GMT = "R-HSA-1\tfirst\tKLF1\tGATA1\nR-HSA-2\tsecond\tMYC\tKLF1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "networks"
    folder.mkdir()
    STRING.to_csv(folder / "string_v12.tsv.gz", sep="\t", index=False)
    GO.to_csv(folder / "gene2go_human.tsv.gz", sep="\t", index=False)
    PARENTS.to_csv(folder / "go_dag_parents.tsv.gz", sep="\t", index=False)
    ALIASES.to_csv(folder / "gene_aliases.tsv", sep="\t", index=False)
    (folder / "reactome.gmt.gz").write_bytes(gzip.compress(GMT.encode()))
    (folder / "unrelated.txt").write_text("nothing")
    return folder


@pytest.fixture
def effects() -> ad.AnnData:
    labels = ["KLF1", "GATA1+ABSENT", "NEW"]
    return ad.AnnData(
        np.zeros((3, 5), dtype=np.float32),
        obs=pd.DataFrame({"perturbation": labels}, index=labels),
        var=pd.DataFrame({"control_mean": 1.0}, index=GENES),
        layers={"lfc": np.ones((3, 5), dtype=np.float32)},
    )


def evidence_of(effects: ad.AnnData) -> dict:
    return effects.uns["scapp"]["evidence"]


def edges_of(effects: ad.AnnData, key: str) -> set[tuple[str, str]]:
    rows, columns = effects.varp[key].nonzero()
    return {(GENES[i], GENES[j]) for i, j in zip(rows, columns, strict=True) if i < j}


def test_each_source_goes_where_the_documentation_says(effects, folder):
    assert pp.add_evidence(effects, local=folder) is None
    # The database channel is empty, and the weakest edge lies below the score that is asked for by default.
    assert edges_of(effects, "network") == {("KLF1", "GATA1"), ("GATA1", "MYC")}
    assert edges_of(effects, "experiments") == {("KLF1", "GATA1")}
    assert edges_of(effects, "coexpression") == {("GATA1", "MYC")}
    assert effects.varp["network"][0, 1] == 1 and effects.varp["network"][1, 2] == pytest.approx(500 / 900)
    evidence = evidence_of(effects)
    assert list(evidence["network_keys"]) == ["experiments", "coexpression", "network"]
    assert list(evidence["gene_features_keys"]) == ["go", "reactome"]
    assert evidence["networks"]["network"]["license"] == "CC BY 4.0"
    assert evidence["networks"]["network"]["file"] == "string_v12.tsv.gz"
    assert (evidence["networks"]["network"]["n_edges"], evidence["networks"]["network"]["n_genes"]) == (2, 3)
    assert evidence["gene_features"]["reactome"] | {"date": ""} == {
        "source": "Reactome",
        "license": "CC0 1.0",
        "version": "",
        "date": "",
        "file": "reactome.gmt.gz",
        "n_genes": 3,
        "n_features": 2,
    }


def test_annotation_is_passed_on_to_broader_terms_and_dot_products_are_cosines(effects, folder):
    pp.add_evidence(effects, sources=["go"], local=folder)
    similar = effects.varm["go"] @ effects.varm["go"].T
    # KLF1 has the parent of its term, which GATA1 has as well; NEW is found by its old name, and shares a term with GATA1.
    assert similar[0, 1] > 0.3 and similar[4, 1] > 0.3
    assert similar[0, 4] == pytest.approx(0, abs=1e-6) and similar[2, 3] == pytest.approx(1, abs=1e-6)


def test_names_of_genes_are_matched_by_symbol_alone_where_that_is_asked(effects, folder):
    pp.add_evidence(effects, sources=["go"], local=folder, aliases=None)
    assert np.isnan(effects.varm["go"][4]).all()
    pp.add_evidence(effects, sources=["go"], local=folder, aliases={"OLD": "NEW"})
    assert np.isfinite(effects.varm["go"][4]).all()


def test_a_lower_score_lets_weaker_edges_in(effects, folder):
    pp.add_evidence(effects, sources="string", local=folder, min_score=0)
    assert ("MYC", "SPI1") in edges_of(effects, "network") & edges_of(effects, "experiments")


def test_perturbed_genes_without_evidence_are_named_with_the_call_that_mends_it(effects, folder, caplog):
    pp.add_evidence(effects, sources=["string"], local=folder)
    assert list(evidence_of(effects)["perturbed_genes_without_evidence"]) == ["ABSENT", "NEW"]
    assert list(evidence_of(effects)["perturbed_genes_not_in_var"]) == ["ABSENT"]
    assert "1 of 4 perturbed genes are without any evidence: NEW" in caplog.text
    assert "ABSENT. Add them with `effects = scapp.pp.add_unmeasured_genes(effects, control=None)`" in caplog.text
    # Another call adds to what is known: GO has NEW, by its old name.
    pp.add_evidence(effects, sources=["go"], local=folder)
    assert list(evidence_of(effects)["perturbed_genes_without_evidence"]) == ["ABSENT"]
    assert list(evidence_of(effects)["network_keys"]) == ["experiments", "coexpression", "network"]


def test_the_log_holds_one_summary_and_levels_are_as_before(effects, folder, caplog):
    level = logging.getLogger("scapp.pp").level
    pp.add_evidence(effects, local=folder)
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert len(messages) == 1 and "features 'go' (Gene Ontology, CC BY 4.0)" in messages[0]
    assert logging.getLogger("scapp.pp").level == level
    # What each function has to say is kept all the same.
    assert effects.uns["scapp"]["networks"]["network"]["report"]["n_edges"] == 2
    assert effects.uns["scapp"]["gene_features"]["go"]["params"]["propagated"]


def test_own_networks_and_tables_join_in_the_same_call(effects, folder):
    mine = pd.DataFrame({"source": ["SPI1"], "target": ["NEW"]})
    table = pd.DataFrame({"f": [1.0, 2.0], "g": [0.0, 1.0]}, index=["KLF1", "ABSENT"])
    terms = {"a": ["KLF1", "MYC"], "b": ["KLF1", "MYC", "SPI1"], "c": ["SPI1", "MYC"]}
    pp.add_evidence(
        effects, sources=["string"], local=folder, networks={"mine": mine}, features={"text": table, "sets": terms}
    )
    assert edges_of(effects, "mine") == {("SPI1", "NEW")}
    np.testing.assert_array_equal(effects.varm["text"][0], [1, 0])
    assert list(evidence_of(effects)["network_keys"]) == ["experiments", "coexpression", "network", "mine"]
    assert list(evidence_of(effects)["gene_features_keys"]) == ["text", "sets"]
    assert effects.uns["scapp"]["gene_features"]["sets"]["params"]["max_genes"] == 1000
    assert evidence_of(effects)["networks"]["mine"]["license"] == ""
    alone = effects.copy()
    del alone.uns["scapp"]
    pp.add_evidence(alone, sources=(), networks={"mine": mine}, aliases=None)
    assert list(evidence_of(alone)["network_keys"]) == ["mine"]


def test_a_copy_leaves_the_effects_as_they_were(effects, folder, assert_same):
    before = effects.copy()
    changed = pp.add_evidence(effects, local=folder, copy=True)
    assert_same(effects, before)
    assert changed is not None and "go" in changed.varm
    pp.add_evidence(effects, local=folder)
    assert_same(effects, changed)
    # A view cannot be written into, and need not be for a copy.
    with pytest.raises(ValueError, match="view of another AnnData"):
        pp.add_evidence(effects[:2], local=folder)
    assert "go" in pp.add_evidence(effects[:2], local=folder, copy=True).varm


def test_evidence_survives_h5ad_and_subsetting(effects, folder, tmp_path):
    pp.add_evidence(effects, local=folder)
    effects.write_h5ad(tmp_path / "effects.h5ad")
    again = ad.read_h5ad(tmp_path / "effects.h5ad")[:2].copy()
    assert list(evidence_of(again)["network_keys"]) == ["experiments", "coexpression", "network"]
    pp.add_evidence(again, sources=["go"], local=folder)
    assert list(evidence_of(again)["gene_features_keys"]) == ["reactome", "go"]


BAD_NETWORK = pd.DataFrame({"source": ["KLF1"], "target": ["MYC"], "weight": [np.nan]})
BAD_FEATURES = pd.DataFrame({"f": [1.0, np.inf]}, index=["KLF1", "MYC"])
FOREIGN = pd.DataFrame({"source": ["X1", "X2"], "target": ["X3", "X4"]})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sources": ["string", "kegg"]}, ValueError, "some of 'string', 'go', 'reactome', found 'kegg'"),
        ({"sources": ()}, ValueError, "no evidence to add"),
        ({"organism": "martian"}, ValueError, "organism must be one of"),
        ({"organism": "mouse", "local": None}, ValueError, r"human only.*sources=\['string', 'go'\]"),
        ({"local": "nowhere"}, ValueError, "no folder 'nowhere'"),
        ({"local": 3}, TypeError, "path of a folder, or None, found int"),
        ({"min_score": 0.4}, ValueError, "scale of STRING's web page.*min_score=400"),
        ({"min_score": -1}, ValueError, "between 0 and 1000"),
        ({"min_score": 950}, ValueError, "the largest is 900. Lower min_score"),
        ({"networks": STRING}, TypeError, r"mapping from a key to its edges.*networks=\{'mine': edges\}"),
        ({"networks": {"network": STRING}}, ValueError, "'network' in networks is taken"),
        ({"features": {"go": BAD_FEATURES}}, ValueError, "'go' in features is taken"),
        ({"features": {"a/b": BAD_FEATURES}}, ValueError, "cannot name a slot"),
        ({"networks": {"mine": BAD_NETWORK}}, ValueError, "weight that is missing"),
        ({"networks": {"mine": FOREIGN}}, ValueError, "genes of adata occur"),
        ({"features": {"mine": BAD_FEATURES}}, ValueError, "missing or infinite"),
        ({"max_genes": 1}, ValueError, "None of the"),
        ({"n_components": 0}, ValueError, "n_components must be"),
    ],
)
def test_bad_input_is_refused_and_effects_stay_as_they_were(effects, folder, options, error, message, assert_same):
    effects.varm["go"] = np.ones((5, 2), dtype=np.float32)
    before = effects.copy()
    with pytest.raises(error, match=f"(?s){message}"):
        pp.add_evidence(effects, **{"local": folder, "progress_bar": False} | options)
    assert_same(effects, before)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("string_v12.tsv.gz", r"no file for STRING, which is named like string\*.tsv.gz; it holds gene2go"),
        ("gene2go_human.tsv.gz", "no file for GO annotations"),
        ("go_dag_parents.tsv.gz", "no file for the parents of GO terms"),
        ("reactome.gmt.gz", r"no file for Reactome gene sets.*sources=\[…\]"),
    ],
)
def test_a_file_that_the_folder_lacks_is_named(effects, folder, gone, message, assert_same):
    (folder / gone).unlink()
    before = effects.copy()
    with pytest.raises(ValueError, match=message):
        pp.add_evidence(effects, local=folder)
    assert_same(effects, before)


def test_two_files_for_one_source_are_not_guessed_between(effects, folder):
    (folder / "string_v11.tsv").write_text(STRING.to_csv(sep="\t", index=False))
    with pytest.raises(ValueError, match=r"2 files for STRING: string_v11.tsv, string_v12.tsv.gz"):
        pp.add_evidence(effects, local=folder)


def test_a_folder_without_names_of_genes_needs_none(effects, folder):
    (folder / "gene_aliases.tsv").unlink()
    pp.add_evidence(effects, local=folder)
    assert np.isnan(effects.varm["go"][4]).all()


def test_a_channel_that_joins_none_of_the_genes_is_left_out_with_a_warning(effects, folder, caplog):
    table = pd.concat([STRING, pd.DataFrame([("X1", "X2", 900, 0, 0, 900)], columns=STRING.columns)])
    table.to_csv(folder / "string_v12.tsv.gz", sep="\t", index=False)
    pp.add_evidence(effects, sources=["string"], local=folder)
    assert "database" not in effects.varp
    assert "channel 'database' joins genes" in caplog.text


def test_an_interruption_leaves_effects_as_they_were(effects, folder, monkeypatch, assert_same):
    from scapp.pp import _evidence

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(_evidence, "add_gene_features", interrupt)
    before = effects.copy()
    with pytest.raises(KeyboardInterrupt):
        pp.add_evidence(effects, local=folder)
    assert_same(effects, before)


def test_the_real_files_give_what_the_benchmark_reads(shared_data):
    networks = shared_data / "networks"
    measured = benchmark.norman_doubles(shared_data).effects
    sources = string_and_annotations(networks)
    # The options are the same; few components are enough to see that the vectors are.
    defaults = {name: option.default for name, option in inspect.signature(pp.add_evidence).parameters.items()}
    for options in sources.features.values():
        assert {name: defaults[name] for name in ("max_genes", "n_components")} == {
            name: options[name] for name in ("max_genes", "n_components")
        }
    few = {key: {**options, "n_components": 8} for key, options in sources.features.items()}
    expected = dataclasses.replace(sources, features=few).add_to(measured)
    effects = pp.add_unmeasured_genes(measured, control=None)
    pp.add_evidence(effects, local=networks, n_components=8, progress_bar=False)
    for key in ("network", "experiments", "database", "coexpression"):
        assert (effects.varp[key] != expected.varp[key]).nnz == 0
    for key in ("go", "reactome"):
        np.testing.assert_array_equal(effects.varm[key], expected.varm[key])
    assert len(evidence_of(effects)["perturbed_genes_not_in_var"]) == 0
    assert len(evidence_of(effects)["perturbed_genes_without_evidence"]) < 5
