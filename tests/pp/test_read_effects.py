"""Effects go in from every form in which they are shared, and come out the same, as natural logs with their errors."""

from __future__ import annotations

import re
import zipfile
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse, stats
from tests.reports import reported

import scapp
from scapp.pp import read_effects

LN2, LN10 = np.log(2), np.log(10)
LFC = pd.DataFrame(
    [[-2.0, -0.5, 0.4], [-0.6, -1.5, 0.0], [0.7, 0.8, -0.9]], ["KLF1", "GATA1", "GATA1+KLF1"], ["KLF1", "GATA1", "HBB"]
)
SE = pd.DataFrame([[0.2, 0.1, 0.3], [0.1, 0.4, 0.2], [0.2, 0.2, 0.1]], LFC.index, LFC.columns)
Z = LFC / SE


def long(scale: float = 1.0, **names: str) -> pd.DataFrame:
    """One row an effect, under other names."""
    table = LFC.rename_axis("perturbation").reset_index().melt("perturbation", var_name="gene", value_name="lfc")
    at = [(row.perturbation, row.gene) for row in table.itertuples()]
    table["lfc"] *= scale
    table["se"] = [SE.loc[key] * scale for key in at]
    table["z"] = [Z.loc[key] for key in at]
    table["p"] = 2 * stats.norm.sf(np.abs(table["z"]))
    kept = ["perturbation", "gene", "lfc", *[name for name in ("se", "z", "p") if name in names]]
    return table[kept].rename(columns=names)


def assert_effects(effects: ad.AnnData, se: bool = True, unknown: bool = False) -> None:
    rows = [key for key in LFC.index if key in effects.obs_names]
    found = effects[rows, LFC.columns]
    np.testing.assert_allclose(found.layers["lfc"], LFC.loc[rows], atol=1e-6)
    assert ("lfc_se" in effects.layers) == se
    if se:
        # The only effect of zero is that of GATA1 on HBB, of which the median of the others stands.
        expected = (
            SE.loc[rows].where(LFC.loc[rows] != 0, SE.loc[["KLF1", "GATA1+KLF1"], "HBB"].median())
            if unknown
            else SE.loc[rows]
        )
        np.testing.assert_allclose(found.layers["lfc_se"], expected, rtol=1e-5)
    record = effects.uns["scapp"]["effects"]
    assert {"perturbation_key", "control", "layer", "sep", "normalisation", "base"} <= set(record)


def test_a_long_table_in_two_conditions_has_two_contexts(shared_cases, tmp_path):
    with pytest.warns(UserWarning, match=r"3 of 6 effects \(50.0%\) are not in the table.*fill_value=0"):
        effects = read_effects(shared_cases / "long_de.csv")
    assert list(effects.obs_names) == ["GATA1 (Rest)", "KLF1 (Rest)", "KLF1 (Stim)"]
    assert effects.obs["condition"].tolist() == ["Rest", "Rest", "Stim"]
    values = effects.to_df("lfc")
    assert values.loc["KLF1 (Rest)", "HBB"] == pytest.approx(-1.1 * LN2)
    assert values.loc["KLF1 (Stim)", "HBB"] == pytest.approx(-0.9 * LN2)
    assert values.loc["GATA1 (Rest)", "KLF1"] == pytest.approx(-0.7 * LN2)
    assert effects.to_df("lfc_se").loc["KLF1 (Rest)", "HBB"] == pytest.approx(0.2 * LN2)
    effects.write_h5ad(tmp_path / "effects.h5ad")
    rest = scapp.pp.select_context(ad.read_h5ad(tmp_path / "effects.h5ad"), "Rest")
    assert list(rest.obs_names) == ["GATA1", "KLF1"] and rest.uns["scapp"]["effects"]["context"] == "Rest"


