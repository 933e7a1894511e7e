"""What one case of the layers' fuzzing is: drawn from a seed and a number, and from nothing else."""

from dataclasses import dataclass
from random import Random

from fastgru import _native
from fuzz.edits import EDITS
from fuzz.views import KEEPING, VIEWS

# Around the widths of vectors and of tiles.
_EDGES = (1, 2, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 95, 96, 97, 127, 128, 129, 130)
_WORK = 3_000_000  # multiplications of a layer at most; the definition takes some ten us a step besides
NOISES = {"dropout", "recurrent_dropout", "zoneout", "weight_dropout"}
FORMS = ("batched", "unbatched", "packed", "cu_seqlens", "nested")


@dataclass(frozen=True)
class LayerCase:
    """One layer, its input, and how it is called.

    draws: the seed of its numbers. entry: "forward", "step" (a chain of them) or "cell". mode: "grad", "no_grad" or
    "inference". unwanted: which leaves want no gradient. twice: backward runs again. calls: the edits of weights before
    each call. lengths: None where all sequences have all steps. views: of x, h0, their cotangents and the weights.
    poisoned: NaN in the padding. rows: those of a window at least, of the memory modes.
    """

    draws: int
    entry: str
    form: str
    T: int
    B: int
    I: int
    H: int | tuple[int, ...]
    options: dict[str, int | float | bool | str]
    training: bool
    backend: str
    dtype: str
    autocast: str | None
    mode: str
    unwanted: list[int]
    cotangents: str
    twice: bool
    with_h0: bool
    lengths: list[int] | None
    is_sorted: bool
    int32: bool
    resets: float | None
    views: dict[str, str]
    guarded: bool
    poisoned: bool
    calls: list[str]
    scale: float
    rows: int
    isa: str
    threads: int

    @property
    def is_noisy(self) -> bool:
        """Whether masks are drawn."""
        return self.training and bool(self.options.keys() & NOISES)


def draw_layer(seed: int, number: int) -> LayerCase:
    """Case `number` of a seed."""
    rng = Random(f"layer {seed} {number}")
    entry = rng.choices(("forward", "step", "cell"), (80, 12, 8))[0]
    form = rng.choices(FORMS, (50, 10, 16, 14, 10))[0]
    if entry != "forward":
        form = rng.choice(("batched", "unbatched"))
    options = _options(rng, entry)
    layers = int(options.get("num_layers", 1))
    sizes = [_size(rng) for _ in range(layers)]
    hidden = tuple(sizes) if layers > 1 and rng.random() < 0.15 else sizes[0]
    features, steps, batch = _size(rng), _steps(rng), _batch(rng)
    if rng.random() < 0.04:  # beyond what packed weights are kept for, and what a block of rows holds
        steps, batch = rng.randint(45, 60), rng.randint(45, 70)
    if entry == "step" and rng.random() < 0.5:  # one native call
        batch = rng.choice((1, 2))
    if form == "unbatched":
        batch = 1
    if entry == "cell":
        steps = 1
    steps, batch = _affordable(rng, features, hidden if isinstance(hidden, int) else max(hidden), steps, batch)
    dtype, autocast = _dtype(rng)
    ragged = form in ("packed", "cu_seqlens", "nested") or (form == "batched" and rng.random() < 0.4)
    lengths = _lengths(rng, form, steps, batch) if ragged and entry == "forward" else None
    if form in ("packed", "nested") and not (lengths and any(lengths)):  # neither can be empty
        batch, lengths = 1, [steps]
    takes_resets = entry == "forward" and form in ("batched", "unbatched", "cu_seqlens")
    resets = rng.choice((0.05, 0.3, 1.0)) if takes_resets and rng.random() < 0.3 else None
    if resets is not None and rng.random() < 0.4:  # what they leave
        options["learn_initial_state"] = True
    return LayerCase(
        draws=rng.getrandbits(31),
        entry=entry,
        form=form,
        T=steps,
        B=batch,
        I=features,
        H=hidden,
        options=options,
        training=rng.random() < 0.6 and not (entry == "step" and options.keys() & NOISES),
        backend=rng.choice(("auto", "cpu", "cpu")),
        dtype=dtype,
        autocast=autocast,
        mode=rng.choices(("grad", "no_grad", "no_grad" if form == "nested" else "inference"), (65, 20, 15))[0],
        unwanted=[] if rng.random() < 0.5 else [i for i in range(30) if rng.random() < 0.6],
        cotangents=rng.choices(("both", "y", "h_n"), (8, 1, 1))[0],
        twice=rng.random() < 0.2,
        with_h0=rng.random() < 0.5,
        lengths=lengths,
        is_sorted=rng.random() < 0.3,
        int32=rng.random() < 0.5,
        resets=resets,
        views=_views(rng),
        guarded=rng.random() < 0.4,
        poisoned=rng.random() < 0.5,
        calls=["none", *(rng.choice([*EDITS]) for _ in range(rng.choices((0, 1, 2), (60, 25, 15))[0]))],
        scale=rng.choices((1.0, 0.3, 2.0), (8, 1, 1))[0],
        rows=rng.choice((1, 1, 8, 64, 2048)),
        isa=rng.choice(_native.instruction_sets()),
        threads=rng.choice((1, 2, 3, 4)),
    )


