"""The commands there are: their flags, how many arguments they take, and who answers them."""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from corral_cli.errors import UsageError
from corral_cli.parser import Flag
from corral_kernel.variables import VARIABLES

ArgumentCheck = Callable[[tuple[str, ...]], None]


class Command(Struct, frozen=True, kw_only=True):
    """One command. The handler, `module:function`, is imported only when it is called."""

    name: str
    usage: str
    help: str
    handler: str
    aliases: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    check: ArgumentCheck
    variables: tuple[str, ...] = ("HOST",)  # of the environment, that its help explains
    hidden: bool = False


def exactly(number: int) -> ArgumentCheck:
    """Make a check for a number of arguments."""

    def check(args: tuple[str, ...]) -> None:
        if len(args) != number:
            raise UsageError(f"accepts {number} arg(s), received {len(args)}")

    return check


def at_least(number: int) -> ArgumentCheck:
    """Make a check for a lowest number of arguments."""

    def check(args: tuple[str, ...]) -> None:
        if len(args) < number:
            raise UsageError(f"requires at least {number} arg(s), only received {len(args)}")

    return check


def at_most(number: int) -> ArgumentCheck:
    """Make a check for a highest number of arguments."""

    def check(args: tuple[str, ...]) -> None:
        if len(args) > number:
            raise UsageError(f"accepts at most {number} arg(s), received {len(args)}")

    return check


_SERVER_VARIABLES: Final = tuple(name for name, found in VARIABLES.items() if found.of_server)

_INSECURE: Final = Flag("insecure", "ask the registry by plain http")

_INSECURE_BASE: Final = Flag("insecure", "pull a model that is not here by plain http")

_IMATRIX: Final = Flag(
    "imatrix", "file of an importance matrix, for better quantizing", kind="string"
)

_SHOW_SECTIONS: Final = tuple(
    Flag(name, f"show the {name} of a model")
    for name in ("license", "modelfile", "parameters", "template", "system")
)