def test_a_wide_table_is_read_and_its_logarithm_is_asked_for(shared_cases, tmp_path):
    path = shared_cases / "wide_lfc.csv"
    with pytest.raises(ValueError, match="cannot be told by their name.*base='e', base=2 or base=10"):
        read_effects(path)
    effects = read_effects(path, base="e")
    assert effects.shape == (2, 3) and list(effects.obs_names) == ["KLF1", "GATA1"]
    np.testing.assert_allclose(effects.layers["lfc"], [[-2, -0.5, -0.4], [-0.6, -0.4, -0.5]])
    (tmp_path / "screen_log2fc.csv").write_bytes(path.read_bytes())
    np.testing.assert_allclose(read_effects(tmp_path / "screen_log2fc.csv").X, effects.X * LN2, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*are not in the table")
def test_a_folder_of_tables_is_named_by_its_files(shared_cases, tmp_path):
    effects = read_effects(shared_cases / "de_folder")
    assert list(effects.obs_names) == ["GATA1", "KLF1"] and set(effects.var_names) == {"KLF1", "GATA1", "HBB"}
    found, errors = effects.to_df("lfc"), effects.to_df("lfc_se")
    assert found.loc["KLF1", "KLF1"] == pytest.approx(-2 * LN2) and found.loc["GATA1", "HBB"] == pytest.approx(
        -0.5 * LN2
    )
    assert errors.loc["KLF1", "KLF1"] == pytest.approx(2 * LN2 / np.sqrt(50))
    assert errors.loc["GATA1", "HBB"] == pytest.approx(0.5 * LN2 / np.sqrt(15))
    for name in ("KLF1", "GATA1"):
        (tmp_path / f"DE_{name}_vs_NTC.csv").write_bytes((shared_cases / "de_folder" / f"{name}.csv").read_bytes())
    assert list(read_effects(tmp_path).obs_names) == ["GATA1", "KLF1"]
    tables = {name: pd.read_csv(shared_cases / "de_folder" / f"{name}.csv", index_col=0) for name in ("GATA1", "KLF1")}
    np.testing.assert_array_equal(read_effects(tables).X, effects[:, read_effects(tables).var_names].X)


PROGRAMS = {
    "DESeq2": (LN2, {"lfc": "log2FoldChange", "se": "lfcSE", "p": "pvalue", "z": "stat"}, "lfcSE"),
    "DESeq2 shrunk": (LN2, {"lfc": "log2FoldChange", "p": "pvalue"}, "pvalue"),
    "edgeR": (LN2, {"lfc": "logFC", "p": "PValue"}, "PValue"),
    "limma": (LN2, {"lfc": "logFC", "z": "t", "p": "P.Value"}, "'t'"),
    "scanpy": (
        LN2,
        {"perturbation": "group", "gene": "names", "lfc": "logfoldchanges", "z": "scores", "p": "pvals"},
        "pvals",
    ),
    "Seurat": (LN2, {"perturbation": "cluster", "lfc": "avg_log2FC", "p": "p_val"}, "p_val"),
    "Seurat before 4": (1.0, {"perturbation": "cluster", "lfc": "avg_logFC", "p": "p_val"}, "p_val"),
    "pertpy": (LN2, {"perturbation": "contrast", "gene": "variable", "lfc": "log_fc", "p": "p_value"}, "p_value"),
    "sceptre": (
        LN2,
        {"perturbation": "grna_target", "gene": "response_id", "lfc": "log_2_fold_change", "p": "p_value"},
        "p_v",
    ),
    "natural": (
        1.0,
        {"perturbation": "perturbed_gene", "gene": "measured_gene", "lfc": "ln_fc", "se": "std_error"},
        "std_error",
    ),
    "log10": (LN10, {"perturbation": "target_gene", "gene": "gene", "lfc": "log10_fc", "z": "z_score"}, "z_score"),
    "GEARS-like": (LN2, {"perturbation": "condition", "gene": "gene_name", "lfc": "log2fc", "z": "Wald"}, "Wald"),
}
MORE = {
    "edgeR": {"logCPM": 5.0, "F": 3.0, "FDR": 0.5},
    "limma": {"AveExpr": 5.0, "adj.P.Val": 0.3, "B": 1.0},
    "Seurat": {"pct.1": 0.1, "pct.2": 0.2, "p_val_adj": 1.0},
    "Seurat before 4": {"pct.1": 0.1, "pct.2": 0.2, "p_val_adj": 1.0},
    "DESeq2": {"baseMean": 100.0, "padj": 0.5},
    "pertpy": {"adj_p_value": 0.5},
    "scanpy": {"pvals_adj": 0.5},
}


@pytest.mark.filterwarnings("ignore:.*have no standard error")
def test_sums_of_ranks_are_no_z():
    """pertpy calls Mann and Whitney's U the statistic."""
    table = long(gene="variable", lfc="log_fc", p="p_value").assign(statistic=lambda t: 4000 - 500 * t["log_fc"])
    found = read_effects(table, base="e")
    np.testing.assert_array_equal(
        found.layers["lfc_se"], read_effects(table.drop(columns="statistic"), base="e").layers["lfc_se"]
    )
    assert_effects(found, unknown=True)
    asked = read_effects(table, base="e", statistic="statistic")
    assert np.nanmax(asked.layers["lfc_se"]) < 0.01


@pytest.mark.filterwarnings("ignore:.*have no standard error")
def test_pertpys_linear_models_are_in_the_unit_of_the_expression():
    table = long(1, perturbation="contrast", gene="variable", lfc="log_fc", z="t_value", p="p_value").assign(sd=1.0)
    with pytest.raises(ValueError, match="Say it with base="):
        read_effects(table)
    found = read_effects(table, base="e")
    np.testing.assert_allclose(found[LFC.index, LFC.columns].layers["lfc"], LFC, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*have no standard error")
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("suffix", ["", ".csv", ".tsv", ".csv.gz", ".parquet"])
def test_long_tables_of_any_program_give_the_same_effects(program, suffix, tmp_path):
    factor, names, _ = PROGRAMS[program]
    table = long(1 / factor, **names).assign(**MORE.get(program, {}))
    if program == "edgeR":
        table["F"] = Z.stack().reindex(pd.MultiIndex.from_frame(table[["perturbation", "gene"]])).to_numpy() ** 2
    given = table
    if suffix:
        given = tmp_path / f"effects{suffix}"
        if suffix == ".parquet":
            table.to_parquet(given)
        else:
            table.to_csv(given, sep="\t" if suffix == ".tsv" else ",", index=False)
    effects = read_effects(given)
    errors = "se" not in names
    assert_effects(effects, unknown=errors)


def test_the_labels_of_comparisons_lose_their_control():
    table = long(1 / LN2, lfc="log2FoldChange", se="lfcSE", perturbation="contrast")
    table["contrast"] = "condition_" + table["contrast"] + "_vs_non-targeting"
    assert_effects(read_effects(table))
    table["contrast"] = table["contrast"].str.replace("_vs_non-targeting", " - NT").str.removeprefix("condition_")
    assert_effects(read_effects(table))


def test_standard_errors_of_students_t_follow_from_p_and_its_degrees_of_freedom():
    table = long(z="t_of", p="p")
    table["p_value"] = 2 * stats.t.sf(np.abs(table.pop("t_of")), 7)
    table["df2"] = 7
    with pytest.warns(UserWarning, match="1 of 9 effects have no standard error"):
        assert_effects(read_effects(table.drop(columns="p"), base="e"), unknown=True)


def test_a_name_that_does_not_say_the_logarithm_is_asked_for():
    for name in ("lfc", "logFC", "log_fc", "effect_size", "beta"):
        table = long(1 / LN2, lfc=name, se="se")
        with pytest.raises(ValueError, match=f"'{name}'.*cannot be told.*base='e', base=2 or base=10"):
            read_effects(table)
        for base in (2, 2.0, "2", "log2"):
            assert_effects(read_effects(table, base=base))
    with pytest.raises(ValueError, match="base must be 'e', 2 or 10"):
        read_effects(table, base=3)
    with pytest.warns(UserWarning, match="says base 2, but base='e'"):
        read_effects(long(lfc="log2fc", se="se"), base="e")


def test_columns_may_be_named():
    table = long(a="a", perturbation="x", gene="y", lfc="v", se="w")
    with pytest.raises(ValueError, match="Cannot tell the column of the perturbation|Several columns hold text"):
        read_effects(table, base="e")
    assert_effects(read_effects(table, perturbation="x", gene="y", lfc="v", lfc_se="w", base="e"))
    with pytest.raises(ValueError, match="gene='z' is not a column"):
        read_effects(table, perturbation="x", gene="z", lfc="v", base="e")


@pytest.mark.parametrize("form", ["index", "column", "csv", "tsv", "parquet", "transposed"])
def test_wide_tables_give_the_same_effects(form, tmp_path):
    table, errors = LFC.copy(), SE.copy()
    options = {"base": "e", "lfc_se": errors}
    if form == "column":
        table = table.rename_axis("perturbation").reset_index()
    elif form in ("csv", "tsv", "parquet"):
        for part, name in ((table, "lfc"), (errors, "se")):
            path = tmp_path / f"{name}.{form}"
            part.to_parquet(path) if form == "parquet" else part.to_csv(path, sep="\t" if form == "tsv" else ",")
        table, options["lfc_se"] = tmp_path / f"lfc.{form}", tmp_path / f"se.{form}"
    elif form == "transposed":
        table, options["lfc_se"] = table.T, errors.T
    assert_effects(read_effects(table, **options))
    assert_effects(read_effects(table, base="e"), se=False)


def test_the_orientation_of_a_wide_table_is_told_asked_for_or_said():
    genes = [f"G{i}" for i in range(2000)]
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(2000, 3)), genes, ["KLF1", "GATA1", "HBB"])
    with pytest.raises(ValueError, match="2,000 rows and 3 columns.*rows='genes'"):
        read_effects(table, base="e")
    assert read_effects(table, base="e", rows="genes").shape == (3, 2000)
    assert read_effects(table.rename_axis("gene"), base="e").shape == (3, 2000)
    assert read_effects(table, base="e", rows="perturbations").shape == (2000, 3)
    with pytest.raises(ValueError, match="rows must be"):
        read_effects(table, rows="columns")


