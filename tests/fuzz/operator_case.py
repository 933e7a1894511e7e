"""What one case of the operators' fuzzing is: a valid call, and what is made wrong in it."""

from dataclasses import dataclass
from random import Random

from fastgru import _native
from fuzz.faults import FAULTS, KIND_OF

STEPS = ("plain", "batch_sizes", "offsets", "lengths")


@dataclass(frozen=True)
class OperatorCase:
    """One layer for the operators.

    draws: the seed of its numbers. call: "layer", "gradient" (what autograd makes of it) or "layer_backward", after a
    valid forward pass. extra: which of h0, initial, resets, recurrent and zoneout there are. wanted: of which leaves
    gradients are; all if empty. faults: an argument (one of weights: "weights 2") and what is wrong with it, by the
    names of faults.py.
    """

    draws: int
    call: str
    steps: str
    T: int
    B: int
    I: int
    H: int
    variant: dict[str, int | float | bool | str]
    extra: list[str]
    int32: bool
    dtype: str
    wanted: list[int]
    faults: list[tuple[str, str]]
    isa: str
    threads: int


def draw_operator(seed: int, number: int) -> OperatorCase:
    """Case `number` of a seed."""
    rng = Random(f"operator {seed} {number}")
    call = rng.choices(("layer", "gradient", "layer_backward"), (40, 20, 40))[0]
    steps = rng.choice(STEPS)
    variant = _variant(rng)
    extra = [name for name in ("h0", "initial", "resets", "recurrent", "zoneout") if rng.random() < 0.5]
    if steps == "batch_sizes" and "resets" in extra:
        extra.remove("resets")
    names = ["kernel", "x", *extra, "weights", *_weights(variant), *variant, "batch", "save"]
    names += [] if steps == "plain" else [steps] * 2
    names += ["y", "saved", "dy", "dh_n", "wanted"] * 2 if call == "layer_backward" else []
    drawn = rng.choices(names, k=rng.choices((0, 1, 2, 3), (3, 60, 25, 12))[0])
    faults = [_fault(rng, name) for name in dict.fromkeys(drawn)]  # torch dies of what is wrong in two ways
    if any(
        what == "missing" for _, what in faults
    ):  # torch's own error then prints all tensors, and dies of freed ones
        faults = [fault for fault in faults if fault[1] != "freed"]
    return OperatorCase(
        draws=rng.getrandbits(31),
        call=call,
        steps=steps,
        T=rng.choice((1, 2, 3, 5, 9, 40)),
        B=rng.choice((0, 1, 1, 2, 3, 8, 17, 64)) if steps != "batch_sizes" else rng.choice((1, 2, 3, 8, 17, 64)),
        I=rng.choice((1, 2, 7, 8, 16, 33)),
        H=rng.choice((1, 3, 8, 16, 17, 32, 65)),
        variant=variant,
        extra=extra,
        int32=rng.random() < 0.5,
        dtype=rng.choice(("float32", "float64")),
        wanted=[] if rng.random() < 0.6 else [i for i in range(16) if i == 3 or rng.random() < 0.5],  # 3: a w_ih
        faults=faults,
        isa=rng.choice(_native.instruction_sets()),
        threads=rng.choice((1, 2, 4)),
    )


def _variant(rng: Random) -> dict[str, int | float | bool | str]:
    """fastgru.core.spec.Variant's fields, in their order."""
    bidirectional = rng.random() < 0.4
    form = rng.choices(("after", "before", "normed"), (6, 2, 2))[0]
    return {
        "bias": rng.random() < 0.7,
        "bidirectional": bidirectional,
        "reset_after": form != "before",
        "keep": rng.choice((1.0, 1.0, 0.75)),
        "tbptt": rng.choice((0, 0, 0, 1, 3)),
        "layer_norm": form == "normed",
        "reverse": not bidirectional and rng.random() < 0.3,
        "memory": rng.choices(("gates", "recompute", "checkpoint"), (6, 2, 2))[0],
        "bf16": rng.random() < 0.2,
    }


def _weights(variant: dict[str, int | float | bool | str]) -> list[str]:
    each = 2 + 2 * bool(variant["bias"]) + 2 * bool(variant["layer_norm"])
    return [f"weights {i}" for i in range(each * (1 + bool(variant["bidirectional"])))]


def _fault(rng: Random, name: str) -> tuple[str, str]:
    return name, rng.choice([*FAULTS[KIND_OF.get(name, "tensor")]])
