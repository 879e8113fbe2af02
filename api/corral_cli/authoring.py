"""`corral plugins new` and `corral plugins doctor`, for authors of plugins; they need no server."""

import sys
from pathlib import Path

from corral_cli.authoring_names import KINDS, PluginNames, check_free
from corral_cli.authoring_template import make
from corral_cli.errors import UsageError
from corral_cli.parser import Call

_NEXT = """\
made {folder}: the {kind} {name}

    cd {folder}
    pip install -e '.[test]'
    pytest
    corral plugins doctor {name}

A server that runs already finds it once it is restarted. README.md tells how to use it.
"""


def authoring(call: Call) -> int:
    """Run the subcommand that the arguments begin with; give the exit status.

    Raises:
        UsageError: For another one, or a wrong number of arguments.
    """
    name, *rest = call.args
    if name == "new":
        return _new(rest, call.text("directory"))
    if call.text("directory") is not None:
        raise UsageError("--directory belongs to `plugins new`")
    if name == "doctor":
        return _doctor(rest)
    raise UsageError(f'unknown subcommand "{name}" for "corral plugins": there are new and doctor')


def _new(args: list[str], directory: str | None) -> int:
    if len(args) != 2:  # noqa: PLR2004 - a kind and a name
        raise UsageError(f"plugins new takes a kind ({', '.join(KINDS)}) and a name")
    kind, text = args
    names = PluginNames.parse(kind, text)
    check_free(names)
    folder = make(names, Path(directory or "."))
    sys.stdout.write(_NEXT.format(folder=folder, kind=kind, name=names.name))
    return 0


def _doctor(args: list[str]) -> int:
    if len(args) > 1:
        raise UsageError(f"plugins doctor takes one name at most, received {len(args)}")
    from corral_kernel.doctor import examine

    sound = True
    for report in examine(args[0] if args else None):
        for check in report.checks:
            sound = sound and check.status != "failed"
            where = f"{report.plugin}  {check.name}"
            line = f"{check.status:<7} {where:<36} {_one_line(check.detail)}"
            sys.stdout.write(line.rstrip() + "\n")
        sys.stdout.flush()
    return 0 if sound else 1


def _one_line(text: str) -> str:
    # What a plugin says never moves the cursor.
    return "".join(c if c.isprintable() else " " for c in text)
