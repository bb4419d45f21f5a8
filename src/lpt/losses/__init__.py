"""Losses for class-imbalanced training, by family, and the class weights they take.

All have one form, that of `LongTailedLoss`: `loss(scores [B, C], labels [B], noise=None)` is the mean over the batch of
w_y times the loss of each image.
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