def xlsx(table: pd.DataFrame, path) -> None:
    """Write what Excel writes: shared strings, numbers, empty cells left out."""
    strings: list[str] = []

    def cell(value: Any, name: str) -> str:
        if isinstance(value, str):
            strings.append(value)
            return f'<c r="{name}" t="s"><v>{len(strings) - 1}</v></c>'
        return "" if value is None or np.isnan(value) else f'<c r="{name}"><v>{value!r}</v></c>'

    rows = [
        list(table.columns),
        *[[v.item() if hasattr(v, "item") else v for v in row] for row in table.to_numpy(dtype=object)],
    ]
    body = "".join(
        f'<row r="{i}">{"".join(cell(v, f"{chr(65 + j)}{i}") for j, v in enumerate(row))}</row>'
        for i, row in enumerate(rows, 1)
    )
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/worksheets/sheet7.xml", f"<worksheet {main}><sheetData>{body}</sheetData></worksheet>")
        archive.writestr(
            "xl/sharedStrings.xml", f"<sst {main}>{''.join(f'<si><t>{s}</t></si>' for s in strings)}</sst>"
        )
        sheet = '<sheets><sheet name="DE" sheetId="1" r:id="rId3"/></sheets>'
        archive.writestr("xl/workbook.xml", f'<workbook {main} xmlns:r="{relations}">{sheet}</workbook>')
        target = '<Relationship Id="rId3" Target="worksheets/sheet7.xml" Type="worksheet"/>'
        archive.writestr("xl/_rels/workbook.xml.rels", f"<Relationships>{target}</Relationships>")


