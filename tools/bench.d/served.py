"""A server that a benchmark starts, loads and ends.

    with Served("--max-streams", "50") as server:
        server.port, server.rss_mb(), server.descriptors()
"""
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("EARSHOT_BUILD_DIR", ROOT / "build" / "release"))
# Paced streams from samples/conversation.flac; see streaming_bench.cc.
STREAMS = BUILD / "tools" / "bench.d" / "streaming_bench"
CONVERSATION = ROOT / "samples" / "conversation.flac"
_PROGRAM = BUILD / "tools" / "earshot" / "earshot"


class Served:
    """`earshot serve` with these options on a free port; exits with what it said when it does not start."""

    def __init__(self, *options, model=None):
        command = [_PROGRAM, "serve", "--port", "0", *options, *(["--model", model] if model else [])]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                         env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
        said = []
        for line in self._process.stdout:
            said.append(line)
            found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                return
        sys.exit("the server did not start: " + "".join(said))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()

    def rss_mb(self):
        for line in open(f"/proc/{self._process.pid}/status", encoding="utf-8"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0

    def descriptors(self):
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))
