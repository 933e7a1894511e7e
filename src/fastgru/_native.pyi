def instruction_sets() -> list[str]:
    """The instruction sets that this CPU and operating system can run, slowest first."""
