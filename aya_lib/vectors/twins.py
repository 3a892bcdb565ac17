"""The former name of :mod:`aya_lib.vectors.ivf_model`, until nobody imports it."""

from aya_lib.vectors.ivf_model import *  # noqa: F403
