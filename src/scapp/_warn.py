"""Warnings that point at the user's line."""

from __future__ import annotations

import sys
import warnings

from scapp._settings import settings

# Packages whose frames lie between the user's call and the place that warns.
BETWEEN = ("scapp", "scvi", "torch", "contextlib", "functools")


def warn_user(message: str) -> None:
    """Warn at the line outside of scapp that called it, however many frames lie between."""
    if settings.is_silent:
        return
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] in BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