def test_excel_files_are_read(tmp_path):
    xlsx(long(1 / LN2, lfc="log2FoldChange", se="lfcSE"), tmp_path / "effects.xlsx")
    assert_effects(read_effects(tmp_path / "effects.xlsx"))
    (tmp_path / "broken.xlsx").write_bytes((tmp_path / "effects.xlsx").read_bytes()[:200])
    with pytest.raises(ValueError, match="broken.xlsx' cannot be read as an Excel file"):
        read_effects(tmp_path / "broken.xlsx")


@pytest.mark.parametrize("form", ["h5ad", "memory", "sparse", "log2 layer", "X"])
def test_an_anndata_of_effects_is_read(form, tmp_path, assert_same):
    obs = pd.DataFrame({"perturbation": LFC.index}, index=[f"row{i}" for i in range(3)])
    adata = ad.AnnData(LFC.to_numpy(), obs=obs, var=pd.DataFrame({"symbol": LFC.columns}, index=LFC.columns))
    options = {}
    if form == "log2 layer":
        adata.layers.update({"log2FoldChange": LFC.to_numpy() / LN2, "lfcSE": SE.to_numpy() / LN2})
    elif form == "X":
        options = {"base": "e"}
    else:
        adata.layers.update({"lfc": LFC.to_numpy(), "lfc_se": SE.to_numpy()})
    if form == "sparse":
        adata.layers["lfc"] = sparse.csr_matrix(adata.layers["lfc"])
    before = adata.copy()
    given = adata
    if form == "h5ad":
        given = tmp_path / "effects.h5ad"
        adata.write_h5ad(given)
    effects = read_effects(given, **options)
    assert_effects(effects, se=form != "X")
    assert list(effects.var["symbol"]) == list(LFC.columns)
    assert_same(adata, before)
    assert_effects(read_effects(effects), se=form != "X")  # what was read is read again


def test_results_of_scanpy_in_uns_are_read():
    rng = np.random.default_rng(0)
    labels = np.repeat(["control", "KLF1", "GATA1"], 20)
    x = rng.poisson(5 + 5 * (labels[:, None] == np.array(["KLF1", "GATA1", "HBB"])), size=(60, 3)).astype(np.float32)
    cells = ad.AnnData(
        np.log1p(x), obs=pd.DataFrame({"perturbation": pd.Categorical(labels)}, index=[f"c{i}" for i in range(60)])
    )
    cells.var_names = ["KLF1", "GATA1", "HBB"]
    sc.tl.rank_genes_groups(cells, "perturbation", reference="control", method="t-test")
    effects = read_effects(cells)
    table = sc.get.rank_genes_groups_df(cells, "KLF1").set_index("names")
    expected = table.loc[effects.var_names, "logfoldchanges"] * LN2
    np.testing.assert_allclose(effects["KLF1"].layers["lfc"].ravel(), expected, rtol=1e-5)
    assert "lfc_se" in effects.layers


