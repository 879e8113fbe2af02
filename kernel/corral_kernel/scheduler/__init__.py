"""Requests to workers: queueing, loading, evicting, lifetimes."""

from corral_kernel.scheduler.instance import Instance, State
from corral_kernel.scheduler.lease import Hold, Lease
from corral_kernel.scheduler.limits import Limits
from corral_kernel.scheduler.scheduler import Scheduler
from corral_kernel.scheduler.want import Want

__all__ = ["Hold", "Instance", "Lease", "Limits", "Scheduler", "State", "Want"]
