"""Help: of the whole command, and of each of its commands."""

from typing import Final

from corral_cli.commands import COMMANDS, Command
from corral_cli.parser import Flag
from corral_kernel.variables import VARIABLES, Variable

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
    rows = [f"      {f'CORRAL_{name}':<27}   {_explained(VARIABLES[name])}" for name in names]
    also = "Each variable is read as OLLAMA_... too (but CORRAL_HOME); CORRAL_... wins."
    return ["", also, "", "Environment Variables:", *rows]


def _explained(variable: Variable) -> str:
    return variable.meaning + (f" (default {variable.default})" if variable.default else "")
