"""The model."""

from scapp.model._app import APP

__all__ = ["APP"]
