"""Published models before and after `fastgru.accelerate`: `python -m benchmarks.real_models`.

    pip install torch-geometric torch-rechub piano-transcription-inference pypots pykt-toolkit

The models are their packages' own, with random weights and inputs of the sizes that their papers or examples use; a
model whose package is not installed is named and left out. Inference is a forward pass in eval mode, training a forward
and a backward pass, with dropout. Before anything is timed, outputs and every gradient must be the same before and
after. The two run in turns, in short bursts; the figures are medians.
"""

import argparse
import copy
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

import fastgru
from benchmarks.layers import medians
from benchmarks.rivals import timed
from fastgru.cli.benchmark import machine


@dataclass(frozen=True)
class Case:
    """A model and an input for it. sizes: of what goes into its GRUs, in words."""

    name: str
    sizes: str
    model: torch.nn.Module
    inputs: tuple[Any, ...]

    def outputs(self) -> list[Tensor]:
        """What the model gives."""
        found = self.model(*self.inputs)
        found = found.values() if isinstance(found, dict) else found
        return [found] if isinstance(found, Tensor) else list(found)

    def gradients(self) -> list[Tensor | None]:
        """Of the sum of the squared outputs, for every parameter that is trained."""
        loss = torch.stack([output.square().sum() for output in self.outputs()]).sum()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return list(torch.autograd.grad(loss, trained, allow_unused=True))

    def infer(self, count: int) -> list[float]:
        """Time forward passes, in seconds."""
        self.model.eval()
        with torch.no_grad():
            return timed(self.outputs, count)

    def train(self, count: int) -> list[float]:
        """Time forward and backward passes."""
        self.model.train()
        return timed(self.gradients, count)


@dataclass(frozen=True)
class Comparison:
    """Medians in seconds before and after, by mode; swapped: how many GRUs; difference: as `check` finds it."""

    name: str
    sizes: str
    swapped: int
    difference: float
    seconds: dict[str, tuple[float, float]]


def attentive_fp(molecules: int = 200) -> Case:
    """Molecules of 13 atoms, batches and sizes as in torch_geometric's example (ESOL); three cells."""
    from torch_geometric.nn.models import AttentiveFP

    model = AttentiveFP(39, 200, 1, edge_dim=10, num_layers=2, num_timesteps=2, dropout=0.2)
    atoms, bonds = 13 * molecules, 26 * molecules
    x, edges, edge_attr = torch.randn(atoms, 39), torch.randint(atoms, (2, bonds)), torch.randn(bonds, 10)
    inputs = (x, edges, edge_attr, torch.arange(molecules).repeat_interleave(13))
    return Case("AttentiveFP (torch_geometric)", f"cells, I=H=200, B={atoms}", model, inputs)


def re_net(batch: int = 256, nodes: int = 7691) -> Case:
    """Events in a knowledge graph, as many nodes and relations as GDELT; two GRUs."""
    from torch_geometric.data import Data
    from torch_geometric.nn.models import RENet

    model, past = RENet(nodes, 240, 200, seq_len=10, dropout=0.5), 40 * batch
    history = {
        name: value
        for side in ("sub", "obj")
        for name, value in {
            side: torch.randint(nodes, (batch,)),
            f"h_{side}": torch.randint(nodes, (past,)),
            f"h_{side}_t": torch.randint(10, (past,)),
            f"h_{side}_batch": torch.arange(batch).repeat_interleave(40),
        }.items()
    }
    data = Data(rel=torch.randint(240, (batch,)), **history)
    return Case("RENet (torch_geometric)", f"I=600, H=200, B={batch}, T=10", model, (data,))


def gru4rec(batch: int = 256) -> Case:
    """Sessions of 50 items, items as many as in MovieLens-1M; a GRU of two layers without bias."""
    from torch_rechub.basic.features import SequenceFeature, SparseFeature
    from torch_rechub.models.matching import GRU4Rec

    user, item = SparseFeature("user", 6041, 64), SparseFeature("item", 3707, 64)
    past, wrong = (SequenceFeature(name, 3707, 64, pooling="concat", shared_with="item") for name in ("past", "wrong"))
    model = GRU4Rec([user], [past], [item], [wrong], {"dims": [128, 64]})
    inputs = {
        "user": torch.randint(6041, (batch,)),
        "item": torch.randint(3707, (batch,)),
        "past": torch.randint(1, 3707, (batch, 50)),
        "wrong": torch.randint(1, 3707, (batch, 3)),
    }
    return Case("GRU4Rec (torch_rechub)", f"I=H=64, L=2, B={batch}, T=50", model, (inputs,))


