"""The verb completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_JOBQUEUE_COMPLETE"
"""What click looks at to answer a shell's question instead of running a verb."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes this command in a shell.

    \b
    Examples:
      eval "$(jobqueue completion bash)"                                       # in ~/.bashrc
      eval "$(jobqueue completion zsh)"                                        # in ~/.zshrc
      jobqueue completion fish > ~/.config/fish/completions/jobqueue.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    # Its source() would run bash to look at its version; who asks for the script of a shell has that shell.
    completion = kind(ctx.find_root().command, {}, "jobqueue", VARIABLE)
    click.echo(completion.source_template % completion.source_vars())
