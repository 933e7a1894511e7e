"""The command `fastgru`, and `python -m fastgru`."""

import sys


def main() -> None:
    """Run the command line; without the packages that it needs, one line says what to install.

    `fastgru predict` answers without them for models of texts (`fastgru.predict_texts`). `fastgru run` needs none, and
    begins with as little imported as the program that it runs.
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
        import rich  # noqa: F401 (which some commands import when they run)

        from fastgru.cli import app
    except ModuleNotFoundError as error:
        if sys.argv[1:2] == ["predict"]:
            from fastgru.predict_texts import main as predict

            predict(sys.argv[2:])
            return
        print(
            f"fastgru: {error.name} is not installed. Install it with: pip install 'fastgru[train]'; "
            "without it there are fastgru predict and fastgru run",
            file=sys.stderr,
        )
        sys.exit(2)
    app()


if __name__ == "__main__":
    main()
