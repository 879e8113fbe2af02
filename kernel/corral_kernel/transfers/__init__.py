"""Models on their way between the store and registries.

    transfers = Transfers(store, plugins.registry_for, home, manner=Manner(streams=8))
    async for step in transfers.pull("hf.co/u/m:Q4_0"): ...    # Progress; RegistryError
    async for step in transfers.push("registry.example/u/m"): ...
    await transfers.close()

Blobs that are fetched are shared: two pulls of one digest are one download. Closing a pull leaves
its downloads; the last to leave ends them, and what they have is there for the next try.
"""

from corral_kernel.transfers.download import Manner
from corral_kernel.transfers.maker import Maker, check_source
from corral_kernel.transfers.transfers import Transfers

__all__ = ["Maker", "Manner", "Transfers", "check_source"]
