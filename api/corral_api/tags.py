"""`/api/tags`: the models that there are."""

import asyncio
from collections.abc import Iterable

from litestar import Response, get
from litestar.di import NamedDependency

from corral_api.answers import json_response
from corral_api.routing import ALSO_HEAD
from corral_api.wire.responses import ListedModel, ListResponse, ModelDetails
from corral_api.wire.times import local_text
from corral_kernel.models import Model
from corral_kernel.service import Corral


@get("/api/tags", opt=ALSO_HEAD)
async def tags(corral: NamedDependency[Corral]) -> Response[bytes]:
    """List all models, the newest first."""
    models = await corral.models()
    # In a thread: every plugin is asked about every model, of which there may be thousands.
    return json_response(await asyncio.to_thread(_answer, models, corral))


def _answer(models: Iterable[Model], corral: Corral) -> ListResponse:
    listed = (_listed(model, corral.capabilities(model)) for model in models)
    return ListResponse(models=tuple(listed))


def _listed(model: Model, capabilities: tuple[str, ...]) -> ListedModel:
    return ListedModel(
        name=model.name.short,
        model=model.name.short,
        remote_model=model.config.remote_model,
        remote_host=model.config.remote_host,
        modified_at=local_text(model.modified_ns),
        size=model.size_bytes,
        digest=model.digest,
        details=ModelDetails(
            parent_model=model.parent_model,
            format=model.format,
            family=model.family,
            families=model.families,
            parameter_size=model.parameter_size,
            quantization_level=model.listed_quantization_level,
            context_length=model.context_length,
            embedding_length=model.embedding_length,
        ),
        capabilities=capabilities,
    )
