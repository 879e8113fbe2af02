"""Load options of this backend."""

from typing import Annotated

from msgspec import Meta

from corral_kernel.contracts import LoadOptions


class RemoteOptions(LoadOptions, frozen=True, kw_only=True):
    """What a model on another server may set."""

    api_key: Annotated[
        str, Meta(description="where the server's key is: env:NAME or file:PATH, never the key")
    ] = ""
    remote_connect_timeout: Annotated[
        float, Meta(gt=0, le=600, description="seconds for a connection to a remote server")
    ] = 10.0
    remote_first_timeout: Annotated[
        float, Meta(gt=0, le=86400, description="seconds from a request to its first token")
    ] = 600.0
    remote_silence_timeout: Annotated[
        float, Meta(gt=0, le=86400, description="seconds from one token of an answer to the next")
    ] = 120.0
    remote_retries: Annotated[
        int, Meta(ge=0, le=20, description="more tries of what failed before its first token")
    ] = 3
