#!/usr/bin/env python3
"""What goes wrong is told in one line on stderr, with exit status 1; never a crash, never a word on stdout."""

import json
import pathlib
import random
import shutil
import unittest

import support

ONE = support.SAMPLES / "cen7-menk-b.flac"
SUBCOMMANDS = ["transcribe", "mic", "serve", "evaluate", "train", "prepare", "average", "features", "info", "plot", "align"]


class CommandLineTest(support.EndToEndTest):
    def test_help_of_each_subcommand_has_examples(self):
        overview = self.succeed("--help")
        for name in SUBCOMMANDS:
            self.assertIn(f"\n  {name} ", overview)
            self.assertIn("Examples:\n  earshot " + name, self.succeed(name, "--help"), name)

    def test_every_subcommand_is_known_to_this_test(self):
        listed = self.succeed("--help").split("Subcommands:\n")[1].split("\n\n")[0]
        names = [line.split()[0] for line in listed.splitlines() if line[2:3] != " "]
        self.assertEqual(sorted(names), sorted(SUBCOMMANDS))

    def test_unknown_option_names_the_nearest(self):
        self.fail_with(["--formt", "--format"], "transcribe", "--formt", "srt", ONE)

    def test_unknown_subcommand_names_the_nearest(self):
        self.fail_with(["transcibe", "transcribe"], "transcibe", ONE)

    def test_unknown_value_names_the_nearest(self):
        self.fail_with(["str", "srt"], "transcribe", "--model", support.MODEL, "--format", "str", ONE)

    def test_no_subcommand(self):
        self.fail_with("transcribe")

    def test_unknown_recipe_key_names_the_nearest(self):
        recipe = self.tiny_recipe()
        self.fail_with(["train.epoch", "epochs"], "train", recipe, "-o", "run", "--set", "train.epoch=3")
        recipe.write_text(recipe.read_text().replace("num_layers", "num_layer"))
        self.fail_with(["num_layer", "num_layers"], "train", recipe, "-o", "run")

    def test_recipe_that_is_no_yaml(self):
        (self.folder / "bad.yaml").write_text("model: [\n")
        self.fail_with("bad.yaml", "train", "bad.yaml", "-o", "run")


