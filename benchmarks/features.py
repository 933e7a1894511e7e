"""What GRU users ask for, beside what they do today: `python -m benchmarks.features`.

Each feature of fastgru.GRU is timed against the plain kernel on the same padded input, and against what the same costs
with torch.nn.GRU; with `pip install torchrl` resets against its GRUModule too. Outputs must agree before anything is
timed. All run in turns, in short bursts; the figures are medians, forward in inference, and forward with backward.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from benchmarks.feature import Feature, Run, pair
from benchmarks.options import CELLS, cells, stacks
from fastgru.cli.benchmark import Shape, machine, saved_bytes


def lengths(shape: Shape, padding: float) -> Feature:
    """Sequences of random lengths, the longest of all steps, with this share of padding."""
    ours, theirs, x = pair(shape)
    drawn = torch.rand(shape.batch) * 2 * (1 - padding) if padding >= 0.5 else 1 - torch.rand(shape.batch) * 2 * padding
    drawn[0] = 0
    drawn *= ((1 - padding) * shape.batch - 1) / drawn.sum()
    sizes = (drawn * shape.steps).round().long().clamp(1, shape.steps)
    sizes[0] = shape.steps
    real = torch.arange(shape.steps)[:, None] < sizes
    share = 1 - real.float().mean().item()

    def packed(x: Tensor) -> Tensor:
        output, _ = theirs(pack_padded_sequence(x, sizes, enforce_sorted=False))
        padded: Tensor = pad_packed_sequence(output)[0]
        return padded

    runs: dict[str, tuple[torch.nn.Module, Run]] = {
        "fastgru.GRU": (ours, lambda x: ours(x, lengths=sizes)[0]),
        "all steps": (ours, lambda x: ours(x)[0]),
        "torch.nn.GRU, packed and unpacked": (theirs, packed),
    }
    return Feature(f"lengths, {share:.0%} padding, {shape}", x, real, runs)


def resets(shape: Shape, often: float) -> Feature:
    """Resets at random steps, as an agent's episodes end."""
    ours, theirs, x = pair(shape)
    at = torch.rand(shape.steps, shape.batch) < often
    cell = _cell(theirs)

    def loop(x: Tensor) -> Tensor:
        h = x.new_zeros(shape.batch, shape.hidden_size)
        states = []
        for x_t, reset in zip(x, at, strict=True):
            h = cell(x_t, h * ~reset[:, None])
            states.append(h)
        return torch.stack(states)

    runs: dict[str, tuple[torch.nn.Module, Run]] = {
        "fastgru.GRU": (ours, lambda x: ours(x, resets=at)[0]),
        "no resets": (ours, lambda x: ours(x)[0]),
        "a loop over torch.nn.GRUCell": (cell, loop),
    }
    if find_spec("torchrl") is not None:
        runs["torchrl's GRUModule"] = _torchrl(shape, theirs, at)
    return Feature(f"resets at {often:.0%} of the steps, {shape}", x, torch.ones_like(at), runs)


def memory(shape: Shape, kept: str) -> Feature:
    """Less kept for backward; today, where that takes no minutes, the layer is computed again as a whole."""
    plain, theirs, x = pair(shape)
    ours, _, _ = pair(shape, memory=kept)
    least, most = (saved_bytes(layer, x) / 1e6 for layer in (ours, plain))
    runs: dict[str, tuple[torch.nn.Module, Run]] = {
        "fastgru.GRU": (ours, lambda x: ours(x)[0]),
        'memory="gates"': (plain, lambda x: plain(x)[0]),
    }
    if shape.steps <= 1000:
        again = partial(checkpoint, theirs, use_reentrant=False)
        runs["torch.nn.GRU under torch.utils.checkpoint"] = (theirs, lambda x: again(x)[0])
    name = f'memory="{kept}", {least:.1f} MB kept and not {most:.1f}, {shape}'
    return Feature(name, x, torch.ones(x.shape[:2], dtype=torch.bool), runs, ("training",))


def tbptt(shape: Shape, k: int) -> Feature:
    """Gradients that stop every k steps; today, a call for each stretch and a detached state."""
    plain, theirs, x = pair(shape)
    ours, _, _ = pair(shape, tbptt=k)

    def stretches(x: Tensor) -> Tensor:
        h, parts = None, []
        for stretch in x.split(k):
            part, h = theirs(stretch, h if h is None else h.detach())
            parts.append(part)
        return torch.cat(parts)

    runs: dict[str, tuple[torch.nn.Module, Run]] = {
        "fastgru.GRU": (ours, lambda x: ours(x)[0]),
        "all gradients": (plain, lambda x: plain(x)[0]),
    }
    if shape.steps <= 1000:
        runs["torch.nn.GRU, stretch by stretch"] = (theirs, stretches)
    return Feature(f"tbptt={k}, {shape}", x, torch.ones(x.shape[:2], dtype=torch.bool), runs, ("training",))


