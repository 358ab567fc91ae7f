// A corpus as it is downloaded from its home -> manifests that train, evaluate and transcribe take.
//
//   PrepareCorpus("an4", "downloads/an4", "data/an4");   // writes data/an4/{train,dev,test}.jsonl
//
// A new corpus is one file, prepare_NAME.cc, that defines a CorpusPreparer and its line in Corpora().
// Each corpus is also taken as a folder with a manifest.jsonl (NeMo's form) whose lines have a "split".
#pragma once

#include <map>
#include <string>
#include <vector>

#include "src/data/manifest.h"

namespace earshot {

// By split: "train", "dev", "test".
using Splits = std::map<std::string, std::vector<Utterance>>;

struct CorpusPreparer {
  std::string name;
  // One line for --help: what it is, how large.
  std::string description;
  // Where it is downloaded, and what is to be given as the source folder.
  std::string home;
  // The utterances of the corpus as it comes from its home. output_dir: where audio may be converted to.
  // Throws Error when source_dir does not hold the corpus.
  Splits (*read)(const CorpusPreparer& corpus, const std::string& source_dir, const std::string& output_dir);
  // Takes a dev split out of train where the corpus has none; nullptr: there is none.
  void (*split_dev)(Splits& splits);
};

// All that is known, in the order of their names.
const std::vector<CorpusPreparer>& Corpora();

// Writes output_dir/SPLIT.jsonl for each split and logs utterances, hours and speakers of each. The same source
// gives the same files. Throws Error when the corpus is unknown, or the folder is not it: the message says what
// was expected and where to download it.
void PrepareCorpus(const std::string& corpus, const std::string& source_dir, const std::string& output_dir);

// For the readers of corpora: throws the Error for a folder that is not the corpus.
[[noreturn]] void ThrowWrongFolder(const CorpusPreparer& corpus, const std::string& source_dir,
                                   const std::string& missing);

}  // namespace earshot
