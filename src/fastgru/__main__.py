"""The command `fastgru`, and `python -m fastgru`."""

import sys


def main() -> None:
    """Run the command line; without the packages that it needs, one line says what to install."""
    try:
        from fastgru.cli import app
    except ModuleNotFoundError as error:
        print(f"fastgru: {error.name} is not installed. Install it with: pip install 'fastgru[train]'", file=sys.stderr)
        sys.exit(2)
    app()


if __name__ == "__main__":
    main()