def gru_d(batch: int = 32, steps: int = 48, features: int = 37) -> Case:
    """A series with gaps, sizes as in PhysioNet 2012; a cell between decays, one step after the other."""
    from pypots.nn.modules.grud import BackboneGRUD

    model, series = BackboneGRUD(steps, features, 256), torch.randn(batch, steps, features)
    mask, gaps = (torch.rand_like(series) < 0.2).float(), torch.rand_like(series)
    inputs = (series * mask, mask, gaps, torch.zeros(features), series)
    return Case("GRU-D (pypots)", f"cell, I=330, H=256, B={batch}, T={steps}", model, inputs)


def crli(batch: int = 32, steps: int = 48, features: int = 37) -> Case:
    """Clusters of such series; cells that feed each other, one step after the other."""
    from pypots.nn.modules.crli import BackboneCRLI

    model, series = BackboneCRLI(steps, features, 2, 64, None), torch.randn(batch, steps, features)
    inputs = (series, (torch.rand_like(series) < 0.2).float())
    return Case("CRLI (pypots)", f"cells, H=8 to 64, B={batch}, T={steps}", model, inputs)


def gkt(batch: int = 8, steps: int = 50, concepts: int = 50) -> Case:
    """Answers of pupils; a cell over all concepts of all pupils, one step after the other."""
    from pykt.models.gkt import GKT

    model = GKT(concepts, 32, 32, graph=torch.rand(concepts, concepts).softmax(dim=1))
    inputs = (torch.randint(concepts, (batch, steps)), torch.randint(2, (batch, steps)))
    return Case("GKT (pykt)", f"cell, I=H=32, B={batch * concepts}, T={steps}", model, inputs)


def tgn_memory(events: int = 200, nodes: int = 1000) -> Case:
    """Events in a graph, sizes as in torch_geometric's example; a cell updates the memory of who takes part."""
    from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, TGNMemory

    memory = TGNMemory(nodes, 172, 100, 100, IdentityMessage(172, 100, 100), LastAggregator())

    class Updated(torch.nn.Module):
        """A batch of events, and the memory of its nodes after them."""

        def __init__(self) -> None:
            super().__init__()
            self.memory = memory

        def forward(self, source: Tensor, target: Tensor, times: Tensor, messages: Tensor) -> Tensor:
            self.memory.detach()
            self.memory.reset_state()
            self.memory.update_state(source, target, times, messages)
            found: Tensor = self.memory(torch.cat([source, target]).unique())[0]
            return found

    source, target = torch.randint(nodes, (events,)), torch.randint(nodes, (events,))
    inputs = (source, target, torch.arange(events), torch.randn(events, 172))
    return Case("TGNMemory (torch_geometric)", f"cell, I=472, H=100, B about {2 * events}", Updated(), inputs)


class WorldModel(torch.nn.Module):
    """A recurrent state-space model: a cell over (stochastic state, action), prior and posterior at each step.

    Source: Hafner et al. 2019, arXiv:1811.04551, figure 2c, with the discrete states of Hafner et al. 2021.
    """

    def __init__(self, hidden: int = 200, classes: int = 16, actions: int = 4, embedding: int = 128) -> None:
        super().__init__()
        self.hidden, self.classes = hidden, classes
        self.embed = torch.nn.Linear(classes * classes + actions, hidden)
        self.cell = torch.nn.GRUCell(hidden, hidden)
        self.prior = torch.nn.Linear(hidden, classes * classes)
        self.posterior = torch.nn.Linear(hidden + embedding, classes * classes)

    def forward(self, actions: Tensor, observed: Tensor) -> list[Tensor]:
        """actions [T, B, A], observed [T, B, E]: the logits of priors and posteriors."""
        batch = actions.size(1)
        h, z = actions.new_zeros(batch, self.hidden), actions.new_zeros(batch, self.classes**2)
        priors, posteriors = [], []
        for action, seen in zip(actions, observed, strict=True):
            h = self.cell(self.embed(torch.cat([z, action], dim=1)).relu(), h)
            priors.append(self.prior(h))
            posteriors.append(self.posterior(torch.cat([h, seen], dim=1)))
            z = posteriors[-1].view(batch, self.classes, self.classes).softmax(dim=2).view(batch, -1)
        return [torch.stack(priors), torch.stack(posteriors)]


