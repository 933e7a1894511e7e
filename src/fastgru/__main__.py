"""The command `fastgru`, and `python -m fastgru`."""

import sys


def main() -> None:
    """Run the command line; without the packages that it needs, one line says what to install.

    `fastgru run` needs none, and begins with as little imported as the program that it runs.
    """
    if sys.argv[1:2] == ["run"]:
        from fastgru.common.errors import InputError
        from fastgru.launch import run

        try:
            run(sys.argv[2:])
        except InputError as error:
            print(f"fastgru: {error}", file=sys.stderr)
            sys.exit(2)
        return
    try:
        from fastgru.cli import app
    except ModuleNotFoundError as error:
        print(f"fastgru: {error.name} is not installed. Install it with: pip install 'fastgru[train]'", file=sys.stderr)
        sys.exit(2)
    app()


if __name__ == "__main__":
    main()
