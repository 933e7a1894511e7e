"""Pooling: the states of a sequence, made into one vector of features."""

import torch
from torch import Tensor, nn

from fastgru.inference.classifier_config import check_pooling


class Pooling(nn.Module):
    """What the linear layer after a GRU sees of all its states, one part after the other in the order of `names`.

    last:       h_n, the state of each direction after its last step
    max, mean:  over the steps t of y
    attention:  sum over t of a_t y_t, where a = softmax over t of v . tanh(W y_t + b)

    The attention is that of Yang et al. 2016 (Hierarchical Attention Networks, equations 5 to 7), whose u_w is v.
    `size`: F, the features of y. ValueError for names that are none.
    """

    def __init__(self, names: list[str], size: int) -> None:
        super().__init__()
        check_pooling(names)
        self.names = list(names)
        self.out_features = size * len(names)
        if "attention" in names:
            self.attend = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1, bias=False))

    def forward(self, y: Tensor, h_n: Tensor, lengths: Tensor) -> Tensor:
        """Give features `[B, F * len(names)]`.

        `y [B, T, F]`: the states, zero past the length. `h_n [D, B, H]`, D H = F: the last layer's final states.
        `lengths [B]`: steps of each sequence, of at least 1.
        """
        padding = torch.arange(y.shape[1], device=y.device) >= lengths[:, None]  # [B, T]
        return torch.cat([self._pool(name, y, h_n, lengths, padding) for name in self.names], dim=1)

    def _pool(self, name: str, y: Tensor, h_n: Tensor, lengths: Tensor, padding: Tensor) -> Tensor:
        if name == "last":
            return h_n.transpose(0, 1).flatten(1)
        if name == "max":
            return y.masked_fill(padding[:, :, None], float("-inf")).amax(1)
        if name == "mean":
            return y.sum(1) / lengths[:, None]
        scores: Tensor = self.attend(y).masked_fill(padding[:, :, None], float("-inf"))  # [B, T, 1]
        return (scores.softmax(1) * y).sum(1)

    def extra_repr(self) -> str:
        """Tell the names."""
        return ", ".join(self.names)
