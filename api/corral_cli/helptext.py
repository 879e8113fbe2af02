"""Help: of the whole command, and of each of its commands."""

from typing import Final

from corral_cli.commands import COMMANDS, Command
from corral_cli.parser import Flag

VARIABLES: Final = {
    "HOST": "address of the server (default 127.0.0.1:11434)",
    "MODELS": "folder of the models (default CORRAL_HOME/models)",
    "HOME": "folder of all other files (default ~/.corral)",
    "CONTEXT_LENGTH": "context length where none is asked for (default: by memory)",
    "KEEP_ALIVE": "how long an idle model stays loaded (default 5m)",
    "LOAD_TIMEOUT": "how long loading may stand still (default 5m)",
    "STEP_TIMEOUT": "how long a running model may be silent (default 2m)",
    "STALL_TIMEOUT": "how long a client may read nothing of its answer (default 1m)",
    "MAX_LOADED_MODELS": "models loaded at once (default: by the number of GPUs)",
    "NUM_PARALLEL": "requests at once for each model (default: by memory, up to 4)",
    "MAX_QUEUE": "requests that may wait (default 512)",
    "MEMORY_BUDGET": "memory for all models, such as 8GiB (default: what there is)",
    "FLASH_ATTENTION": "force flash attention on or off",
    "KV_CACHE_TYPE": "type of the K/V cache (default f16)",
    "NOPRUNE": "keep unused blobs at start",
    "NO_CLOUD": "turn cloud features off",
    "ORIGINS": "more allowed origins, with commas between",
    "PLUGINS": "the only plugins to load, with commas between",
    "DISABLE_PLUGINS": "plugins to leave out, with commas between",
    "DEBUG": "more messages in the log (1), or all of them (2)",
    "EDITOR": "editor for long prompts (Ctrl+G)",
    "NOHISTORY": "keep no history of prompts",
}
_OURS_ALONE: Final = frozenset(
    {"HOME", "STEP_TIMEOUT", "STALL_TIMEOUT", "MEMORY_BUDGET", "PLUGINS", "DISABLE_PLUGINS"}
)
_ROOT_FLAGS: Final = (
    Flag("help", "help for corral", short="h"),
    Flag("version", "show versions", short="v"),
)
_TITLE: Final = "Run language models on this machine, behind the Ollama API."


def root() -> str:
    """Write the help of the command as a whole."""
    shown = [command for command in COMMANDS if not command.hidden]
    lines = [_TITLE, "", "Usage:", "  corral [flags]", "  corral [command]", ""]
    lines += ["Available Commands:"]
    lines += [f"  {command.name:<11} {command.help}" for command in shown]
    lines += [f"  {'help':<11} Help about any command", "", "Flags:"]
    lines += _flag_lines(_ROOT_FLAGS)
    lines += ["", 'Use "corral [command] --help" for more information about a command.']
    return "\n".join([*lines, *_variable_lines(tuple(VARIABLES))]) + "\n"


def of_command(command: Command) -> str:
    """Write the help of one command."""
    help_flag = Flag("help", f"help for {command.name}", short="h")
    lines = [command.help, "", "Usage:", f"  corral {command.usage} [flags]"]
    if command.aliases:
        lines += ["", "Aliases:", f"  {', '.join((command.name, *command.aliases))}"]
    lines += ["", "Flags:", *_flag_lines((*command.flags, help_flag))]
    return "\n".join([*lines, *_variable_lines(command.variables)]) + "\n"


def _flag_lines(flags: tuple[Flag, ...]) -> list[str]:
    heads = [_flag_head(flag) for flag in flags]
    width = max(len(head) for head in heads)
    return [f"{head.ljust(width)}   {flag.help}" for head, flag in zip(heads, flags, strict=True)]


def _flag_head(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    kind = "" if flag.kind == "bool" else f" {flag.kind}"
    return f"  {short}--{flag.name}{kind}" + (f'[="{flag.bare}"]' if flag.bare else "")


def _variable_lines(names: tuple[str, ...]) -> list[str]:
    lines = [""]
    if not _OURS_ALONE.issuperset(names):
        lines += ["Variables that Ollama has work under its names (OLLAMA_...) too.", ""]
    rows = [f"      {f'CORRAL_{name}':<27}   {VARIABLES[name]}" for name in names]
    return [*lines, "Environment Variables:", *rows]
