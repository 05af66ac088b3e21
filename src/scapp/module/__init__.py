"""The model as torch modules: arrays in, log-fold-changes and attention out. Nothing here knows AnnData."""

from scapp.module._app import APPModule, Inputs, Posterior, Prediction, Wanted
from scapp.module._attention import MeasuredAttention
from scapp.module._calibration import Calibration
from scapp.module._closed_form import ClosedForm
from scapp.module._evidence import Evidence
from scapp.module._paper import PaperModule

__all__ = [
    "APPModule",
    "Calibration",
    "ClosedForm",
    "Evidence",
    "Inputs",
    "MeasuredAttention",
    "PaperModule",
    "Posterior",
    "Prediction",
    "Wanted",
]
