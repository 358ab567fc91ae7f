#!/usr/bin/env python3
"""From a corpus to a model: prepare, train, stop, go on, average, use. On forty digits and a network of toy size."""

import json
import signal
import time
import unittest

import support


class TrainTest(support.EndToEndTest):
    def train(self, recipe, output, *options):
        return self.succeed("train", recipe, "-o", output, "--device", "cpu", *options)

    def test_prepare_train_use(self):
        recipe = self.tiny_recipe()
        for split in ("train", "test"):
            rows = [json.loads(line) for line in (self.folder / f"data/{split}.jsonl").read_text().splitlines()]
            self.assertEqual(len(rows), 20, split)
            self.assertEqual({row["speaker"] for row in rows}, {"jackson", "theo"})
        model = self.folder / self.train(recipe, "run").strip()
        stdout = self.succeed("transcribe", "--model", model, support.SAMPLES / "fsdd" / "0_theo_0.flac")
        self.assertRegex(stdout, r"/0_theo_0\.flac\t.*\n$")
        self.succeed("evaluate", "--model", model, "--manifest", "data/test.jsonl", "--json", "wer.json")
        figures = json.loads((self.folder / "wer.json").read_text())
        self.assertEqual((figures["words"], figures["utterances"]), (20, 20))
        log = [json.loads(line) for line in (self.folder / "run/log.jsonl").read_text().splitlines()]
        self.assertEqual([entry["epoch"] for entry in log], [1, 2])
        self.assertLess(log[1]["loss"], log[0]["loss"])
        self.assertTrue(list((self.folder / "run/tensorboard").glob("events.out.tfevents.*")))

    def test_bad_utterances_are_counted_and_passed_over(self):
        recipe = self.tiny_recipe(train=self.folder / "train.jsonl")
        rows = (self.folder / "data/train.jsonl").read_text().splitlines()
        (self.folder / "empty.wav").write_bytes(b"")
        bad = [{"id": "gone", "audio_filepath": str(self.folder / "gone.wav"), "duration": 1, "text": "one"},
               {"id": "empty", "audio_filepath": str(self.folder / "empty.wav"), "duration": 1, "text": "two"},
               {**json.loads(rows[0]), "id": "long_text", "text": "nine " * 200}]
        (self.folder / "train.jsonl").write_text("\n".join(rows + [json.dumps(row) for row in bad]) + "\n")
        self.train(recipe, "run")
        skipped = [json.loads(line) for line in (self.folder / "run/skipped.jsonl").read_text().splitlines()]
        self.assertTrue({"gone", "empty", "long_text"} <= {entry["id"] for entry in skipped}, skipped)
        self.assertTrue(all(entry["reason"] for entry in skipped))

    def test_too_many_bad_utterances_stop_the_run(self):
        self.tiny_recipe()
        lines = "".join(json.dumps({"audio_filepath": f"gone{i}.wav", "duration": 1, "text": "one"}) + "\n"
                        for i in range(40))
        (self.folder / "train.jsonl").write_text(lines)
        recipe = self.tiny_recipe(train=self.folder / "train.jsonl")
        status, _, stderr = self.run_program("train", recipe, "-o", "run", "--device", "cpu")
        self.assertEqual(status, 1)
        self.assertRegex(stderr.splitlines()[-1], "^earshot: .*gone")

    def test_a_killed_run_goes_on_to_the_bit(self):
        """SIGTERM in the middle, then the same command again, gives the very weights of a run that was left alone."""
        recipe = self.tiny_recipe()
        options = ("--set", "train.epochs=12")
        self.train(recipe, "whole", *options)
        process = self.start("train", recipe, "-o", "halves", "--device", "cpu", *options)
        deadline = time.monotonic() + 120
        log = self.folder / "halves" / "log.jsonl"
        while not (log.is_file() and log.read_text().count("\n") >= 2):
            self.assertIsNone(process.poll(), "ended before it could be stopped")
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, stderr.decode())
        epochs = log.read_text().count("\n")
        self.assertLess(epochs, 12, "the signal came too late to prove anything")
        # What was learnt so far can be used.
        self.assertTrue((self.folder / "halves/model/model.safetensors").exists())
        self.train(recipe, "halves", *options)
        self.assertEqual((self.folder / "halves/model/model.safetensors").read_bytes(),
                         (self.folder / "whole/model/model.safetensors").read_bytes())

    def test_average(self):
        recipe = self.tiny_recipe()
        self.train(recipe, "run")
        self.succeed("average", "-o", "mean", "run/model", "run/model")
        self.assertEqual((self.folder / "mean/model.safetensors").stat().st_size,
                         (self.folder / "run/model/model.safetensors").stat().st_size)
        self.succeed("average", "--half", "-o", "half", "run/model")
        self.assertLess((self.folder / "half/model.safetensors").stat().st_size,
                        0.6 * (self.folder / "mean/model.safetensors").stat().st_size)
        file = support.SAMPLES / "fsdd" / "3_jackson_0.flac"
        self.assertEqual(self.succeed("transcribe", "--model", "mean", file),
                         self.succeed("transcribe", "--model", "run/model", file))

    def test_dump_config_is_a_recipe(self):
        recipe = self.tiny_recipe()
        whole = self.succeed("train", recipe, "--dump-config", "--set", "train.seed=7")
        (self.folder / "whole.yaml").write_text(whole)
        self.assertIn("seed: 7", whole)
        self.assertEqual(self.succeed("train", "whole.yaml", "--dump-config"), whole)


if __name__ == "__main__":
    unittest.main()
