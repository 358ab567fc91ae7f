#!/usr/bin/env python3
"""Makes this folder from the corpora: python3 samples/make.py AN4 YESNO FSDD

Each argument is a folder with a manifest.jsonl (audio_filepath, duration, text, speaker, split), as
`tools/earshot prepare` writes it. The single recordings are copied as they are. conversation.flac joins utterances of
AN4's test speakers with pauses of faint noise between them: a minute of speech with an exact reference, for what
works on long files. Needs ffmpeg, which writes FLAC without a loss.
"""

import array
import json
import pathlib
import random
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
RATE = 16000

SINGLE = ["an406-fcaw-b", "cen8-fjlp-b", "cen5-mdms2-b", "cen7-menk-b", "cen8-marh-b", "an445-mmxg-b"]
JOINED = ["an396-miry-b", "cen3-fvap-b", "an391-mjwl-b", "cen8-mjgm-b", "cen4-marh-b", "an428-fvap-b", "an395-mjwl-b",
          "cen1-mjgm-b", "an425-menk-b", "cen7-mjwl-b", "an433-marh-b", "an440-mjgm-b", "cen6-fvap-b", "an417-fjlp-b",
          "cen3-mdms2-b", "cen6-mmxg-b", "cen2-miry-b", "an442-mmxg-b", "cen7-fvap-b", "cen3-fcaw-b"]
YESNO = ["0_1_1_1_1_1_1_1", "1_0_1_0_1_0_0_1"]
# DIGIT_SPEAKER_INDEX: indices 0 to 4 are the corpus's own test set, the others its training set.
DIGITS = [f"{digit}_{speaker}_{index}" for digit in range(10) for speaker in ("jackson", "theo") for index in (0, 5)]


def load(corpus):
    rows = {}
    for line in (corpus / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        row["path"] = corpus / row["audio_filepath"]
        rows[row["path"].stem] = row
    return rows


def entry(name, row, **changes):
    return {"audio_filepath": name, "duration": round(row["duration"], 3), "text": row["text"],
            "speaker": row["speaker"], "split": row["split"], **changes}


def write_manifest(path, entries):
    path.write_text("".join(json.dumps(e) + "\n" for e in entries), encoding="utf-8")


def copy(rows, names, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(rows[name]["path"], folder / f"{name}.flac")
    return [entry(f"{name}.flac", rows[name]) for name in names]


def samples_of(path):
    run = subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-ar", str(RATE), "-ac", "1", "-f", "s16le", "-"],
                         capture_output=True, check=True)
    return array.array("h", run.stdout)


def join(rows, names, path):
    """Utterances with pauses of 0.4 to 1.5 s; returns the duration in seconds."""
    draw = random.Random(1)
    joined = array.array("h")
    for name in names:
        joined += samples_of(rows[name]["path"])
        # -75 dB, for a pause of digital zeros is what no microphone gives.
        joined.extend(round(draw.gauss(0, 6)) for _ in range(int(draw.uniform(0.4, 1.5) * RATE)))
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "-",
                    "-map_metadata", "-1", "-compression_level", "12", path], input=joined.tobytes(), check=True)
    return len(joined) / RATE


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    an4, yesno, fsdd = (load(pathlib.Path(folder)) for folder in sys.argv[1:])
    entries = copy(an4, SINGLE, HERE)
    duration = join(an4, JOINED, HERE / "conversation.flac")
    text = " ".join(an4[name]["text"] for name in JOINED)
    entries.append({"audio_filepath": "conversation.flac", "duration": duration, "text": text, "speaker": "several",
                    "split": "test"})
    write_manifest(HERE / "manifest.jsonl", entries)
    write_manifest(HERE / "yesno" / "manifest.jsonl", copy(yesno, YESNO, HERE / "yesno"))
    write_manifest(HERE / "fsdd" / "manifest.jsonl", copy(fsdd, DIGITS, HERE / "fsdd"))


if __name__ == "__main__":
    main()
