"""TorchTextGenerator: how the search asks modules of torch."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from fastgru.inference.batches import Ids
from fastgru.inference.generation import TextGenerator
from fastgru.inference.search import Scores


class TorchTextGenerator(TextGenerator):
    """A module that generates text: in eval mode and without gradients, its state on its own device."""

    @abstractmethod
    def in_eval_mode(self) -> AbstractContextManager[None]:
        """Keep all in eval mode in here; afterwards each part is as it was."""

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Be in eval mode, and save nothing for gradients."""
        with self.in_eval_mode(), torch.inference_mode():
            yield

    def likeliest(self, log_probabilities: Tensor, count: int) -> tuple[Scores, Ids]:
        """Give the `count` highest of each row, and where they stand: all that leaves the device."""
        values, ids = log_probabilities.detach().topk(count, dim=1)
        wide: Any = torch.promote_types(values.dtype, torch.float32)  # NumPy knows no bfloat16
        return values.to("cpu", wide).numpy(), ids.cpu().numpy()
