"""Losses for class-imbalanced training, and class weights for them.

All losses have the form of `LongTailedLoss`: `loss(scores [B, C], labels [B], noise=None)` returns the mean over the
batch of each image's loss times the weight of its class.
"""

from lpt.losses.cross_entropy import BalancedSoftmax, CrossEntropy, Focal, LogitAdjusted
from lpt.losses.gcl import GCL, NOISE_STD, AsymmetricGCL, draw_cloud
from lpt.losses.long_tailed import LongTailedLoss, effective_number_weights, inverse_frequency_weights
from lpt.losses.margin import LDAM

__all__ = [
    "GCL",
    "LDAM",
    "NOISE_STD",
    "AsymmetricGCL",
    "BalancedSoftmax",
    "CrossEntropy",
    "Focal",
    "LogitAdjusted",
    "LongTailedLoss",
    "draw_cloud",
    "effective_number_weights",
    "inverse_frequency_weights",
]
