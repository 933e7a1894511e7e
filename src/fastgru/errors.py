"""InputError: the one exception that says that what the user gave cannot be used."""


class InputError(ValueError):
    """What was given (a file, a column, a folder, an option) cannot be used.

    The message is one line: what was expected, what came, the remedy. The commands print it and exit with code 2.
    """
