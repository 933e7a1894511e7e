"""What ends a command early: input that cannot be used, and a signal to stop."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)")


class InputError(ValueError):
    """What was given (a file, a column, a folder, an option, weights) cannot be used.

    The message is one line: what was expected, what came, the remedy. The commands print it and exit with code 2.
    """


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """A training was told to stop by Ctrl-C or SIGTERM, after its state was written.

    `code`: the exit code that a shell expects, 128 + the signal's number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.code = 128 + signum


def reason_of(error: Exception) -> str:
    """Give what another library's error says in one line: its first, or its name where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def in_python(**names: str) -> Iterator[None]:
    """Let an InputError of in here speak of parameters, `class_weights`, where it speaks of options, --class-weights.

    `names`: what parameters are called that have another name than the option's.
    """
    try:
        yield
    except InputError as error:

        def parameter(found: re.Match[str]) -> str:
            name = found[1].replace("-", "_")
            return names.get(name, name)

        raise InputError(_OPTION.sub(parameter, str(error))) from error
