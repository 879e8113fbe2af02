"""`corral gc`: deletes what no model needs, and tells what it was."""

import sys
from typing import Final

from msgspec import Struct

from corral_cli import human, table
from corral_cli.client import connect
from corral_cli.parser import Call

_KINDS: Final = {
    "blobs": "files of models that are gone",
    "partials": "unfinished downloads",
    "others": "other files among them",
    "folders": "folders of models that are gone",
    "cached": "facts about files that are gone",
}


class Heap(Struct, frozen=True):
    """Some files together."""

    count: int = 0
    size: int = 0


class Garbage(Struct):
    """`POST /api/gc`."""

    size: int = 0
    blobs: Heap = Heap()
    partials: Heap = Heap()
    others: Heap = Heap()
    folders: Heap = Heap()
    cached: Heap = Heap()
    young: Heap = Heap()
    in_use: Heap = Heap()


def gc(call: Call) -> None:
    """Have the server delete what no model needs."""
    dry_run = call.on("dry-run")
    with connect() as client:
        found = client.post("/api/gc", {"dry_run": dry_run, "all": call.on("all")}, Garbage)
    heaps = [(text, getattr(found, kind)) for kind, text in _KINDS.items()]
    rows = [(text, str(heap.count), human.size(heap.size)) for text, heap in heaps if heap.count]
    if rows:
        sys.stdout.write(table.render([("WHAT", "COUNT", "SIZE"), *rows]))
    said = "would be freed" if dry_run else "freed"
    sys.stdout.write(f"{human.size(found.size)} {said}\n" if rows else "nothing to delete\n")
    _tell_of_rest(found)


def _tell_of_rest(found: Garbage) -> None:
    if found.young.count:
        sys.stdout.write(
            f"{found.young.count} younger than an hour ({human.size(found.young.size)}) stay; "
            "--all takes them too\n"
        )
    if found.in_use.count:
        sys.stdout.write(
            f"{found.in_use.count} in use by a server ({human.size(found.in_use.size)}) stay\n"
        )
