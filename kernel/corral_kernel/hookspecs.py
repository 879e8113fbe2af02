"""Every hook of Corral: the table of contents of what a plugin can be.

A plugin is a module named by an entry point of group `corral`. It holds `CORRAL_API_VERSION`, the
version of this contract that it was written for, and hook implementations:

    from corral_kernel.plugins import hookimpl

    CORRAL_API_VERSION = 1

    @hookimpl
    def corral_backends():
        return [Backend(name="mine", docs="…")]

Its entry module is light: it imports no native library. Hooks are asked one plugin at a time; one
that raises is reported and counts as no answer. Nothing depends on the order of calls.
"""

from collections.abc import Sequence

import pluggy

from corral_kernel.contracts import (
    Backend,
    ChatParser,
    ChatRenderer,
    Claim,
    ConstraintType,
    Converter,
    Engine,
    LoadRequest,
    Quantizer,
    Registry,
    SamplerType,
)
from corral_kernel.models import Model

hookspec = pluggy.HookspecMarker("corral")


@hookspec
def corral_backends() -> Sequence[Backend]:
    """Name the backends of this plugin, with their load options.

    Called in the server once, when plugins are listed, and in a worker that loads one of them.
    """


@hookspec
def corral_claim(model: Model) -> Claim | None:
    """Bid for a model that this plugin's backend can run, or return `None`.

    Called in the server whenever a model is shown or about to be loaded, from metadata alone: open
    no file, import no backend. Every plugin whose library is installed is asked; the highest
    `confidence` wins, whatever the call order. An exception counts as no bid and is reported.
    Others are asked only to tell who shows the model what to install; they may raise.
    """


@hookspec
def corral_load(request: LoadRequest) -> Engine:
    """Load a model that this plugin claimed.

    Called once in a worker, in its engine thread, of the claiming plugin alone. What it raises is
    the answer to the requests that wait: a `CorralError` keeps its code.
    """


@hookspec
def corral_samplers() -> Sequence[SamplerType]:
    """Give the samplers of this plugin.

    Called in the server once (for their fields and checks), and in each worker (for `start`). Of
    two of one name the first serves, the kernel's own before all, then by distribution name; the
    clash is reported.
    """


@hookspec
def corral_constraints() -> Sequence[ConstraintType]:
    """Give the kinds of `format` that this plugin enforces.

    Called in the server once (for `check`), and in each worker (for `compile`). Of two of one name
    the first by distribution name serves, and the clash is reported.
    """


@hookspec
def corral_chat_formats() -> Sequence[ChatRenderer | ChatParser]:
    """Give the template languages that this plugin renders, and the families that it reads.

    Called in the server once (for names, `describe`, `named` and `recognises`), and in each worker
    (for `render`, `start` and `plan`). Of two renderers, or two parsers, of one name the first by
    distribution name serves, and the clash is reported.
    """


@hookspec
def corral_converters() -> Sequence[Converter]:
    """Give the converters of this plugin.

    Called in the server once, for `offer`, and in each task process, for `convert`. The converter
    whose offer is the most confident converts.
    """


@hookspec
def corral_quantizers() -> Sequence[Quantizer]:
    """Give the quantizers of this plugin.

    Called in the server once, for their types and `offer`, and in each task process, for
    `quantize`. The quantizer whose offer is the most confident quantizes.
    """


@hookspec
def corral_registries() -> Sequence[Registry]:
    """Give the places where models come from, and go to.

    Called in the server once. Each lends models in place, or claims names and moves their blobs, or
    both: see `Registry`. A name is pulled and pushed by the registry that claims it highest.
    """
