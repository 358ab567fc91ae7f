#!/usr/bin/env python3
"""`earshot serve` with the model that is shipped, as other people's clients speak to it."""

import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import unittest
import urllib.error
import urllib.request
import uuid

import support

CLIENTS = pathlib.Path(os.environ.get("EARSHOT_CLIENTS", support.ROOT / ".deps" / "clients" / "bin" / "python"))
SPOKEN = "cen8-fjlp-b.flac"


class Server:
    """The program, and the lines that it writes."""

    def __init__(self, test, *arguments):
        self.process = test.start("serve", "--model", support.MODEL, "--port", "0", *arguments)
        self.lines = []
        self.ready = threading.Event()
        self.readers = [threading.Thread(target=self.read, args=(file,))
                        for file in (self.process.stdout, self.process.stderr)]
        for reader in self.readers:
            reader.start()
        test.addCleanup(self.stop)
        test.assertTrue(self.ready.wait(120), self.lines)
        self.port = self.find(r"http://127\.0\.0\.1:(\d+)")

    def read(self, file):
        for line in file:
            self.lines.append(line.decode())
            if "listening on http" in self.lines[-1]:
                self.ready.set()

    def find(self, expression):
        return re.search(expression, "".join(self.lines)).group(1)

    def stop(self, with_signal=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        status = self.process.wait(60)
        for reader in self.readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return status

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as response:
            return response.read().decode()

    def post(self, path, fields, name, data):
        """(status, body) of a form with a file."""
        boundary = uuid.uuid4().hex
        parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
                 for key, value in fields.items()]
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
                     + data + f"\r\n--{boundary}--\r\n".encode())
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", b"".join(parts),
                                         {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


class ServeTest(support.EndToEndTest):
    def client(self, name, port, path):
        run = subprocess.run([CLIENTS, support.ROOT / "tests/e2e/clients.py", name, str(port), path], check=False,
                             capture_output=True, text=True, timeout=300)
        self.assertEqual(run.returncode, 0, run.stderr)
        return json.loads(run.stdout)

    def recording(self, rate=16000):
        """A WAV file with silence round the words, and the words as they are transcribed at 320 ms."""
        support.convert(support.SAMPLES / SPOKEN, "spoken.wav", "-ac", "1", "-ar", str(rate), "-af",
                        "adelay=300,apad=pad_dur=0.6", folder=self.folder)
        path = self.folder / "spoken.wav"
        text = self.succeed("transcribe", "--model", support.MODEL, "--latency-ms", 320, path).split("\t")[1].strip()
        self.assertLessEqual(support.edits(support.reference(SPOKEN).split(), text.split()), 1, text)
        return path, text

    def test_tells_how_it_is_and_what_it_serves(self):
        server = Server(self)
        self.assertTrue(server.get("/healthz"))
        self.assertTrue(server.get("/readyz"))
        self.assertEqual(len(json.loads(server.get("/v1/models"))["data"]), 1)
        metrics = server.get("/metrics")
        self.assertRegex(metrics, r"(?m)^# TYPE earshot_\w*latency\w* histogram$")
        self.assertIn("<html", server.get("/"))
        self.assertEqual(server.stop(), 0)

    def test_transcribes_a_file_as_the_command_does(self):
        server = Server(self)
        data = (support.SAMPLES / SPOKEN).read_bytes()
        model = json.loads(server.get("/v1/models"))["data"][0]["id"]
        status, body = server.post("/v1/audio/transcriptions", {"model": model}, SPOKEN, data)
        self.assertEqual((status, json.loads(body)["text"]),
                         (200, self.transcribe(support.SAMPLES / SPOKEN)[0][1]))
        status, body = server.post("/v1/audio/transcriptions", {"model": model, "response_format": "srt"}, SPOKEN, data)
        self.assertEqual((status, body), (200, self.succeed("transcribe", "--model", support.MODEL, "--format", "srt",
                                                            support.SAMPLES / SPOKEN)))
        for damaged in (b"", b"\0", b"RIFF", data[:10], b"no audio at all" * 1000):
            status, body = server.post("/v1/audio/transcriptions", {"model": model}, "x.wav", damaged)
            self.assertIn(status, (200, 400))
            if status == 200:
                self.assertEqual(json.loads(body)["text"], "")
            else:
                self.assertTrue(json.loads(body)["error"]["message"])
        status, body = server.post("/v1/audio/transcriptions", {"model": "../../etc/passwd"}, SPOKEN, data)
        self.assertEqual((status, json.loads(body)["error"]["code"]), (404, "model_not_found"))

    @unittest.skipUnless(CLIENTS.exists(), "the clients are missing: tools/setup --tests")
    def test_the_openai_client_sends_a_file(self):
        path, _ = self.recording()
        text = self.transcribe(path)[0][1]
        result = self.client("openai_file", Server(self).port, path)
        self.assertEqual([result[key] for key in ("text", "verbose", "deltas")], [text] * 3)
        self.assertEqual((result["done"], " ".join(result["words"])), ([text], text))
        self.assertAlmostEqual(float(result["duration"]), support.wave.open(str(path)).getnframes() / 16000, 2)
        self.assertTrue(result["vtt"].startswith("WEBVTT"))
        self.assertIn(" --> ", result["srt"])

    @unittest.skipUnless(CLIENTS.exists(), "the clients are missing: tools/setup --tests")
    def test_the_openai_client_streams(self):
        path, text = self.recording(rate=24000)
        result = self.client("openai_realtime", Server(self).port, path)
        self.assertLessEqual(support.edits(text.split(), result["text"].split()), 1, result)
        self.assertEqual(result["deltas"].strip(), result["text"])

    @unittest.skipUnless(CLIENTS.exists(), "the clients are missing: tools/setup --tests")
    def test_vosks_protocol(self):
        path, text = self.recording()
        result = self.client("vosk", Server(self).port, path)
        self.assertEqual((result["text"], " ".join(result["words"])), (text, text))
        self.assertGreater(result["partials"], 2)

    @unittest.skipUnless(CLIENTS.exists(), "the clients are missing: tools/setup --tests")
    def test_the_wyoming_client(self):
        path, text = self.recording()
        server = Server(self, "--wyoming-port", "0")
        port = server.find(r"[Ww]yoming\D*(?:127\.0\.0\.1)\D(\d+)")
        result = self.client("wyoming", port, path)
        self.assertEqual(result["text"], text)
        self.assertEqual(len(result["models"]), 1)

    def test_says_what_is_wrong_with_its_options(self):
        self.fail_with(["latency", "5"], "serve", "--model", support.MODEL, "--port", "0", "--latency-ms", "5")
        self.fail_with("--key", "serve", "--model", support.MODEL, "--port", "0", "--cert", "missing.pem")
        self.fail_with("port", "serve", "--model", support.MODEL, "--port", "70000")


if __name__ == "__main__":
    unittest.main()
