"""Makes a model of files or of another model: `create_model(store, request)`.

Nothing refers to the new blobs until the manifest is written, which happens in one step at the end.
If it fails or is given up before that, the blobs that it made are deleted again.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from corral_kernel.makers import NO_MAKERS, Makers
from corral_kernel.models import ModelConfig
from corral_kernel.names import ModelName
from corral_kernel.store.assembly import Assembly
from corral_kernel.store.layering import Layers
from corral_kernel.store.quantizing import check_quantizing
from corral_kernel.store.requests import (
    CreateRequest,
    check_request,
    check_stub,
    config_from_info,
    parse_base,
    parse_stub,
)
from corral_kernel.store.steps import Progress, Steps
from corral_kernel.store.store import Store


def create_model(
    store: Store,
    request: CreateRequest,
    allow_remote: Callable[[str], None] = lambda _url: None,
    makers: Makers = NO_MAKERS,
) -> Steps[None]:
    """Create a model, or replace the one of that name, step by step.

    What the request alone shows to be wrong is raised by the call itself; the rest while iterating.

    Args:
        store: To create it in.
        request: What to make it of.
        allow_remote: Raises if no model may run on the server of this base URL.
        makers: Converters and quantizers; what needs one is given as a `NeedsTask`.

    Raises:
        InvalidRequestError: If the request cannot succeed as it stands.
        UnsupportedError: If it needs what this release does not do.
        ManifestNotFoundError: If its base is not in the store.
        InvalidModelError: If a file is damaged.
        TaskError: If what was asked for cannot be converted or quantized.
        StoreError: If a blob is missing or cannot be stored.
    """
    name = check_request(request)
    config = msgspec.structs.replace(
        config_from_info(request.info),
        requires=request.requires,
        renderer=request.renderer,
        parser=request.parser,
    )
    stub = parse_stub(request)
    if stub is not None:
        config = msgspec.structs.replace(config, remote_host=stub[0], remote_model=stub[1])
        allow_remote(stub[0])
    base = parse_base(request.base) if request.base and stub is None else None
    check_quantizing(request, makers)
    return _steps(store, request, _Plan(name, base, config, allow_remote, makers))


class _Plan(NamedTuple):
    """What was read from a request: the new name, the base, the config, and who is asked."""

    name: ModelName
    base: ModelName | None
    config: ModelConfig
    allow_remote: Callable[[str], None]
    makers: Makers


def _steps(store: Store, request: CreateRequest, plan: _Plan) -> Steps[None]:
    config = plan.config
    with contextlib.ExitStack() as ending:
        made: list[str] = []
        # Last of all, when nothing is pinned any more: what no manifest needs goes again.
        ending.callback(store.discard, made)
        layers = Layers(store, ending.enter_context(store.pinning()), made)
        work = Assembly(layers, plan.makers, request)
        parameters: dict[str, Any] = {}
        if plan.base is not None:
            config, parameters = work.inherit(plan.base, config)
            if config.remote_host:
                plan.allow_remote(config.remote_host)
        elif not config.remote_host:
            yield from work.add_files()
        check_stub(request, config)
        yield from work.quantize()
        if request.adapters:
            yield from work.add_adapter()
        if request.draft_files:
            yield from work.add_drafts()
        config, parameters = work.fill_in(config, parameters)
        work.add_texts(parameters)
        if words := work.warning():
            yield Progress(words)
        raw = work.manifest(work.complete(config))
        for layer in layers.items:
            doing = "creating new" if layer.digest in made else "using existing"
            yield Progress(f"{doing} layer {layer.digest}")
        yield Progress("writing manifest")
        store.publish(plan.name, raw)
    yield Progress("success")
