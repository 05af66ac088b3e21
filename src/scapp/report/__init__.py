"""One page about a screen: what was read, how well it can be predicted, and what to do next."""

from scapp.report._make_report import make_report

__all__ = ["make_report"]