BAD = {
    "twice": (lambda t: pd.concat([t, t.assign(lfc=t["lfc"] + 1)]), "9 effects are there more than once.*context_key="),
    "infinite": (lambda t: t.assign(lfc=np.inf), "9 effects are infinite, the first that of KLF1"),
    "text": (lambda t: t.assign(lfc="high"), "9 of 9 values of 'lfc' .* are not numbers: 'high'"),
    "negative error": (lambda t: t.assign(se=-1.0), "9 standard errors in 'se' are negative"),
    "missing label": (lambda t: t.assign(perturbation="nan"), "9 rows have no known perturbation: 'nan'"),
    "only controls": (lambda t: t.assign(perturbation="NTC_1"), "No perturbation is left"),
    "expression": (lambda t: t.assign(lfc=900.0), "no log-fold-changes"),
    "nothing": (lambda t: t.assign(lfc=np.nan), "All effects are missing"),
    "no rows": (lambda t: t.iloc[:0], "empty"),
    "p above one": (lambda t: t.drop(columns="se").assign(p=2.0), "values outside of 0 to 1"),
    "no perturbation": (
        lambda t: t.drop(columns="perturbation"),
        "its perturbations have no usual name.*perturbation=",
    ),
    "ratios": (lambda t: t.rename(columns={"lfc": "fold_change"}), "seems to hold ratios.*np.log"),
    "only z": (
        lambda t: t.drop(columns=["lfc", "se"]).assign(z_score=1.0),
        "has 'z_score' but no effects.*lfc='z_score'",
    ),
    "columns twice": (lambda t: pd.concat([t, t[["se"]]], axis=1), "1 columns of the table occur twice: se"),
    "another separator": (lambda t: t, "joins the genes of a combination"),
}


@pytest.mark.parametrize("how", BAD)
def test_what_are_no_effects_is_refused_in_three_lines(how):
    spoil, message = BAD[how]
    table = spoil(long(se="se"))
    before = table.copy()
    with pytest.raises(ValueError, match=message) as caught:
        read_effects(table, base="e", sep="|" if how == "another separator" else "+")
    assert len(str(caught.value).splitlines()) <= 3
    pd.testing.assert_frame_equal(table, before)


def test_other_things_are_refused_by_their_type(tmp_path):
    with pytest.raises(TypeError, match="effects must be a DataFrame.*found list"):
        read_effects([1])
    with pytest.raises(ValueError, match="no file"):
        read_effects(tmp_path / "nowhere.csv")
    with pytest.raises(ValueError, match="holds no tables"):
        read_effects(tmp_path)


def test_missing_values_and_decimal_commas_are_read(tmp_path):
    (tmp_path / "a.csv").write_text(
        "perturbation;gene;log2FC;lfcSE\nKLF1;HBB;-1,5;0,1\nKLF1;ALAS2;NA;NA\nGATA1;HBB;0,5;0,2\nGATA1;ALAS2;1;1\n"
    )
    with pytest.warns(UserWarning, match="1 of 4 effects"):
        effects = read_effects(tmp_path / "a.csv")
    np.testing.assert_allclose(effects.to_df("lfc").loc["KLF1", "HBB"], -1.5 * LN2, rtol=1e-6)
    filled = read_effects(tmp_path / "a.csv", fill_value=0).to_df("lfc")
    assert filled.loc["KLF1", "ALAS2"] == 0


def test_a_number_of_many_digits_in_its_exponent_does_not_end_the_interpreter(tmp_path):
    (tmp_path / "a.csv").write_text("perturbation,gene,log2FC\nKLF1,HBB,1e4099999999\nGATA1,HBB,1\n")
    with pytest.raises(ValueError, match="1 effects are infinite"):
        read_effects(tmp_path / "a.csv")


def test_other_separators_and_controls_of_labels():
    table = long(lfc="ln_fc", se="se")
    table["perturbation"] = table["perturbation"].str.replace("+", "_")
    extra = table[table["perturbation"] == "KLF1"].assign(perturbation="mine")
    effects = read_effects(pd.concat([table, extra]), sep="_", control="mine")
    assert_effects(effects)
    assert effects.n_obs == 3


FORMS = ["long csv", "long log2 parquet", "wide", "folder", "anndata", "z", "p"]


@pytest.mark.parametrize("form", FORMS)
def test_real_effects_written_in_any_form_are_read_as_they_were(form, shared_data, tmp_path):
    real = ad.read_h5ad(shared_data / "macrophage_2025_crispri_effects.h5ad")[:40].copy()
    lfc, se = real.to_df("lfc").astype(np.float64), real.to_df("lfc_se").astype(np.float64)
    lfc.index.name, lfc.columns.name = "perturbation", "gene"
    table = lfc.stack().rename("ln_fc").reset_index()
    table["se"] = se.to_numpy().ravel()
    options = {}
    given = table
    if form == "long csv":
        given = tmp_path / "effects.csv.gz"
        table.to_csv(given, index=False)
    elif form == "long log2 parquet":
        given = tmp_path / "effects.parquet"
        table.assign(log2FoldChange=table["ln_fc"] / LN2, lfcSE=table["se"] / LN2).drop(
            columns=["ln_fc", "se"]
        ).to_parquet(given)
    elif form == "wide":
        given, options = tmp_path / "lfc.tsv", {"base": "e", "lfc_se": tmp_path / "se.tsv"}
        lfc.to_csv(given, sep="\t")
        se.to_csv(options["lfc_se"], sep="\t")
    elif form == "folder":
        given = tmp_path / "tables"
        given.mkdir()
        for label, part in table.groupby("perturbation"):
            part.drop(columns="perturbation").to_csv(given / f"{label}.csv", index=False)
    elif form == "anndata":
        given = shared_data / "macrophage_2025_crispri_effects.h5ad"
    else:
        table["z"] = table["ln_fc"] / table.pop("se")
        if form == "p":
            table["pvalue"] = 2 * stats.norm.sf(np.abs(table.pop("z")))
    effects = read_effects(given, **options)[real.obs_names, real.var_names]
    np.testing.assert_allclose(effects.layers["lfc"], real.layers["lfc"], atol=1e-6)
    known = np.isfinite(real.layers["lfc_se"]) & (real.layers["lfc"] != 0)
    assert known.mean() > 0.99 and np.isfinite(effects.layers["lfc_se"]).all()
    np.testing.assert_allclose(
        effects.layers["lfc_se"][known], real.layers["lfc_se"][known], atol=1e-6, rtol=1e-4 if form == "p" else 1e-6
    )


