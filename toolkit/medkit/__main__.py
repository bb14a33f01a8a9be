"""``medkit``, and ``python -m medkit``: the command line.

Little is imported here, so that Ctrl-C is heard before the rest is.
"""

from medkit.cli.interrupts import exit_at_interrupt


def main() -> None:
    """Run the command line."""
    exit_at_interrupt()
    from medkit.cli.app import app

    app(prog_name="medkit")


if __name__ == "__main__":
    main()
