"""LogMel: what a model of sounds hears of them, as a part of its configuration."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from typing import Self

    import kaldi_native_fbank as fbank

MOST = 10**9  # of any setting: what lies above is no sound's

Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LogMel:
    """The logarithm of a sound's energy in bands that are even on the mel scale, frame by frame, as Kaldi computes it.

    `sample_rate`: samples a second of the sounds that are taken.
    `num_bins`: I, the bands, from 20 Hz to half the sample rate.
    `frame_length`, `frame_shift`: milliseconds.
    `centred`: the mean of each band over the sound is subtracted: loudness and the room's colour no longer matter,
        nor does what a sound that never changes sounds like.

    >>> import numpy
    >>> from fastgru.models import LogMel
    >>> second = numpy.zeros(16_000, dtype=numpy.float32)
    >>> LogMel(num_bins=40)(second).shape
    (98, 40)
    """

    sample_rate: int = 16_000
    num_bins: int = 40
    frame_length: float = 25.0
    frame_shift: float = 10.0
    centred: bool = False

    @classmethod
    def of(cls, settings: dict[str, Any]) -> "Self":
        """Make it of what config.json tells; ValueError for what no features can have."""
        unknown = sorted(settings.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"features: there is no setting {unknown[0]!r}")
        return cls(**settings)

    def __post_init__(self) -> None:
        """ValueError for settings that no features can have."""
        kinds = {"sample_rate": int, "num_bins": int, "frame_length": float | int, "frame_shift": float | int}
        for name, kind in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value < MOST:
                raise ValueError(f"features: {name} must be a number above 0 and below {MOST}, got {value!r}")
        if min(self._samples()) < 1:
            raise ValueError(f"features: at {self.sample_rate} samples a second a frame or its shift has none")
        if not isinstance(self.centred, bool):
            raise ValueError(f"features: centred must be true or false, got {self.centred!r}")

    def frames(self, samples: int) -> int:
        """T of a sound of so many samples: the frames that lie wholly in it."""
        length, shift = self._samples()
        return max(0, 1 + (samples - length) // shift)

    def _samples(self) -> tuple[int, int]:
        """Of a frame, and from one to the next."""
        return int(self.sample_rate * self.frame_length / 1000), int(self.sample_rate * self.frame_shift / 1000)

    def __call__(self, waveform: Waveform) -> Waveform:
        """Give the features `[T, I]` of `waveform [N]`, samples from -1 to 1 at `sample_rate`."""
        import kaldi_native_fbank as fbank

        computer = fbank.OnlineFbank(self._options())
        computer.accept_waveform(self.sample_rate, waveform)
        computer.input_finished()
        frames = [computer.get_frame(t) for t in range(computer.num_frames_ready)]
        features = np.array(frames, dtype=np.float32).reshape(len(frames), self.num_bins)
        return features - features.mean(0) if self.centred and len(features) else features

    def _options(self) -> "fbank.FbankOptions":
        import kaldi_native_fbank as fbank

        options = fbank.FbankOptions()
        options.frame_opts.samp_freq = self.sample_rate
        options.frame_opts.frame_length_ms = self.frame_length
        options.frame_opts.frame_shift_ms = self.frame_shift
        options.frame_opts.dither = 0.0  # noise would make features differ from call to call
        options.mel_opts.num_bins = self.num_bins
        return options
