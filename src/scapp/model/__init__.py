"""The model."""

from scapp.model._app import APP
from scapp.model._hub import save_for_hub

__all__ = ["APP", "save_for_hub"]
