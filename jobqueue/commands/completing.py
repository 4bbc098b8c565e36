"""The command completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_JOBQUEUE_COMPLETE"
"""The environment variable with which click answers a shell's completion request instead of running a command."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print a shell completion script.

    \b
    Examples:
      eval "$(jobqueue completion bash)"                                       # in ~/.bashrc
      eval "$(jobqueue completion zsh)"                                        # in ~/.zshrc
      jobqueue completion fish > ~/.config/fish/completions/jobqueue.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    # Its source() would run bash to check its version, which is not needed: the user of a shell's script has that shell.
    completion = kind(ctx.find_root().command, {}, "jobqueue", VARIABLE)
    click.echo(completion.source_template % completion.source_vars())
