"""Controls are recognised however they are numbered, prefixed and spelled, and no gene is one of them."""

from __future__ import annotations

import logging
import re
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scapp
from scapp._controls import doubtful, is_control, is_named, looks_like_control, missing_kind, recognised
from scapp._labels import check_control, parse_label
from scapp.model._effects import read_effects

SPELLED = """NTC NTC_1 ntc-2 non-targeting_00012 Non-Targeting nontargeting NonTargeting_Human_0001 non_targeting_control
    NonTargetingControlGuideForHuman_0001 non-targeting_00011_sg1 sgNegCtrl2 NegCtrl0 neg_ctrl-3 NEG_CONTROL_12 scramble
    Scrambled sgScramble_2 sgNT nt_5 NT-ctrl CTRL00698 ctrl_2 Control-A control safe_harbor SafeHarbor_3
    safe-targeting AAVS1 AAVS1_sg2 ROSA26 INTERGENIC12 ONE_INTERGENIC_SITE_4 ONE-NON-GENE-SITE NO_SITE_7 no-target
    no_target_3 untargeted unperturbed mock vehicle DMSO untreated EGFP sgGFP-1 LacZ luciferase 3x_neg_ctrl
    non-targeting-P1P2 empty_vector wild-type CTRL_1 Neg-Ctrl non_target NonTargeting-3 NT-sg1 Control_guide_7 sgCtrl Rosa26
    shLacZ sgLuc2 Fluc dsRed NTCs_1 NegCon-1 NonTarg_1 1_NTC 001_non-targeting NTC_d7 dmso_24h ctrl_rep1 control_sg1_rep2
    NT_plate2 NTC_CRISPRi [NTC] dCas9-KRAB Cas9_only no_plasmid mock-infected parental vector_1 EV olfactory_1 random_2
    cutting-control_1 not_perturbed""".split()
GENES = """NEGR1 SAFB SAFB2 CTRB1 CTRC CNTRL NTRK1 NTS NTN1 NTSR1 NT5E NT5C NTF3 NCL NCOR1 WT1 SCRIB SCRN1 SCRT1 MOCOS
    EGFR LUC7L SINT1 GNT1 INTS1 CTLA4 CONT EMX1 NELFA SAFE1A MT-ND1 HLA-A C3 T PosCtrl pos_ctrl_1 CTR9 CFP NC1 GAL4 ST3GAL4 RANBP1
    VECTOR1A EVI5 PBSN CONT1""".split()


@pytest.mark.parametrize("name", SPELLED)
def test_a_control_is_recognised_in_any_spelling(name):
    assert all(recognised(text) for text in (name, name.lower(), name.upper()))


@pytest.mark.parametrize("name", GENES)
def test_no_gene_is_taken_for_a_control(name):
    assert not recognised(name)
    assert parse_label(f"{name}+KLF1") == tuple(sorted([name, "KLF1"]))


def test_of_all_human_symbols_only_those_that_are_usual_names_of_controls_are_taken(shared_data):
    names = pd.read_csv(shared_data / "networks" / "gene_aliases.tsv.gz", sep="\t", dtype=str, na_filter=False)
    symbols = set(names["symbol"])
    assert {name for name in symbols if recognised(name)} == {"CTRL", "AAVS1"}
    assert not [name for name in symbols if missing_kind(name)]
    assert {name for name in symbols if looks_like_control(name)} == {"CTRL", "AAVS1"}
    assert doubtful("CTRL") and doubtful("AAVS1")


def test_a_gene_beside_a_control_is_no_chromosome_and_no_replicate():
    genes = "CHRM1 Chrm3 CHRM5 REP15 REPS1 Reps2".split()
    assert not [gene for gene in genes if recognised(f"ctrl_{gene}") or recognised(f"NT-{gene}")]
    assert all(parse_label(f"ctrl_{gene}", control="ctrl", sep="_") == (gene,) for gene in genes)
    assert all(map(recognised, ["AAVS1_chr19", "NTC_chrM_100", "ctrl_rep15", "CTRL_REP1", "NTC_chr1_12345"]))


