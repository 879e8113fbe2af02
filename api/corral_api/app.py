"""The application: every route of the native API, and one kernel behind them."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final

from litestar import Litestar
from litestar.di import Provide
from litestar.types import ASGIApp

from corral_api import root
from corral_api.blobs import has_blob, put_blob
from corral_api.chat import chat
from corral_api.compare import compare
from corral_api.create import create
from corral_api.embed import embed, embeddings
from corral_api.errors import EXCEPTION_HANDLERS
from corral_api.gc import gc
from corral_api.generate import generate
from corral_api.lock import lock
from corral_api.options import options, samplers
from corral_api.plugins import plugins
from corral_api.ps import ps
from corral_api.quantizers import quantizers
from corral_api.registries import registries
from corral_api.routing import finish
from corral_api.show import show
from corral_api.store_routes import copy, delete_model
from corral_api.tags import tags
from corral_api.transfers import pull, push
from corral_api.wire.decode import MAX_JSON_BYTES
from corral_kernel.service import Corral

CLOSE_S: Final = 10
"""How long the kernel may take to end."""

_log = logging.getLogger(__name__)

HANDLERS: Final = (
    *root.HANDLERS,
    tags,
    ps,
    show,
    generate,
    chat,
    embed,
    embeddings,
    create,
    has_blob,
    put_blob,
    copy,
    delete_model,
    gc,
    lock,
    pull,
    push,
    plugins,
    options,
    samplers,
    registries,
    quantizers,
    compare,
)


def create_app(corral: Corral) -> Litestar:
    """Make the application.

    Args:
        corral: The kernel; started and closed by the application's lifespan.
    """

    @contextlib.asynccontextmanager
    async def running(_app: Litestar) -> AsyncIterator[None]:
        await corral.start()
        try:
            yield
        finally:
            await close(corral)

    return Litestar(
        HANDLERS,
        lifespan=[running],
        dependencies={"corral": Provide(lambda: corral, sync_to_thread=False)},
        exception_handlers=EXCEPTION_HANDLERS,
        request_max_body_size=MAX_JSON_BYTES,
        openapi_config=None,
        logging_config=None,
    )


async def close(corral: Corral) -> None:
    """End all work and all workers, in bounded time.

    A worker that is not ended by then ends by itself when its channel to this process does.
    """
    try:
        async with asyncio.timeout(CLOSE_S):
            await corral.close()
    except TimeoutError:
        _log.error("the workers did not end within %d s and are left alone", CLOSE_S)


def surround(app: Litestar, corral: Corral, bound_host: str) -> ASGIApp:
    """Put CORS, host check and routing around the application.

    Args:
        app: From `create_app`.
        corral: Its kernel.
        bound_host: The address that the server listens on.

    Raises:
        InvalidOriginError: If an allowed origin of the settings is none.
    """
    return finish(app, origins=corral.settings.origins, bound_host=bound_host)
