"""Ready models on top of the GRU, each a configuration dataclass and a module."""
