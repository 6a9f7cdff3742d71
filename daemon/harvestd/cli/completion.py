"""`harvestd completion`: the script with which a shell completes commands, options and their values."""

import sys

import click
from click.shell_completion import get_completion_class

_USE = {
    "bash": 'eval "$(harvestd completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(harvestd completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": "harvestd completion fish | source   # in ~/.config/fish/config.fish",
}


@click.command
@click.argument("shell", type=click.Choice(list(_USE)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print shell completions: bash, zsh or fish. Their last line says where they go."""
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"there are no completions for {shell}")
    # A line before the script would hide the `#compdef` that zsh expects in the first line.
    script = made(context.find_root().command, {}, "harvestd", "_HARVESTD_COMPLETE").source()
    sys.stdout.write(f"{script.strip()}\n# {_USE[shell]}\n")
