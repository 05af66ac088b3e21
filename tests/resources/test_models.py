"""Readers of published models, against small files of exactly the published formats."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from scapp import resources

IDS = [f"ENSG{number:011d}" for number in range(1, 7)]
SYMBOLS = ["KLF1", "CEBPA", "GATA1", "SPI1", "MAP2K6"]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class Bomb:
    """What a pickle can do: whoever loads it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.fixture
def bomb(tmp_path) -> Bomb:
    return Bomb(tmp_path / "executed")


# Geneformer


@pytest.fixture
def geneformer(tmp_path) -> Path:
    """A folder of the Hugging Face repository; rows 0 and 1 are special tokens."""
    folder = tmp_path / "geneformer"
    folder.mkdir()
    tensors = {
        "bert.embeddings.word_embeddings.weight": random(8, 4),
        "bert.embeddings.position_embeddings.weight": random(3, 4),
        "cls.predictions.bias": random(8),
    }
    save_file(tensors, folder / "model.safetensors")
    tokens = {"<pad>": 0, "<mask>": 1, **{name: row for row, name in enumerate(IDS, start=2)}}
    (folder / "tokens.json").write_text(json.dumps(tokens))
    return folder


def test_geneformer_gives_each_gene_the_row_of_its_token(geneformer):
    found = resources.read_geneformer(geneformer, geneformer / "tokens.json")
    np.testing.assert_array_equal(found.to_numpy(), random(8, 4)[2:].numpy())
    assert list(found.index) == IDS
    assert set(found.dtypes) == {np.dtype("float32")}
    assert found.attrs["format"] == "geneformer"
    assert found.attrs["source"].endswith("model.safetensors")
    assert found.attrs["n_special_tokens"] == 2


def test_geneformer_rows_follow_the_tokens_not_the_order_of_the_dictionary(geneformer):
    tokens = json.loads((geneformer / "tokens.json").read_text())
    found = resources.read_geneformer(geneformer, dict(reversed(tokens.items())))
    np.testing.assert_array_equal(found.loc[IDS[3]], random(8, 4)[5].numpy())


def test_geneformer_reads_pytorch_bin_and_bfloat16_alike(geneformer):
    tokens = geneformer / "tokens.json"
    weight = random(8, 4).bfloat16()
    save_file({"bert.embeddings.word_embeddings.weight": weight}, geneformer / "half.safetensors")
    torch.save(OrderedDict({"module.bert.embeddings.word_embeddings.weight": weight}), geneformer / "pytorch_model.bin")
    a = resources.read_geneformer(geneformer / "half.safetensors", tokens)
    b = resources.read_geneformer(geneformer / "pytorch_model.bin", tokens)
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, weight.float()[2:].numpy())


def test_geneformer_of_another_version_is_refused_as_genes_would_be_swapped(geneformer):
    with pytest.raises(ValueError, match=r"8 rows, but the token dictionary has 3 names.*another gene"):
        resources.read_geneformer(geneformer, {"<pad>": 0, IDS[0]: 1, IDS[1]: 2})
    gap = {"<pad>": 0, "<mask>": 1, **{name: row for row, name in enumerate(IDS, start=3)}}
    with pytest.raises(ValueError, match="rows 0 to 7 .* lacks 2"):
        resources.read_geneformer(geneformer, gap)
    with pytest.raises(ValueError, match="whole numbers.*'ENSG00000000001': 'one'"):
        resources.read_geneformer(geneformer, {IDS[0]: "one"})  # type: ignore[dict-item]


def test_pickled_token_dictionary_is_refused_with_the_conversion_and_not_run(geneformer, bomb):
    path = geneformer / "token_dictionary.pkl"
    path.write_bytes(pickle.dumps(bomb))
    with pytest.raises(ValueError, match="pickle") as error:
        resources.read_geneformer(geneformer, path)
    assert not bomb.target.exists()
    assert "json.dump" in str(error.value)


