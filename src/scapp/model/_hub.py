"""Saving of a trained model for the scvi-tools hub: weights, metadata and a model card."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anndata import AnnData

from scapp._checked import checked
from scapp._files import atomic_write
from scapp._genes import shorten

if TYPE_CHECKING:
    from huggingface_hub import ModelCard
    from scvi.hub import HubModel

    from scapp.model._app import APP

PARENT_MODULE = "scapp.model"
CARD, METADATA = "README.md", "_scvi_required_metadata.json"
WEIGHTS, ANNDATA, MUDATA = "model.pt", "adata.h5ad", "mdata.h5mu"
FILES = (ANNDATA, MUDATA, METADATA, CARD, WEIGHTS)


@checked
def save_for_hub(
    model: APP,
    folder: str | Path,
    *,
    license_info: str,
    description: str,
    references: str = "",
    tissues: list[str] | str | None = None,
    data_url: str | None = None,
    overwrite: bool = False,
) -> HubModel:
    """Save a model with its metadata and a model card, in the format of the scvi-tools hub.

    The AnnData or MuData of the training is saved with it. :class:`scvi.hub.HubModel` can read the folder and push it
    to a hub; this function sends nothing. The files are written under a hidden name and moved into place when all are
    complete. scvi-tools' helper writes model cards only for its own models. This card has the same fields and tags,
    plus those specific to perturbation effects.

    Parameters
    ----------
    model
        A trained :class:`scapp.model.APP`.
    folder
        Folder to save to; created if missing.
    license_info
        License of the weights and the data, by its name on the hub, such as ``"cc-by-4.0"``.
    description
        Description of the training data for the model card.
    references
        Papers and data sets to cite.
    tissues
        Tissues or cell lines of the screen.
    data_url
        Source of the training data.
    overwrite
        Whether to replace the model, the data and the card (``README.md``) in the folder. Other files are kept.

    Returns
    -------
    The hub model for this folder, which loads its ``model`` on first access.

    Raises
    ------
    RuntimeError
        If the model has not been trained.
    FileExistsError
        If a file would be replaced and `overwrite` is False, or `folder` is not a folder.
    ValueError
        If the model was loaded without its data.
    ModuleNotFoundError
        If huggingface_hub is not installed (``pip install "scapp[hub]"``).

    Examples
    --------
    >>> hub = scapp.model.save_for_hub(
    ...     model, "my_model", license_info="cc-by-4.0", description="CRISPRa screen of K562 cells."
    ... )
    >>> scvi.hub.HubModel("my_model").model.predict(["KLF1+CEBPA"])
    """
    try:
        from scvi.hub import HubMetadata, HubModel
    except ImportError as error:
        raise ModuleNotFoundError(
            'The hub needs huggingface_hub: install it with `pip install "scapp[hub]"`.'
        ) from error
    model.check_trained()
    if model.adata is None:
        raise ValueError("A hub model needs its data: load it with `APP.load(folder, adata=…)` first.")
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{str(folder)!r} is a file. Name a folder.")
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"{str(folder)!r} holds {shorten(there)} already. Pass overwrite=True to replace them, or name another folder."
        )
    card = _model_card(
        model,
        license_info=license_info,
        description=description,
        references=references,
        tissues=[tissues] if isinstance(tissues, str) else list(tissues or []),
        data_url=data_url,
    )
    with atomic_write(folder) as hidden:
        model.save(str(hidden), save_anndata=True)  # a hub model does not load without
        versions = {"anndata_version": version("anndata"), "model_parent_module": PARENT_MODULE}
        metadata = HubMetadata.from_dir(str(hidden), **versions)
        HubModel(str(hidden), metadata=metadata, model_card=card).save(overwrite=True)
        new = {file.name for file in hidden.iterdir()}
    for name in there:
        if name not in new:  # data in the other form, of the model that was there
            (folder / name).unlink()
    return HubModel(str(folder), metadata=metadata, model_card=card)


def _model_card(
    model: APP,
    *,
    license_info: str,
    description: str,
    references: str,
    tissues: list[str],
    data_url: str | None,
) -> ModelCard:
    import scvi
    from huggingface_hub import ModelCard, ModelCardData

    import scapp

    tags = ["biology", "genomics", "single-cell", "perturbation", "model_cls_name:APP"]
    tags += [f"scvi_version:{scvi.__version__}", f"anndata_version:{version('anndata')}", "modality:rna"]
    tags += [f"tissue:{tissue}" for tissue in tissues]
    header = ModelCardData(license=license_info, library_name="scvi-tools", tags=tags).to_yaml()
    settings = {k: v for k, v in model.init_params_["non_kwargs"].items() if v is not None}
    setup: dict[str, Any] = {k: v for k, v in model.registry["setup_args"].items() if v is not None}
    form, file, setup_method = "AnnData", ANNDATA, "setup_anndata"
    if not isinstance(model.adata, AnnData):
        form, file, setup_method = "MuData", MUDATA, "setup_mudata"
    singles = sum(len(p) == 1 for p in model.module.perturbations)
    numbers = {
        "genes (nodes of the network)": len(model.genes),
        "genes measured": model.module.targets.shape[1],
        "single perturbations trained on": singles,
        "combinations trained on": len(model.module.perturbations) - singles,
        "scalars learned": model.n_parameters,
    }
    sections = [
        f"# APP: effects of gene perturbations\n\n{description}",
        "The AdaptivePerturbPredictor predicts the mean log-fold-change of every gene when genes are perturbed alone or "
        "together. It knows the screen that it was trained on, and says nothing of single cells.",
        _fenced(
            "python",
            "import scvi\n\n# scapp must be installed\n"
            f'model = scvi.hub.HubModel("path/to/folder").model\npredicted = model.predict({_example(model)})\n'
            'predicted.layers["predicted_lfc"]',
        ),
        "## Numbers\n\n| what | number |\n|---|---|\n" + "\n".join(f"| {k} | {v:,} |" for k, v in numbers.items()),
        "## Options\n\nOf the model:\n\n" + _fenced("json", json.dumps(settings, indent=4, default=str)),
        f"Of `{setup_method}`:\n\n" + _fenced("json", json.dumps(setup, indent=4, default=str)),
        f"## Data\n\nThe {form} that the model was set up with is in `{file}`. Source: {data_url or 'not given'}.",
        f"## Versions\n\nscapp {scapp.__version__}, scvi-tools {scvi.__version__}, anndata {version('anndata')}.",
    ]
    if references:
        sections.append(f"## References\n\n{references}")
    return ModelCard(f"---\n{header}\n---\n\n" + "\n\n".join(sections) + "\n")


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _example(model: APP) -> str:
    genes = [model.genes[p[0]] for p in model.module.perturbations][:2]
    return json.dumps(["+".join(sorted(set(genes)))])
