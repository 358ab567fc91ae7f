#!/usr/bin/env python3
"""Makes the reference features of tests/frontend.

    python3 -m venv venv && venv/bin/pip install kaldi-native-fbank==1.22.3 numpy==2.4.6
    venv/bin/python tests/frontend/golden/make_golden.py        # needs ffmpeg

Input: an AN4 utterance of samples/ (see its README for the licence), then white noise, digital silence, noise on a
constant offset, and a quiet tone: input.npy, 16 bit. Features come from kaldi-native-fbank, which has Kaldi's
definition. It has no call that warps the mel filters, nor NeMo's chain: those are written out here in numpy, over its
filter matrices, and the numpy chain is first held against kaldi-native-fbank itself.
"""
import pathlib
import subprocess

import kaldi_native_fbank as knf
import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent
UTTERANCE = FOLDER.parents[2] / "samples" / "an406-fcaw-b.flac"


def make_input():
    pcm = subprocess.run(["ffmpeg", "-v", "error", "-i", UTTERANCE, "-f", "s16le", "-ac", "1", "-ar", "16000", "-"],
                         check=True, capture_output=True).stdout
    speech = np.frombuffer(pcm, np.int16)[:32000].astype(float)
    random = np.random.default_rng(3)
    noise = 300 * random.standard_normal(4800)
    silence = np.zeros(1600)
    offset = 2000 + 20 * random.standard_normal(3200)
    tone = 50 * np.sin(2 * np.pi * 440 / 16000 * np.arange(3237))
    return np.round(np.concatenate([speech, noise, silence, offset, tone])).astype(np.int16)


def kaldi(samples, kind, sample_rate, snip_edges, num_bins, use_energy=False):
    options = knf.FbankOptions() if kind == knf.OnlineFbank else knf.MfccOptions()
    options.frame_opts.samp_freq = sample_rate
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = snip_edges
    options.mel_opts.num_bins = num_bins
    if kind == knf.OnlineMfcc:
        options.use_energy = use_energy
    features = kind(options)
    features.accept_waveform(sample_rate, samples.astype(np.float32).tolist())
    features.input_finished()
    return np.stack([features.get_frame(i) for i in range(features.num_frames_ready)])


def mel_matrix(num_bins, warp=1.0, slaney=False):
    mel, frame = knf.MelBanksOptions(), knf.FrameExtractionOptions()
    frame.samp_freq = 16000
    mel.num_bins = num_bins
    if slaney:
        mel.low_freq = 0
        mel.is_librosa = True
    return np.asarray(knf.MelBanks(mel, frame, warp).get_matrix(), np.float64)


def cut(samples, first, num_frames, mirrored):
    index = first + 160 * np.arange(num_frames)[:, None] + np.arange(400)
    if mirrored:
        index = np.where(index < 0, -index - 1, index)
        index = np.where(index >= len(samples), 2 * len(samples) - 1 - index, index)
        return samples[index]
    padded = np.concatenate([np.zeros(1000), samples, np.zeros(1000)])
    return padded[index + 1000]


def power(frames, matrix):
    spectrum = np.abs(np.fft.rfft(frames, 512)) ** 2
    return spectrum[:, :matrix.shape[1]] @ matrix.T


def hann():
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)


def numpy_kaldi(samples, matrix):
    frames = cut(samples.astype(np.float64), 80 - 200, (len(samples) + 80) // 160, mirrored=True)
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    return np.log(np.maximum(power(frames * hann() ** 0.85, matrix), 2.0**-23))


def numpy_nemo(samples, matrix):
    """AudioToMelSpectrogramPreprocessor with normalize=None, dither=0, mag_power=2, pad_to=0."""
    wave = samples / 32768
    wave = np.concatenate([wave[:1], wave[1:] - 0.97 * wave[:-1]])
    frames = cut(wave, -200, len(wave) // 160 + 1, mirrored=False)
    return np.log(power(frames * hann(), matrix) + 2.0**-24)


def main():
    samples = make_input()
    fbank = kaldi(samples, knf.OnlineFbank, 16000, False, 80)
    own = numpy_kaldi(samples, mel_matrix(80))
    print("numpy against kaldi-native-fbank:", np.abs(own - fbank).max())
    assert np.abs(own - fbank).max() < 1e-3
    out = {
        "fbank80": fbank,
        "fbank80_snip": kaldi(samples, knf.OnlineFbank, 16000, True, 80),
        "fbank40_8k": kaldi(samples[:16000], knf.OnlineFbank, 8000, False, 40),
        "mfcc13": kaldi(samples, knf.OnlineMfcc, 16000, False, 23),
        "mfcc13_energy": kaldi(samples, knf.OnlineMfcc, 16000, False, 23, use_energy=True),
        "fbank40_vtln_0.9": numpy_kaldi(samples[:16000], mel_matrix(40, 0.9)),
        "fbank40_vtln_1.1": numpy_kaldi(samples[:16000], mel_matrix(40, 1.1)),
        "nemo80": numpy_nemo(samples[:16000], mel_matrix(80, slaney=True)),
    }
    np.save(FOLDER / "input.npy", samples)
    for name, features in out.items():
        np.save(FOLDER / f"{name}.npy", features.astype(np.float32))
        print(name, features.shape)


if __name__ == "__main__":
    main()
