"""Random cases, held to the definition, in processes that may die of them: `python tests/fuzz --help`."""