def test_conversion_that_the_error_shows_works(geneformer, monkeypatch):
    tokens = json.loads((geneformer / "tokens.json").read_text())
    path = geneformer / "token_dictionary_gc104M.pkl"
    path.write_bytes(pickle.dumps({name: np.int64(row) for name, row in tokens.items()}))
    with pytest.raises(ValueError) as error:
        resources.read_geneformer(geneformer, path)
    monkeypatch.chdir(geneformer)
    run_snippet(error.value)
    found = resources.read_geneformer(geneformer, path.with_suffix(".json"))
    pd.testing.assert_frame_equal(found, resources.read_geneformer(geneformer, tokens))


def run_snippet(error: ValueError) -> None:
    lines = [line[4:] for line in str(error).splitlines() if line.startswith("    ")]
    exec("\n".join(lines), {})


def test_disguised_pickle_is_recognised_by_its_content(geneformer, bomb):
    path = geneformer / "tokens2.json"
    path.write_bytes(pickle.dumps(bomb))
    with pytest.raises(ValueError, match="is a pickle"):
        resources.read_geneformer(geneformer, path)
    assert not bomb.target.exists()


def test_checkpoint_with_code_is_refused_and_not_run(geneformer, bomb):
    path = geneformer / "pytorch_model.bin"
    torch.save({"bert.embeddings.word_embeddings.weight": random(8, 4), "optimizer": bomb}, path)
    with pytest.raises(ValueError, match="is a pickle, or holds one") as error:
        resources.read_geneformer(path, geneformer / "tokens.json")
    assert not bomb.target.exists()
    assert "save_file" in str(error.value)
    path.write_bytes(pickle.dumps(bomb))
    with pytest.raises(ValueError):
        resources.read_geneformer(path, geneformer / "tokens.json")
    assert not bomb.target.exists()


def test_loading_the_bomb_would_have_run_it(bomb):
    pickle.loads(pickle.dumps(bomb))
    assert bomb.target.exists()


def test_missing_tensor_lists_what_is_there(geneformer):
    save_file({"encoder.layer.weight": random(2, 2)}, geneformer / "other.safetensors")
    with pytest.raises(ValueError, match=r"no tensor 'bert\.embeddings.*1 tensor\(s\): encoder\.layer\.weight"):
        resources.read_geneformer(geneformer / "other.safetensors", geneformer / "tokens.json")


def test_truncated_checkpoints_are_refused(geneformer):
    whole = (geneformer / "model.safetensors").read_bytes()
    (geneformer / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read as safetensors.*Download it again"):
        resources.read_geneformer(geneformer, geneformer / "tokens.json")
    path = geneformer / "cut.bin"
    torch.save({"bert.embeddings.word_embeddings.weight": random(8, 4)}, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="cut short"):
        resources.read_geneformer(path, geneformer / "tokens.json")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="cut short"):
        resources.read_geneformer(path, geneformer / "tokens.json")


def test_web_page_in_place_of_a_file_is_refused(geneformer):
    for name in ("page.bin", "page.safetensors"):
        (geneformer / name).write_text("<!DOCTYPE html><html>403 Forbidden</html>")
        with pytest.raises(ValueError, match="page"):
            resources.read_geneformer(geneformer / name, geneformer / "tokens.json")
    with pytest.raises(ValueError, match="not JSON"):
        resources.read_geneformer(geneformer, geneformer / "page.bin")


def test_nan_in_a_vector_names_the_gene(geneformer):
    weight = random(8, 4)
    weight[3, 1] = torch.nan
    save_file({"bert.embeddings.word_embeddings.weight": weight}, geneformer / "model.safetensors")
    with pytest.raises(ValueError, match=f"1 gene.*NaN.*{IDS[1]}"):
        resources.read_geneformer(geneformer, geneformer / "tokens.json")


def test_folder_without_a_model_says_what_it_holds(tmp_path):
    (tmp_path / "readme.md").touch()
    with pytest.raises(ValueError, match=r"model\.safetensors or pytorch_model\.bin, found readme\.md"):
        resources.read_geneformer(tmp_path, {})


# Ensembl ids