class BrokenFilesTest(support.EndToEndTest):
    def test_missing_file(self):
        self.fail_with("gone.wav", "transcribe", "--model", support.MODEL, "gone.wav")

    def test_missing_file_among_others(self):
        """The others are transcribed all the same."""
        status, stdout, stderr = self.run_program("transcribe", "--model", support.MODEL, "gone.wav", ONE)
        self.assertEqual(status, 1)
        self.assertRegex(stdout, f"^{ONE}\t.+\n$")
        self.assertIn("earshot: gone.wav: ", stderr)

    def test_broken_recordings(self):
        """Each is told with its name, or gives what can be heard of it; none ends the program."""
        whole = ONE.read_bytes()
        draw = random.Random(1)
        support.convert(ONE, "whole.wav", folder=self.folder)
        wav = (self.folder / "whole.wav").read_bytes()
        broken = {
            "empty.wav": b"",
            "text.wav": b"these are no samples\n" * 40,
            "random.flac": draw.randbytes(20000),
            "head_only.wav": wav[:44],
            "cut_in_the_head.wav": wav[:20],
            "cut_in_the_head.flac": whole[:30],
            "cut.flac": whole[: len(whole) // 2],
            "cut.wav": wav[: len(wav) // 2 + 1],
            "flipped.flac": whole[:5000] + draw.randbytes(3000) + whole[8000:],
            "no_rate.wav": wav[:24] + bytes(4) + wav[28:],
            "many_channels.wav": wav[:22] + b"\xff\xff" + wav[24:],
        }
        for name, content in broken.items():
            (self.folder / name).write_bytes(content)
        (self.folder / "folder.wav").mkdir()
        for name in [*broken, "folder.wav"]:
            status, stdout, stderr = self.run_program("--log-level", "error", "--quiet", "transcribe", "--model",
                                                      support.MODEL, name)
            self.assertIn(status, (0, 1), f"{name}: {stderr}")
            self.assertNotIn("internal error", stderr, name)
            if status == 1:
                self.assertEqual(stdout, "", name)
                self.assertRegex(stderr.splitlines()[-1], f"^earshot: .*{name}", name)
            else:
                self.assertRegex(stdout, f"^{name}\t.*\n$", name)
        for name in ("empty.wav", "text.wav", "random.flac", "cut_in_the_head.flac", "folder.wav"):
            self.fail_with(name, "transcribe", "--model", support.MODEL, name)

    def test_empty_standard_input(self):
        self.fail_with("standard input", "transcribe", "--model", support.MODEL, "-")

    def test_full_disk(self):
        if not pathlib.Path("/dev/full").exists():
            self.fail("no /dev/full here")
        with open("/dev/full", "wb") as full:
            run = support.subprocess.run([support.PROGRAM, "transcribe", "--model", support.MODEL, ONE], stdout=full,
                                         stderr=support.subprocess.PIPE, check=False)
        self.assertEqual(run.returncode, 1)
        self.assertIn("standard output", run.stderr.decode())


class BrokenModelTest(support.EndToEndTest):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"
        shutil.copytree(support.MODEL, self.model)

    def test_no_such_model(self):
        self.fail_with("nowhere", "transcribe", "--model", "nowhere", ONE)

    def test_missing_parts(self):
        for name in ("config.yaml", "model.safetensors", "tokenizer.model"):
            kept = (self.model / name).read_bytes()
            (self.model / name).unlink()
            self.fail_with(name, "transcribe", "--model", self.model, ONE)
            (self.model / name).write_bytes(kept)

    def test_damaged_weights(self):
        path = self.model / "model.safetensors"
        whole = path.read_bytes()
        for content in (b"", whole[:7], whole[:100], whole[:-1], whole + b"x", b"\xff" * 8 + whole[8:],
                        whole[:8] + b"{" + whole[9:9] + whole[8:-1], whole[:9] + b"\x00" + whole[10:]):
            path.write_bytes(content)
            self.fail_with("model.safetensors", "transcribe", "--model", self.model, ONE)

    def test_damaged_tokenizer(self):
        (self.model / "tokenizer.model").write_bytes(b"\x00\x01 no tokenizer")
        self.fail_with("tokenizer.model", "transcribe", "--model", self.model, ONE)

    def test_config_of_another_network(self):
        """Weights that do not fit are told by name, not read as something else."""
        config = self.model / "config.yaml"
        text = config.read_text()
        self.assertIn("num_layers: ", text)
        config.write_text(text.replace("num_layers: ", "num_layers: 1"))
        self.fail_with("model.safetensors", "transcribe", "--model", self.model, ONE)

    def test_unknown_key_in_the_config(self):
        config = self.model / "config.yaml"
        config.write_text(config.read_text() + "\nencodr: {}\n")
        self.fail_with(["encodr", "encoder"], "transcribe", "--model", self.model, ONE)


class BrokenManifestTest(support.EndToEndTest):
    def test_line_that_is_no_json(self):
        (self.folder / "bad.jsonl").write_text(json.dumps({"audio_filepath": str(ONE), "text": "A"}) + "\n{nothing\n")
        self.fail_with("bad.jsonl:2", "evaluate", "--model", support.MODEL, "--manifest", "bad.jsonl")

    def test_no_utterance_can_be_read(self):
        (self.folder / "gone.jsonl").write_text('{"audio_filepath": "gone.wav", "text": "A", "duration": 1}\n')
        status, stdout, stderr = self.run_program("evaluate", "--model", support.MODEL, "--manifest", "gone.jsonl")
        self.assertEqual((status, stdout), (1, ""), stderr)
        self.assertIn("gone.jsonl", stderr.splitlines()[-1])


if __name__ == "__main__":
    unittest.main()
