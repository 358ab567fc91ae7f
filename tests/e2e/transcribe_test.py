#!/usr/bin/env python3
"""`earshot transcribe` with the model that is shipped, as a user runs it."""

import array
import json
import random
import re
import resource
import unittest

import support

ONE = "cen7-menk-b.flac"
SINGLE = sorted(path.name for path in support.SAMPLES.glob("*-b.flac"))


class TranscribeTest(support.EndToEndTest):
    def test_one_line_a_file_in_order(self):
        files = [support.SAMPLES / name for name in reversed(SINGLE)]
        lines = self.transcribe(*files)
        self.assertEqual([name for name, _ in lines], [str(file) for file in files])
        errors = sum(support.edits(support.reference(file.name).split(), text.split())
                     for file, (_, text) in zip(files, lines))
        words = sum(len(support.reference(file.name).split()) for file in files)
        # Six speakers that the model was not trained on; the AN4 test set as a whole is below 10 %.
        self.assertLessEqual(errors / words, 0.2, lines)

    def test_lossless_formats_give_the_same_text(self):
        expected = self.transcribe(support.SAMPLES / ONE)[0][1]
        self.assertNotEqual(expected, "")
        forms = {"16.wav": [], "24.wav": ["-c:a", "pcm_s24le"], "float.wav": ["-c:a", "pcm_f32le"],
                 "copy.flac": [], "apple.m4a": ["-c:a", "alac"], "matroska.mka": ["-c:a", "flac"], "sun.au": []}
        for name, options in forms.items():
            support.convert(support.SAMPLES / ONE, name, *options, folder=self.folder)
        for name, text in self.transcribe(*sorted(forms)):
            self.assertEqual(text, expected, name)

    def test_lossy_formats_and_other_rates_give_nearly_the_same(self):
        expected = self.transcribe(support.SAMPLES / ONE)[0][1].split()
        # Of one channel ffmpeg makes two that are 3 dB softer.
        forms = {"two_channels.wav": ["-ac", "2"], "a.mp3": ["-b:a", "64k"], "a.ogg": [], "a.opus": ["-b:a", "48k"],
                 "a.m4a": ["-b:a", "96k"], "a.webm": [], "a.mp4": [], "48k.wav": ["-ar", "48000"],
                 "44k.flac": ["-ar", "44100"], "ulaw.wav": ["-c:a", "pcm_mulaw"]}
        for name, options in forms.items():
            support.convert(support.SAMPLES / ONE, name, *options, folder=self.folder)
        for name, text in self.transcribe(*sorted(forms)):
            self.assertLessEqual(support.edits(expected, text.split()), 2, f"{name}: {text}")

    def test_standard_input(self):
        expected = self.transcribe(support.SAMPLES / ONE)[0][1]
        self.assertEqual(self.transcribe("-", stdin=(support.SAMPLES / ONE).read_bytes()), [("-", expected)])

    def test_output_dir_gets_stem_and_ending(self):
        for form in ("txt", "json", "srt", "vtt", "ctm"):
            stdout = self.succeed("transcribe", "--model", support.MODEL, "--format", form, "--output-dir",
                                  self.folder / "out", support.SAMPLES / ONE)
            self.assertEqual(stdout, "")
            self.assertGreater((self.folder / "out" / f"cen7-menk-b.{form}").stat().st_size, 0, form)

    def test_subtitles_of_a_long_recording(self):
        """Cues in order, within the recording, with the words of the text; the pauses part them."""
        file = support.SAMPLES / "conversation.flac"
        text = self.transcribe(file)[0][1]
        stdout = self.succeed("transcribe", "--model", support.MODEL, "--format", "srt", file)
        cues = re.findall(r"(\d+)\n(\S+) --> (\S+)\n((?:.+\n)+)", stdout)
        self.assertGreater(len(cues), 5, stdout)
        last = 0.0
        for i, (number, start, end, _) in enumerate(cues, 1):
            times = [sum(float(part) * scale for part, scale in zip(re.split("[:,]", time), (3600, 60, 1, 1e-3)))
                     for time in (start, end)]
            self.assertEqual(int(number), i)
            self.assertGreaterEqual(times[0], last)
            self.assertGreater(times[1], times[0])
            last = times[1]
        self.assertLessEqual(last, 57.62)
        self.assertEqual(" ".join(cue[3] for cue in cues).split(), text.split())
        self.assertLessEqual(support.edits(support.reference("conversation.flac").split(), text.split()) / 91, 0.3)

    def test_json_has_words_with_times_and_confidence(self):
        stdout = self.succeed("transcribe", "--model", support.MODEL, "--format", "json", support.SAMPLES / ONE)
        transcript = json.loads(stdout)
        words = [word for segment in transcript["segments"] for word in segment["words"]]
        self.assertEqual(" ".join(word["word"] for word in words), transcript["text"])
        last = 0.0
        for word in words:
            self.assertGreaterEqual(word["start"], last)
            self.assertGreater(word["end"], word["start"])
            self.assertLessEqual(word["end"], transcript["duration"] + 0.08)
            self.assertTrue(0 < word["confidence"] <= 1, word)
            last = word["start"]

    def test_the_first_and_last_word_of_a_tightly_cut_recording_survive(self):
        """Whatever lies 30 dB below the loudest frame is cut off both ends, without a margin."""
        whole = [text.split() for _, text in self.transcribe(*(support.SAMPLES / name for name in SINGLE))]
        for name in SINGLE:
            support.write_wav(self.folder / name.replace(".flac", ".wav"),
                              support.trimmed(support.SAMPLES / name, folder=self.folder))
        cut = [text.split() for _, text in self.transcribe(*(name.replace(".flac", ".wav") for name in SINGLE))]
        lost = [f"{name}: {expected}, cut {words}" for name, expected, words in zip(SINGLE, whole, cut)
                for edge in (0, -1) if words[edge:][:1] != expected[edge:][:1]]
        # Of twelve edges one may go: a cut takes from some words what they are known by.
        self.assertLessEqual(len(lost), 1, lost)

    def test_silence_and_noise_give_no_words(self):
        draw = random.Random(1)
        support.write_wav(self.folder / "silence.wav", bytes(2 * 16000 * 20))
        noise = array.array("h", (round(draw.gauss(0, 1000)) for _ in range(16000 * 20)))
        support.write_wav(self.folder / "noise.wav", noise)
        self.assertEqual(self.transcribe("silence.wav", "noise.wav"), [("silence.wav", ""), ("noise.wav", "")])

    def test_memory_does_not_grow_with_the_length(self):
        peaks = []  # KiB, of the largest child so far
        for minutes in (2, 16):
            support.convert(support.SAMPLES / "conversation.flac", "long.wav", "-t", str(60 * minutes),
                            before=["-stream_loop", "-1"], folder=self.folder)
            self.succeed("transcribe", "--model", support.MODEL, "--threads", 1, "long.wav")
            peaks.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
        # Fourteen minutes more are 27 MB as they lie in the file, and 54 as the program computes with them.
        self.assertLess(peaks[1] - peaks[0], 20_000, peaks)

    def test_vad_says_where_speech_is(self):
        recording = support.SAMPLES / "conversation.flac"
        lines = self.succeed("transcribe", "--model", support.MODEL, "--vad", "rttm", recording).splitlines()
        segments = []
        for line in lines:
            fields = line.split()
            self.assertEqual((fields[0], fields[1], fields[2], fields[7]), ("SPEAKER", "conversation", "1", "speech"))
            segments.append((float(fields[3]), float(fields[4])))
        # Twenty utterances with pauses of 0.4 to 1.5 s, and with rests within them.
        self.assertGreater(len(segments), 12)
        figures = json.loads(self.succeed("transcribe", "--model", support.MODEL, "--vad", "json", recording))
        self.assertEqual(len(figures["segments"]), len(segments))
        spoken = sum(duration for _, duration in segments)
        self.assertTrue(0.3 * figures["duration"] < spoken < 0.9 * figures["duration"], (spoken, figures["duration"]))
        for (start, duration), (following, _) in zip(segments, segments[1:]):
            self.assertLessEqual(start + duration, following + 0.001)
        silence = array.array("h", bytes(2 * 16000 * 5))
        support.write_wav(self.folder / "silence.wav", silence)
        self.assertEqual(self.succeed("transcribe", "--model", support.MODEL, "--vad", "rttm", "silence.wav"), "")
        self.fail_with(["speech format", "xml"], "transcribe", "--vad", "xml", recording)

    def test_a_latency_is_heard_as_it_is_streamed(self):
        recording = support.SAMPLES / "cen8-fjlp-b.flac"
        expected = support.reference(recording.name).split()
        for latency in (80, 320, 1280):
            text = self.succeed("transcribe", "--model", support.MODEL, "--latency-ms", latency, recording)
            self.assertLessEqual(support.edits(expected, text.split("\t")[1].split()), 1, (latency, text))
        self.fail_with(["latency", "10"], "transcribe", "--model", support.MODEL, "--latency-ms", 10, recording)


if __name__ == "__main__":
    unittest.main()
