"""Corral's kernel: contracts, plugin manager, model store, scheduler, worker processes."""

__version__ = "0.1.0"

API_VERSION = 1
"""Version of the plugin contract: hooks, contracts and frames. A plugin names the one it has."""
