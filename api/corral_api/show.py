"""`/api/show`: all about one model."""

import asyncio
import math
from typing import Any, Final

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK
from msgspec import Raw

from corral_api.answers import json_response
from corral_api.errors import ErrorContext, RefusalError, remember
from corral_api.ps import plain_details
from corral_api.references import DETAILS_UNAVAILABLE, local_name
from corral_api.wire.numbers import float64_text, go_json
from corral_api.wire.receive import receive
from corral_api.wire.requests import ShowRequest
from corral_api.wire.responses import (
    AbsentBackend,
    Backend,
    BackendBid,
    ResponseMessage,
    ShowResponse,
    Tensor,
)
from corral_api.wire.times import local_text
from corral_kernel import store
from corral_kernel.calls import BackendChoice
from corral_kernel.errors import InvalidModelError, ModelNotFoundError
from corral_kernel.models import Model
from corral_kernel.names import ModelName, split_marker
from corral_kernel.service import Corral

_COPILOT: Final = "GitHubCopilotChat/"
"""This client shows a model under its basename, and is given the name that it asked for."""


@post("/api/show", status_code=HTTP_200_OK)
async def show(request: Request[Any, Any, Any], corral: NamedDependency[Corral]) -> Response[bytes]:
    """Show a model's texts, metadata, tensors and capabilities."""
    body = await receive(request, ShowRequest)
    name = local_name(body.target, "show", remote=DETAILS_UNAVAILABLE)
    remember(request, ErrorContext("show", ModelName.parse(name).short))
    model = await corral.find(name)
    _check(model, corral, marker=split_marker(body.target)[1])
    extra = {}
    if request.headers.get("user-agent", "").startswith(_COPILOT):
        extra = {"general.basename": body.target}
    # In a thread: a verbose answer holds whole vocabularies.
    return await asyncio.to_thread(
        _answer, body, model, corral, extra=extra, template=corral.chosen_template(model)
    )


def _check(model: Model, corral: Corral, *, marker: str | None) -> None:
    if model.is_remote and marker == "local":
        raise ModelNotFoundError(model.name.short)
    if not corral.reaches(model):
        raise RefusalError(403, DETAILS_UNAVAILABLE)
    if model.weights and model.weights.digest in model.missing:
        raise ModelNotFoundError(model.name.short)
    if model.problem:
        raise InvalidModelError(model.problem)


def _answer(
    body: ShowRequest, model: Model, corral: Corral, *, extra: dict[str, Any], template: str
) -> Response[bytes]:
    info = store.model_info(model, verbose=body.verbose) | extra
    answer = ShowResponse(
        license="\n".join(model.licenses),
        modelfile=store.modelfile_text(model, system=body.system, options=body.options),
        parameters=store.parameters_text(model),
        template=template,
        system=body.system or model.system,
        details=plain_details(model, parent_model=model.parent_model),
        messages=tuple(
            ResponseMessage(role=message.get("role", ""), content=message.get("content", ""))
            for message in model.messages
        ),
        remote_model=model.config.remote_model,
        remote_host=model.config.remote_host,
        model_info={key: _json(info[key]) for key in sorted(info)},
        projector_info=_projector_info(model, corral, verbose=body.verbose),
        tensors=tuple(Tensor(**tensor) for tensor in store.tensor_list(model)),
        capabilities=corral.capabilities(model),
        modified_at=local_text(model.modified_ns),
        requires=model.config.requires,
        backend=_backend(corral.backend_of(model)),
    )
    return json_response(answer)


def _backend(choice: BackendChoice) -> Backend:
    return Backend(
        name=choice.name,
        why=choice.why,
        confidence=_confidence(choice.confidence) if choice.name else None,
        chosen_by=choice.chosen_by,
        others=tuple(
            BackendBid(name=bid.name, why=bid.why, confidence=_confidence(bid.confidence))
            for bid in choice.others
        ),
        absent=tuple(
            AbsentBackend(name=b.name, why=b.why, needs=b.needs, install=b.install)
            for b in choice.absent
        ),
        error=choice.error,
    )


def _confidence(value: float) -> Raw:
    return Raw(float64_text(value).encode())


def _projector_info(model: Model, corral: Corral, *, verbose: bool) -> dict[str, Any]:
    if not model.projectors:
        return {}
    first = model.projectors[0]
    info = store.header_info(corral.store.header(first), first, verbose=verbose)
    return {key: _json(value) for key, value in info.items()}


def _json(value: Any) -> Any:
    """Write a value of a model file; what is no number at all has no JSON but null."""
    if isinstance(value, list):
        return [_json(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else go_json(value)
