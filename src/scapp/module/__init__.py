"""The model as torch modules: arrays in, log-fold-changes and attention out. Nothing here knows AnnData."""

from scapp.module._app import APPModule
from scapp.module._attention import MeasuredAttention, Queries
from scapp.module._base import Descent, Inputs, Prediction, Wanted
from scapp.module._calibration import Calibration
from scapp.module._closed_form import MAX_LEARNED_FROM, ClosedForm, even_choice, order_of
from scapp.module._evidence import Evidence
from scapp.module._paper import PaperModule, PaperOptions
from scapp.module._posterior import Posterior

__all__ = [
    "MAX_LEARNED_FROM",
    "APPModule",
    "Calibration",
    "ClosedForm",
    "Descent",
    "Evidence",
    "Inputs",
    "MeasuredAttention",
    "PaperModule",
    "PaperOptions",
    "Posterior",
    "Prediction",
    "Queries",
    "Wanted",
    "even_choice",
    "order_of",
]
