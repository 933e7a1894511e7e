"""How far what was written is from its references."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastgru.inference.generation import TextGenerator


@dataclass(frozen=True)
class Errors:
    """Of one written sequence.

    `wrong`: it equals no reference. `edits`: insertions, deletions and substitutions to the closest reference, by
    edits per token; `tokens`: those of that reference.
    """

    wrong: bool
    edits: int
    tokens: int


def count_errors(model: TextGenerator, written: str, references: list[str]) -> Errors:
    """Compare with all references of a source, in the tokens that the model writes."""
    if written in references:
        return Errors(False, 0, len(model.target_tokens(written)))
    own = model.target_tokens(written)
    against = [model.target_tokens(reference) for reference in references]
    counts = [(edit_distance(own, tokens), len(tokens)) for tokens in against]
    edits, tokens = min(counts, key=lambda count: count[0] / max(count[1], 1))
    return Errors(True, edits, tokens)


def error_rates(errors: Sequence[Errors]) -> tuple[float, float]:
    """Give the share of sequences that are wrong, and the edits over the tokens of the references."""
    edits, tokens = sum(one.edits for one in errors), sum(one.tokens for one in errors)
    return sum(one.wrong for one in errors) / len(errors), edits / max(1, tokens)


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Levenshtein's distance: the fewest insertions, deletions and substitutions from one to the other."""
    row = list(range(len(second) + 1))
    for above, one in enumerate(first):
        corner, row[0] = above, above + 1
        for column, other in enumerate(second):
            corner, row[column + 1] = (
                row[column + 1],
                min(row[column + 1] + 1, row[column] + 1, corner + (one != other)),
            )
    return row[-1]
