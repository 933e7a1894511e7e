"""Augment: a sound as another voice would have made it, faster or slower, with parts of it covered."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastgru.inference.log_mel import LogMel

LOWEST = 20.0  # Hz, of the lowest band of a LogMel
COVERED_BANDS, COVERED_STEPS = 0.2, 0.2  # of all bands and of a sound's steps: the most that one mask covers


@dataclass(frozen=True)
class Augment:
    """Random changes of log-mel spectra in training, other ones each time that a sound is seen.

    `features`: how the spectra were computed.
    `warp`: the frequencies become up to so much higher or lower, 0.2 is by a factor from 1 / 1.2 to 1.2: the vocal
    tracts of children, women and men (Jaitly and Hinton 2013, "Vocal Tract Length Perturbation (VTLP) improves speech
    recognition"). `tempo`: the same for how fast it is. Both together, by one factor, would be what resampling does
    (Ko et al. 2015, "Audio augmentation for speech recognition"). `masks`: of bands, and as many of steps, that become
    the mean of the training part (Park et al. 2019, "SpecAugment", arXiv:1904.08779).
    """

    features: LogMel
    warp: float
    tempo: float
    masks: int

    def __call__(self, steps: Tensor, lengths: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Give changed spectra `[B, T', I]` and their lengths `[B]`.

        `steps [B, T, I]`, padded; `lengths [B] int64`; `mean [I]`: what a mask covers bands with.
        """
        if self.tempo:
            steps, lengths = _at_tempo(steps, lengths, _factors(len(steps), self.tempo, steps.device))
        if self.warp:
            steps = _warped(steps, self._sources(_factors(len(steps), self.warp, steps.device)))
        for _ in range(self.masks):
            steps = _covered(steps, lengths, mean)
        return steps, lengths

    def _sources(self, factors: Tensor) -> Tensor:
        """Where each band `[B, I]` is to be found in the spectrum, in bands, when frequencies rise by `factors [B]`."""
        bands, top = self.features.num_bins, _mel(torch.tensor(self.features.sample_rate / 2))
        low = _mel(torch.tensor(LOWEST))
        width = (top - low) / (bands + 1)
        centres = low + width * torch.arange(1, bands + 1, device=factors.device)
        hertz = 700.0 * ((centres / 1127.0).exp() - 1)
        return (_mel(hertz / factors[:, None]) - low) / width - 1


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * (1.0 + hertz / 700.0).log()  # as Kaldi has it


def _factors(count: int, most: float, device: torch.device) -> Tensor:
    """Draw factors `[count]` whose logarithms are even between those of 1 / (1 + most) and 1 + most."""
    draw = 2 * torch.rand(count, device=device) - 1
    return (draw * torch.log1p(torch.tensor(most))).exp()


def _at_tempo(steps: Tensor, lengths: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    new = (lengths / factors).round().long().clamp(min=1)
    places = torch.arange(int(new.max()), device=steps.device) * factors[:, None]  # [B, T']
    places = torch.minimum(places, lengths[:, None] - 1)
    first = places.long()
    following = torch.minimum(first + 1, lengths[:, None] - 1)
    share = (places - first)[:, :, None]
    rows = torch.arange(len(steps), device=steps.device)[:, None]
    return torch.lerp(steps[rows, first], steps[rows, following], share), new


def _warped(steps: Tensor, places: Tensor) -> Tensor:
    places = places.clamp(0, steps.shape[2] - 1)
    first = places.long()
    following = (first + 1).clamp(max=steps.shape[2] - 1)
    one, other = (steps.gather(2, bands[:, None].expand_as(steps)) for bands in (first, following))
    return torch.lerp(one, other, (places - first)[:, None])


def _covered(steps: Tensor, lengths: Tensor, mean: Tensor) -> Tensor:
    """Put the mean over one range of bands and over one of steps of each sound."""
    bands = _range(torch.full_like(lengths, steps.shape[2]), steps.shape[2], COVERED_BANDS)
    times = _range(lengths, steps.shape[1], COVERED_STEPS)
    return torch.where(bands[:, None] | times[:, :, None], mean, steps)


def _range(counts: Tensor, size: int, most: float) -> Tensor:
    """Draw a range below `counts [B]` for each row, up to `most` of it: `[B, size] bool`."""
    lengths = (torch.rand(len(counts), device=counts.device) * (most * counts + 1)).long()
    begins = (torch.rand(len(counts), device=counts.device) * (counts - lengths + 1)).long()
    places = torch.arange(size, device=counts.device)
    return (places >= begins[:, None]) & (places < (begins + lengths)[:, None])
