"""`/api/ps`: the models that are loaded."""

import time

from litestar import Response, get
from litestar.di import NamedDependency

from corral_api.answers import json_response
from corral_api.wire import responses
from corral_api.wire.times import NANOSECONDS, local_text
from corral_kernel.calls import RunningModel
from corral_kernel.durations import FOREVER
from corral_kernel.models import Model
from corral_kernel.service import Corral


@get("/api/ps")
async def ps(corral: NamedDependency[Corral]) -> Response[bytes]:
    """List the loaded models, those that stay longest first."""
    running = tuple(_running(entry) for entry in corral.running())
    return json_response(responses.ProcessResponse(models=running))


def _running(entry: RunningModel) -> responses.RunningModel:
    model = entry.model
    return responses.RunningModel(
        name=model.name.short,
        model=model.name.short,
        size=entry.size_bytes,
        digest=model.digest,
        details=plain_details(model, parent_model=""),
        expires_at=_expires_at(entry.expires_at),
        size_vram=entry.vram_bytes,
        context_length=entry.context_tokens,
        engine=responses.EngineEntry(
            backend=entry.backend, slots=entry.slots, details=dict(entry.details)
        ),
    )


def _expires_at(unix_s: float | None) -> str:
    if unix_s is None:  # never: said as the longest time from now that there is
        return local_text(time.time_ns() + FOREVER)
    return local_text(round(unix_s * NANOSECONDS))


def plain_details(model: Model, parent_model: str) -> responses.ModelDetails:
    """Give the details that `show` and `ps` tell, which leave out the lengths."""
    return responses.ModelDetails(
        parent_model=parent_model,
        format=model.format,
        family=model.family,
        families=model.families,
        parameter_size=model.parameter_size,
        quantization_level=model.quantization_level,
    )