def test_what_was_read_is_set_up_for_a_model(shared_data):
    effects = read_effects(shared_data / "macrophage_2025_crispri_effects.h5ad")
    effects = scapp.pp.add_unmeasured_genes(effects, control=None)
    report = reported(scapp.pp.check_efficacy, effects, kind="interference")
    assert report.n_perturbations == 205


def test_tables_of_tests_without_names_of_effects_are_no_wide_tables():
    table = long(1 / LN2, lfc="x").assign(de_pval=0.5, dv_pval=0.5, q_val=1.0).rename(columns={"gene": "what"})
    with pytest.raises(ValueError, match="a long table of tests.*perturbation=….*lfc=…"):
        read_effects(table, base=2)


def test_brackets_in_names_of_columns_part_words():
    assert_effects(read_effects(long(1 / LN2, lfc="log2(FC)", se="SE(log2FC)")))


def test_a_comparison_the_other_way_round_is_refused_and_a_dash_is_read():
    table = long(1 / LN2, lfc="log2FoldChange", se="lfcSE")
    with pytest.raises(ValueError, match="compares the control with 'KLF1'.*other sign"):
        read_effects(table.assign(perturbation="NTC vs " + table["perturbation"]))
    assert_effects(read_effects(table.assign(perturbation=table["perturbation"] + "-control")))


def test_p_values_of_zero_and_statistics_that_say_nothing_are_told():
    table = long(1 / LN2, lfc="log2FoldChange").assign(pvalue=0.01)
    table.loc[0, "pvalue"] = 0.0
    with pytest.warns(UserWarning, match="1 values of 'pvalue' are 0"):
        read_effects(table)
    with pytest.warns(UserWarning, match="No standard error follows.*all statistics are zero"):
        assert "lfc_se" not in read_effects(table.assign(pvalue=1.0)).layers


def test_a_wide_table_lies_as_more_of_its_names_say():
    measured = pd.concat([LFC, pd.DataFrame(0.1, LFC.index, [f"G{i}" for i in range(9)])], axis=1)
    for table in (measured, measured.T):
        effects = read_effects(table, base="e")
        assert list(effects.obs_names) == list(LFC.index) and effects.n_vars == 12
    with pytest.raises(ValueError, match=r"rows of adata seem to be genes.*adata\.T\.copy\(\)"):
        read_effects(ad.AnnData(measured.T), base="e")


def test_numbered_rows_and_columns_are_no_names():
    with pytest.raises(ValueError, match="numbered from 0 to 2, where names of genes are expected"):
        read_effects(LFC.set_axis(range(3), axis=1), base="e")
    numbered = ad.AnnData(
        LFC.to_numpy(), obs=pd.DataFrame({"who": LFC.index}, index=["0", "1", "2"]), var=pd.DataFrame(index=LFC.columns)
    )
    with pytest.raises(ValueError, match="rows of adata are numbered.*perturbation=….*'who'"):
        read_effects(numbered, base="e")
    assert_effects(read_effects(numbered, base="e", perturbation="who"), se=False)


def test_an_empty_table_of_standard_errors_is_named():
    with pytest.raises(ValueError, match="table of lfc_se is empty"):
        read_effects(LFC, base="e", lfc_se=pd.DataFrame())