COMMANDS: Final = (
    Command(
        name="serve",
        aliases=("start",),
        usage="serve",
        help="Start the server",
        handler="corral_cli.serve:serve",
        check=exactly(0),
        flags=(
            Flag("locked", "serve exactly the models of this models.lock", kind="string"),
            Flag("insecure", "with --locked: fetch what is not here by plain http"),
        ),
        variables=_SERVER_VARIABLES,
    ),
    Command(
        name="create",
        usage="create MODEL",
        variables=("HOST", "HOME"),
        help="Create a model from a Modelfile",
        handler="corral_cli.create:create",
        check=exactly(1),
        flags=(
            Flag("file", 'the Modelfile (default "Modelfile")', kind="string", short="f"),
            Flag("quantize", "quantize to this type, such as q4_K_M", kind="string", short="q"),
            Flag("draft-quantize", "quantize the draft model to this type", kind="string"),
            _IMATRIX,
            Flag("experimental", "refuse a server on another machine"),
            _INSECURE_BASE,
        ),
    ),
    Command(
        name="quantize",
        usage="quantize MODEL TYPE NEWNAME | --list",
        help="Make a model of fewer bits of another one; list the types",
        handler="corral_cli.quantize:quantize",
        check=at_most(3),
        flags=(Flag("list", "list the types, the smallest first"), _IMATRIX, _INSECURE_BASE),
    ),
    Command(
        name="show",
        usage="show MODEL",
        help="Show information about a model",
        handler="corral_cli.show:show",
        check=exactly(1),
        flags=(*_SHOW_SECTIONS, Flag("verbose", "show metadata and tensors too", short="v")),
    ),
    Command(
        name="run",
        usage="run MODEL [PROMPT...]",
        help="Run a model",
        handler="corral_cli.run:run",
        check=at_least(1),
        variables=("HOST", "HOME", "EDITOR", "NOHISTORY"),
        flags=(
            Flag("keepalive", "how long the model stays loaded, such as 5m", kind="string"),
            Flag("verbose", "show timings of the answer"),
            Flag("nowordwrap", "leave long lines as they are"),
            Flag("format", 'form of the answer: "json" or a JSON schema', kind="string"),
            Flag(
                "think",
                "think first (true, false, high, medium, low or max)",
                kind="string",
                bare="true",
            ),
            Flag("hidethinking", "do not show what the model thinks"),
            Flag("truncate", "embedding models: cut inputs that are too long (default true)"),
            Flag("dimensions", "embedding models: length of the vector", kind="int"),
            _INSECURE,
        ),
    ),
    Command(
        name="pull",
        usage="pull MODEL | pull --locked FILE [MODEL...]",
        help="Pull a model from a registry",
        handler="corral_cli.pull:pull",
        check=at_least(0),
        flags=(
            _INSECURE,
            Flag("locked", "fetch models exactly as this models.lock has them", kind="string"),
        ),
    ),
    Command(
        name="push",
        usage="push MODEL",
        help="Push a model to a registry",
        handler="corral_cli.pull:push",
        check=exactly(1),
        flags=(_INSECURE,),
    ),
    Command(
        name="stop",
        usage="stop MODEL",
        help="Unload a running model",
        handler="corral_cli.manage:stop",
        check=exactly(1),
    ),
    Command(
        name="list",
        aliases=("ls",),
        usage="list [PREFIX]",
        help="List models",
        handler="corral_cli.listing:list_models",
        check=at_most(1),
    ),
    Command(
        name="ps",
        usage="ps [PREFIX]",
        help="List running models",
        handler="corral_cli.listing:list_running",
        check=at_most(1),
        flags=(Flag("verbose", "tell what runs each of them too", short="v"),),
    ),
    Command(
        name="cp",
        usage="cp SOURCE DESTINATION",
        help="Copy a model",
        handler="corral_cli.manage:copy",
        check=exactly(2),
    ),
    Command(
        name="rm",
        usage="rm MODEL...",
        help="Remove models",
        handler="corral_cli.manage:remove",
        check=at_least(1),
    ),
    Command(
        name="lock",
        usage="lock [MODEL...]",
        help="Write models.lock: which models there are, to the byte",
        handler="corral_cli.lock:lock",
        check=at_least(0),
        flags=(Flag("output", 'the file (default "models.lock")', kind="string", short="o"),),
    ),
    Command(
        name="gc",
        usage="gc",
        help="Delete files that no model needs",
        handler="corral_cli.gc:gc",
        check=exactly(0),
        flags=(
            Flag("dry-run", "only tell what would be deleted"),
            Flag("all", "take what is younger than an hour too: no upload is under way"),
        ),
    ),
    Command(
        name="compare",
        usage="compare MODEL_A MODEL_B",
        help="Run two models on the same prompts: where they differ, how far, how fast",
        handler="corral_cli.compare:compare",
        check=exactly(2),
        flags=(
            Flag(
                "prompts", "file of prompts, one a line (default: eight short ones)", kind="string"
            ),
            Flag("max-tokens", "tokens of each answer (default 64)", kind="int"),
            Flag("num-ctx", "context length to load both with", kind="int"),
            Flag("seed", "for engines that draw by themselves", kind="int"),
            Flag("backend-a", "backend for the first model", kind="string"),
            Flag("backend-b", "backend for the second model", kind="string"),
            Flag("plot", "write the divergence of each token as SVG to this file", kind="string"),
            Flag("json", "print what the server answers"),
        ),
    ),
    Command(
        name="registries",
        usage="registries [REGISTRY | MODEL]",
        help="List registries, tell all about one, or which one a model is pulled from",
        handler="corral_cli.registries:registries",
        check=at_most(1),
    ),
    Command(
        name="samplers",
        usage="samplers [NAME]",
        help="List samplers, or tell all about one",
        handler="corral_cli.samplers:samplers",
        check=at_most(1),
    ),
    Command(
        name="options",
        usage="options [NAME]",
        help="List the options of requests and Modelfiles, or tell all about one",
        handler="corral_cli.options:options",
        check=at_most(1),
    ),
    Command(
        name="plugins",
        usage="plugins [new KIND NAME | doctor [NAME]]",
        help="List plugins and what they provide; make a new one; examine those installed",
        handler="corral_cli.plugins:plugins",
        check=at_most(3),
        flags=(
            Flag("json", "print what the server answers"),
            Flag("directory", "new: folder to make it in (default: here)", kind="string"),
        ),
    ),
    Command(
        name="shutdown",
        usage="shutdown",
        help="Stop the server that was started in the background",
        handler="corral_cli.shutdown:shutdown",
        check=exactly(0),
        variables=("HOST", "HOME"),
    ),
    *(
        Command(
            name=name,
            usage=f"{name} ...",
            help="Not in this release",
            handler="corral_cli.manage:not_in_this_release",
            check=at_least(0),
            hidden=True,
        )
        for name in ("signin", "signout", "login", "logout", "launch")
    ),
)


def find(name: str) -> Command | None:
    """Look up a command by its name or an alias."""
    return next((c for c in COMMANDS if name == c.name or name in c.aliases), None)
