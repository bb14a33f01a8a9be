"""``python -m medkit`` is the command line."""

from medkit.cli.app import app

if __name__ == "__main__":
    app(prog_name="medkit")