def test_doses_are_not_missing_labels():
    assert [missing_kind(dose) for dose in ("0.5", "0.1 uM", "10.0")] == ["", "", ""]
    assert missing_kind("unassigned 2") == missing_kind("NA.1") == "missing"


def test_a_name_of_many_digits_is_looked_at_quickly():
    assert not recognised("1" * 90 + "!")
    assert recognised("NTC_" + "1" * 90)
    assert not recognised("x" * 10**6)


def test_one_name_takes_its_numbered_forms_with_it_and_no_other_spelling():
    assert all(is_named(name, "NTC") for name in ("NTC", "NTC_1", "sgNTC-2", "ntc"))
    assert not any(is_named(name, "NTC") for name in ("NT", "non-targeting", "NTCP", "Negative"))
    assert not is_named("WT1", "WT") and not is_named("NT3", "NT")


def test_a_list_names_all_controls():
    assert is_control("NTC_1", ["NTC"]) and not is_control("SCRAMBLE", ["NTC"])
    assert parse_label("SCRAMBLE+KLF1", control=["NTC"]) == ("KLF1", "SCRAMBLE")
    assert parse_label("CTRL", control=["NTC"]) == ("CTRL",) == parse_label("CTRL", control=None)
    assert parse_label("KLF1+NTC_12") == ("KLF1",) == parse_label("KLF1_NTC_12", sep="_")
    assert parse_label("ctrl_C3", sep="_") == ("C3",)
    with pytest.raises(TypeError, match=r"control=\['NT', 'safe-targeting'\]"):
        parse_label("KLF1", control=3)


def cells(counts: dict[str, int], genes: tuple[str, ...] = ("KLF1", "GATA1", "HBB", "ALAS2", "CTRL")) -> ad.AnnData:
    labels = [label for label, n in counts.items() for _ in range(n)]
    rng = np.random.default_rng(0)
    x = rng.poisson(20, size=(len(labels), len(genes))).astype(np.float32)
    obs = pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(len(labels))])
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=list(genes)))


@pytest.mark.parametrize("alias", ["Negative", "unperturbed", "mock", "vehicle", "DMSO", "NTC_2", "scramble"])
def test_other_controls_do_not_join_the_named_one_in_silence(alias):
    adata = cells({"NT": 20, alias: 60, "KLF1": 10})
    with pytest.raises(
        ValueError, match=rf"20 observations are labelled 'NT', but 60 more have .*'{alias}' \(60\)"
    ) as caught:
        scapp.pp.pseudobulk(adata, control="NT")
    assert "control=['NT', '" in str(caught.value) and len(str(caught.value).splitlines()) <= 3
    assert scapp.pp.pseudobulk(adata, control=["NT", alias]).uns["n_control_cells"] == 80


def test_numbered_controls_are_controls_and_are_counted(caplog, tmp_path):
    adata = cells({"NTC": 5, "NTC_1": 6, "NTC_2": 7, "KLF1": 4, "KLF1+NTC": 3})
    with caplog.at_level(logging.INFO, logger="scapp"):
        effects = scapp.pp.pseudobulk(adata, control="NTC")
    assert effects.obs["n_cells"].to_dict() == {"KLF1": 7} and effects.uns["n_control_cells"] == 18
    assert "'NTC_2' (7), 'NTC_1' (6), 'NTC' (5)" in caplog.text
    labels = "non-targeting_00012", "NegCtrl0", "scramble", "sgNT"
    adata = cells({"KLF1": 4, **dict.fromkeys(labels, 5)})
    with pytest.raises(ValueError, match=r"'non-targeting_00012' \(5\).*control=\[.*'non-targeting'.*\]"):
        scapp.pp.pseudobulk(adata)
    effects = scapp.pp.pseudobulk(adata, control=["sgNT", "scramble", "NegCtrl", "non-targeting"])
    assert list(effects.obs_names) == ["KLF1"] and effects.uns["n_control_cells"] == 20
    effects.write_h5ad(tmp_path / "effects.h5ad")
    assert list(ad.read_h5ad(tmp_path / "effects.h5ad").uns["scapp"]["pseudobulk"]["control"])[0] == "sgNT"


