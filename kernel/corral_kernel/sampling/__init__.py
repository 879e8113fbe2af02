"""From a row of logits to a token: the standard chain, constraints, seeded draws, logprobs.

For the worker alone; the server chooses no tokens and does not import numpy.
"""

from corral_kernel.sampling.chain import build_chain
from corral_kernel.sampling.chooser import Chooser
from corral_kernel.sampling.draw import random
from corral_kernel.sampling.history import HistoryView
from corral_kernel.sampling.logprobs import RawProbs, forced_logprob

__all__ = [
    "Chooser",
    "HistoryView",
    "RawProbs",
    "build_chain",
    "forced_logprob",
    "random",
]
