"""Every name that scapp writes into an AnnData, in one place."""

from __future__ import annotations

from typing import Final


class Key:
    """Names of the slots that scapp reads and writes, grouped by the slot they live in."""

    class obs:
        PERTURBATION: Final = "perturbation"
        CONTROL: Final = "control"
        BATCH: Final = "batch"
        N_CELLS: Final = "n_cells"
        N_PERTURBED_GENES: Final = "n_perturbed_genes"
        SHARE_RESPONDING: Final = "share_responding"
        IN_TRAINING: Final = "in_training"
        SINGLES_MEASURED: Final = "n_singles_measured"
        UNINFORMED: Final = "uninformed"
        MODULE: Final = "module"
        GUIDES: Final = "guides"
        N_GUIDES: Final = "n_guides"
        GUIDE_STATUS: Final = "guide_status"
        CONTEXT: Final = "context"
        EFFICACY: Final = "efficacy"
        EFFICACY_SE: Final = "efficacy_se"
        EFFICACY_STATUS: Final = "efficacy_status"
        SOURCE_CELL: Final = "source_cell"
        ATTENTION_TO_MEAN: Final = "attention_to_mean"

    class var:
        MEASURED: Final = "measured"
        CONTROL_MEAN: Final = "control_mean"
        CONTROL_VAR: Final = "control_var"
        HIGHLY_VARIABLE: Final = "highly_variable"
        SELECTED_AS: Final = "selected_as"
        ORIGINAL_NAME: Final = "original_name"

    class layers:
        LFC: Final = "lfc"
        LFC_SE: Final = "lfc_se"
        PREDICTED_LFC: Final = "predicted_lfc"
        PREDICTED_LFC_STD: Final = "predicted_lfc_std"
        P_CHANGE: Final = "p_change"
        ATTENTION: Final = "attention"
        COUNTS: Final = "counts"

    class obsm:
        ATTENTION_TO_PERTURBATIONS: Final = "attention_to_perturbations"
        PERTURBATION: Final = "X_perturbation"
        PERTURBATION_UMAP: Final = "X_perturbation_umap"

    class varm:
        CONTROL_MEAN: Final = "control_mean"
        CONTROL_VAR: Final = "control_var"

    class varp:
        NETWORK: Final = "network"

    class uns:
        SCAPP: Final = "scapp"
        N_CONTROL_CELLS: Final = "n_control_cells"
        ATTENTION_GENES: Final = "attention_genes"
        COMPLETE: Final = "complete"  # behind the key of a ranking: that of any number of perturbations
        ATTENTION_SUBNETWORK: Final = "attention_subnetwork"
        GENETIC_INTERACTIONS: Final = "genetic_interactions"
        PSEUDOBULK: Final = "pseudobulk"
        EFFECTS: Final = "effects"
        SELECT_GENES: Final = "select_genes"
        NETWORKS: Final = "networks"
        GENE_FEATURES: Final = "gene_features"
        EVIDENCE: Final = "evidence"
        NETWORK_KEYS: Final = "network_keys"
        GENE_FEATURES_KEYS: Final = "gene_features_keys"
        GENE_NAMES: Final = "gene_names"
        GUIDES: Final = "guides"
        EFFICACY: Final = "efficacy"
        PREDICTION: Final = "prediction"
        PERTURBATION_NEIGHBORS: Final = "perturbation"

    class tables:
        """Names of the tables inside an entry of `uns`."""

        GENES: Final = "genes"
        PAIRS: Final = "pairs"
        PARAMS: Final = "params"
        PATHS: Final = "paths"