def world_model(batch: int = 16, steps: int = 50) -> Case:
    """As agents learn one from what they saw."""
    inputs = (torch.randn(steps, batch, 4), torch.randn(steps, batch, 128))
    return Case("RSSM (this file)", f"cell, I=H=200, B={batch}, T={steps}", WorldModel(), inputs)


def piano_transcription(seconds: int = 3) -> Case:
    """Sound to piano notes; four GRUs of two layers and two of one, all bidirectional, beside convolutions."""
    from piano_transcription_inference.models import Regress_onset_offset_frame_velocity_CRNN

    model = Regress_onset_offset_frame_velocity_CRNN(frames_per_second=100, classes_num=88)
    sizes = f"I=768, 176 and 264, H=256, D=2, B=1, T={100 * seconds + 1}"
    return Case("CRNN (piano_transcription_inference)", sizes, model, (torch.randn(1, 16000 * seconds),))


CASES: dict[Callable[[], Case], str] = {
    attentive_fp: "torch-geometric",
    re_net: "torch-geometric",
    gru4rec: "torch-rechub",
    piano_transcription: "piano-transcription-inference",
    gru_d: "pypots",
    crli: "pypots",
    gkt: "pykt-toolkit",
    tgn_memory: "torch-geometric",
    world_model: "torch",
}


def compare(case: Case, seconds: float) -> Comparison:
    """One model before and after; each runs for about `seconds` a mode."""
    after = Case(case.name, case.sizes, copy.deepcopy(case.model), case.inputs)
    swapped = fastgru.accelerate(after.model).swapped
    difference = check(case, after)
    times = {}
    for mode in ("infer", "train"):
        found = medians({"before": getattr(case, mode), "after": getattr(after, mode)}, seconds)
        times[mode] = (found["before"], found["after"])
    return Comparison(case.name, case.sizes, len(swapped), difference, times)


def check(before: Case, after: Case, bound: float = 1e-4) -> float:
    """The larger relative L2 difference, of all outputs (eval) and of all gradients (train, with one seed).

    Raises RuntimeError above the bound.
    """
    worst = max(_difference(before, after, training) for training in (False, True))
    if not worst <= bound:
        raise RuntimeError(f"{before.name} computes something else after the swap: relative difference {worst:.1e}")
    return worst


def _difference(before: Case, after: Case, training: bool) -> float:
    results = []
    for case in (before, after):
        case.model.train(training)
        torch.manual_seed(1)
        tensors = case.gradients() if training else case.outputs()
        results.append(torch.cat([tensor.detach().flatten() for tensor in tensors if tensor is not None]).double())
    expected, got = results
    return float((got - expected).norm() / expected.norm())


def table(comparisons: list[Comparison]) -> str:
    """Markdown: times in ms before and after, and how many times faster."""
    lines = [
        "| model | GRUs | of sizes | inference, ms | training, ms | relative difference |",
        "|---|--:|---|---|---|---|",
    ]
    for c in comparisons:
        cells = [f"{b * 1e3:.1f} → {a * 1e3:.1f} ({b / a:.2f}x)" for b, a in (c.seconds["infer"], c.seconds["train"])]
        lines.append(f"| {c.name} | {c.swapped} | {c.sizes} | {' | '.join(cells)} | {c.difference:.0e} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is installed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--models", nargs="+", default=[make.__name__ for make in CASES], help="the names of some")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each model and mode, before and after")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    comparisons = []
    for make, package in CASES.items():
        if make.__name__ not in options.models:
            continue
        if not any(metadata.distributions(name=package)):
            print(f"{make.__name__} is left out: pip install {package}", file=sys.stderr)
            continue
        torch.manual_seed(0)
        comparisons.append(compare(make(), options.seconds))
    print(f"{machine()}. Medians.\n\n{table(comparisons)}")


if __name__ == "__main__":
    main()
