"""Tasks, methods, scores and reports: how well scapp and simple models predict effects that were held out."""

from scapp.benchmark._gears import run_gears, write_gears_script
from scapp.benchmark._measured import k562_singles, measured, norman_doubles
from scapp.benchmark._method import Method
from scapp.benchmark._methods import embedding_method, gears_method, methods, predictions_method
from scapp.benchmark._predictions_file import export_task, read_predictions, write_predictions
from scapp.benchmark._published import published_interaction_curves, published_results
from scapp.benchmark._report import report
from scapp.benchmark._results import read_results
from scapp.benchmark._runner import run
from scapp.benchmark._scores import score
from scapp.benchmark._screens import doubles, screen, seen_singles, unseen_singles
from scapp.benchmark._statistics import (
    by_stratum,
    calibration,
    ceilings,
    paired,
    summarise,
)
from scapp.benchmark._task import Split, Task

__all__ = [
    "Method",
    "Split",
    "Task",
    "by_stratum",
    "calibration",
    "ceilings",
    "doubles",
    "embedding_method",
    "export_task",
    "gears_method",
    "k562_singles",
    "measured",
    "methods",
    "norman_doubles",
    "paired",
    "predictions_method",
    "published_interaction_curves",
    "published_results",
    "read_predictions",
    "read_results",
    "report",
    "run",
    "run_gears",
    "score",
    "screen",
    "seen_singles",
    "summarise",
    "unseen_singles",
    "write_gears_script",
    "write_predictions",
]
