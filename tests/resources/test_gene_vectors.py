"""Vectors of genes in the forms of PIE, STRING and DepMap, on small files of the same form."""

from __future__ import annotations

import json

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest

import scapp
from scapp import resources

GENES = ["KLF1", "GATA1", "SPI1"]
VALUES = np.arange(12, dtype=np.float16).reshape(3, 4) - 3


def write_pie(folder, values=VALUES, offsets=None, **changed):
    """A source of knowledge as PIE writes it."""
    folder.mkdir(exist_ok=True)
    meta = {
        "format_version": 1,
        "name": "esm2",
        "layout": "dense" if offsets is None else "token",
        "index": "gene",
        "keys": GENES,
        "dim": 4,
        "dtype": "float16",
        "provenance": {"model": "esm2_t33_650M_UR50D", "inputs": [{"sha256": "0"}]},
    }
    (folder / "meta.json").write_text(json.dumps(meta | changed))
    np.save(folder / "embeddings.npy", values)
    if offsets is not None:
        np.save(folder / "offsets.npy", offsets)
    return folder


def write_string(path, *, species=None, names=("9606.ENSP1", "9606.ENSP2", "9606.ENSP3")):
    """STRING's embeddings of one species, or of several."""
    with h5py.File(path, "w") as file:
        for number in species or [None]:
            group = file if number is None else file.create_group(f"species/{number}")
            group.create_dataset("proteins", data=np.array([name.encode() for name in names]))
            group.create_dataset("embeddings", data=VALUES + (0 if number is None else int(number)))
        file.create_group("metadata").attrs["version"] = "12.0"
    return path


def write_depmap(path, **columns):
    """DepMap's table: lines of cells in the rows."""
    lines = [f"ACH-00000{i}" for i in range(5)]
    table = pd.DataFrame(
        {
            "KLF1 (10661)": [0.0, -1, -2, -1, -1],
            "GATA1 (2623)": [0.5, -0.5, np.nan, -0.5, -0.5],
            "NA (9)": [2.0, 1, 0, 1, 1],
        }
        | columns,
        index=lines,
    )
    table.to_csv(path)
    return path


def test_folder_of_pie_keeps_names_values_and_provenance(tmp_path):
    folder = write_pie(tmp_path / "esm2")
    for read in (resources.read_embedding, resources.read_embedding_table):
        table = read(folder)
        assert list(table.index) == GENES
        np.testing.assert_array_equal(table, VALUES)
    assert table.attrs["format"] == "pie" and table.attrs["name"] == "esm2"
    assert json.loads(table.attrs["provenance"])["model"] == "esm2_t33_650M_UR50D"


def test_tokens_of_a_gene_become_their_mean(tmp_path):
    folder = write_pie(tmp_path / "text", VALUES[[0, 0, 1, 2, 0]], np.array([0, 2, 3, 5]))
    table = resources.read_embedding_table(folder)
    np.testing.assert_allclose(table, np.stack([VALUES[0], VALUES[1], (VALUES[2] + VALUES[0]) / 2]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keys": []}, "no list of names under 'keys'"),
        ({"keys": [1, 2, 3]}, "no list of names under 'keys'"),
        ({"keys": GENES[:2]}, "3 vectors in embeddings.npy, but 2 keys in meta.json"),
        ({"keys": ["KLF1", "KLF1", "SPI1"]}, "occur more than once"),
        ({"index": "context"}, "describes contexts and not genes"),
        ({"values": VALUES[:, 0]}, "should be a matrix of numbers"),
        ({"values": np.full((3, 4), np.nan)}, "hold NaN"),
        ({"layout": "token"}, "There is no file .*offsets.npy"),
        ({"offsets": np.array([0, 1, 2])}, "should hold 4 increasing whole numbers from 0 to 3"),
        ({"offsets": np.array([0, 2, 1, 3])}, "should hold 4 increasing whole numbers"),
    ],
)
def test_broken_folders_of_pie_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        resources.read_embedding_table(write_pie(tmp_path / "pie", **options))


def test_folder_of_nothing_known_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no known model: expected .* or meta.json and embeddings.npy"):
        resources.read_embedding(tmp_path)
    with pytest.raises(ValueError, match="is a folder, expected a file"):
        resources.read_embedding_table(tmp_path)


