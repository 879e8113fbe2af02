"""`corral quantize`: another model of the same weights in fewer bits."""

from pathlib import Path

from corral_cli.create import check_name, make
from corral_cli.modelfiles import Files, gather, is_path
from corral_cli.parser import Call
from corral_kernel.modelfile import Modelfile


def quantize(call: Call) -> None:
    """Quantize a model, or what a path leads to, under a new name.

    Raises:
        CommandError: If there is no such file, or the server reports no success.
        ServerError: If the server cannot quantize it so.
    """
    source, kind, name = call.args
    check_name(name)
    found = Files(source=source)
    if is_path(source):
        found = gather(Modelfile(sources=(source,)), Path.cwd())
    make({"model": name, "quantize": kind}, found, imatrix=call.text("imatrix"))
