"""What a classifier's logits mean: one label, several labels, or numbers; by Hugging Face's names of them."""

from typing import Any

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
PROBLEMS = (SINGLE, MULTI, REGRESSION)


def check_problem(config: Any) -> None:
    """ValueError where `config` has no problem_type, or the scale of its targets is not one of as many numbers.

    `target_mean [C]`, `target_deviation [C]`: of regression, in units of the targets; what the model gives is
    mean + deviation * logit.
    """
    if config.problem_type not in PROBLEMS:
        raise ValueError(f"problem_type must be one of {', '.join(PROBLEMS)}, got {config.problem_type!r}")
    wanted = len(config.labels) if config.problem_type == REGRESSION else 0
    for name in ("target_mean", "target_deviation"):
        values = getattr(config, name)
        if not isinstance(values, list) or len(values) != wanted or not all(map(_finite, values)):
            raise ValueError(f"{name} must be a list of {wanted} finite numbers, got {values!r}")
    if any(value <= 0 for value in config.target_deviation):
        raise ValueError(f"target_deviation must be above 0, got {config.target_deviation!r}")


def _finite(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and abs(value) < float("inf")