def test_ids_become_symbols_only_where_nothing_is_guessed(geneformer):
    table = pd.DataFrame(
        {
            "symbol": ["A", "B", "B2", "C", "C", "E"],
            # the second id has two symbols, the third and the fourth share one, the sixth is not in the table
            "ensembl_id": [IDS[0] + ".7", IDS[1], IDS[1], IDS[2], IDS[3], IDS[4]],
        }
    )
    found = resources.read_geneformer(geneformer, geneformer / "tokens.json", ensembl_ids=table)
    assert list(found.index) == ["A", "E"]
    np.testing.assert_array_equal(found.loc["E"], random(8, 4)[6].numpy())
    assert found.attrs["ensembl_ids"] == {
        "n_ids": 6, "n_translated": 2, "n_unknown": 1, "n_several_symbols": 1, "n_shared_symbol": 2,
    }  # fmt: skip


def test_versions_of_ids_in_the_file_are_stripped(geneformer):
    tokens = {"<pad>": 0, "<mask>": 1, **{f"{name}.{row}": row for row, name in enumerate(IDS, start=2)}}
    table = pd.DataFrame({"ensembl_id": IDS, "symbol": list("ABCDEF")})
    assert list(resources.read_geneformer(geneformer, tokens, ensembl_ids=table).index) == list("ABCDEF")


def test_real_table_translates_erythroid_genes(geneformer, shared_data):
    ids = {"ENSG00000105610": "KLF1", "ENSG00000102145": "GATA1"}
    tokens = {name: row for row, name in enumerate([*ids, *(f"<{i}>" for i in range(6))])}
    table = shared_data / "networks" / "gene_ensembl_ids.tsv.gz"
    found = resources.read_geneformer(geneformer, tokens, ensembl_ids=table)
    assert list(found.index) == list(ids.values())


def test_table_that_translates_nothing_is_refused_with_examples(geneformer):
    table = pd.DataFrame({"ensembl_id": ["ENSMUSG00000054191"], "symbol": ["Klf1"]})
    with pytest.raises(ValueError, match="None of the 6 names.*ENSG00000000001.*ENSMUSG00000054191"):
        resources.read_geneformer(geneformer, geneformer / "tokens.json", ensembl_ids=table)
    with pytest.raises(ValueError, match="columns 'ensembl_id' and 'symbol', found 'a'"):
        resources.read_geneformer(geneformer, geneformer / "tokens.json", ensembl_ids=pd.DataFrame({"a": [1]}))


# scGPT


@pytest.fixture
def scgpt(tmp_path) -> Path:
    folder = tmp_path / "scGPT_human"
    folder.mkdir()
    torch.save(
        OrderedDict(
            {
                "encoder.embedding.weight": random(8, 16),
                "encoder.enc_norm.weight": 1 + 0.1 * random(16),
                "encoder.enc_norm.bias": random(16),
                "transformer_encoder.layers.0.self_attn.Wqkv.weight": random(48, 16),
            }
        ),
        folder / "best_model.pt",
    )
    names = [*SYMBOLS, "<pad>", "<cls>", "<eoc>"]
    (folder / "vocab.json").write_text(json.dumps({name: row for row, name in enumerate(names)}))
    (folder / "args.json").write_text("{}")
    return folder


