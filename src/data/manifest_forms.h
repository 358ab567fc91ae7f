// The three forms of a manifest, one reader each: see manifest.h, which chooses among them.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "src/data/manifest.h"

namespace earshot {

// A JSONL file, plain or gzipped, of NeMo's lines or Lhotse's cuts; each line says which it is.
std::vector<Utterance> LoadJsonManifest(const std::string& path);

// A Kaldi data folder.
std::vector<Utterance> LoadKaldiManifest(const std::string& folder);

// The path as Kaldi and Lhotse mean it: from the working directory, else from this folder.
std::string FindAudio(const std::string& path, const std::string& folder);

// Keeps the ids of one manifest apart.
class IdRegistry {
 public:
  // An id that the manifest gives: throws Error, naming where, when it was there before.
  void Add(const std::string& id, const std::string& where);
  // An id made from the audio's name: the name itself, then NAME-2, NAME-3.
  std::string MakeUnique(const std::string& name);

 private:
  std::unordered_set<std::string> ids_;
};

}  // namespace earshot
