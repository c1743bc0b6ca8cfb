"""Log-mel spectrograms a second on one core, against torchaudio's.

    pip install --no-deps torchaudio
    OMP_NUM_THREADS=1 python -m benchmarks.log_mel [--seconds 3.2 --count 1000 --repeats 7]

The published spectrogram: 48 kHz, windows of 2,048 every 1,024 samples, 80 bins. Both give nearly the same numbers (the
mean difference is told). torchaudio is none of the project's packages, so that `make bench` leaves this out. Prints a
table and writes benchmarks/results/.
"""

from collections.abc import Callable
from functools import partial

import jsonargparse
import torch

from benchmarks.measure import interleaved, print_sides, ratio, save
from tcl.config.audio import SpectrogramConfig
from tcl.data.audio.log_mel import FLOOR, log_mel

SPECTROGRAM = SpectrogramConfig()


def main(seconds: float = 3.2, count: int = 1000, repeats: int = 7) -> None:
    """seconds: of a sound. count: of sounds in a round."""
    try:
        from torchaudio.transforms import MelSpectrogram
    except ImportError:
        raise SystemExit("error: torchaudio is not installed; pip install --no-deps torchaudio") from None
    given = SPECTROGRAM
    theirs = MelSpectrogram(
        sample_rate=given.sample_rate,
        n_fft=given.window,
        hop_length=given.hop,
        n_mels=given.mel_bins,
        f_min=given.low_hz,
        f_max=given.high_hz,
        power=1.0,
        center=False,
        mel_scale="htk",
    )
    whole_frames = round(seconds * given.sample_rate) // given.hop
    wave = torch.rand((whole_frames - 1) * given.hop + given.window) * 2 - 1
    sides = {"torchaudio": lambda: (theirs(wave) + FLOOR).log().T, "ours": lambda: log_mel(wave, given)[:whole_frames]}
    difference = (sides["torchaudio"]() - sides["ours"]()).abs().mean().item()
    times = interleaved({name: partial(_often, side, count) for name, side in sides.items()}, repeats)
    ratios = {name: ratio(times, "torchaudio", name) for name in times}
    print_sides(times, ratios)
    print(f"  mean difference {difference:.1e}")
    options = {"seconds": seconds, "count": count}
    print(save("log-mel", {"options": options, "seconds": times, "ratios": ratios, "difference": difference}))


def _often(side: Callable[[], torch.Tensor], count: int) -> None:
    for _ in range(count):
        side()


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