def test_a_gene_that_is_called_like_a_control_stays_one_where_the_list_says_so():
    adata = cells({"NTC": 9, "CTRL": 8, "KLF1": 8, "SCRAMBLE": 8})
    with pytest.raises(ValueError, match=r"16 more have common control names.*as genes with control=\['NTC'\]"):
        scapp.pp.pseudobulk(adata, control="NTC")
    with pytest.warns(UserWarning, match=r"read as perturbed.*'CTRL' \(8\), 'SCRAMBLE' \(8\)"):
        effects = scapp.pp.pseudobulk(adata, control=["NTC"])
    assert list(effects.obs_names) == ["CTRL", "KLF1", "SCRAMBLE"]
    with pytest.warns(UserWarning, match="'CTRL'.* is taken as a perturbed gene"):
        effects = scapp.pp.add_unmeasured_genes(effects[["CTRL", "KLF1"]].copy(), control=None)
    assert effects.n_vars == 5


def test_a_gene_in_a_pair_that_is_dropped_as_a_control_is_warned_of():
    with pytest.warns(UserWarning, match=r"'CTRL' in combinations was dropped.*control=\['NT'\]"):
        scapp.pp.pseudobulk(cells({"NT": 9, "CTRL+KLF1": 8}), control="NT")


def test_a_label_that_only_resembles_a_control_is_warned_of():
    with pytest.warns(UserWarning, match=r"'my-ctrl' \(5\)"):
        scapp.pp.pseudobulk(cells({"NT": 9, "my-ctrl": 5, "KLF1": 4}), control="NT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scapp.pp.pseudobulk(cells({"NT": 9, "NEGR1": 5, "SAFB": 4, "CTRB1": 4}), control="NT")


def test_no_observation_is_a_control_shows_counts():
    with pytest.raises(ValueError, match=r"'NTC_1' \(2\), 'NTC_2' \(1\). Pass control='NTC'"):
        check_control(["KLF1", "NTC_1", "NTC_1", "NTC_2"], "control")
    with pytest.raises(ValueError, match="labelled 'control'.*control=None"):
        check_control(["KLF1"], "control")


# Missing labels, other separators, names of guides


@pytest.mark.parametrize(
    "text",
    [
        *(
            "nan",
            "None",
            "<NA>",
            "NA",
            "*",
            "unassigned",
            "multiple",
            "doublet",
            "ambient",
            "N/A",
            "no_guide",
            "Unknown",
        ),
        *(
            "Multiplet",
            "null",
            "nan+nan",
            "KLF1+None",
            "unmapped",
            "NotAssigned",
            "no sgRNA detected",
            "#REF!",
            "??",
            "0",
        ),
        *(
            "low_confidence",
            "Empty droplet",
            ">1 guide",
            "2+ guides",
            "multiple+multiple",
            "too many guides",
            "unclassified",
        ),
    ],
)
def test_missing_labels_as_text_are_refused_with_counts(text):
    with pytest.raises(ValueError, match=r"6 observations have no known perturbation.*\(6\).*isin\(\["):
        scapp.pp.pseudobulk(cells({"control": 9, "KLF1": 5, text: 6}))
    effects = scapp.pp.pseudobulk(cells({"control": 9, "KLF1": 5}))
    effects.obs["perturbation"] = text
    with pytest.raises(ValueError, match="no known perturbation"):
        read_effects(effects, perturbation_key="perturbation", control=None, layer="lfc", sep="+", batch_key=None)


def test_a_gene_of_adata_that_is_called_like_a_missing_value_is_one():
    adata = cells({"control": 9, "NAN": 5}, genes=("NAN", "KLF1"))
    assert list(scapp.pp.pseudobulk(adata).obs_names) == ["NAN"]


@pytest.mark.parametrize("join", ["_", ",", ";", "|", "&", " and ", "_and_", "_x_", ", ", " + ", "-", ":", "/"])
@pytest.mark.parametrize("measured", [True, False])
def test_another_separator_is_named_where_it_cuts_labels_into_known_genes(join, measured):
    genes = ("KLF1", "GATA1", "HBB") if measured else ("HBB", "ALAS2")
    adata = cells({"control": 9, "KLF1": 5, "GATA1": 5, f"KLF1{join}GATA1": 5}, genes)
    if join == " + ":
        assert "GATA1+KLF1" in scapp.pp.pseudobulk(adata).obs_names
        return
    if join == "-" and not measured:
        return  # symbols hold dashes, so that other labels do not say enough
    sep = join if join != ", " else ","
    message = rf"'KLF1{join}GATA1' \(5\).*Pass sep='{sep}'".replace("|", r"\|")
    if join == "-":  # genes that are read through have such symbols, so that this is no error
        with pytest.warns(UserWarning, match=message):
            scapp.pp.pseudobulk(adata)
    else:
        with pytest.raises(ValueError, match=message):
            scapp.pp.pseudobulk(adata)
    assert "GATA1+KLF1" in scapp.pp.pseudobulk(adata, sep=sep).obs_names


def test_a_symbol_that_holds_a_separator_is_left_alone():
    genes = ("HLA-A", "HLA", "A", "MT_CO1", "MT", "CO1", "KLF1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        effects = scapp.pp.pseudobulk(cells({"control": 9, "HLA-A": 4, "MT_CO1": 4, "NKX2-1": 4, "NKX2-2": 4}, genes))
    assert effects.n_obs == 4


@pytest.mark.parametrize(
    "guides", [["KLF1_1", "KLF1_2"], ["sgKLF1"], ["KLF1-sg2"], ["KLF1_MPA"], ["ZAP70_1", "ZAP70_3"]]
)
def test_names_of_guides_as_labels_are_named_with_the_call_that_joins_them(guides):
    with pytest.warns(UserWarning, match=r"look like names of guides.*guides_to_perturbations\(adata, calls_key='pert"):
        scapp.pp.pseudobulk(cells({"control": 9, **dict.fromkeys(guides, 4)}))


@pytest.mark.parametrize(
    ("labels", "sep"),
    [(["ZAP70_1", "ZAP70_2"], "_"), (["KLF1_+_128.23-P1P2", "GATA1_-_12.23-P1P2"], "+")],
)
def test_a_separator_that_cuts_names_of_guides_is_refused(labels, sep):
    with pytest.raises(ValueError, match="names of guides.*guides_to_perturbations"):
        scapp.pp.pseudobulk(cells({"control": 9, **dict.fromkeys(labels, 4)}), sep=sep)


def test_conditions_of_gears_are_named():
    adata = cells({"K562_ctrl_1": 9, "K562_KLF1+ctrl_1+1": 4, "K562_KLF1+GATA1_1+1": 4})
    with pytest.raises(ValueError, match="perturbation_key='condition'"):
        scapp.pp.pseudobulk(adata, control="K562_ctrl_1")


def test_a_short_prefix_is_told_by_its_case():
    assert all(map(recognised, ["gNT", "shSCR", "siNC_2", "g_NT"]))
    assert not any(map(recognised, ["GNT", "SHSCR", "SGNTX"]))


@pytest.fixture(scope="module")
def screen_with_a_gene_called_ntc() -> ad.AnnData:
    """Cells of a screen in which a gene is called NTC, as only a list of controls can say."""
    rng = np.random.default_rng(0)
    genes = ["NTC", "KLF1", "GATA1", "HBB", "ALAS2", *[f"G{i}" for i in range(15)]]
    labels = np.repeat(["control", "NTC", "KLF1", "GATA1", "HBB", "ALAS2", "KLF1+NTC"], 30)
    counts = rng.poisson(6, size=(len(labels), len(genes))).astype(np.float32)
    for gene in genes[:5]:
        counts[[gene in label.split("+") for label in labels], genes.index(gene)] = 0
    cells = ad.AnnData(counts, obs=pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(len(labels))]),
                       var=pd.DataFrame(index=genes))  # fmt: skip
    edges = pd.DataFrame({"source": genes[:-1], "target": genes[1:]})
    scapp.pp.add_network(cells, edges, control=["control"])
    return cells


