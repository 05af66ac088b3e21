"""Public screens by name, and a simulated one, to try scapp on."""

from scapp.datasets._public import (
    adamson_2016,
    norman_2019,
    norman_2019_cells_subset,
    norman_2019_effects,
    papalexi_2021,
    papalexi_2021_guides,
    replogle_2022_k562_essential,
    replogle_2022_k562_gwps,
    replogle_2022_k562_zscores,
    replogle_2022_rpe1,
)
from scapp.datasets._simulated import SimulatedTruth, simulated_perturb_seq
from scapp.datasets._tidy import CONTROL, labelled_cells, load_h5ad  # for the screens of scapp.benchmark

__all__ = [
    "SimulatedTruth",
    "adamson_2016",
    "norman_2019",
    "norman_2019_cells_subset",
    "norman_2019_effects",
    "papalexi_2021",
    "papalexi_2021_guides",
    "replogle_2022_k562_essential",
    "replogle_2022_k562_gwps",
    "replogle_2022_k562_zscores",
    "replogle_2022_rpe1",
    "simulated_perturb_seq",
]
