"""Labels of perturbations mean the same however they are written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp._controls import is_control, is_control_of_parts, recognised
from scapp._labels import (
    check_control,
    check_known,
    encode,
    format_label,
    near_matches,
    parse_label,
    parse_labels,
    perturbed_genes,
)

CONTROLS = ["ctrl", "control", "non-targeting", "non_targeting", "nt", "NTC_1", "safe-targeting", "unperturbed", "DMSO"]
# Symbols as they occur: HLA-A, RP11-54O7.1, MT_CO1, C19orf26.
symbols = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,10}", fullmatch=True).filter(lambda name: not recognised(name))
gene_sets = st.lists(symbols, min_size=1, max_size=4, unique=True)
separators = st.sampled_from(["+", "|", "&", ";", ", ", " and "])


@given(gene_sets, separators, st.randoms())
def test_order_of_the_genes_does_not_matter(genes, sep, random):
    shuffled = random.sample(genes, len(genes))
    assert parse_label(sep.join(shuffled), sep=sep) == parse_label(sep.join(genes), sep=sep) == tuple(sorted(genes))


@given(gene_sets, separators)
def test_canonical_label_is_its_own_canonical_label(genes, sep):
    canonical = format_label(parse_label(sep.join(genes), sep=sep), sep=sep)
    assert format_label(parse_label(canonical, sep=sep), sep=sep) == canonical


@given(gene_sets, st.sampled_from(["+", "|", "_", "-"]), st.sampled_from(CONTROLS), st.data())
def test_control_token_is_dropped_wherever_it_stands(genes, sep, control, data):
    genes = list(dict.fromkeys(gene.replace(sep, "") for gene in genes))
    # "SG" before "nt" is a control in another spelling, and so is "ctrl" before "D0", which is a day.
    genes = [gene for gene in genes if not is_control(gene) and not is_control(f"{gene}{sep}{control}")]
    genes = [gene for gene in genes if not is_control_of_parts(f"{control}{sep}{gene}")] or ["KLF1"]
    tokens = list(genes)
    tokens.insert(data.draw(st.integers(0, len(tokens))), control)
    assert parse_label(sep.join(tokens), control=control, sep=sep) == tuple(sorted(genes))


@pytest.mark.parametrize("gene", ["B2M", "C3", "F2", "T", "A2M", "AR", "H19", "GP2"])
def test_a_short_symbol_behind_a_control_stays_a_gene(gene):
    assert parse_label(f"KLF1_ctrl_{gene}", control="ctrl", sep="_") == tuple(sorted(["KLF1", gene]))


@given(gene_sets)
def test_a_control_of_any_name_is_dropped(genes):
    assert parse_label("+".join([*genes, "empty vector"]), control="empty vector") == tuple(sorted(genes))
    assert parse_label("empty vector", control="empty vector") == ()


@pytest.mark.parametrize("label", ["non_targeting", "KLF1_non_targeting", "non_targeting_KLF1"])
def test_a_control_that_holds_the_separator_is_not_read_as_genes(label):
    assert set(parse_label(label, control="ctrl", sep="_")) <= {"KLF1"}


def test_control_is_a_whole_token_never_a_part_of_one():
    assert parse_label("NEGR1+NTRK1") == ("NEGR1", "NTRK1")
    assert parse_label("CONTROLLER", control="control") == ("CONTROLLER",)


def test_dashes_dots_and_underscores_belong_to_the_symbol():
    assert parse_label("HLA-A+RP11-54O7.1+MT_CO1") == ("HLA-A", "MT_CO1", "RP11-54O7.1")


def test_blanks_around_a_gene_do_not():
    assert parse_label(" KLF1 + CEBPA ") == ("CEBPA", "KLF1")


@given(gene_sets, st.sampled_from(["{}+", "+{}", "{}++{}X", "{}+ +{}X"]))
def test_an_empty_part_is_refused(genes, template):
    with pytest.raises(ValueError, match="empty part"):
        parse_label(template.replace("{}", "+".join(genes)))


@given(gene_sets, st.data())
def test_a_gene_twice_is_refused_by_name(genes, data):
    twice = data.draw(st.sampled_from(genes))
    with pytest.raises(ValueError, match=rf"names {twice} more than once.*write '"):
        parse_label("+".join([*genes, twice]))


@pytest.mark.parametrize("label", ["", "  ", float("nan"), None, 3])
def test_a_missing_label_is_refused(label):
    with pytest.raises(ValueError, match="non-empty string"):
        parse_label(label)


def test_an_empty_separator_is_refused():
    with pytest.raises(ValueError, match="separator"):
        parse_label("KLF1", sep="")


@given(st.lists(gene_sets, max_size=5))
def test_many_labels_are_read_as_each_alone(sets):
    labels = ["+".join(genes) for genes in sets]
    assert parse_labels(labels) == [parse_label(label) for label in labels]


def test_a_missing_control_names_the_alias_that_is_there():
    with pytest.raises(ValueError, match="control='non-targeting'"):
        check_control(["KLF1", "non-targeting"], "control")


def test_a_misspelt_control_names_the_label_that_was_meant():
    with pytest.raises(ValueError, match="Similar labels: 'unguided'"):
        check_control(["KLF1", "unguided"], "unguidde")


def test_no_control_at_all_names_the_way_for_effects():
    with pytest.raises(ValueError, match="control=None"):
        check_control(["KLF1", "CEBPA"], "control")


@given(st.lists(gene_sets.map(lambda genes: tuple(sorted(genes))), min_size=1, max_size=5))
def test_encoding_marks_exactly_the_perturbed_genes(perturbations):
    nodes = perturbed_genes(perturbations)[::-1]
    encoded = encode(perturbations, nodes)
    assert encoded.dtype == np.float32
    decoded = [tuple(sorted(nodes[i] for i in row.indices)) for row in encoded]
    assert decoded == perturbations
    assert (encoded.data == 1).all()


def test_an_unknown_gene_is_named_with_its_near_match_and_the_mend():
    with pytest.raises(ValueError, match=r"'klf1' \(did you mean 'KLF1'\?\).*add_unmeasured_genes"):
        check_known([("klf1",)], ["KLF1", "CEBPA"])


def test_near_matches_put_another_case_first():
    assert near_matches("Klf1", ["KLF10", "KLF1", "KLF11"])[0] == "KLF1"
