"""What a module goes through: copies, changed weights, optimisers, other processes; and the forms of its input."""

import copy
import io
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch.distributed.fsdp._fully_shard import _fully_shard
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence

import fastgru
from probes import INPUT, MODULE, PROCESSES, H, I, Kind, Layer, T, as_torch, build, draw, probe, results, same


def save_and_load(layer: Layer) -> Layer:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[Layer], Layer]] = {
    "`copy.deepcopy`": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "`torch.save` and `torch.load` of the module": save_and_load,
}


def swap(layer: Layer) -> None:
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        layer.load_state_dict({name: 2 * weight for name, weight in layer.state_dict().items()})
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def to_empty(layer: Layer) -> None:
    layer.to("meta").to_empty(device="cpu").reset_parameters()


def train(layer: torch.nn.Module) -> None:
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)
    layer(draw())[0].square().sum().backward()
    optimizer.step()


CHANGES: dict[str, Callable[[Layer], object]] = {
    "`load_state_dict(assign=True)`": lambda layer: layer.load_state_dict(
        {name: 2 * weight for name, weight in layer.state_dict().items()}, assign=True
    ),
    "`load_state_dict` by swapping parameters": swap,
    "meta device, `to_empty`, `reset_parameters`": to_empty,
    "`parametrizations.weight_norm`": lambda layer: parametrizations.weight_norm(layer, "weight_hh_l0"),
    "`parametrizations.orthogonal`": lambda layer: parametrizations.orthogonal(layer, "weight_hh_l0"),
    "`parametrizations.spectral_norm`": lambda layer: parametrizations.spectral_norm(layer.eval(), "weight_hh_l0"),
    "the old `nn.utils.weight_norm`": lambda layer: torch.nn.utils.weight_norm(layer, "weight_hh_l0"),
    "`nn.utils.prune`": lambda layer: prune.l1_unstructured(layer, "weight_hh_l0", amount=0.5),
    "a tied weight": lambda layer: setattr(layer, "weight_hh_l0_reverse", layer.weight_hh_l0),
    "`vector_to_parameters`": lambda layer: torch.nn.utils.vector_to_parameters(
        torch.nn.utils.parameters_to_vector(layer.parameters()).detach() * 2, layer.parameters()
    ),
    "`share_memory`": lambda layer: layer.share_memory(),
    "fused Adam": train,
}


def copied(how: Callable[[Layer], Layer]) -> Callable[[Kind], None]:
    """The copy computes what the layer does."""

    def run(kind: Kind) -> None:
        layer = build(kind)
        same(results(how(layer), draw()), results(layer, draw()))

    return run


def changed(how: Callable[[Layer], object]) -> Callable[[Kind], None]:
    """The layer computes with its changed weights: as plain weights of a new layer they give the same."""

    def run(kind: Kind) -> None:
        layer, plain = build(kind), build(torch.nn.GRU)
        how(layer)
        for name in list(plain.state_dict()):
            setattr(plain, name, torch.nn.Parameter(getattr(layer, name).detach().clone()))
        layer.zero_grad()
        y, h_n = layer(draw())
        (y.sum() + h_n.sum()).backward()
        assert all(parameter.grad is not None for parameter in layer.parameters())
        same((y, h_n), plain(draw()))

    return run


for words, how in COPIES.items():
    probe(MODULE, words)(copied(how))
for words, change in CHANGES.items():
    probe(MODULE, words)(changed(change))


@probe(MODULE, "inference mode, weights made in it too")
def inference(kind: Kind) -> None:
    with torch.inference_mode():
        layer = build(kind)
        same(layer(draw()), as_torch(layer)(draw()))


@probe(MODULE, "`fastgru.accelerate` of a model that holds one")
def accelerated(kind: Kind) -> None:
    model = torch.nn.Sequential(build(kind))
    expected = results(model, draw())
    fastgru.accelerate(model)
    if not isinstance(model[0], fastgru.GRU):
        raise TypeError(f"the layer is a {type(model[0]).__module__}.GRU")
    same(results(model, draw()), expected)


@contextmanager
def alone() -> Iterator[None]:
    """A group of one process."""
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=0, world_size=1)
        try:
            yield
        finally:
            dist.destroy_process_group()


@probe(PROCESSES, "DistributedDataParallel")
def ddp(kind: Kind) -> None:
    layer = build(kind)
    expected = results(as_torch(copy.deepcopy(layer)), draw())
    with alone():
        wrapped = torch.nn.parallel.DistributedDataParallel(layer)
        y, h_n = wrapped(draw())
        (y.square().sum() + h_n.sin().sum()).backward()
    same([parameter.grad for parameter in layer.parameters()], expected[3:])


@probe(PROCESSES, "FSDP2 (`fully_shard`)")
def fsdp(kind: Kind) -> None:
    layer = build(kind)
    expected = results(as_torch(copy.deepcopy(layer)), draw())
    with alone(), patch.dict(_fully_shard.cls_to_fsdp_cls):  # a process that has sharded trains steps another way
        mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
        torch.distributed.fsdp.fully_shard(layer, mesh=mesh)
        y, h_n = layer(draw())
        (y.square().sum() + h_n.sin().sum()).backward()
        same([parameter.grad.full_tensor() for parameter in layer.parameters()], expected[3:])


@probe(INPUT, "packed sequences, unsorted")
def packed(kind: Kind) -> None:
    layer = build(kind)
    given = pack_padded_sequence(draw(), torch.tensor([2, 5, 3]), enforce_sorted=False)
    _, h_n = layer(given)
    for b, length in enumerate((2, 5, 3)):
        same(h_n[:, b], as_torch(layer)(draw()[:length, b])[1])


@probe(INPUT, "a batch in which a sequence is empty (torch: packed; fastgru: `lengths=`)")
def empty_sequence(kind: Kind) -> None:
    layer, lengths = build(kind), torch.tensor([2, 0, 3])
    if kind is torch.nn.GRU:
        layer(pack_padded_sequence(draw(), lengths, enforce_sorted=False))
        return
    y, h_n = layer(draw(), lengths=lengths)
    assert not y[:, 1].any()
    assert not h_n[:, 1].any()
    for b in (0, 2):
        same(h_n[:, b], as_torch(layer)(draw()[: lengths[b], b])[1])


@probe(INPUT, "jagged nested tensors")
def jagged(kind: Kind) -> None:
    layer, parts = build(kind), [draw(3, I), draw(1, I)]
    y, _ = layer(torch.nested.nested_tensor(parts, layout=torch.jagged))
    for own, part in zip(y.unbind(), parts, strict=True):
        same(own, as_torch(layer)(part)[0])


@probe(INPUT, "one sequence without a batch")
def unbatched(kind: Kind) -> None:
    layer = build(kind)
    y, _ = layer(draw(T, I))
    same(y, as_torch(layer)(draw(T, 1, I))[0][:, 0])


@probe(INPUT, "an empty batch")
def empty_batch(kind: Kind) -> None:
    y, h_n = build(kind)(torch.zeros(T, 0, I))
    assert (y.shape, h_n.shape) == ((T, 0, 2 * H), (4, 0, H))


@probe(INPUT, "no steps")
def no_steps(kind: Kind) -> None:
    build(kind)(torch.zeros(0, 2, I))


@probe(INPUT, "any strides")
def strides(kind: Kind) -> None:
    layer = build(kind)
    strided = draw().repeat_interleave(2, dim=-1)[..., ::2]
    same(results(layer, strided), results(as_torch(layer), draw()))
