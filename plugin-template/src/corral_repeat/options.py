"""Load options of the backend; its own beside those that every backend has."""

from typing import Annotated

from corral_kernel.contracts import LoadOptions
from msgspec import Meta

DEFAULT_CONTEXT_TOKENS = 8192
DEFAULT_BATCH_TOKENS = 512


class RepeatOptions(LoadOptions, frozen=True, kw_only=True):
    """What a Modelfile's `PARAMETER` or a request's `options` may say; a change loads anew."""

    repeat_times: Annotated[
        int,
        Meta(ge=1, le=100, description="how often a prompt is repeated; a hundred times at most"),
    ] = 1
