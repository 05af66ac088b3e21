"""One table in the ways in which files of tables are written: packed, encoded, separated, with lines above and below."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from scapp._edges import read_edges
from scapp._tables import encoding_of, read_table
from scapp.pp import read_effects
from scapp.resources import from_gmt, from_table

TEXT = "perturbation,gene,log2FoldChange,lfcSE\nKLF1,HBB,1.5,0.1\nKLF1,ALAS2,-2.25,0.25\nGATA1,HBB,0.5,0.5\nGATA1,ALAS2,3.0,1.0\n"
SEMICOLONS = TEXT.replace(",", ";")


def zipped(text: str, *names: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in names:
            archive.writestr(name, text)
    return packed.getvalue()


FORMS: dict[str, bytes] = {
    "plain": TEXT.encode(),
    "with a mark of its encoding": b"\xef\xbb\xbf" + TEXT.encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16 of another order, with tabs": b"\xfe\xff" + TEXT.replace(",", "\t").encode("utf-16-be"),
    "ends of lines of Windows": TEXT.replace("\n", "\r\n").encode(),
    "semicolons": SEMICOLONS.encode(),
    "semicolons and decimal commas": SEMICOLONS.replace(".", ",").encode(),
    "tabs and decimal commas": TEXT.replace(",", "\t").replace(".", ",").encode(),
    "bars": TEXT.replace(",", "|").encode(),
    "several blanks": TEXT.replace(",", "   ").encode(),
    "quoted": "".join(",".join(f'"{x}"' for x in line.split(",")) + "\n" for line in TEXT.split()).encode(),
    "blanks behind separators": TEXT.replace(",", ", ").encode(),
    "blanks at the ends of lines": TEXT.replace("\n", " \n").encode(),
    "empty lines": ("\n\n" + TEXT.replace("\n", "\n\n")).encode(),
    "empty rows below": (TEXT + "\n,,,\n,,,\n").encode(),
    "comments above": ("# made by a pipeline\n# in 2026\n" + TEXT).encode(),
    "a line for Excel": ("sep=;\n" + SEMICOLONS).encode(),
    "a header in capitals": (TEXT.split("\n", 1)[0].upper() + "\n" + TEXT.split("\n", 1)[1]).encode(),
    "a comma in a header with semicolons": SEMICOLONS.replace("lfcSE", '"lfcSE, approximate"').encode(),
    "gzip": gzip.compress(TEXT.encode()),
    "bzip2": bz2.compress(TEXT.encode()),
    "xz": lzma.compress(TEXT.encode()),
    "zip": zipped(TEXT, "effects.csv", "__MACOSX/._effects.csv"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_the_same_in_whatever_form_it_is_written(form, tmp_path):
    path = tmp_path / "effects.csv"
    path.write_bytes(FORMS[form])
    effects = read_effects(path)
    assert list(effects.obs_names) == ["KLF1", "GATA1"] and list(effects.var_names) == ["HBB", "ALAS2"]
    np.testing.assert_allclose(effects.layers["lfc"] / np.log(2), [[1.5, -2.25], [0.5, 3.0]], rtol=1e-6)
    np.testing.assert_allclose(effects.layers["lfc_se"] / np.log(2), [[0.1, 0.25], [0.5, 1.0]], rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_the_weights_of_a_network_are_the_same_in_whatever_form_it_is_written(form, tmp_path):
    path = tmp_path / "net.csv"
    header = ("perturbation", "source"), ("gene", "target"), ("log2FoldChange", "weight"), ("lfcSE", "note")
    data = FORMS[form]
    pack: Callable[[bytes], bytes] = bytes
    for unpack, again in (
        (gzip.decompress, gzip.compress),
        (bz2.decompress, bz2.compress),
        (lzma.decompress, lzma.compress),
    ):
        try:
            data, pack = unpack(data), again
        except (OSError, lzma.LZMAError):
            continue
    if form == "zip":
        data, pack = TEXT.encode(), lambda text: zipped(text.decode(), "net.csv")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = data.decode(encoding)
    for old, new in header:
        text = text.replace(old, new).replace(old.upper(), new.upper())
    data = text.encode(encoding)
    path.write_bytes(pack(data))
    table = from_table(path)
    assert table["weight"].tolist() == [1.5, -2.25, 0.5, 3.0]
    assert table["source"].tolist() == ["KLF1", "KLF1", "GATA1", "GATA1"]


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, bz2.compress, lzma.compress, lambda data: zipped(data.decode(), "sets.gmt")],
    ids=["gzip", "bzip2", "xz", "zip"],
)
def test_gene_sets_are_read_however_they_are_packed(pack: Callable[[bytes], bytes], tmp_path):
    (tmp_path / "sets.gmt").write_bytes(pack(b"ONE\tabout\tKLF1\tHBB\nTWO\tabout\tGATA1\n"))
    assert from_gmt(tmp_path / "sets.gmt")["gene"].tolist() == ["KLF1", "HBB", "GATA1"]


def test_thousands_are_no_decimal_commas(tmp_path):
    (tmp_path / "table.csv").write_text("source;target;weight\nKLF1;HBB;1,000\n")
    assert read_table(tmp_path / "table.csv")["weight"].tolist() == ["1,000"]


def test_lists_of_numbers_are_no_decimal_commas(tmp_path):
    (tmp_path / "net.tsv").write_text("source\ttarget\tpmids\nKLF1\tHBB\t12345,67890\nGATA1\tHBB\t99,100\n")
    assert read_table(tmp_path / "net.tsv")["pmids"].tolist() == ["12345,67890", "99,100"]


def test_a_separator_inside_of_quotes_does_not_cut_the_header(tmp_path):
    (tmp_path / "table.csv").write_text('"name, symbol";weight\nKLF1;1\n')
    assert list(read_table(tmp_path / "table.csv")) == ["name, symbol", "weight"]


@pytest.mark.parametrize("gene", ["PAR1", "RDX"])
def test_genes_that_begin_as_binary_files_do_are_read(gene, tmp_path):
    (tmp_path / "net.tsv").write_text(f"{gene}\tKLF1\nKLF1\tHBB\n")
    assert read_edges(tmp_path / "net.tsv", var_names=[]).edges["source"].tolist() == [gene, "KLF1"]


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress], ids=["bzip2", "xz"])
def test_a_small_file_that_holds_very_much_is_not_read_on(pack, tmp_path, monkeypatch):
    monkeypatch.setattr("scapp._tables.LARGEST_SMALL", 10_000)
    (tmp_path / "bomb.csv").write_bytes(pack(b"source,target\n" + b"KLF1,HBB\n" * 500_000))
    with pytest.raises(ValueError, match="unpacks to more than"):
        read_table(tmp_path / "bomb.csv")


@pytest.mark.parametrize(
    "pack", [bz2.compress, lzma.compress, lambda data: zipped(data.decode(), "t.csv")], ids=["bzip2", "xz", "zip"]
)
def test_truncated_packed_files_are_named(pack, tmp_path):
    (tmp_path / "table.csv").write_bytes(pack(TEXT.encode() * 500)[:-60])
    with pytest.raises(ValueError, match="table.csv' (?:cannot be read to its end|is a zip archive that is damaged)"):
        read_table(tmp_path / "table.csv")


def test_row_names_of_r_are_the_genes(tmp_path):
    rows = "perturbation\tlog2FoldChange\nHBB\tKLF1\t1.0\nALAS2\tKLF1\t2.0\n"
    (tmp_path / "r.tsv").write_text(rows)
    effects = read_effects(tmp_path / "r.tsv")
    assert list(effects.var_names) == ["HBB", "ALAS2"]


def test_parquet_files_are_read_under_any_name(tmp_path):
    pd.read_csv(io.StringIO(TEXT), float_precision="round_trip").to_parquet(tmp_path / "t.pq")
    assert read_effects(tmp_path / "t.pq").shape == (2, 2)


def test_the_encoding_is_told_by_the_first_bytes(tmp_path):
    (tmp_path / "t.csv").write_bytes("a,b\n".encode("utf-16"))
    assert encoding_of(tmp_path / "t.csv") == "utf-16"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source,target,weight\nKLF1,HBB,1\n#GATA1,HBB,2\nGATA1,ALAS2,1\n", "1 rows within.*'#GATA1'"),
        ("source,target,weight\nKLF1,HBB,1\n# note\nGATA1,ALAS2,1\n", "1 rows within.*'# note'"),
        (
            'source,target,weight,note\nKLF1,HBB,1,"a\nGATA1,ALAS2,1,b\n',
            "opened in row 1 below the header and never closed",
        ),
        ('source,target,weight,note\nKLF1,HBB,1,"a\nGATA1,ALAS2,1,b\nSPI1,HBB,1,c"\n', "column 'note'.*not closed"),
        (
            "source,target,weight,weight\nKLF1,HBB,1,5\n",
            "1 columns of.*share a name with another column, the first: 'weight'",
        ),
        ('gene,"HBB","HBB"\nKLF1,1,5\n', "the first: 'HBB'"),
    ],
)
def test_lines_that_pandas_would_misread_are_refused(text, said, tmp_path):
    for form in (text, text.replace(",", "\t")):
        (tmp_path / "table.csv").write_text(form)
        with pytest.raises(ValueError, match=said):
            read_table(tmp_path / "table.csv")


def test_colors_and_texts_of_several_lines_are_no_faults(tmp_path):
    (tmp_path / "colors.csv").write_text("color,gene\n#ff0000,KLF1\n#00ff00,HBB\n")
    assert read_table(tmp_path / "colors.csv")["color"].tolist() == ["#ff0000", "#00ff00"]
    (tmp_path / "notes.csv").write_text('gene,term,note\nKLF1,A,"one\ntwo"\n')
    assert read_table(tmp_path / "notes.csv")["note"].tolist() == ["one\ntwo"]


def test_a_header_that_is_cut_like_its_rows_is_one_whatever_lists_the_rows_hold(tmp_path):
    (tmp_path / "corum.txt").write_text("ComplexID\tName\tsubunits(Gene name)\n1\tC1\tKLF1;HBB\n2\tC2\tHBB;GATA1\n")
    assert list(read_table(tmp_path / "corum.txt")) == ["ComplexID", "Name", "subunits(Gene name)"]


@pytest.mark.parametrize("date", ["1-Mar", "2-Sep", "Sep-02", "2024-03-01"])
def test_genes_that_a_spreadsheet_made_dates_of_are_named(date, tmp_path):
    (tmp_path / "net.csv").write_text(f"source,target\nKLF1,{date}\nGATA1,HBB\n")
    with pytest.warns(UserWarning, match=f"1 names of the table are dates.*{date}.*harmonize_genes"):
        from_table(tmp_path / "net.csv")