def test_scgpt_is_what_the_gene_encoder_returns(scgpt):
    found = resources.read_scgpt(scgpt)
    norm = torch.nn.LayerNorm(16)
    state = torch.load(scgpt / "best_model.pt", weights_only=True)
    norm.load_state_dict({name: state[f"encoder.enc_norm.{name}"] for name in ("weight", "bias")})
    expected = norm(state["encoder.embedding.weight"]).detach().numpy()[: len(SYMBOLS)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert list(found.index) == SYMBOLS
    assert found.attrs["layer_norm"] is True


def test_scgpt_without_layer_norm_is_the_tensor(scgpt):
    found = resources.read_scgpt(scgpt, layer_norm=False)
    np.testing.assert_array_equal(found, random(8, 16)[: len(SYMBOLS)].numpy())


def test_scgpt_whose_vocabulary_lacks_the_appended_special_tokens(scgpt):
    (scgpt / "vocab.json").write_text(json.dumps({name: row for row, name in enumerate(SYMBOLS)}))
    assert list(resources.read_scgpt(scgpt).index) == SYMBOLS
    (scgpt / "vocab.json").write_text(json.dumps({name: row for row, name in enumerate(SYMBOLS[:4])}))
    with pytest.raises(ValueError, match="8 rows, but the vocabulary has 4 names"):
        resources.read_scgpt(scgpt)


def test_scgpt_without_norm_in_the_checkpoint_lists_its_tensors(scgpt):
    torch.save({"encoder.embedding.weight": random(8, 16)}, scgpt / "best_model.pt")
    with pytest.raises(ValueError, match=r"no tensor 'encoder\.enc_norm\.weight'.*encoder\.embedding\.weight"):
        resources.read_scgpt(scgpt)


def test_scgpt_without_vocabulary_is_refused(scgpt):
    (scgpt / "vocab.json").unlink()
    with pytest.raises(ValueError, match=r"no file .*vocab\.json"):
        resources.read_scgpt(scgpt)


# scFoundation


@pytest.fixture
def scfoundation(tmp_path) -> Path:
    path = tmp_path / "models.ckpt"
    nested = {"state_dict": {"model.pos_emb.weight": random(8, 6), "model.norm.weight": random(6)}, "config": {"n": 1}}
    torch.save({"gene": nested, "cell": {"state_dict": {}}, "rde": {}}, path)
    return path


@pytest.fixture
def gene_table(tmp_path) -> Path:
    path = tmp_path / "OS_scRNA_gene_index.19264.tsv"
    pd.DataFrame({"gene_name": SYMBOLS, "index": range(5)}).to_csv(path, sep="\t", index=False)
    return path


def test_scfoundation_drops_the_three_rows_after_the_genes(scfoundation, gene_table):
    found = resources.read_scfoundation(scfoundation, gene_table)
    np.testing.assert_array_equal(found, random(8, 6)[:5].numpy())
    assert list(found.index) == SYMBOLS
    pd.testing.assert_frame_equal(found, resources.read_scfoundation(scfoundation, SYMBOLS))


def test_scfoundation_follows_the_numbers_of_a_shuffled_gene_table(scfoundation, gene_table):
    table = pd.read_csv(gene_table, sep="\t")
    table.iloc[[3, 0, 4, 2, 1]].to_csv(gene_table, sep="\t", index=False)
    assert list(resources.read_scfoundation(scfoundation, gene_table).index) == SYMBOLS
    table.assign(index=7).to_csv(gene_table, sep="\t", index=False)
    with pytest.raises(ValueError, match="should number the genes from 0"):
        resources.read_scfoundation(scfoundation, gene_table)


@pytest.mark.parametrize("names", [SYMBOLS[:4], [*SYMBOLS, "T", "S", "pad"]])
def test_scfoundation_with_another_number_of_genes_is_refused(scfoundation, names):
    with pytest.raises(ValueError, match=f"8 rows, that is 5 genes.*has {len(names)} names"):
        resources.read_scfoundation(scfoundation, names)


def test_scfoundation_checkpoint_of_another_nesting_says_what_it_holds(scfoundation):
    torch.save({"cell": {}, "rde": {}}, scfoundation)
    with pytest.raises(ValueError, match=r"\['gene'\]\['state_dict'\].*the keys 'cell', 'rde'"):
        resources.read_scfoundation(scfoundation, SYMBOLS)


def test_scfoundation_checkpoint_with_code_converts_as_shown(scfoundation, bomb, monkeypatch):
    whole = torch.load(scfoundation, weights_only=True)
    torch.save({**whole, "config": bomb}, scfoundation)
    with pytest.raises(ValueError, match="pickle") as error:
        resources.read_scfoundation(scfoundation, SYMBOLS)
    assert not bomb.target.exists()
    monkeypatch.chdir(scfoundation.parent)
    run_snippet(error.value)
    found = resources.read_scfoundation(scfoundation.with_suffix(".safetensors"), SYMBOLS)
    np.testing.assert_array_equal(found, random(8, 6)[:5].numpy())


# scBERT


@pytest.fixture
def gene2vec(tmp_path) -> Path:
    path = tmp_path / "gene2vec_16906.npy"
    np.save(path, random(5, 200).double().numpy())
    return path


def test_scbert_reads_rows_in_the_order_of_its_reference(gene2vec, tmp_path):
    reference = tmp_path / "panglao_10000.h5ad"
    ad.AnnData(np.zeros((2, 5), np.float32), var=pd.DataFrame(index=SYMBOLS)).write_h5ad(reference)
    (tmp_path / "genes.txt").write_text("\n".join(SYMBOLS) + "\n")
    (tmp_path / "genes.json").write_text(json.dumps(SYMBOLS))
    for genes in (reference, tmp_path / "genes.txt", tmp_path / "genes.json", SYMBOLS):
        found = resources.read_scbert(gene2vec, genes)
        np.testing.assert_allclose(found, random(5, 200).numpy())
        assert list(found.index) == SYMBOLS


def test_scbert_with_other_genes_or_shapes_is_refused(gene2vec):
    with pytest.raises(ValueError, match="5 rows, but the gene list has 4"):
        resources.read_scbert(gene2vec, SYMBOLS[:4])
    np.save(gene2vec, np.zeros(5))
    with pytest.raises(ValueError, match="matrix of numbers"):
        resources.read_scbert(gene2vec, SYMBOLS)
    with pytest.raises(ValueError, match="occur more than once.*KLF1"):
        np.save(gene2vec, np.zeros((5, 2)))
        resources.read_scbert(gene2vec, ["KLF1", *SYMBOLS[:4]])


def test_object_array_is_refused_and_not_run(gene2vec, bomb):
    np.save(gene2vec, np.array([bomb, bomb], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="is a pickle, or holds one") as error:
        resources.read_scbert(gene2vec, SYMBOLS)
    assert not bomb.target.exists()
    assert "allow_pickle=True" in str(error.value)


def test_truncated_array_and_unsuited_gene_lists_are_refused(gene2vec, tmp_path, bomb):
    table = tmp_path / "genes.tsv"
    table.write_text("number\tname\n1\tKLF1\n")
    with pytest.raises(ValueError, match="no column 'gene_name'.*'number', 'name'"):
        resources.read_scbert(gene2vec, table)
    (tmp_path / "genes.json").write_text("{}")
    with pytest.raises(ValueError, match="list of gene names"):
        resources.read_scbert(gene2vec, tmp_path / "genes.json")
    (tmp_path / "genes.pkl").write_bytes(pickle.dumps(bomb))
    with pytest.raises(ValueError, match="is a pickle"):
        resources.read_scbert(gene2vec, tmp_path / "genes.pkl")
    assert not bomb.target.exists()
    (tmp_path / "panglao.h5ad").write_text("no")
    with pytest.raises(ValueError, match="cannot be read as h5ad"):
        resources.read_scbert(gene2vec, tmp_path / "panglao.h5ad")
    gene2vec.write_bytes(gene2vec.read_bytes()[:300])
    with pytest.raises(ValueError, match="cannot be read as numpy arrays"):
        resources.read_scbert(gene2vec, SYMBOLS)


# GenePT


def test_genept_pickle_is_refused_and_converts_as_shown(tmp_path, bomb, monkeypatch):
    path = tmp_path / "GenePT_gene_embedding_ada_text.pickle"
    vectors = {name: list(map(float, row)) for name, row in zip(SYMBOLS, random(5, 3), strict=True)}
    path.write_bytes(pickle.dumps({"KLF1": bomb}))
    with pytest.raises(ValueError, match="is a pickle") as error:
        resources.read_genept(path)
    assert not bomb.target.exists()
    path.write_bytes(pickle.dumps(vectors))
    monkeypatch.chdir(tmp_path)
    run_snippet(error.value)
    found = resources.read_genept(path.with_suffix(".npz"))
    np.testing.assert_array_equal(found, random(5, 3).numpy())
    assert list(found.index) == SYMBOLS
    assert found.attrs["format"] == "genept"
    (tmp_path / "genept.json").write_text(json.dumps(vectors))
    np.testing.assert_array_equal(resources.read_genept(tmp_path / "genept.json"), found)
