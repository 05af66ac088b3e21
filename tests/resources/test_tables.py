"""Tables of embeddings, and the call for all formats."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import scapp
from scapp import resources

GENES = ["KLF1", "NA", "NAN"]  # of which a careless reader takes two for missing values
TABLE = pd.DataFrame(np.arange(12, dtype=np.float32).reshape(3, 4) / 7, index=pd.Index(GENES, name="gene"))


def write(path, table: pd.DataFrame = TABLE) -> None:
    named = table.rename(columns=str)
    match path.name.split(".")[1]:
        case "csv":
            named.to_csv(path)
        case "tsv" | "txt":
            named.to_csv(path, sep="\t")
        case "parquet":
            (named if path.stem == "index" else named.reset_index()).to_parquet(path)
        case "npz":
            np.savez(path, symbol=np.array(table.index, dtype=str), embedding=table.to_numpy())
        case "json":
            path.write_text(json.dumps({name: list(map(float, row)) for name, row in table.iterrows()}))
        case "h5ad":
            ad.AnnData(table.to_numpy(), obs=pd.DataFrame(index=list(table.index))).write_h5ad(path)


@pytest.mark.parametrize(
    "name", ["a.csv", "a.csv.gz", "a.tsv", "a.txt.gz", "a.parquet", "index.parquet", "a.npz", "a.json", "a.h5ad"]
)
def test_same_table_from_every_format(tmp_path, name):
    write(tmp_path / name)
    found = resources.read_embedding_table(tmp_path / name)
    np.testing.assert_allclose(found, TABLE, rtol=1e-6)
    assert list(found.index) == GENES
    assert set(found.dtypes) == {np.dtype("float32")}
    assert found.attrs["source"] == str(tmp_path / name)
    assert found.attrs["format"] == name.split(".")[1]


def test_h5ad_reads_varm_by_key(tmp_path):
    adata = ad.AnnData(np.zeros((1, 3), np.float32), var=pd.DataFrame(index=GENES), varm={"GenePT": TABLE.to_numpy()})
    adata.write_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(resources.read_embedding(tmp_path / "a.h5ad", key="GenePT"), TABLE)
    with pytest.raises(ValueError, match=r"no varm\['genept'\]; its keys are GenePT"):
        resources.read_embedding_table(tmp_path / "a.h5ad", key="genept")
    write(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="no h5ad file"):
        resources.read_embedding_table(tmp_path / "a.csv", key="GenePT")


def test_real_text_embeddings_are_read(shared_data):
    found = resources.read_embedding(shared_data / "networks" / "gene_summary_minilm_l6_v2.npz")
    assert found.shape == (20598, 384)
    assert np.isfinite(found.to_numpy()).all()


def test_duplicates_are_refused_or_treated_as_said(tmp_path):
    write(tmp_path / "a.csv", pd.DataFrame([[1.0, 2.0], [5.0, 5.0], [3.0, 6.0]], index=["A", "B", "A"]))
    with pytest.raises(ValueError, match=r"1 gene name.*more than once.*: A\. Pass duplicates='first'"):
        resources.read_embedding_table(tmp_path / "a.csv")
    first = resources.read_embedding_table(tmp_path / "a.csv", duplicates="first")
    mean = resources.read_embedding_table(tmp_path / "a.csv", duplicates="mean")
    assert first.loc["A"].tolist() == [1, 2]
    assert mean.loc["A"].tolist() == [2, 4]
    assert list(mean.index) == ["A", "B"]
    assert mean.attrs["n_repeated_names"] == 1
    with pytest.raises(ValueError, match="duplicates must be"):
        resources.read_embedding_table(tmp_path / "a.csv", duplicates="last")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("gene,0,1\nKLF1,0.5,\n", "missing or no numbers.*KLF1"),
        ("gene,0,1\nKLF1,0.5,inf\n", "1 gene.*infinite.*KLF1"),
        ("gene,0,kind\nKLF1,0.5,factor\n", "no numbers, the first being 'factor' in the column 'kind'"),
        ("KLF1,0.25,-0.5\nGATA1,0.1,0.2\n", "no header"),
        ("0,1\n1,0.5\n2,0.7\n", "should name the genes, found numbers"),
        ("gene,0\n ,0.5\nKLF1,0.7\n", "1 of the 2 gene names .* empty"),
        ("gene\nKLF1\n", "matrix of numbers"),
    ],
)
def test_unusable_text_says_why(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        resources.read_embedding_table(tmp_path / "a.csv")


def test_wrong_and_truncated_files_are_refused(tmp_path):
    for name in ("a.parquet", "a.npz", "a.h5ad", "a.csv.gz", "a.json"):
        write(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=f"{name}.*(Is it complete|cannot be read)"):
            resources.read_embedding_table(tmp_path / name)
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match="no known format.*npz, csv"):
        resources.read_embedding(tmp_path / "a.xlsx")
    with pytest.raises(ValueError, match="There is no file"):
        resources.read_embedding(tmp_path / "absent.csv")


def test_arrays_without_names_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", embedding=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"one array of gene names.*embedding float64\(2, 3\)"):
        resources.read_embedding_table(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    with pytest.raises(ValueError, match="without gene names.*read_scbert"):
        resources.read_embedding_table(tmp_path / "a.npy")


def test_names_as_objects_are_refused_with_a_conversion(tmp_path):
    np.savez(tmp_path / "a.npz", genes=np.array(GENES, dtype=object), embedding=TABLE.to_numpy())
    with pytest.raises(ValueError, match=r"holds one[\s\S]*np\.savez\('new_a\.npz'"):
        resources.read_embedding_table(tmp_path / "a.npz")


def test_unequal_vectors_are_named(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"A": [1, 2], "B": [1, 2], "C": [1], "D": "text"}))
    with pytest.raises(ValueError, match=r"2 of 4 differ from the usual 2: 'C' \(1\), 'D' \(-1\)"):
        resources.read_embedding_table(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ValueError, match="map genes to vectors, found a list"):
        resources.read_embedding_table(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["a.pkl", "a.pickle", "a.csv", "a.parquet"])
def test_pickles_under_any_name_are_refused_and_not_run(tmp_path, name):
    class Bomb:
        def __reduce__(self):
            return type(tmp_path).touch, (tmp_path / "executed",)

    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    for reader in (resources.read_embedding, resources.read_embedding_table, resources.read_genept):
        with pytest.raises(ValueError, match="is a pickle"):
            reader(tmp_path / name)
    assert not (tmp_path / "executed").exists()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), suffix=st.sampled_from(["csv", "json", "npz", "npy", "parquet", "ckpt", "bin"]))
@example(content=b"G", suffix="ckpt")  # struct.error in torch's unpickler
def test_any_bytes_end_in_a_table_or_an_error_that_names_the_file(tmp_path, content, suffix):
    path = tmp_path / f"anything.{suffix}"
    path.write_bytes(content)
    options = {"ckpt": {"gene_list": ["A"]}, "npy": {"gene_list": ["A"]}, "bin": {"token_dictionary": {"A": 0}}}
    try:
        found = resources.read_embedding(path, **options.get(suffix, {}))
    except ValueError as error:
        assert "anything" in str(error)
    else:
        assert np.isfinite(found.to_numpy()).all()


# read


def test_read_recognises_folders_and_files(tmp_path):
    weight = torch.arange(6.0).reshape(3, 2)
    folder = tmp_path / "scgpt"
    folder.mkdir()
    torch.save({"encoder.embedding.weight": weight}, folder / "best_model.pt")
    (folder / "vocab.json").write_text('{"A": 0, "B": 1, "<pad>": 2}')
    assert resources.read_embedding(folder, layer_norm=False).attrs["format"] == "scgpt"
    torch.save({"bert.embeddings.word_embeddings.weight": weight}, tmp_path / "pytorch_model.bin")
    tokens = {"A": 0, "B": 1, "C": 2}
    assert resources.read_embedding(tmp_path, token_dictionary=tokens).attrs["format"] == "geneformer"
    torch.save({"gene": {"state_dict": {"model.pos_emb.weight": torch.zeros(5, 2)}}}, tmp_path / "models.ckpt")
    assert resources.read_embedding(tmp_path / "models.ckpt", gene_list=["A", "B"]).attrs["format"] == "scfoundation"
    np.save(tmp_path / "gene2vec_16906.npy", np.zeros((2, 2)))
    assert resources.read_embedding(tmp_path / "gene2vec_16906.npy", gene_list=["A", "B"]).attrs["format"] == "scbert"
    write(tmp_path / "genept.json")
    assert resources.read_embedding(tmp_path / "genept.json", "genept").attrs["format"] == "genept"


def test_read_says_which_argument_is_missing_or_too_many(tmp_path):
    (tmp_path / "models.ckpt").touch()
    with pytest.raises(ValueError, match="read as scfoundation, which needs gene_list=…"):
        resources.read_embedding(tmp_path / "models.ckpt")
    write(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="read as table, which takes no layer_norm"):
        resources.read_embedding(tmp_path / "a.csv", layer_norm=False)
    with pytest.raises(ValueError, match="format must be one of 'geneformer'.*found 'bert'"):
        resources.read_embedding(tmp_path / "a.csv", "bert")
    (tmp_path / "model.pt").touch()
    with pytest.raises(ValueError, match="could be the checkpoint of any model"):
        resources.read_embedding(tmp_path / "model.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no known model.*found nothing"):
        resources.read_embedding(tmp_path / "empty")


def test_embedding_goes_into_gene_features(tmp_path):
    write(tmp_path / "a.csv")
    effects = ad.AnnData(np.zeros((1, 3), np.float32), var=pd.DataFrame(index=["KLF1", "NA", "SPI1"]))
    scapp.pp.add_gene_features(effects, resources.read_embedding(tmp_path / "a.csv"), key_added="table")
    np.testing.assert_allclose(np.asarray(effects.varm["table"])[:2], TABLE.to_numpy()[:2])


def test_import_and_tables_do_without_torch(tmp_path):
    write(tmp_path / "a.csv")
    code = (
        f"import sys, scapp; scapp.resources.read_embedding({str(tmp_path / 'a.csv')!r}); "
        "print({'torch', 'scvi', 'safetensors'} & sys.modules.keys())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_missing_safetensors_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ImportError, match=r"scapp\[embeddings\]"):
        resources.read_embedding(tmp_path, token_dictionary={})


def test_torch_that_cannot_load_safely_is_refused(tmp_path, monkeypatch):
    torch.save({}, tmp_path / "pytorch_model.bin")
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.5.1"))
    with pytest.raises(ImportError, match=r"torch 2\.5\.1 cannot read safely"):
        resources.read_embedding(tmp_path, token_dictionary={})