def _options(rng: Random, entry: str) -> dict[str, int | float | bool | str]:
    """Those that are not the default."""
    options: dict[str, int | float | bool | str] = {}
    if rng.random() < 0.25:
        options["bias"] = False
    if entry == "cell":
        return options
    if rng.random() < 0.35:
        options["num_layers"] = rng.choice((2, 2, 3))
    if rng.random() < 0.4 and entry == "forward":
        options["bidirectional"] = True
    if rng.random() < 0.4:
        options["batch_first"] = True
    cell = rng.random()
    if cell < 0.15:
        options["reset_after"] = False
    elif cell < 0.3:
        options["layer_norm"] = True
    if rng.random() < 0.2 and entry == "forward":
        options["tbptt"] = rng.choice((1, 2, 3, 5, 8, 20))
    if rng.random() < 0.3:
        options["memory"] = rng.choice(("recompute", "checkpoint"))
    if rng.random() < 0.25:
        options["learn_initial_state"] = True
    if rng.random() < 0.2:
        options["return_all_layers"] = True
    if rng.random() < 0.35:
        for name in ("recurrent_dropout", "zoneout", "weight_dropout"):
            if rng.random() < 0.4:
                options[name] = rng.choice((0.1, 0.3, 0.5, 1.0))
        if options.get("num_layers") and rng.random() < 0.6:
            options["dropout"] = rng.choice((0.1, 0.5, 1.0))
            options["variational"] = rng.random() < 0.5
    return options


def _size(rng: Random) -> int:
    kind = rng.random()
    if kind < 0.4:
        return rng.randint(1, 20)
    return rng.choice(_EDGES) if kind < 0.8 else rng.randint(1, 130)


def _steps(rng: Random) -> int:
    kind = rng.random()
    if kind < 0.15:
        return 1
    return rng.randint(2, 12) if kind < 0.8 else rng.randint(13, 60)


def _batch(rng: Random) -> int:
    kind = rng.random()
    if kind < 0.06:
        return 0
    return rng.randint(1, 9) if kind < 0.7 else rng.randint(10, 70)


def _affordable(rng: Random, features: int, hidden: int, steps: int, batch: int) -> tuple[int, int]:
    """T and B, halved until the work is small."""
    work = _WORK * rng.choice((1, 1, 1, 10))
    while steps * batch * 3 * hidden * (features + hidden) > work:
        steps, batch = (steps, (batch + 1) // 2) if batch > steps else ((steps + 1) // 2, batch)
    return steps, batch


def _dtype(rng: Random) -> tuple[str, str | None]:
    """The dtype, and that of autocast where it is on."""
    if rng.random() < 0.1:
        return "float32", rng.choice(("bfloat16", "float16"))
    return rng.choices(("float32", "float64", "bfloat16", "float16"), (45, 35, 10, 10))[0], None


def _lengths(rng: Random, form: str, steps: int, batch: int) -> list[int]:
    least = 1 if form == "packed" else 0
    kind = rng.random()
    if kind < 0.15:
        return [steps] * batch
    if kind < 0.3:
        return [rng.choice((least, steps)) for _ in range(batch)]
    return [rng.randint(least, steps) for _ in range(batch)]


def _views(rng: Random) -> dict[str, str]:
    plain = rng.random() < 0.4
    names = {"x": VIEWS, "h0": VIEWS, "dy": VIEWS, "dh_n": VIEWS, "weights": KEEPING}
    return {name: "dense" if plain or rng.random() < 0.4 else rng.choice(list(views)) for name, views in names.items()}
