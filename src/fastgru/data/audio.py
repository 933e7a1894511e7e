"""Sound files: what libsndfile reads (WAV, FLAC, OGG, MP3, ...), one channel, at a model's sample rate, as features."""

from pathlib import Path
from typing import Any

import numpy as np

from fastgru.common.errors import InputError, reason_of
from fastgru.data.sequences import Sequence
from fastgru.inference.log_mel import LogMel, Waveform

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au")
USUAL_RATE = 16_000  # of speech: 8 kHz of spectrum


def is_audio(source: str | Path) -> bool:
    """Say whether `source` names a sound file by its suffix, there or not."""
    return Path(source).suffix.lower() in SUFFIXES


def common_rate(sources: list[str]) -> int:
    """Give the sample rate that features of all the files can have: the lowest there is, at most USUAL_RATE.

    InputError for the first file that is no sound, has no samples or too few for a frame.
    """
    return min(USUAL_RATE, *(int(_inspect(source).samplerate) for source in sources))


def read_features(source: str, features: LogMel) -> Sequence:
    """Give the features [T, I] of a sound file; several channels are averaged, and higher rates resampled.

    InputError where it is no sound, was recorded at a lower rate, is shorter than a frame, or is no sound.
    """
    rate = int(_inspect(source).samplerate)
    if rate < features.sample_rate:
        raise InputError(
            f"{source} has {rate} samples a second, and {features.sample_rate} or more are expected: "
            "what lies above half its rate was never recorded"
        )
    waveform = _read(source)
    if rate > features.sample_rate:
        import soxr

        waveform = soxr.resample(waveform, rate, features.sample_rate)
    if not features.frames(len(waveform)):
        raise InputError(
            f"{source} is {1000 * len(waveform) / features.sample_rate:.1f} ms long, "
            f"and a frame is {features.frame_length} ms: at least one is needed"
        )
    return features(waveform)


def _inspect(source: str) -> Any:
    import soundfile

    if not Path(source).is_file():
        raise InputError(f"{source}: there is no such file")
    try:
        found = soundfile.info(source)
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{source} cannot be read as a sound: {reason_of(error)}") from error
    if not found.frames:
        raise InputError(f"{source} holds no samples")
    return found


def _read(source: str) -> Waveform:
    import soundfile

    try:
        samples, _ = soundfile.read(source, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{source} cannot be read as a sound: {reason_of(error)}") from error
    waveform: Waveform = samples.mean(axis=1)
    if not np.isfinite(waveform).all():
        raise InputError(f"{source} holds samples that are no finite numbers")
    return waveform
