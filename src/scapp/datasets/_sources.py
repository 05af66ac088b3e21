"""Where public screens are published, with the hashes of their files."""

from __future__ import annotations

from typing import Final

from scapp._download import RemoteFile

# scPerturb {cite:p}`Peidli2024`: harmonised files of many screens.
_SCPERTURB = "https://zenodo.org/records/10044268/files"


def _scperturb(name: str, md5: str) -> RemoteFile:
    return RemoteFile(name, f"{_SCPERTURB}/{name}", f"md5:{md5}")


NORMAN_EFFECTS: Final = RemoteFile(
    "norman_effect_bundle.npz",
    "https://raw.githubusercontent.com/MasalaKimchi/cell-state-reachability/"
    "9b7a2b195e5e573c9b8a465cce9e9786e033aaf8/notebooks/cache/norman_effect_bundle.npz",
    "sha256:8979d2ff3ea4e110f0e48f6342d0766c90036fe9876b9de53c93a8a401ec6f12",
)
NORMAN_SUBSET: Final = RemoteFile(
    "devel.h5ad",
    "https://github.com/altoslabs/perturbench/raw/d357dfa/src/perturbench/data/resources/devel.h5ad",
    "sha256:220998f5630c813228c8661c86dd52244b9ac87127511289af90e0d900d8429b",
)
NORMAN: Final = _scperturb("NormanWeissman2019_filtered.h5ad", "c870e6967d91c017d9da827bab183cd6")
ADAMSON: Final = {
    "pilot": _scperturb("AdamsonWeissman2016_GSM2406675_10X001.h5ad", "232f7e3756d41602bbe434b50662a76f"),
    "upr_epistasis": _scperturb("AdamsonWeissman2016_GSM2406677_10X005.h5ad", "8657391920e7f8b3e6fd52745777002a"),
    "upr": _scperturb("AdamsonWeissman2016_GSM2406681_10X010.h5ad", "2fa44ea61a8dd35742af618638ec65fc"),
}
REPLOGLE_RPE1: Final = _scperturb("ReplogleWeissman2022_rpe1.h5ad", "cc7f1ec50aeb3a3e1b4a6cfa713d80fa")
REPLOGLE_ESSENTIAL: Final = _scperturb("ReplogleWeissman2022_K562_essential.h5ad", "d8cba17576d1a8afc0f7d71b79cad0f7")
REPLOGLE_GWPS: Final = _scperturb("ReplogleWeissman2022_K562_gwps.h5ad", "13db594f8f1d2ccb88fec44a13e414dc")
# A long table of the strongest z-scores, from one commit of its repository; no hash of it is published.
REPLOGLE_ZSCORES: Final = RemoteFile(
    "replogle_2022_k562_zscores.parquet",
    "https://raw.githubusercontent.com/rsflinn/truthseq-data/"
    "e8a2100a1bf05e5f4c2f4e3f3268d242132eda6b/replogle_knockdown_effects.parquet",
)
# pertpy's file has the guides beside the genes, which scPerturb's has not; its hash is not published.
PAPALEXI: Final = RemoteFile("papalexi_2021.h5mu", "https://exampledata.scverse.org/pertpy/papalexi_2021.h5mu")