def _torchrl(shape: Shape, theirs: torch.nn.GRU, at: Tensor) -> tuple[torch.nn.Module, Run]:
    """torchrl's GRU over trajectories with is_init."""
    from tensordict import TensorDict
    from torchrl.modules import GRUModule, set_recurrent_mode

    module = GRUModule(
        shape.input_size, shape.hidden_size, in_keys=["x", "h", "is_init"], out_keys=["y", ("next", "h")]
    )
    module.gru.load_state_dict(theirs.state_dict())
    is_init = at.T.unsqueeze(-1)

    def run(x: Tensor) -> Tensor:
        size = [shape.batch, shape.steps]
        h = x.new_zeros(*size, 1, shape.hidden_size)
        with set_recurrent_mode(True):
            done = module(TensorDict({"x": x.transpose(0, 1), "h": h, "is_init": is_init}, size))
        y: Tensor = done["y"].transpose(0, 1)
        return y

    return module, run


def streaming(shape: Shape) -> Feature:
    """One step a call, as the input arrives."""
    ours, theirs, x = pair(shape)
    cell = _cell(theirs)

    def step(x: Tensor) -> Tensor:
        state, outputs = None, []
        for x_t in x:
            y_t, state = ours.step(x_t, state)
            outputs.append(y_t)
        return torch.stack(outputs)

    def short(x: Tensor) -> Tensor:
        state, outputs = None, []
        for x_t in x.split(1):
            y_t, state = theirs(x_t, state)
            outputs.append(y_t)
        return torch.cat(outputs)

    def cells(x: Tensor) -> Tensor:
        h, outputs = None, []
        for x_t in x:
            h = cell(x_t, h)
            outputs.append(h)
        return torch.stack(outputs)

    runs: dict[str, tuple[torch.nn.Module, Run]] = {
        "fastgru.GRU.step": (ours, step),
        "one pass": (ours, lambda x: ours(x)[0]),
        "a loop over torch.nn.GRUCell": (cell, cells),
        "torch.nn.GRU with T=1": (theirs, short),
    }
    return Feature(f"streaming, {shape}", x, torch.ones(shape.steps, shape.batch, dtype=torch.bool), runs)


def _cell(layer: torch.nn.GRU) -> torch.nn.GRUCell:
    """torch's cell with a layer's weights."""
    cell = torch.nn.GRUCell(layer.input_size, layer.hidden_size)
    cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in layer.state_dict().items()})
    return cell


SHORT, LONG = Shape(256, 256, 32, 100, 1), Shape(128, 128, 1, 100_000, 1)


def features() -> list[Feature]:
    """Every row of the table."""
    return [
        lengths(Shape(256, 256, 32, 100, 1), 0.9),
        lengths(Shape(256, 256, 32, 100, 1), 0.5),
        lengths(Shape(256, 256, 32, 100, 1), 0.1),
        lengths(Shape(128, 128, 64, 400, 1), 0.5),
        lengths(Shape(64, 64, 64, 200, 2), 0.5),
        lengths(Shape(384, 256, 4, 128, 2), 0.3),
        resets(Shape(128, 128, 64, 128, 1), 0.02),
        streaming(Shape(64, 64, 1, 100, 1)),
        streaming(Shape(128, 128, 1, 100, 1)),
        streaming(Shape(256, 256, 1, 100, 1)),
        *(memory(shape, kept) for shape in (SHORT, LONG) for kept in ("recompute", "checkpoint")),
        tbptt(SHORT, 20),
        tbptt(LONG, 1000),
        *(cells(SHORT, *option) for option in CELLS),
        stacks(SHORT, "dropout=0.3, variational=True", dropout=0.3, variational=True),
        stacks(SHORT, "learn_initial_state=True", learn_initial_state=True),
        stacks(SHORT, "return_all_layers=True", return_all_layers=True),
        stacks(SHORT, "hidden_size=[256, 128]", hidden_size=[256, 128]),
    ]


def table(rows: Sequence[tuple[str, str, dict[str, float]]]) -> str:
    """Markdown: in brackets, the time over fastgru's with the feature."""
    lines = ["| feature | mode | fastgru.GRU with it, ms | without it | what users do today |", "|---|---|--:|--:|---|"]
    for feature, mode, seconds in rows:
        (_, ours), (plain, without), *today = seconds.items()
        others = "; ".join(f"{name}: {time * 1e3:.2f} ({time / ours:.2f})" for name, time in today)
        cells = [feature, mode, f"{ours * 1e3:.2f}", f"{plain}: {without * 1e3:.2f} ({without / ours:.2f})", others]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Time all features and print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only rows with one of these in their name")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each contender, feature and mode")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for feature in features():
        if arguments.names and not any(name in feature.name for name in arguments.names):
            continue
        feature.check()
        rows += [(feature.name, mode, feature.times(mode, arguments.seconds)) for mode in feature.modes]
    print(f"{machine()}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
