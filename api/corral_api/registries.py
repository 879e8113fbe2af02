"""`/api/registries`, a route of our own: where models come from, and who pulls a name."""

import asyncio
from typing import Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from msgspec import Struct

from corral_api.answers import json_response
from corral_kernel.catalog import RegistryEntry, all_registries
from corral_kernel.errors import InvalidNameError
from corral_kernel.models import LentModel
from corral_kernel.names import ModelName, split_marker
from corral_kernel.service import Corral


class LentAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that is lent. `hidden`: the store has one of that name, which goes before."""

    name: str
    owner: str
    problem: str = ""
    hidden: bool = False


class RegistryAnswer(Struct, frozen=True, kw_only=True):
    """One registry. `claims` empty: it pulls nothing. `claim` is for the name asked for, or 0."""

    name: str
    docs: str
    plugin: str
    distribution: str
    version: str
    claims: str
    form: str  # of addresses of its own
    claim: float
    lends: tuple[LentAnswer, ...]
    notes: tuple[str, ...]
    errors: tuple[str, ...]


class RegistriesResponse(Struct, frozen=True, kw_only=True):
    """`GET /api/registries`, with `?name=` for who pulls and pushes that one."""

    registries: tuple[RegistryAnswer, ...]
    name: str  # as it is known here; empty: none was asked for
    answered_by: str  # the registry that pulls and pushes it; empty: none does


@get("/api/registries")
async def registries(
    request: Request[Any, Any, Any], corral: NamedDependency[Corral]
) -> Response[bytes]:
    """List the registries, what they lend, and what is wrong with them."""
    sent = str(request.query_params.get("name", "")).strip()
    return json_response(await asyncio.to_thread(_answer, corral, sent))


def _answer(corral: Corral, sent: str) -> RegistriesResponse:
    found = corral.plugins.address(sent) if sent else None
    name = (found and found[1]) or (_parse(sent) if sent else None)
    answering = found[0] if found else (name and corral.plugins.registry_for(name))
    own = {known.folded for known in corral.store.own_names()}
    return RegistriesResponse(
        registries=tuple(_told(e, own) for e in all_registries(corral.plugins, name)),
        name=name.short if name else "",
        answered_by=answering.name if answering else "",
    )


def _parse(sent: str) -> ModelName:
    base, marker = split_marker(sent)
    return ModelName.parse(base if marker == "local" else sent)


def _told(entry: RegistryEntry, own: set[Any]) -> RegistryAnswer:
    registry = entry.registry
    return RegistryAnswer(
        name=registry.name,
        docs=registry.docs,
        plugin=entry.plugin.name,
        distribution=entry.plugin.distribution,
        version=entry.plugin.version,
        claims=registry.claims,
        form=registry.form,
        claim=entry.claim,
        lends=tuple(_lent(model, own) for model in entry.lent),
        notes=entry.notes,
        errors=entry.errors,
    )


def _lent(model: LentModel, own: set[Any]) -> LentAnswer:
    try:
        name = ModelName.parse(model.name)
    except InvalidNameError as error:
        return LentAnswer(name=model.name[:1000], owner=model.owner, problem=str(error))
    return LentAnswer(
        name=name.short, owner=model.owner, problem=model.problem, hidden=name.folded in own
    )