@pytest.mark.parametrize("form", ["{gene}_{what}", "{what}.{gene}", "{gene} ({what})", "{gene}_vs_NTC_{what}", "pairs"])
def test_columns_of_each_perturbation_are_read(form, tmp_path):
    singles = LFC.loc[["KLF1", "GATA1"]]
    table = pd.DataFrame({"gene": LFC.columns, "description": "x", "baseMean": 3.0})
    for gene in singles.index:
        for what, values in (("log2FC", LFC.loc[gene] / LN2), ("lfcSE", SE.loc[gene] / LN2), ("padj", 0.1)):
            name = f"{what}|{gene}" if form == "pairs" else form.format(gene=gene, what=what)
            table[name] = values if np.isscalar(values) else values.to_numpy()
    if form == "pairs":
        columns = [tuple(name.split("|")) if "|" in name else (name, "") for name in table.columns]
        table.columns = pd.MultiIndex.from_tuples(columns)
    else:
        table.to_csv(tmp_path / "effects.csv", index=False)
        assert_effects(read_effects(tmp_path / "effects.csv"))
    assert_effects(read_effects(table))


def test_other_kinds_of_effects_are_no_perturbations():
    table = pd.DataFrame({"gene": LFC.columns, "log2FC_raw": 1.0, "log2FC_shrunken": 0.5, "padj": 0.1})
    with pytest.raises(ValueError, match=r"perturbation=…|\{'KLF1': table\}"):
        read_effects(table)
    numbered = pd.DataFrame({"gene": LFC.columns, "log2FC": 1.0, "log2FC.1": 0.5, "log2FC.2": 0.1})
    with pytest.raises(ValueError, match="perturbations have no usual name"):
        read_effects(numbered)


def test_no_column_of_a_perturbation_is_lost_in_silence():
    table = pd.DataFrame({"gene": ["KLF1", "GATA1", "HBB"], "KLF1_log2FC": 1.0, "GATA1_log2FC": 2.0})
    with pytest.warns(UserWarning, match=r"1 columns belong to a perturbation that has no effects.*'HBB_pvalue'"):
        assert list(read_effects(table.assign(HBB_pvalue=0.1)).obs_names) == ["KLF1", "GATA1"]
    for column in ("KLF1_logFC", "log2FC_KLF1"):
        with pytest.raises(ValueError, match=f"several columns of effects of 'KLF1': 'KLF1_log2FC', '{column}'"):
            read_effects(table.assign(**{column: 3.0}))
    with pytest.raises(ValueError, match="effects have several names, as in 'KLF1_log2FC', 'GATA1_lfc'"):
        read_effects(table.rename(columns={"GATA1_log2FC": "GATA1_lfc"}))


def test_a_panel_of_few_genes_is_read_where_the_rows_are_said_to_be_perturbations():
    genes = [f"G{i}" for i in range(40)]
    panel = ad.AnnData(-np.ones((20, 5)), obs=pd.DataFrame(index=genes[:20]), var=pd.DataFrame(index=genes[:5]))
    with pytest.raises(ValueError, match="or rows='perturbations' if they are not"):
        read_effects(panel, base="e")
    assert read_effects(panel, base="e", rows="perturbations").shape == (20, 5)
    panel.obs["perturbation"] = panel.obs_names.to_numpy()
    assert read_effects(panel, base="e").shape == (20, 5)


def test_perturbations_that_are_numbers_are_no_genes():
    table = pd.DataFrame(
        {"perturbation": [1, 2, 1, 2], "gene": ["KLF1", "KLF1", "HBB", "HBB"], "log2FC": [1.0, 2.0, 3.0, 4.0]}
    )
    assert list(read_effects(table).var_names) == ["KLF1", "HBB"]


@pytest.mark.parametrize("join", ["_", "|", ";", " and ", "_and_"])
def test_another_separator_in_labels_of_a_table_is_named(join):
    genes = ["KLF1", "GATA1", "HBB"]
    table = pd.DataFrame(np.arange(9.0).reshape(3, 3) / 10, index=["KLF1", "GATA1", f"KLF1{join}GATA1"], columns=genes)
    with pytest.raises(ValueError, match=re.escape(f"Pass sep={join!r}")):
        read_effects(table, base="e")
    assert list(read_effects(table, base="e", sep=join).obs_names) == ["KLF1", "GATA1", "GATA1+KLF1"]
    plus = table.rename(index=lambda label: label.replace(join, "+"))
    assert list(read_effects(plus, base="e").obs_names) == ["KLF1", "GATA1", "GATA1+KLF1"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["KLF1_1", "KLF1_2"], "look like names of guides.*'KLF1_1'"),
        (["sgKLF1", "GATA1"], "look like names of guides.*'sgKLF1'"),
        (["KLF1_KO", "GATA1"], "'KLF1_KO' for 'KLF1'.*column of perturbations"),
    ],
)
@pytest.mark.parametrize("measured", [["HBB", "ALAS2"], ["KLF1", "GATA1", "HBB"]])
def test_labels_of_a_table_get_the_checks_of_those_of_cells(labels, message, measured):
    table = pd.DataFrame(np.arange(len(measured) * 2.0).reshape(2, -1) / 10, index=labels, columns=measured)
    with pytest.warns(UserWarning, match=message):
        read_effects(table, base="e", rows="perturbations")


