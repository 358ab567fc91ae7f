#!/usr/bin/env python3
"""`earshot mic` against a real audio stack without hardware: a PulseAudio of the test's own, whose microphone hears what
is played into its only loudspeaker. PortAudio reaches it by ALSA's plugin."""

import array
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import unittest
import wave

import support

# Where a word falls in the model's chunks depends on when one began to listen, and in some recordings a letter hangs on
# that. Of this one the words are the same at every 10 ms.
RECORDING = "cen8-fjlp-b.flac"
PLUGIN = "libasound_module_pcm_pulse.so"
# A null sink that nobody plays to may give its monitor nothing for 2 s.
LEAD_S, TAIL_S = 3, 2


def why_no_audio():
    """What this machine lacks to run a sound server; empty: nothing."""
    for program in ("pulseaudio", "pactl", "paplay"):
        if not shutil.which(program):
            return f"{program} is not installed (Debian: pulseaudio, pulseaudio-utils)"
    if not any(pathlib.Path("/usr/lib").glob(f"*/alsa-lib/{PLUGIN}")):
        return f"{PLUGIN} is not installed (Debian: libasound2-plugins)"
    return ""


class MicTest(support.EndToEndTest):
    def setUp(self):
        super().setUp()
        home = self.folder / "home"
        home.mkdir(mode=0o700)
        self.socket = home / "pulse.sock"
        (home / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
        self.environment = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home),
                            "XDG_CONFIG_HOME": str(home / "config"), "PULSE_SERVER": f"unix:{self.socket}",
                            "OMP_WAIT_POLICY": "PASSIVE"}
        self.environment.pop("EARSHOT_MODEL", None)

    # --- Tools ---------------------------------------------------------------------------------------------------

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()

    def start_sound_server(self):
        if reason := why_no_audio():
            self.skipTest(reason)
        server = subprocess.Popen(
            ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disable-shm=yes",
             "--log-target=stderr", "-L", f"module-native-protocol-unix socket={self.socket} auth-anonymous=1",
             "-L", "module-null-sink sink_name=loop rate=16000 channels=1 format=s16le"],
            env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(self.end, server)
        deadline = time.monotonic() + 30
        while subprocess.run(["pactl", "info"], env=self.environment, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL).returncode != 0:
            self.assertIsNone(server.poll(), "pulseaudio has ended")
            self.assertLess(time.monotonic(), deadline, "pulseaudio does not answer")
            time.sleep(0.1)
        return server

    def start(self, *arguments, stdin=subprocess.DEVNULL):
        process = subprocess.Popen([support.PROGRAM, *map(str, arguments)], stdin=stdin, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, cwd=self.folder, env=self.environment)
        self.addCleanup(self.end, process)
        return process

    def start_mic(self, *arguments):
        """earshot mic, as soon as it listens."""
        process = self.start("mic", "--model", support.MODEL, *arguments)
        self.wait_until_it_listens(process)
        return process

    def wait_until_it_listens(self, process):
        lines = []
        for line in process.stderr:
            lines.append(line.decode())
            if "listening to" in lines[-1]:
                return
        self.fail("".join(lines))

    def finish(self, process, stdin=None, status=0):
        """stdout of a process, which has to end with a status."""
        stdout, stderr = process.communicate(stdin, timeout=120)
        self.assertEqual(process.returncode, status, stderr.decode())
        return stdout.decode()

    def samples(self):
        """The recording with silence round it, as bytes of 16 kHz, 16 bits."""
        support.convert(support.SAMPLES / RECORDING, "recording.s16", "-f", "s16le", "-ar", "16000", "-ac", "1",
                        folder=self.folder)
        spoken = (self.folder / "recording.s16").read_bytes()
        return bytes(32000 * LEAD_S) + spoken + bytes(32000 * TAIL_S)

    def play(self):
        """Begins to play the recording; returns the player."""
        support.write_wav(self.folder / "played.wav", self.samples())
        player = subprocess.Popen(["paplay", self.folder / "played.wav"], env=self.environment)
        self.addCleanup(self.end, player)
        return player

    @staticmethod
    def heard(stdout):
        return " ".join(stdout.split())

    # --- The microphone -------------------------------------------------------------------------------------------

    def test_hears_what_is_played(self):
        self.start_sound_server()
        seconds = len(self.samples()) / 32000
        process = self.start_mic("--save", "x.wav", "--duration", seconds)
        self.play()
        self.assertEqual(self.heard(self.finish(process)), support.reference(RECORDING))
        with wave.open(str(self.folder / "x.wav")) as saved:
            self.assertEqual(saved.getnchannels(), 1)
            self.assertAlmostEqual(saved.getnframes() / saved.getframerate(), seconds, places=3)
            samples = array.array("h", saved.readframes(saved.getnframes()))
        self.assertGreater(max(samples), 1000)
        # What was saved holds the words too.
        self.assertEqual(self.transcribe("x.wav")[0][1], support.reference(RECORDING))

    def test_rate_and_channels_of_the_device(self):
        self.start_sound_server()
        seconds = len(self.samples()) / 32000
        process = self.start_mic("--rate", 48000, "--channels", 2, "--input", "pulse", "--duration", seconds)
        self.play()
        self.assertEqual(self.heard(self.finish(process)), support.reference(RECORDING))

    def test_saves_what_was_played_to_the_bit(self):
        """At the sound server's own rate nothing between the player and the file changes a sample, or loses one."""
        self.start_sound_server()
        seconds = len(self.samples()) / 32000
        process = self.start_mic("--rate", 16000, "--save", "x.wav", "--duration", seconds)
        self.play()
        self.finish(process)
        with wave.open(str(self.folder / "x.wav")) as saved:
            samples = saved.readframes(saved.getnframes())
        self.assertIn((self.folder / "recording.s16").read_bytes(), samples)

    def test_interrupt_flushes_the_last_words(self):
        self.start_sound_server()
        process = self.start_mic("--save", "x.wav")
        self.play().wait(60)
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.heard(self.finish(process)), support.reference(RECORDING))
        with wave.open(str(self.folder / "x.wav")) as saved:
            self.assertGreater(saved.getnframes(), 4 * saved.getframerate())

    def test_list_devices(self):
        self.start_sound_server()
        process = self.start("mic", "--list-devices")
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(stderr, b"")
        self.assertEqual(process.returncode, 0)
        self.assertRegex(stdout.decode(), r"(?m)^\* +\d+  default  \(ALSA, \d+ channels, \d+ Hz\)$")

    def test_lost_device_is_one_clear_error(self):
        server = self.start_sound_server()
        process = self.start_mic()
        time.sleep(0.5)
        server.terminate()
        _, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1)
        self.assertIn("was the device unplugged", stderr.decode().splitlines()[-1])

    def test_no_device_is_one_clear_error(self):
        # ALSA finds neither a card nor a sound server.
        config = self.folder / "alsa.conf"
        config.write_text("pcm.default { type hw card 77 }\nctl.default { type hw card 77 }\n")
        self.environment["ALSA_CONFIG_PATH"] = str(config)
        process = self.start("mic", "--model", support.MODEL)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual((process.returncode, stdout), (1, b""))
        lines = stderr.decode().splitlines()
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("no device that records was found", lines[0])

    # --- Standard input --------------------------------------------------------------------------------------------

    def test_raw_audio_on_standard_input(self):
        process = self.start("mic", "--model", support.MODEL, "-", stdin=subprocess.PIPE)
        stdout = self.finish(process, self.samples() + b"x")
        self.assertEqual(self.heard(stdout), support.reference(RECORDING))

    def test_float_of_two_channels_on_standard_input(self):
        (self.folder / "long.s16").write_bytes(self.samples())
        support.convert("long.s16", "long.f32", "-f", "f32le", "-ar", "48000", "-ac", "2", folder=self.folder,
                        before=("-f", "s16le", "-ar", "16000", "-ac", "1"))
        process = self.start("mic", "--model", support.MODEL, "-", "--rate", 48000, "--channels", 2,
                             "--sample-format", "f32le", stdin=subprocess.PIPE)
        stdout = self.finish(process, (self.folder / "long.f32").read_bytes())
        self.assertEqual(self.heard(stdout), support.reference(RECORDING))

    def test_wav_on_standard_input_as_json(self):
        support.write_wav(self.folder / "x.wav", self.samples())
        with open(self.folder / "x.wav", "rb") as file:
            # Options that are wrong for it: its header goes before them.
            process = self.start("mic", "--model", support.MODEL, "-", "--rate", 8000, "--json", "--partials",
                                 stdin=file)
            events = [json.loads(line) for line in self.finish(process).splitlines()]
        finals = [event for event in events if event["type"] == "final"]
        self.assertEqual(" ".join(event["text"] for event in finals), support.reference(RECORDING))
        self.assertTrue(any(event["type"] == "partial" for event in events))
        words = [word for event in finals for word in event["words"]]
        self.assertEqual([word["word"] for word in words], support.reference(RECORDING).split())
        self.assertGreater(words[0]["start"], LEAD_S - 0.2)
        for one, next_one in zip(words, words[1:]):
            self.assertLessEqual(one["start"], next_one["start"])

    def test_second_interrupt_ends_at_once(self):
        process = self.start("mic", "--model", support.MODEL, "-", stdin=subprocess.PIPE)
        # The pipe stays open: only signals can end this.
        process.stdin.write(b"\0" * 100)
        process.stdin.flush()
        self.wait_until_it_listens(process)
        # Both wait for it when it goes on.
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        process.wait(60)
        self.assertEqual(process.returncode, 130)

    def test_what_is_wrong_is_said_in_one_line(self):
        model = ("mic", "--model", support.MODEL)
        self.fail_with("standard input: is empty", *model, "-")
        self.fail_with("is FLAC", *model, "-", stdin=(support.SAMPLES / RECORDING).read_bytes())
        self.fail_with("'s16be' is not known", *model, "-", "--sample-format", "s16be")
        self.fail_with("earshot transcribe talk.wav", *model, "talk.wav")
        self.fail_with("use one of them", *model, "-", "--input", "usb")


if __name__ == "__main__":
    unittest.main()
