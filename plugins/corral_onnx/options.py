"""What can be set when a model is loaded with ONNX Runtime."""

from typing import Annotated

from msgspec import Meta

from corral_kernel.contracts import LoadOptions


class OnnxOptions(LoadOptions, frozen=True, kw_only=True):
    """Load options of the ONNX backend."""

    execution_provider: Annotated[
        str,
        Meta(
            description="where it runs: cpu, cuda, dml, …, the first choice first, with commas; "
            "empty: cpu"
        ),
    ] = ""
