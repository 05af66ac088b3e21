"""From the options of the model to the architecture of the module."""

from __future__ import annotations

from typing import Any

from scapp.module._predictor import Architecture

PRESETS: dict[str, dict[str, Any]] = {
    "default": {
        "n_models": 3, "anchor": True, "closed_form": True, "priors": True, "n_hidden": 32, "n_layers": 1,
        "n_attention": 8, "n_free_heads": 0, "aggregation": "mean", "activation": "leaky_relu",
        "decoder": "kernel",
    },
    "paper": {
        "n_models": 1, "anchor": False, "closed_form": False, "priors": False, "n_hidden": 64, "n_layers": 2,
        "n_attention": 32, "n_free_heads": 1, "aggregation": "mean", "activation": "relu",
        "decoder": "linear",
    },
}  # fmt: skip
CHOICES = {
    "aggregation": ("mean", "sum", "max"),
    "activation": ("leaky_relu", "relu"),
    "encoder": ("gnn", "identity", "random"),
    "pooling": ("attention", "mean"),
    "decoder": ("kernel", "linear", "mlp"),
}


def architecture_of(preset: str, **options: Any) -> tuple[int, bool, Architecture]:
    """Number of models, whether there is an anchor, and the rest; options that are None come from the preset.

    Raises
    ------
    ValueError
        If a choice is unknown or a number is out of range.
    """
    if preset not in PRESETS:
        raise ValueError(f"Unknown preset {preset!r}; there are {', '.join(map(repr, PRESETS))}.")
    chosen = {**PRESETS[preset], **{name: value for name, value in options.items() if value is not None}}
    for name, known in CHOICES.items():
        if name in chosen and chosen[name] not in known:
            raise ValueError(f"{name}={chosen[name]!r} is not among {', '.join(map(repr, known))}.")
    for name in ("n_models", "n_hidden", "n_layers", "n_attention"):
        if chosen[name] < 1:
            raise ValueError(f"{name} must be at least 1, found {chosen[name]}.")
    if chosen["n_free_heads"] < 0:
        raise ValueError(f"n_heads must not be negative, found {chosen['n_free_heads']}.")
    n_models, anchor = chosen.pop("n_models"), chosen.pop("anchor")
    return n_models, anchor, Architecture(**chosen)
