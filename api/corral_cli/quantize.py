"""`corral quantize`: another model of the same weights in fewer bits; or the types there are."""

import sys
from pathlib import Path

from corral_cli import table, wire
from corral_cli.client import connect
from corral_cli.create import check_name, make, pulling
from corral_cli.errors import UsageError
from corral_cli.modelfiles import Files, gather, is_path
from corral_cli.parser import Call
from corral_kernel.gotext import format_number
from corral_kernel.modelfile import Modelfile

_WORDS = 3  # a model, a type and a name


def quantize(call: Call) -> None:
    """Quantize a model, or what a path leads to, under a new name; or list the types.

    Raises:
        UsageError: For another number of arguments.
        CommandError: If there is no such file, or the server reports no success.
        ServerError: If the server cannot quantize it so.
    """
    wanted = 0 if call.on("list") else _WORDS
    if len(call.args) != wanted:
        raise UsageError(f"accepts {wanted} arg(s), received {len(call.args)}")
    if call.on("list"):
        _list()
        return
    source, kind, name = call.args
    check_name(name)
    found = Files(source=source)
    if is_path(source):
        found = gather(Modelfile(sources=(source,)), Path.cwd())
    body = {"model": name, "quantize": kind, **pulling(call)}
    make(body, found, imatrix=call.text("imatrix"))


def _list() -> None:
    with connect() as client:
        found = client.get("/api/quantizers", wire.Quantizers).types or []
    header = ("NAME", "BITS", "IMATRIX", "QUANTIZERS", "DESCRIPTION")
    sys.stdout.write(table.flowing([header, *map(_row, found)]))


def _row(kind: wire.QuantizationType) -> tuple[str, ...]:
    """One type, with those who can make it; or with what to install, and who then could."""
    bits = format_number(kind.bits_per_weight)
    matrix = "-" if kind.imatrix == "none" else kind.imatrix
    here = [maker.name for maker in kind.quantizers if not maker.install]
    if here or not kind.quantizers:
        return (kind.name, bits, matrix, ", ".join(here), kind.docs)
    first = kind.quantizers[0]
    needs = f"needs pip install '{first.install}': {kind.docs}"
    return (kind.name, bits, matrix, first.name, needs)
