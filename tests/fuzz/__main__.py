"""The command line: run random cases, say which fail and how to run each again; exit code 1 where one does."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # four threads on two cores would spin for each other
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
sys.path[:0] = [str(Path(__file__).parents[1])]

from fuzz import layers, operators  # noqa: E402
from fuzz.layer_case import draw_layer  # noqa: E402
from fuzz.operator_case import draw_operator  # noqa: E402
from fuzz.watched import outcomes  # noqa: E402

KINDS: dict[str, tuple[Callable[[int, int], Any], Callable[[Any], list[str]]]] = {
    "layer": (draw_layer, layers.check),
    "operator": (draw_operator, operators.check),
}
MOST = 6  # of a case's problems that are said


def main(arguments: list[str] | None = None) -> int:
    given = _parsed(arguments)
    draw, check = KINDS[given.what]
    if given.what == "operator":
        operators.warm_up()
    began = time.monotonic()
    ran = failures = 0
    for outcome in outcomes(lambda number: check(draw(given.seed, number)), given.case, began + given.seconds):
        ran += 1
        case = json.dumps(asdict(draw(given.seed, outcome.last)))
        if outcome.problems:
            failures += 1
            cases = f"{outcome.first}:{outcome.last + 1}" if outcome.first < outcome.last else f"{outcome.last}"
            more = [f"and {len(outcome.problems) - MOST} more"] if len(outcome.problems) > MOST else []
            print(f"FAILED {case}", *outcome.problems[:MOST], *more, sep="\n  ")
            print(f"  again: python tests/fuzz --what {given.what} --seed {given.seed} --case {cases}", flush=True)
        elif given.show:
            print(f"passed {case}", flush=True)
    print(f"{ran} cases, {failures} failures, {time.monotonic() - began:.1f} seconds")
    return 1 if failures else 0


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__)
    parser.add_argument("--what", choices=KINDS, default="layer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=None, help="how long (60, or no limit with --case)")
    parser.add_argument("--case", type=_cases, default=None, help="one case, K, or some of them, K:N without the N-th")
    parser.add_argument("--show", action="store_true", help="print the cases that pass too")
    given = parser.parse_args(arguments)
    if given.seconds is None:
        given.seconds = 60 if given.case is None else float("inf")
    given.case = range(sys.maxsize) if given.case is None else given.case
    return given


def _cases(words: str) -> range:
    first, colon, end = words.partition(":")
    return range(int(first), int(end) if colon else int(first) + 1)


if __name__ == "__main__":
    sys.exit(main())
