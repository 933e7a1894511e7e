"""Starting a training from a saved model: what stays as it was, what is taken over, and what is told of it."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fastgru.common.errors import InputError
from fastgru.common.processes import rank
from fastgru.training.options import TrainOptions

if TYPE_CHECKING:
    from fastgru.models.pretrained import Pretrained

_log = logging.getLogger(__name__)


def check_kept(options: TrainOptions, kept: dict[str, Any]) -> None:
    """InputError where an option asks for something else than what the model to start from has.

    `kept`: what it has, by the names of the options; None for what is part of it and cannot be compared.
    An option that has its default asks for nothing.
    """
    for name, has in kept.items():
        given = getattr(options, name)
        if given != getattr(type(options), name) and given != has:
            has_it = "its own" if has is None else has
            raise InputError(
                f"--{name.replace('_', '-')} {given}: the model of --from has {has_it}, which stays; leave it out"
            )


def take_over(model: "Pretrained", before: "Pretrained") -> None:
    """Give a classifier the weights of the one that it starts from; in the last layer, of the labels that both have.

    The new ones keep the weights that were drawn for them; which labels these are, and which are gone, is told.
    """
    weights = before.state_dict()
    labels, known = model.config.labels, before.config.labels
    own = model.state_dict()
    for name in ("classify.weight", "classify.bias"):
        rows = own[name].clone()
        for place, label in enumerate(labels):
            if label in known:
                rows[place] = weights[name][known.index(label)]
        weights[name] = rows
    model.load_state_dict(weights)
    if rank() == 0:
        _tell("new, and learned from nothing", [label for label in labels if label not in known])
        _tell("of the model alone, and left out", [label for label in known if label not in labels])


def _tell(what: str, labels: Iterable[str]) -> None:
    names = list(labels)
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        _log.info("labels that are %s: %s", what, shown)
