"""`/api/gc`, a route of our own: deletes what no model needs, or tells what that is."""

import asyncio
from typing import Any

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK
from msgspec import Struct

from corral_api.answers import json_response
from corral_api.wire.receive import receive
from corral_api.wire.requests import GcRequest
from corral_kernel.service import Corral
from corral_kernel.store import GarbageReport, Heap, Wish


class HeapEntry(Struct, frozen=True, kw_only=True):
    """Some files together."""

    count: int
    size: int


class GcResponse(Struct, frozen=True, kw_only=True):
    """`POST /api/gc`: what was deleted, or would be; `young` and `in_use` stay."""

    dry_run: bool
    size: int
    blobs: HeapEntry
    partials: HeapEntry
    others: HeapEntry
    folders: HeapEntry
    cached: HeapEntry
    young: HeapEntry
    in_use: HeapEntry
    files: list[str]


@post("/api/gc", status_code=HTTP_200_OK)
async def gc(request: Request[Any, Any, Any], corral: NamedDependency[Corral]) -> Response[bytes]:
    """Delete what no model needs."""
    body = await receive(request, GcRequest)
    wish = Wish(dry_run=body.dry_run, everything=body.all)
    return json_response(_response(await asyncio.to_thread(corral.store.collect_garbage, wish)))


def _response(report: GarbageReport) -> GcResponse:
    return GcResponse(
        dry_run=report.dry_run,
        size=report.size_bytes,
        blobs=_entry(report.blobs),
        partials=_entry(report.partials),
        others=_entry(report.others),
        folders=_entry(report.folders),
        cached=_entry(report.cached),
        young=_entry(report.young),
        in_use=_entry(report.used),
        files=sorted(report.files),
    )


def _entry(heap: Heap) -> HeapEntry:
    return HeapEntry(count=heap.count, size=heap.size_bytes)
