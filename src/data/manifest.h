// Manifests: which recordings a corpus has, and what is said in them.
//
//   std::vector<Utterance> train = LoadManifest("data/train.jsonl");
//   std::vector<Utterance> test = LoadManifest("corpus/manifest.jsonl", "test");
//
// Three forms are told apart by what is there:
//   NeMo     .jsonl, one {"audio_filepath", "duration", "text", "offset"} a line; relative paths begin at
//            the manifest. Optional: "id" (else the name of the file), "speaker", "split".
//   Lhotse   cuts, .jsonl or .jsonl.gz, one MonoCut a line, whose recording has a source of type "file".
//            The texts of its supervisions are joined by spaces; the channel is left to the reader's downmix.
//   Kaldi    a folder with wav.scp and, each optional, text, segments, utt2spk, utt2dur.
// A relative path of Lhotse or Kaldi begins, as there, at the working directory; where that has no such
// file, at the manifest.
//
// An error names file and line. Audio is not opened here. Thread-safe: no state.
#pragma once

#include <string>
#include <vector>

namespace earshot {

struct Utterance {
  // Unique within its manifest.
  std::string id;
  std::string audio_path;
  // The part of the recording that this utterance is, in seconds; a duration of -1 is to the end.
  double offset_s = 0;
  double duration_s = -1;
  std::string text = "";
  // Empty where the manifest says nothing.
  std::string speaker = "";
  std::string split = "";

  bool operator==(const Utterance&) const = default;
};

// The utterances in the order of the manifest; of a split only those when one is named.
// Throws Error when the manifest cannot be read or understood, or has no such utterance.
std::vector<Utterance> LoadManifest(const std::string& path, const std::string& split = "");

// Writes the NeMo form, whole or not at all. Paths below the folder of the manifest are written relative
// to it, so that the folder can be moved; all others absolute.
void WriteManifest(const std::string& path, const std::vector<Utterance>& utterances);

// Of each utterance, in seconds, what a Sampler needs: as the manifest says, else as the header of the file
// says. -1 where neither does: an unreadable file is reported by the loader, when its turn comes.
std::vector<double> Durations(const std::vector<Utterance>& utterances);

}  // namespace earshot