@pytest.mark.parametrize(
    ("label", "sep", "message"), [("KLF1_1", "_", "numbers are not genes"), ("HLA-A", "-", "cuts 1 labels within")]
)
def test_a_separator_that_cuts_labels_of_a_table_is_refused(label, sep, message):
    table = pd.DataFrame([[0.1, 0.2], [0.3, 0.4]], index=[label, "GATA1"], columns=["HLA-A", "KLF1"])
    with pytest.raises(ValueError, match=message):
        read_effects(table, base="e", sep=sep, rows="perturbations")


DE_TABLE = "gene,log2FoldChange,lfcSE\nHBB,-1,0.2\nALAS2,0.5,0.2\n"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("gene,log2FoldChange,lfcSE\n", "'KLF1' has no rows"),
        ("gene,logFC_ln,lfcSE\nHBB,1,0.2\n", "effects under different names, 'log2FoldChange' and 'logFC_ln'"),
        ("symbol,log2FoldChange,lfcSE\nHBB,1,0.2\n", "genes under different names, 'gene' and 'symbol'"),
        ("gene,log2FoldChange,std_err\nHBB,1,0.2\n", "standard errors under different names"),
        ("gene,log2FoldChange,log2FoldChange\nHBB,1,2\n", "log2FoldChange"),
    ],
)
def test_no_table_of_a_folder_is_lost(other, message, tmp_path):
    (tmp_path / "GATA1.csv").write_text(DE_TABLE)
    (tmp_path / "KLF1.csv").write_text(other)
    with pytest.raises(ValueError, match=message):
        read_effects(tmp_path)


@pytest.mark.parametrize(
    "columns",
    ["id num neg|score neg|lfc pos|score pos|lfc", "Gene sgRNA HL60|beta HL60|z HL60|wald-fdr", "GENE BF STD NumObs",
     "sgrna Gene control_count treatment_count control_mean treat_mean LFC", "GENE sumZ numObs normZ pval_synth"],
)  # fmt: skip
def test_scores_of_growth_are_no_effects(columns, tmp_path):
    header = columns.split()
    table = pd.DataFrame([["KLF1", *range(len(header) - 1)], ["GATA1", *range(len(header) - 1)]], columns=header)
    table.to_csv(tmp_path / "x.gene_summary.txt", sep="\t", index=False)
    for given in (table, tmp_path / "x.gene_summary.txt"):
        with pytest.raises(ValueError, match="scores of a screen of growth or survival"):
            read_effects(given, base=2)


def test_dates_and_missing_contexts_of_a_table_are_named():
    table = pd.DataFrame({"perturbation": ["1-Mar", "KLF1"], "gene": "HBB", "log2FC": [0.1, 0.2]})
    with pytest.warns(UserWarning, match="'1-Mar'.*harmonize_genes"):
        read_effects(table)
    with pytest.warns(UserWarning, match="'2-Sep'.*harmonize_genes"):
        read_effects(pd.DataFrame([[0.1, 0.2]], ["KLF1"], ["2-Sep", "HBB"]), base=2)
    table = pd.DataFrame({"perturbation": "KLF1", "cell": ["K562", "nan"], "gene": "HBB", "log2FC": [0.1, 0.2]})
    with pytest.raises(ValueError, match="1 rows of 'cell' have no context: 'nan'"):
        read_effects(table, context_key="cell")


def test_ids_that_were_floats_are_read_as_they_were():
    table = pd.DataFrame({"perturbation": [10661.0, 2623.0], "gene": "HBB", "log2FC": [0.1, 0.2]})
    assert list(read_effects(table).obs_names) == ["10661", "2623"]
    wide = pd.DataFrame([[0.1, 0.2]], index=["KLF1"], columns=["10661.0", "KLF1"])
    assert list(read_effects(wide, base=2).var_names) == ["10661", "KLF1"]


def test_the_files_of_guides_of_one_gene_keep_its_name(tmp_path):
    for name in ("KLF1_1", "KLF1_2"):
        (tmp_path / f"{name}.csv").write_text(DE_TABLE)
    with pytest.warns(UserWarning, match="look like names of guides"):
        assert list(read_effects(tmp_path).obs_names) == ["KLF1_1", "KLF1_2"]


def test_the_mend_for_split_labels_of_a_table_finds_the_gene():
    table = pd.DataFrame([[0.1, 0.2], [0.3, 0.4]], index=["low_KLF1", "GATA1"], columns=["HBB", "KLF1"])
    with pytest.raises(ValueError, match="'low' are not genes") as error:
        read_effects(table, base="e", sep="_", rows="perturbations")
    pattern = re.search(r"str.extract\(r'(.+?)'\)", str(error.value))[1]
    assert re.fullmatch(pattern, "low_KLF1")[1] == "KLF1"
