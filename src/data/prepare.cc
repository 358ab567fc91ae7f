#include "src/data/prepare.h"

#include <filesystem>
#include <set>

#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/nearest.h"
#include "src/data/prepare_corpora.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

const CorpusPreparer& FindCorpus(const std::string& name) {
  std::vector<std::string> names;
  for (const CorpusPreparer& corpus : Corpora()) {
    if (corpus.name == name) return corpus;
    names.push_back(corpus.name);
  }
  Throw("unknown corpus '{}'{}", name, Suggestion(name, names));
}

// A folder that was made ready before: manifest.jsonl with a split on every line.
Splits ReadManifestFolder(const std::string& manifest) {
  Splits splits;
  for (Utterance& utterance : LoadManifest(manifest)) {
    if (utterance.split.empty()) Throw("{}: '{}' has no 'split'", manifest, utterance.id);
    splits[utterance.split].push_back(std::move(utterance));
  }
  return splits;
}

void LogSplit(const CorpusPreparer& corpus, const std::string& split, const std::vector<Utterance>& utterances,
              const std::string& path) {
  double seconds = 0;
  std::set<std::string> speakers;
  for (const double duration_s : Durations(utterances)) seconds += std::max(0.0, duration_s);
  for (const Utterance& utterance : utterances) speakers.insert(utterance.speaker);
  LogInfo("{} {}: {} utterances, {:.2f} h, {} speaker{} -> {}", corpus.name, split, utterances.size(), seconds / 3600,
          speakers.size(), speakers.size() == 1 ? "" : "s", path);
}

}  // namespace

const std::vector<CorpusPreparer>& Corpora() {
  static const std::vector<CorpusPreparer> corpora = {An4Preparer(), FsddPreparer(), YesnoPreparer()};
  return corpora;
}

void ThrowWrongFolder(const CorpusPreparer& corpus, const std::string& source_dir, const std::string& missing) {
  Throw("{}: not {}: no {} in it; {}", source_dir, corpus.name, missing, corpus.home);
}

void PrepareCorpus(const std::string& corpus_name, const std::string& source_dir, const std::string& output_dir) {
  const CorpusPreparer& corpus = FindCorpus(corpus_name);
  if (!fs::is_directory(source_dir)) Throw("{}: no such folder; {}", source_dir, corpus.home);
  const std::string manifest = (fs::path(source_dir) / "manifest.jsonl").string();
  Splits splits = fs::exists(manifest) ? ReadManifestFolder(manifest) : corpus.read(corpus, source_dir, output_dir);
  if (!splits.contains("dev") && corpus.split_dev != nullptr) corpus.split_dev(splits);
  for (auto& [split, utterances] : splits) {
    for (Utterance& utterance : utterances) utterance.split = split;
    const std::string path = (fs::path(output_dir) / (split + ".jsonl")).string();
    WriteManifest(path, utterances);
    LogSplit(corpus, split, utterances, path);
  }
}

}  // namespace earshot
