"""A server that a benchmark starts, loads and ends.

    with Served("--max-streams", "50") as server:
        server.port, server.rss_mb(), server.descriptors()
        result = server.stream(streams=10, seconds=20, latency_ms=320)
"""
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
_BUILD = pathlib.Path(os.environ.get("EARSHOT_BUILD_DIR", ROOT / "build" / "release"))


class Served:
    """`earshot serve` with these options on a free port; exits where it does not start, of which its own line tells."""

    def __init__(self, *options, model=None):
        command = [_BUILD / "tools" / "earshot" / "earshot", "serve", "--port", "0", *options,
                   *(["--model", model] if model else [])]
        # One line comes on stdout, so that it never fills; the log goes where ours goes.
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                                         env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
        found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", self._process.stdout.readline())
        if not found:
            sys.exit("the server did not start")
        self.port = int(found.group(1))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()

    def stream(self, streams, seconds, latency_ms):
        """Paced streams of samples/conversation.flac; returns what streaming_bench.cc prints of them."""
        run = subprocess.run([_BUILD / "tools" / "bench.d" / "streaming_bench", str(self.port),
                              ROOT / "samples" / "conversation.flac", str(streams), str(seconds), str(latency_ms)],
                             stdout=subprocess.PIPE, text=True)
        return json.loads(run.stdout)

    def rss_mb(self):
        for line in open(f"/proc/{self._process.pid}/status", encoding="utf-8"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0

    def descriptors(self):
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))
