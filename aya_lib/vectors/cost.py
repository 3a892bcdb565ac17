"""The former name of :mod:`aya_lib.vectors.ivf_model`, until nobody imports it."""

from aya_lib.vectors.ivf_model import *  # noqa: F403
from aya_lib.vectors.ivf_model import cost_error, fit_cost, prior_cost

error, fit, prior = cost_error, fit_cost, prior_cost
