#include "src/data/manifest.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "src/audio/audio_reader.h"
#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "src/base/nearest.h"
#include "src/data/manifest_forms.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

// Only the utterances of a split; says which there are when it has none.
std::vector<Utterance> OfSplit(const std::string& path, const std::string& split, std::vector<Utterance> utterances) {
  std::set<std::string> splits;
  for (const Utterance& utterance : utterances) {
    if (!utterance.split.empty()) splits.insert(utterance.split);
  }
  if (splits.empty()) Throw("{}: no utterance has a 'split', expected some of '{}'", path, split);
  if (!splits.contains(split))
    Throw("{}: no utterance of split '{}'{}", path, split, Suggestion(split, {splits.begin(), splits.end()}));
  std::erase_if(utterances, [&split](const Utterance& utterance) { return utterance.split != split; });
  return utterances;
}

}  // namespace

std::string FindAudio(const std::string& path, const std::string& folder) {
  std::error_code error;
  if (fs::path(path).is_absolute() || fs::exists(path, error)) return path;
  return (fs::path(folder) / path).string();
}

void IdRegistry::Add(const std::string& id, const std::string& where) {
  if (!ids_.insert(id).second) Throw("{}: id '{}' was there before, expected each id once", where, id);
}

std::string IdRegistry::MakeUnique(const std::string& name) {
  std::string id = name;
  for (int i = 2; !ids_.insert(id).second; ++i) id = fmt::format("{}-{}", name, i);
  return id;
}

std::vector<Utterance> LoadManifest(const std::string& path, const std::string& split) {
  std::error_code error;
  if (!fs::exists(path, error)) Throw("{}: no such manifest; expected a .jsonl file or a Kaldi data folder", path);
  std::vector<Utterance> utterances = fs::is_directory(path) ? LoadKaldiManifest(path) : LoadJsonManifest(path);
  if (utterances.empty()) Throw("{}: no utterances in it", path);
  return split.empty() ? utterances : OfSplit(path, split, std::move(utterances));
}

void WriteManifest(const std::string& path, const std::vector<Utterance>& utterances) {
  const fs::path folder = fs::absolute(path).lexically_normal().parent_path();
  AtomicFile file(path);
  for (const Utterance& utterance : utterances) {
    const fs::path audio = fs::absolute(utterance.audio_path).lexically_normal();
    const fs::path relative = audio.lexically_relative(folder);
    const bool below = !relative.empty() && *relative.begin() != "..";
    nlohmann::ordered_json line;
    line["id"] = utterance.id;
    line["audio_filepath"] = (below ? relative : audio).string();
    if (utterance.offset_s > 0) line["offset"] = utterance.offset_s;
    if (utterance.duration_s >= 0) line["duration"] = utterance.duration_s;
    line["text"] = utterance.text;
    if (!utterance.speaker.empty()) line["speaker"] = utterance.speaker;
    if (!utterance.split.empty()) line["split"] = utterance.split;
    // Text that is not UTF-8 (Kaldi does not ask) is mended rather than a reason to fail.
    file.stream() << line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
  }
  file.Commit();
}

std::vector<double> Durations(const std::vector<Utterance>& utterances) {
  std::vector<double> durations_s;
  durations_s.reserve(utterances.size());
  for (const Utterance& utterance : utterances) {
    double duration_s = utterance.duration_s;
    try {
      if (duration_s < 0) duration_s = ProbeAudio(utterance.audio_path).duration_s - utterance.offset_s;
    } catch (const Error&) {
      // The loader says why when it comes to read it.
    }
    durations_s.push_back(duration_s < 0 ? -1 : duration_s);
  }
  return durations_s;
}

}  // namespace earshot