@pytest.mark.filterwarnings("ignore:.*taken as:UserWarning")
@pytest.mark.parametrize("given", ["effects", "cells"])
def test_a_gene_that_is_called_as_controls_are_is_not_dropped_by_the_model(screen_with_a_gene_called_ntc, given):
    cells = screen_with_a_gene_called_ntc.copy()
    effects = scapp.pp.pseudobulk(cells, control=["control"])
    assert {"NTC", "KLF1+NTC"} <= set(effects.obs_names)
    if given == "effects":
        scapp.model.APP.setup_anndata(effects, control=None, layer="lfc")
    else:
        scapp.model.APP.setup_anndata(cells, control=["control"])
    model = scapp.model.APP(effects if given == "effects" else cells)
    node = {gene: i for i, gene in enumerate(model.genes)}
    pair = tuple(sorted(["KLF1", "NTC"], key=str))
    assert {(node["NTC"],), tuple(node[gene] for gene in pair)} <= set(model._registered.perturbations)
    model.train(max_epochs=2, enable_progress_bar=False)
    predicted = model.predict(["NTC", "KLF1+NTC", "ALAS2+NTC"])
    assert predicted.obs["in_training"].tolist() == [True, True, False]
    assert predicted.obs["n_perturbed_genes"].tolist() == [1, 2, 2]
    assert predicted["NTC", "NTC"].layers["predicted_lfc"][0, 0] < -1
    scapp.tl.rank_attention_genes(predicted, control=None)
    assert predicted.uns["attention_genes"]["names"].dtype.names == ("NTC", "KLF1+NTC", "ALAS2+NTC")
    graph = scapp.tl.attention_subnetwork(predicted, "NTC+KLF1", network=model.network, control=None)
    assert graph.nodes["NTC"]["perturbed"]
    assert len(scapp.tl.explain(model, "NTC", "KLF1"))
    if given == "effects":
        found = scapp.baselines.Additive().fit(effects, layer="lfc").predict(["ALAS2+NTC"]).layers["predicted_lfc"][0]
        expected = effects["NTC"].layers["lfc"][0] + effects["ALAS2"].layers["lfc"][0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_names_of_controls_inside_a_combination_are_dropped_where_no_gene_has_them():
    assert parse_label("KLF1+ctrl", control=None, genes={"KLF1"}) == ("KLF1",)
    assert parse_label("KLF1+NTC", control=None) == ("KLF1",)
    assert parse_label("KLF1+NTC", control=None, genes={"KLF1", "NTC"}) == ("KLF1", "NTC")
    assert parse_label("KLF1+NTC", control="control", genes={"KLF1", "NTC"}) == ("KLF1",)
    assert parse_label("non-targeting", control=None, genes={"NTC"}) == ()


def test_a_control_may_be_called_like_a_missing_value_if_it_is_named():
    effects = scapp.pp.pseudobulk(cells({"None": 9, "KLF1": 5}), control="None")
    assert list(effects.obs_names) == ["KLF1"]


@pytest.mark.parametrize("join", ["||", ";;", "->", "~", ".", "*", " x ", " AND ", " with "])
def test_any_join_of_known_genes_is_named(join):
    adata = cells({"control": 9, f"KLF1{join}GATA1": 5})
    with pytest.raises(ValueError, match=re.escape(f"Pass sep={join!r}")):
        scapp.pp.pseudobulk(adata)
    assert list(scapp.pp.pseudobulk(adata, sep=join).obs_names) == ["GATA1+KLF1"]


def test_a_doubled_separator_and_lists_as_text_are_named():
    with pytest.raises(ValueError, match=r"pass sep='\+\+'"):
        scapp.pp.pseudobulk(cells({"control": 9, "KLF1++GATA1": 5}))
    adata = cells({"control": 9, "('KLF1', 'GATA1')": 5, "['KLF1']": 4})
    with pytest.raises(ValueError, match="2 labels are lists written as text.*str.findall"):
        scapp.pp.pseudobulk(adata)
    labels = adata.obs["perturbation"].astype(str)
    adata.obs["perturbation"] = labels.str.findall(r"[^\[\]()',\s]+").str.join("+")  # as the message says
    assert set(scapp.pp.pseudobulk(adata).obs_names) == {"GATA1+KLF1", "KLF1"}


@pytest.mark.parametrize(
    "label",
    "klf1 KLF1_KO KLF1-KD CRISPRi_KLF1 KLF1-/- siKLF1 shKLF1 KLF1p1p2 KLF1_rep1 KLF1g1 KLF1:1 1_KLF1".split()
    + "KLF1_24h KLF1_d7 KLF1_day3 KLF1i KLF1KO KLF1-KO-2 KLF1_K562 KLF1_KO_rep2 KLF1@24h KLF1_low".split()
    + ["KLF1 (CRISPRi)", "KLF1 KO", "low KLF1", "KLF1 10uM", "KLF1[KO]", "KLF1*", '"KLF1"', "KLF1?", "ΔKLF1"],
)
def test_labels_that_seem_to_mean_a_gene_of_adata_are_warned_of(label):
    with pytest.warns(UserWarning, match=rf"seem to mean some of them: {re.escape(repr(label))} for 'KLF1'.*replace"):
        scapp.pp.pseudobulk(cells({"control": 9, label: 5, "GATA1": 5}))


@pytest.mark.parametrize("label", ["KLF1_KO_GATA1_KO", "KLF1-KO-GATA1-KO", "GATA1_KLF1_24h"])
def test_decorated_genes_of_a_combination_are_named_together(label):
    with pytest.warns(UserWarning, match=rf"{label}' for 'GATA1\+KLF1'.*replace"):
        scapp.pp.pseudobulk(cells({"control": 9, label: 5}))


def test_a_gene_that_was_not_measured_beside_a_known_one_is_thought_of():
    adata = cells({"control": 9, "KLF1_ZAP70": 5})
    with pytest.warns(
        UserWarning, match="Where another word is a gene that was not measured, join the two by '\\+' instead"
    ):
        scapp.pp.pseudobulk(adata)


@pytest.mark.parametrize(
    ("label", "sep", "gene"), [("KLF1_KO", "_", "KLF1"), ("low_KLF1", "_", "KLF1"), ("TRBV1-2", "-", "TRBV1")]
)
def test_the_pattern_for_split_labels_finds_the_gene(label, sep, gene):
    with pytest.raises(ValueError, match="guides_to_perturbations") as error:
        scapp.pp.pseudobulk(cells({"control": 9, label: 5, "GATA1": 5}), sep=sep)
    pattern = re.search(r"targets=r'(.+?)', key_added", str(error.value))[1]
    assert re.fullmatch(pattern, label)[1] == gene


@pytest.mark.parametrize("label", ["ZAP70_KO", "ZAP70-KD", "ZAP70_24h", "siZAP70", "high ZAP70", "CRISPRi-ZAP70"])
def test_words_that_no_symbol_has_are_named_beside_genes_that_were_not_measured(label):
    with pytest.warns(UserWarning, match=rf"{label}' for 'ZAP70'"):
        scapp.pp.pseudobulk(cells({"control": 9, label: 5}))


@pytest.mark.parametrize("name", ["p_sgKLF1_1", "m_sgKLF1_4", "sgZAP70", "KLF1-i", "KLF1.2"])
def test_guides_with_prefixes_are_named_with_the_pattern_that_finds_the_gene(name):
    adata = cells({"control": 9, name: 5, "GATA1": 5})
    with pytest.warns(UserWarning, match="look like names of guides") as caught:
        scapp.pp.pseudobulk(adata)
    pattern = re.search(r"targets=r'(.+?)', key_added", str(caught[0].message))[1]
    assert re.fullmatch(pattern, name)[1] in ("KLF1", "ZAP70")


@pytest.mark.parametrize(
    ("label", "sep", "genes"),
    [
        ("HLA-A", "-", ("HLA-A", "KLF1")),
        ("HLA-DRA", "-", ("KLF1",)),
        ("MT_CO1", "_", ("MT_CO1", "KLF1")),
        ("NKX2-1", "-", ("NKX2-1", "KLF1")),
        ("GATA3-AS1", "-", ("GATA3", "KLF1")),
        ("AC012345.1", ".", ("AC012345.1", "KLF1")),
        ("HLA-A-KLF1", "-", ("HLA-A", "KLF1")),
        ("KLF1-GATA1", "-", ("KLF1-GATA1", "KLF1", "GATA1")),
    ],
)
def test_a_separator_that_cuts_the_name_of_a_gene_is_refused(label, sep, genes):
    adata = cells({"control": 9, label: 5, f"KLF1{sep}GATA1": 5}, (*genes, "HBB"))
    with pytest.raises(
        ValueError, match=rf"cuts [12] labels within the name of a gene: .*{label}' \(5\).*whole, join.*leave sep=… out"
    ):
        scapp.pp.pseudobulk(adata, sep=sep)


@pytest.mark.parametrize(
    ("label", "word"), [("KLF1_1", "numbers"), ("KLF1_KO", "'KO'"), ("KLF1_24h", "'24h'"), ("low_KLF1", "'low'")]
)
def test_words_that_the_separator_takes_for_genes_are_refused(label, word):
    with pytest.raises(ValueError, match=f"{label}'.*{word} are not genes"):
        scapp.pp.pseudobulk(cells({"control": 9, label: 5, "GATA1": 5}), sep="_")


@pytest.mark.parametrize("join", [",", ";", "|", "&", " and "])
def test_signs_that_no_symbol_holds_join_genes_that_are_nowhere_else(join):
    with pytest.raises(ValueError, match=re.escape(f"Pass sep={join!r}")):
        scapp.pp.pseudobulk(cells({"control": 9, f"ZAP70{join}LCK": 5, "GATA1": 5}))


def test_ids_with_a_decimal_point_are_refused_with_the_mend():
    with pytest.raises(ValueError, match=r"ids that were read as numbers: '10661.0' \(5\).*str.replace"):
        scapp.pp.pseudobulk(cells({"control": 9, "10661.0": 5, "GATA1": 5}))


def test_the_guides_of_a_pair_twice_are_named():
    labels = {
        "NegCtrl10_NegCtrl0__NegCtrl10_NegCtrl0": 9,
        "CEBPA_NegCtrl0__CEBPA_NegCtrl0": 5,
        "KLF1_CEBPA__KLF1_CEBPA": 5,
    }
    adata = cells(labels, ("CEBPA", "KLF1", "HBB"))
    with pytest.raises(ValueError, match="name the guides of a pair twice.*guides_to_perturbations"):
        scapp.pp.pseudobulk(adata)
    scapp.pp.guides_to_perturbations(  # as the message says
        adata, calls_key="perturbation", targets=r"(.+)__.+", sep="_", max_genes=2, key_added="target"
    )
    assert set(adata.obs["target"]) == {"control", "CEBPA", "CEBPA_KLF1"}


@pytest.mark.parametrize(
    "label", ["KLF11", "SIX1", "SHOX", "KLF1-AS1", "G0S2", "HBB2", "MKLF1", "KLF1P1", "H2-D1", "ERV3-1-KLF1"]
)
def test_other_genes_are_not_taken_for_decorated_ones(label):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scapp.pp.pseudobulk(cells({"control": 9, label: 5, "GATA1": 5}))


@pytest.mark.parametrize(
    ("labels", "mend"),
    [
        ([b"control", b"KLF1"], "str.decode"),
        ([True, False], "perturbation_key=…"),
        ([1, 2], "perturbation_key=…"),
    ],
)
def test_labels_that_are_no_text_are_refused_with_the_mend(labels, mend):
    adata = cells({"control": 9, "KLF1": 9})
    adata.obs["perturbation"] = pd.Series(np.repeat(np.array(labels, dtype=object), 9), index=adata.obs_names)
    with pytest.raises(ValueError, match=mend):
        scapp.pp.pseudobulk(adata)


def test_a_name_in_a_list_of_controls_that_labels_nothing_is_warned_of():
    adata = cells({"NTC_1": 9, "KLF1": 5})
    with pytest.warns(
        UserWarning, match=r"labelled 'safe', which control=… names as well; the controls are 'NTC_1' \(9\)"
    ):
        scapp.pp.pseudobulk(adata, control=["NTC", "safe"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scapp.pp.pseudobulk(adata, control=["NTC"])


def test_a_mouse_gene_is_no_guide_of_a_shorter_one():
    adata = cells({"control": 9, "Arg2": 5, "Gata1": 5}, ("Ar", "Gata1", "Hbb-bs"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scapp.pp.pseudobulk(adata)
