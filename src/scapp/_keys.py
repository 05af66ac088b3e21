"""Every name that scapp writes into an AnnData, in one place."""

from __future__ import annotations

from typing import Final


class Key:
    """Names of the slots that scapp reads and writes, grouped by the slot they live in."""

    class obs:
        PERTURBATION: Final = "perturbation"
        N_CELLS: Final = "n_cells"
        N_PERTURBED_GENES: Final = "n_perturbed_genes"
        IN_TRAINING: Final = "in_training"
        SINGLES_MEASURED: Final = "n_singles_measured"
        UNINFORMED: Final = "uninformed"
        SOURCE_CELL: Final = "source_cell"

    class var:
        MEASURED: Final = "measured"
        CONTROL_MEAN: Final = "control_mean"
        CONTROL_VAR: Final = "control_var"
        HIGHLY_VARIABLE: Final = "highly_variable"
        SELECTED_AS: Final = "selected_as"

    class layers:
        LFC: Final = "lfc"
        LFC_SE: Final = "lfc_se"
        PREDICTED_LFC: Final = "predicted_lfc"
        PREDICTED_LFC_STD: Final = "predicted_lfc_std"
        ATTENTION: Final = "attention"
        COUNTS: Final = "counts"

    class varp:
        NETWORK: Final = "network"

    class uns:
        SCAPP: Final = "scapp"
        N_CONTROL_CELLS: Final = "n_control_cells"
        ATTENTION_GENES: Final = "attention_genes"
        PSEUDOBULK: Final = "pseudobulk"
        SELECT_GENES: Final = "select_genes"
        NETWORKS: Final = "networks"
        GENE_FEATURES: Final = "gene_features"
        PREDICTION: Final = "prediction"
