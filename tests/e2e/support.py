"""What the end-to-end tests share: the program as a user runs it, recordings, and a tiny recipe.

EARSHOT_PROGRAM: the program under test; build/release's otherwise.  EARSHOT_TEST_MODEL: another than models/an4.
"""

import array
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest
import wave

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("EARSHOT_PROGRAM", str(ROOT / "build/release/tools/earshot/earshot"))
MODEL = pathlib.Path(os.environ.get("EARSHOT_TEST_MODEL", ROOT / "models" / "an4"))
SAMPLES = ROOT / "samples"

# A network that trains in seconds: what it learns is of no matter here.
TINY_RECIPE = """
model:
  features: {fbank: {sample_rate: 8000, num_mel_bins: 24, low_freq: 20, high_freq: -200}}
  encoder:
    num_layers: 2
    dim: 32
    heads: 2
    feed_forward_dim: 64
    pattern: local(chunk=8,left=16,lookahead=4)
    subsampling: {factor: 4, channels: 8}
    convolution: {kind: symmetric, kernel: 5}
    gate: {kind: energy}
tokenizer: {type: char, vocab_size: 40}
data:
  train: %(train)s
  dev: %(dev)s
  augment: {wave: {sample_rate: 8000, speed_range: [0.9, 1.1]}}
  loader: {num_threads: 2, max_skipped_share: 0.5}
  sampler: {max_frames: 400, num_buckets: 2}
  spec_augment: {num_freq_masks: 1, freq_mask_bins: 4}
train:
  epochs: 2
  workers: 1
  schedule: {peak_lr: 1.0e-3, warmup_steps: 4}
"""


def reference(name):
    """The text of a recording of samples/."""
    for line in (SAMPLES / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["audio_filepath"] == name:
            return row["text"]
    raise KeyError(name)


def convert(source, target, *options, folder, before=()):
    """Writes folder/target by ffmpeg, in the format of its name. before: options of the source."""
    subprocess.run(["ffmpeg", "-v", "error", "-y", *before, "-i", source, *options, target], check=True, cwd=folder)


def write_wav(path, samples, rate=16000):
    """samples: an array('h'), or the bytes of one."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(samples))


def trimmed(source, *, folder, below_db=30):
    """array('h') at 16 kHz, from the first to the last 10 ms that are less than below_db under the loudest."""
    convert(source, "whole.s16", "-f", "s16le", "-ar", "16000", "-ac", "1", folder=folder)
    samples = array.array("h", (folder / "whole.s16").read_bytes())
    energies = [sum(x * x for x in samples[at:at + 160]) for at in range(0, len(samples), 160)]
    loud = [i for i, energy in enumerate(energies) if energy > max(energies) * 10 ** (-below_db / 10)]
    return samples[160 * loud[0]:160 * (loud[-1] + 1)]


def edits(reference_words, words):
    """The fewest insertions, deletions and substitutions between two lists."""
    row = list(range(len(words) + 1))
    for i, expected in enumerate(reference_words, 1):
        diagonal, row[0] = row[0], i
        for j, word in enumerate(words, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (expected != word))
    return row[-1]


class EndToEndTest(unittest.TestCase):
    """A temporary folder, and the program in it."""

    maxDiff = None

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="earshot-e2e-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def start(self, *arguments, stdin=subprocess.DEVNULL):
        environment = {name: value for name, value in os.environ.items() if name != "EARSHOT_MODEL"}
        # The tests run side by side: threads that wait by spinning would take the others' processors.
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
        return subprocess.Popen([PROGRAM, *map(str, arguments)], stdin=stdin, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, cwd=self.folder, env=environment)

    def run_program(self, *arguments, stdin=b""):
        """(exit status, stdout, stderr), whatever they are."""
        process = self.start(*arguments, stdin=subprocess.PIPE)
        stdout, stderr = process.communicate(stdin, timeout=500)
        return process.returncode, stdout.decode(), stderr.decode()

    def succeed(self, *arguments, stdin=b""):
        """stdout of a run that has to succeed."""
        status, stdout, stderr = self.run_program(*arguments, stdin=stdin)
        self.assertEqual(status, 0, stderr)
        return stdout

    def fail_with(self, words, *arguments, stdin=b""):
        """A run that has to fail as a user is owed: exit status 1, nothing on stdout, one line that holds words."""
        status, stdout, stderr = self.run_program(*arguments, stdin=stdin)
        self.assertEqual(status, 1, stderr)
        self.assertEqual(stdout, "")
        lines = stderr.splitlines()
        self.assertEqual(len(lines), 1, stderr)
        self.assertTrue(lines[0].startswith("earshot: "), stderr)
        self.assertNotIn("internal error", lines[0])
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, lines[0])

    def transcribe(self, *files, stdin=b""):
        """[(file, text)] by the model that is shipped."""
        stdout = self.succeed("transcribe", "--model", MODEL, *files, stdin=stdin)
        return [tuple(line.split("\t")) for line in stdout.splitlines()]

    def tiny_recipe(self, train=None, dev=None):
        """Prepares samples/fsdd and returns a recipe on it."""
        if not (self.folder / "data").is_dir():
            self.succeed("prepare", "fsdd", SAMPLES / "fsdd", "-o", self.folder / "data")
        recipe = self.folder / "tiny.yaml"
        recipe.write_text(TINY_RECIPE % {"train": train or self.folder / "data/train.jsonl",
                                         "dev": dev or self.folder / "data/test.jsonl"}, encoding="utf-8")
        return recipe