def test_pickled_arrays_of_a_folder_are_not_run(tmp_path):
    folder = write_pie(tmp_path / "pie")
    np.save(folder / "embeddings.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="is a pickle, or holds one"):
        resources.read_embedding(folder)


def test_embeddings_of_string_are_read_by_protein(tmp_path):
    one = resources.read_embedding(write_string(tmp_path / "9606.protein.network.embeddings.v12.0.h5"))
    assert list(one.index) == ["9606.ENSP1", "9606.ENSP2", "9606.ENSP3"]
    np.testing.assert_array_equal(one, VALUES)
    of_all = write_string(tmp_path / "protein.network.embeddings.v12.0.h5", species=["9606", "10090"])
    np.testing.assert_array_equal(
        resources.read_embedding_table(of_all, key="9606"), (VALUES + 9606).astype(np.float32)
    )
    with pytest.raises(
        ValueError, match="it has 2 species; name one with key=…, such as '9606' for human: 10090, 9606"
    ):
        resources.read_embedding_table(of_all)
    with pytest.raises(ValueError, match="it has no species '7'"):
        resources.read_embedding_table(of_all, key="7")
    single = write_string(tmp_path / "single.h5", species=["9606"])
    assert len(resources.read_embedding_table(single)) == 3


@pytest.mark.parametrize("key", [None, "9606"])
def test_other_and_broken_hdf5_files_are_named(tmp_path, key):
    whole = write_string(tmp_path / "a.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.h5").write_text("nothing")
    ad.AnnData(np.ones((2, 2))).write_h5ad(tmp_path / "other.h5ad")
    (tmp_path / "other.h5ad").rename(tmp_path / "other.h5")
    for name in ("cut.h5", "text.h5", "other.h5"):
        with pytest.raises(ValueError, match=f"{name}' cannot be read as embeddings of STRING"):
            resources.read_embedding_table(tmp_path / name, key=key)


def test_string_embeddings_reach_the_genes_by_strings_table_of_names(tmp_path):
    path = write_string(tmp_path / "9606.protein.network.embeddings.v12.0.h5")
    info = tmp_path / "9606.protein.info.v12.0.txt"
    rows = "".join(f"9606.ENSP{i + 1}\t{gene}\t100\ttext\n" for i, gene in enumerate(GENES))
    info.write_text("#string_protein_id\tpreferred_name\tprotein_size\tannotation\n" + rows)
    adata = ad.AnnData(np.ones((1, 3), np.float32), var=pd.DataFrame(index=GENES[::-1]))
    scapp.pp.add_gene_features(adata, path, key_added="string", aliases=info)
    np.testing.assert_array_equal(adata.varm["string"], VALUES[::-1])


def test_depmap_is_centred_so_that_cosines_are_correlations(tmp_path, caplog):
    path = write_depmap(
        tmp_path / "CRISPRGeneEffect.csv",
        **{"SPI1 (6688)": [0.1] * 5, "MYC (4609)": [1.0, np.nan, np.nan, np.nan, 2.0], "note": list("abcde")},
    )
    table = resources.read_embedding(path)
    assert list(table.index) == ["KLF1", "GATA1", "NA"]
    np.testing.assert_allclose(table.loc["KLF1"], [1, 0, -1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(table.loc["GATA1"], [0.75, -0.25, 0, -0.25, -0.25], atol=1e-6)
    length = np.linalg.norm(table, axis=1)
    cosine = (table.to_numpy() @ table.to_numpy().T) / np.outer(length, length)
    raw = pd.read_csv(path, index_col=0)
    assert cosine[0, 2] == pytest.approx(raw["KLF1 (10661)"].corr(raw["NA (9)"]))
    assert {k: table.attrs[k] for k in ("format", "n_lines", "n_mostly_missing", "n_constant")} == {
        "format": "depmap",
        "n_lines": 5,
        "n_mostly_missing": 1,
        "n_constant": 1,
    }
    assert "3 genes in 5 lines of cells" in caplog.text and "1 columns that name no gene" in caplog.text


def test_depmap_with_text_in_a_gene_is_refused(tmp_path):
    path = write_depmap(tmp_path / "effects.csv", **{"SPI1 (6688)": ["x", "1", "1", "1", "1"]})
    with pytest.raises(ValueError, match=r"1 columns .* hold something else than numbers: 'SPI1 \(6688\)'"):
        resources.read_embedding_table(path)


def test_depmap_of_two_genes_of_one_symbol_is_the_users_choice(tmp_path):
    path = write_depmap(tmp_path / "effects.csv", **{"KLF1 (7)": [1.0, 2, 3, 4, 5]})
    with pytest.raises(ValueError, match="1 gene name.* more than once .*KLF1"):
        resources.read_embedding_table(path)
    assert list(resources.read_embedding_table(path, duplicates="first").index) == ["KLF1", "GATA1", "NA"]


def test_an_ordinary_csv_is_no_depmap(tmp_path):
    table = pd.DataFrame(VALUES.astype(float), index=GENES, columns=["a (b)", "c", "dim 1", "x (1) y"])
    table.to_csv(tmp_path / "a.csv")
    np.testing.assert_array_equal(resources.read_embedding_table(tmp_path / "a.csv"), VALUES)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00 (1),")
    with pytest.raises(ValueError):
        resources.read_embedding_table(tmp_path / "bytes.csv")


@pytest.mark.parametrize("form", ["pie", "depmap", "h5ad", "npz", "parquet"])
def test_every_form_is_a_feature_in_one_call(tmp_path, form):
    table = pd.DataFrame(VALUES.astype(np.float32), index=pd.Index(GENES, name="gene")).rename(columns=str)
    path = tmp_path / f"vectors.{form}"
    if form == "pie":
        write_pie(path)
    elif form == "depmap":
        path = write_depmap(tmp_path / "effects.csv", **{"SPI1 (6688)": [1.0, 0, 0, 0, 0]})
    elif form == "h5ad":
        ad.AnnData(table).write_h5ad(path)
    elif form == "npz":
        np.savez(path, genes=np.array(GENES), embedding=table.to_numpy())
    else:
        table.to_parquet(path)
    adata = ad.AnnData(np.ones((1, 3), np.float32), var=pd.DataFrame(index=GENES))
    scapp.pp.add_gene_features(adata, path, key_added="vectors")
    expected = resources.read_embedding(path).loc[GENES]
    np.testing.assert_allclose(adata.varm["vectors"], expected)
    assert scapp.pp.report(adata, "gene_features", "vectors").n_genes_with_features == 3
