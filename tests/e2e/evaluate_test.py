#!/usr/bin/env python3
"""`earshot evaluate` on samples/, and what `info`, `plot` and `features` say of the same."""

import json
import struct
import unittest
import xml.etree.ElementTree as xml

import support

MANIFEST = support.SAMPLES / "manifest.jsonl"
ROWS = [json.loads(line) for line in MANIFEST.read_text(encoding="utf-8").splitlines()]


class EvaluateTest(support.EndToEndTest):
    def evaluate(self, manifest, *options):
        self.succeed("evaluate", "--model", support.MODEL, "--manifest", manifest, "--json", "out.json", *options)
        return json.loads((self.folder / "out.json").read_text())

    def test_figures_fit_one_another_and_the_manifest(self):
        figures = self.evaluate(MANIFEST)
        errors = figures["substitutions"] + figures["deletions"] + figures["insertions"]
        self.assertEqual(figures["words"], sum(len(row["text"].split()) for row in ROWS))
        self.assertEqual(figures["utterances"], len(ROWS))
        self.assertAlmostEqual(figures["wer"], 100 * errors / figures["words"])
        self.assertAlmostEqual(figures["seconds_audio"], sum(row["duration"] for row in ROWS), delta=0.5)
        self.assertGreater(figures["seconds_wall"], 0)
        self.assertLessEqual(figures["wer"], 25)
        self.assertLessEqual(figures["cer"], figures["wer"] + 10)

    def test_counts_are_those_of_the_transcripts(self):
        files = [support.SAMPLES / row["audio_filepath"] for row in ROWS]
        errors = sum(support.edits(row["text"].split(), text.split())
                     for row, (_, text) in zip(ROWS, self.transcribe(*files)))
        figures = self.evaluate(MANIFEST)
        # A batch is padded and a transcript is streamed: the sum may differ by rounding in the last place, no more.
        self.assertAlmostEqual(figures["substitutions"] + figures["deletions"] + figures["insertions"], errors, delta=1)

    def test_split(self):
        with open(self.folder / "splits.jsonl", "w", encoding="utf-8") as file:
            for i, row in enumerate(ROWS[:4]):
                path = str(support.SAMPLES / row["audio_filepath"])
                file.write(json.dumps({**row, "audio_filepath": path, "split": "dev" if i == 0 else "test"}) + "\n")
        self.assertEqual(self.evaluate("splits.jsonl", "--split", "dev")["utterances"], 1)
        self.assertEqual(self.evaluate("splits.jsonl", "--split", "test")["utterances"], 3)
        self.fail_with("nosuch", "evaluate", "--model", support.MODEL, "--manifest", "splits.jsonl", "--split",
                       "nosuch")

    def test_an_utterance_that_is_gone_is_counted(self):
        row = {**ROWS[0], "audio_filepath": str(support.SAMPLES / ROWS[0]["audio_filepath"])}
        lines = [row, {**row, "audio_filepath": "gone.flac"}]
        (self.folder / "gone.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        figures = self.evaluate("gone.jsonl")
        self.assertEqual((figures["utterances"], figures["skipped"]), (1, 1))

    def test_alignments(self):
        self.evaluate(MANIFEST, "--alignments", "errors.txt")
        report = (self.folder / "errors.txt").read_text()
        for row in ROWS:
            self.assertIn(row["audio_filepath"].removesuffix(".flac"), report)


class LookTest(support.EndToEndTest):
    def test_info(self):
        self.assertIn("pattern", self.succeed("info", support.MODEL).lower())
        self.assertIn("encoder:", self.succeed("info", support.MODEL, "--config"))

    def test_features_are_the_numbers_of_the_frames(self):
        """2.9 s at 10 ms and 80 filters, in NumPy's format."""
        self.succeed("features", support.SAMPLES / "cen7-menk-b.flac", "-o", "a.npy")
        content = (self.folder / "a.npy").read_bytes()
        self.assertEqual(content[:6], b"\x93NUMPY")
        header_bytes = struct.unpack("<H", content[8:10])[0]
        header = content[10:10 + header_bytes].decode()
        self.assertIn("'<f4'", header)
        self.assertIn(", 80)", header)
        frames = (len(content) - 10 - header_bytes) // 4 // 80
        self.assertIn(f"({frames}, 80)", header)
        self.assertAlmostEqual(frames, 290, delta=2)

    def test_plots(self):
        file = support.SAMPLES / "cen7-menk-b.flac"
        self.succeed("plot", "--model", support.MODEL, file, "-o", "a.svg")
        self.succeed("plot", "--model", support.MODEL, file, "-o", "a.png")
        self.assertTrue(xml.parse(self.folder / "a.svg").getroot().tag.endswith("svg"))
        content = (self.folder / "a.png").read_bytes()
        self.assertEqual(content[:8], b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", content[16:24])
        self.assertGreater(min(width, height), 300)


if __name__ == "__main__":
    unittest.main()
