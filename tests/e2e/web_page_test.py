#!/usr/bin/env python3
"""The page of `earshot serve` in a real browser, with a recording for a microphone.

Screenshots stay under EARSHOT_TEST_OUTPUT; else under EARSHOT_BUILD_DIR/test_output, or nowhere.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
import unittest

import devtools
import support

SPOKEN = "an406-fcaw-b.flac"
TOKEN = "open+sesame/42"
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 680}

# What the page shows; expressions of JavaScript.
STATE = "document.body.className"
FINALS = "[...document.querySelectorAll('.finals .line_text')].map((e) => e.textContent).join(' ')"
PARTIAL = "[...document.querySelectorAll('.partial:not([hidden]) span')].map((e) => e.textContent).join(' ')"
NOTICE = "document.querySelector('#notice').hidden ? '' : document.querySelector('#notice_text').textContent"
IDLE = f"{STATE}.includes('idle')"
RECORDING = f"{STATE}.includes('recording')"
# Pixels of the spectrogram that are not empty, and those in the accent's colour: the gate.
INK = """(() => {
  const canvas = document.querySelector('#spectrogram');
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let ink = 0, gate = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] > 64) data[i] > data[i + 1] + 60 ? ++gate : ++ink;
  }
  return {ink, gate};
})()"""


class Server:
    """The program, serving; url once it is ready."""

    def __init__(self, process):
        self.process = process
        self.lines = []
        self.readers = [threading.Thread(target=self._read, args=(pipe,), daemon=True)
                        for pipe in (process.stdout, process.stderr)]
        for reader in self.readers:
            reader.start()
        end = time.monotonic() + 120
        while not (found := re.search(r"listening on (http://\S+?)/?\s", "".join(self.lines))):
            if process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise AssertionError("the server does not start: " + "".join(self.lines))
            time.sleep(0.05)
        self.url = found[1]

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for reader in self.readers:
            reader.join(10)
        self.process.stdout.close()
        self.process.stderr.close()

    def _read(self, pipe):
        for line in pipe:
            self.lines.append(line.decode(errors="replace"))


@unittest.skipUnless(devtools.CHROMIUM, "the page is tested in Chromium, which is missing: apt-get install chromium")
class WebPageTest(support.EndToEndTest):
    def setUp(self):
        super().setUp()
        self.pictures = self.folder
        if os.environ.get("EARSHOT_TEST_OUTPUT"):
            self.pictures = pathlib.Path(os.environ["EARSHOT_TEST_OUTPUT"])
        elif os.environ.get("EARSHOT_BUILD_DIR"):
            self.pictures = pathlib.Path(os.environ["EARSHOT_BUILD_DIR"]) / "test_output"
        self.pictures.mkdir(parents=True, exist_ok=True)

    def serve(self, *options):
        server = Server(self.start("serve", "--model", support.MODEL, "--port", "0", *options))
        self.addCleanup(server.stop)
        return server

    def browse(self, microphone=True):
        recording = None
        if microphone:
            recording = self.folder / "microphone.wav"
            support.convert(support.SAMPLES / SPOKEN, recording, "-af", "adelay=1000:all=1,apad=pad_dur=1", "-ar",
                            "48000", folder=self.folder)
        browser = devtools.Browser(self.folder, recording)
        self.addCleanup(browser.__exit__)
        return browser

    def record(self, page):
        """Presses the space bar, lets the microphone play, presses it again; what is final then."""
        page.press(" ")
        page.wait_for(RECORDING)
        page.wait_for(PARTIAL)
        # Four seconds of recording with a second of silence at both ends.
        page.wait_for("document.querySelector('#elapsed').textContent >= '0:06'")
        page.press(" ")
        page.wait_for(IDLE)
        return page.evaluate(FINALS)

    def save(self, browser, page, form, take=0):
        """The text of a download."""
        folder = self.folder / f"downloads-{form}-{take}"
        folder.mkdir()
        browser.save_downloads_to(folder)
        page.evaluate(f"document.querySelectorAll('[data-form={form}]')[{take}].click()")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            files = [file for file in folder.iterdir() if file.suffix == f".{form}"]
            if files and files[0].stat().st_size > 0:
                return files[0].read_text(encoding="utf-8")
            time.sleep(0.05)
        raise AssertionError(f"no {form} was downloaded: {list(folder.iterdir())}")

    def assert_is_spoken(self, text):
        expected = support.reference(SPOKEN).split()
        self.assertLessEqual(support.edits(expected, text.split()), 3, f"{text}, spoken was {expected}")
        self.assertEqual(text.split()[-2:], expected[-2:])

    def assert_fits(self, page, what):
        """Nothing scrolls sideways, and all that can be pressed lies within the screen's width."""
        self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth"), PHONE["width"], what)
        outside = page.evaluate("[...document.querySelectorAll('button, select, input')].filter((e) => {"
                                "const b = e.getBoundingClientRect(); return b.width > 0 && (b.left < 0 || "
                                "b.right > innerWidth); }).map((e) => e.textContent)")
        self.assertEqual(outside, [], what)

    def test_speech_becomes_text_with_times(self):
        with_latency = "document.querySelector('#latency').value = '320'"
        page = (browser := self.browse()).open(self.serve().url + "/", **DESKTOP)
        page.screenshot(self.pictures / "page_idle.png")
        page.evaluate(with_latency)
        page.press(" ")
        page.wait_for(RECORDING)
        page.wait_for("document.querySelector('#level').getAttribute('aria-valuenow') > -40")
        page.wait_for(PARTIAL)
        self.assertEqual(page.evaluate("document.querySelector('#record').getAttribute('aria-label')"),
                         "Stop recording")
        page.wait_for("document.querySelector('#elapsed').textContent >= '0:04'")
        page.screenshot(self.pictures / "page_recording.png")
        page.wait_for("document.querySelector('#elapsed').textContent >= '0:06'")
        page.press(" ")
        page.wait_for(IDLE)
        page.screenshot(self.pictures / "page_recorded.png")
        text = page.evaluate(FINALS)
        self.assert_is_spoken(text)
        self.assertEqual(page.evaluate(PARTIAL), "")
        starts = page.evaluate("[...document.querySelectorAll('.finals time')].map((e) => Number(e.dateTime.slice(2, "
                               "-1)))")
        self.assertEqual(starts, sorted(starts))
        self.assertTrue(all(0.8 <= start <= 5 for start in starts), starts)
        drawn = page.evaluate(INK)
        self.assertGreater(drawn["ink"], 500)
        self.assertGreater(drawn["gate"], 50)

        cues = re.findall(r"\d+\n(\S+) --> (\S+)\n((?:.+\n)+)", self.save(browser, page, "srt"))
        self.assertEqual(" ".join(cue[2] for cue in cues).split(), text.split())
        self.assertEqual(self.save(browser, page, "txt").split(), text.split())
        self.assertTrue(self.save(browser, page, "vtt").startswith("WEBVTT\n\n00:00:0"))
        self.assertEqual(page.complaints, [])

    def test_files_are_transcribed_one_after_the_other(self):
        browser = self.browse(microphone=False)
        page = browser.open(self.serve().url + "/", **DESKTOP)
        (self.folder / "notes.txt").write_text("These are notes and no sound at all.\n")
        (self.folder / "empty.wav").write_bytes(b"")
        page.choose_files("#file", self.folder / "notes.txt", self.folder / "empty.wav", support.SAMPLES / SPOKEN)
        self.assertEqual(page.evaluate("document.querySelectorAll('.take').length"), 3)
        page.wait_for(FINALS)
        page.screenshot(self.pictures / "page_files.png")
        failures = page.evaluate("[...document.querySelectorAll('.take_note.failed')].map((e) => e.innerText)")
        self.assertEqual(len(failures), 2, failures)
        self.assertTrue(all(failures), failures)
        text = page.evaluate(FINALS)
        self.assertEqual(text, self.transcribe(support.SAMPLES / SPOKEN)[0][1])
        srt = self.save(browser, page, "srt", take=2)
        self.assertEqual(" ".join(re.findall(r"-->.*\n((?:.+\n)+)", srt)).split(), text.split())

    def test_a_phone_shows_everything_without_sideways_scroll(self):
        page = self.browse().open(self.serve().url + "/", **PHONE)
        self.assert_fits(page, "idle")
        page.screenshot(self.pictures / "phone_idle.png")
        self.assert_is_spoken(self.record(page))
        self.assert_fits(page, "recorded")
        long_name = self.folder / ("a-recording-with-a-name-that-knows-no-blank-" * 2 + ".flac")
        long_name.write_bytes((support.SAMPLES / "conversation.flac").read_bytes())
        page.choose_files("#file", long_name)
        page.wait_for("document.querySelectorAll('.take')[1]?.querySelectorAll('.line_text').length > 3", 300)
        self.assert_fits(page, "after a file")
        for name, options in {"light": {}, "dark": {"dark": True}, "still": {"still": True}}.items():
            page.view(**PHONE, **options)
            page.screenshot(self.pictures / f"phone_file_{name}.png")
        self.assertEqual(page.complaints, [])

    def test_keyboard_and_screen_reader(self):
        page = self.browse().open(self.serve().url + "/", **DESKTOP)
        # The first stop of the tab key is the round button, where the space bar is a click: once, not twice.
        page.press("Tab")
        self.assertEqual(page.evaluate("document.activeElement.id"), "record")
        self.assertNotEqual(page.evaluate("getComputedStyle(document.activeElement).outlineStyle"), "none")
        page.press(" ")
        page.wait_for(RECORDING)
        self.assertEqual(page.evaluate("document.activeElement.id"), "record")
        self.assertEqual(page.evaluate("document.querySelector('.finals').getAttribute('aria-live')"), "polite")
        page.press(" ")
        page.wait_for(IDLE)
        nameless = page.evaluate("[...document.querySelectorAll('button, input, select, canvas')].filter((e) => !("
                                 "e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim() || e.hidden"
                                 ")).map((e) => e.outerHTML)")
        self.assertEqual(nameless, [])

    def test_colours_have_contrast(self):
        """WCAG 2 AA: 4.5 for text, 3 for what is not text."""
        page = self.browse(microphone=False).open(self.serve().url + "/", **DESKTOP)

        def luminance(name):
            colour = page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}')")
            parts = [int(colour.strip()[i:i + 2], 16) / 255 for i in (1, 3, 5)]
            linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

        for dark in (False, True):
            page.view(**DESKTOP, dark=dark)
            for ground in ("paper", "raised"):
                for ink, least in (("ink", 7), ("ink_stable", 4.5), ("ink_quiet", 4.5), ("accent", 4.5), ("edge", 3)):
                    low, high = sorted((luminance(ground), luminance(ink)))
                    self.assertGreaterEqual((high + 0.05) / (low + 0.05), least, f"{ink} on {ground}, dark: {dark}")
            page.screenshot(self.pictures / f"page_idle_{'dark' if dark else 'light'}.png")

    def test_the_transcript_stays_when_the_server_goes(self):
        server = self.serve()
        page = self.browse().open(server.url + "/", **DESKTOP)
        page.press(" ")
        page.wait_for(f"({PARTIAL} + {FINALS}).split(' ').length > 1")
        server.stop(signal.SIGKILL)
        page.wait_for(NOTICE)
        page.screenshot(self.pictures / "page_connection_lost.png")
        self.assertIn("connection", page.evaluate(NOTICE))
        self.assertTrue(page.evaluate(IDLE))
        self.assertGreater(len(page.evaluate(FINALS).split()), 1)

    def test_a_missing_microphone_is_told(self):
        page = self.browse(microphone=False).open(self.serve().url + "/", **DESKTOP)
        page.press(" ")
        self.assertIn("icrophone", page.wait_for(NOTICE))
        self.assertTrue(page.evaluate(IDLE))
        page.screenshot(self.pictures / "page_no_microphone.png")

    def test_the_token_is_asked_for(self):
        page = self.browse().open(self.serve("--token", TOKEN).url + "/", **DESKTOP)
        page.wait_for("!document.querySelector('#token_form').hidden")
        page.call("Input.insertText", text="wrong")
        page.press("Enter")
        page.wait_for("document.querySelector('#token_hint').textContent")
        page.screenshot(self.pictures / "page_token.png")
        page.call("Input.insertText", text=TOKEN)
        page.press("Enter")
        page.wait_for("document.querySelector('#token_form').hidden")
        page.evaluate("document.activeElement.blur()")
        # The WebSocket is let in by it too.
        self.assert_is_spoken(self.record(page))

    def test_subtitles_are_cut_as_the_program_cuts_them(self):
        page = self.browse(microphone=False).open(self.serve().url + "/", **DESKTOP)
        file = support.SAMPLES / "conversation.flac"
        transcript = json.loads(self.succeed("transcribe", "--model", support.MODEL, "--format", "json", file))
        for form in ("srt", "vtt"):
            expected = self.succeed("transcribe", "--model", support.MODEL, "--format", form, file)
            function = "to" + form.capitalize()
            made = page.evaluate("import('./static/subtitles.js').then((module) => "
                                 f"module.{function}({json.dumps(transcript['segments'])}))")
            self.assertEqual(made, expected)


if __name__ == "__main__":
    unittest.main()
