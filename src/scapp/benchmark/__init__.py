"""Judge methods by how well they predict effects that were held out: tasks, methods, scores and statistics."""

from scapp.benchmark._check_split import check_split
from scapp.benchmark._cli import main  # the command `scapp benchmark`
from scapp.benchmark._measured import k562_singles, measured, norman_doubles
from scapp.benchmark._methods import AppMethod, Method, Predicted, embedding_method, methods, predictions_method
from scapp.benchmark._predictions import export_task, read_predictions, write_predictions
from scapp.benchmark._run import run
from scapp.benchmark._scores import read_results, score
from scapp.benchmark._screens import doubles, screen, seen_singles, unseen_contexts, unseen_singles
from scapp.benchmark._statistics import by_stratum, calibrated, calibration, ceilings, paired, summarise, verdict
from scapp.benchmark._task import Sources, Split, Task

__all__ = [
    "AppMethod",
    "Method",
    "Predicted",
    "Sources",
    "Split",
    "Task",
    "by_stratum",
    "calibrated",
    "calibration",
    "ceilings",
    "check_split",
    "doubles",
    "embedding_method",
    "export_task",
    "k562_singles",
    "measured",
    "methods",
    "norman_doubles",
    "paired",
    "predictions_method",
    "read_predictions",
    "read_results",
    "run",
    "score",
    "screen",
    "seen_singles",
    "summarise",
    "unseen_contexts",
    "unseen_singles",
    "verdict",
    "write_predictions",
]
