"""What every prediction has to beat. Each is used as `APP` is: ``fit(effects)``, then ``predict(perturbations)``."""

from scapp.baselines._additive import Additive, ShrunkAdditive
from scapp.baselines._constant import Mean, NoChange
from scapp.baselines._linear import LinearModel

__all__ = ["Additive", "LinearModel", "Mean", "NoChange", "ShrunkAdditive"]
