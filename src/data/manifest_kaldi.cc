#include <charconv>
#include <cmath>
#include <filesystem>
#include <functional>
#include <unordered_map>

#include "src/base/error.h"
#include "src/data/line_reader.h"
#include "src/data/manifest_forms.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSpace = " \t";

// Takes the first word off a line.
std::string TakeWord(std::string& line) {
  const size_t begin = line.find_first_not_of(kSpace);
  if (begin == std::string::npos) {
    line.clear();
    return "";
  }
  const size_t end = line.find_first_of(kSpace, begin);
  std::string word = line.substr(begin, end - begin);
  const size_t rest = end == std::string::npos ? end : line.find_first_not_of(kSpace, end);
  line = rest == std::string::npos ? "" : line.substr(rest);
  return word;
}

double ParseSeconds(const std::string& word, const std::string& where) {
  double seconds = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), seconds);
  if (error != std::errc() || end != word.data() + word.size() || !std::isfinite(seconds))
    Throw("{}: '{}' is no number, expected seconds", where, word);
  return seconds;
}

// Calls back with (key, rest of the line, where) for each line that is not blank.
using LineFunction = std::function<void(const std::string& key, std::string rest, const std::string& where)>;
void ForEachLine(const fs::path& path, const LineFunction& function) {
  LineReader reader(path.string());
  std::string line;
  while (reader.Next(line)) {
    while (!line.empty() && line.find_last_of(kSpace) == line.size() - 1) line.pop_back();
    if (line.empty()) continue;
    const std::string key = TakeWord(line);
    function(key, line, reader.Where());
  }
}

// wav.scp of a plain file. Kaldi runs whatever stands before a "|"; a manifest here runs nothing.
std::string ReadScpPath(const std::string& value, const fs::path& folder, const std::string& where) {
  if (value.empty()) Throw("{}: no path behind the id", where);
  if (value.ends_with("|"))
    Throw("{}: '{}' is a command, which is not run; write its output to a WAV or FLAC file and list that", where,
          value);
  const size_t colon = value.rfind(':');
  if (colon != std::string::npos && value.substr(0, colon).ends_with(".ark"))
    Throw("{}: '{}' lies within an archive; extract it to a file of its own and list that", where, value);
  return FindAudio(value, folder.string());
}

class KaldiFolder {
 public:
  explicit KaldiFolder(const std::string& folder) : folder_(folder) {
    if (!fs::exists(folder_ / "wav.scp"))
      Throw("{}: no wav.scp in it, expected a Kaldi data folder (wav.scp, text, ...) or a .jsonl file", folder);
  }

  std::vector<Utterance> Load() {
    ForEachLine(folder_ / "wav.scp", [this](const std::string& id, const std::string& value, const std::string& where) {
      if (!recordings_.emplace(id, ReadScpPath(value, folder_, where)).second)
        Throw("{}: recording '{}' was there before", where, id);
      if (!Has("segments")) Add({.id = id, .audio_path = recordings_[id]}, where);
    });
    if (Has("segments")) ReadSegments();
    ReadColumn("text",
               [](Utterance& utterance, const std::string& value, const std::string&) { utterance.text = value; });
    ReadColumn("utt2spk",
               [](Utterance& utterance, const std::string& value, const std::string&) { utterance.speaker = value; });
    // Of a segment its own times count.
    if (!Has("segments")) {
      ReadColumn("utt2dur", [](Utterance& utterance, const std::string& value, const std::string& where) {
        utterance.duration_s = ParseSeconds(value, where);
      });
    }
    return std::move(utterances_);
  }

 private:
  bool Has(const char* name) const { return fs::exists(folder_ / name); }

  void Add(Utterance utterance, const std::string& where) {
    if (!index_.emplace(utterance.id, utterances_.size()).second)
      Throw("{}: utterance '{}' was there before", where, utterance.id);
    utterances_.push_back(std::move(utterance));
  }

  // segments: <utterance> <recording> <start> <end>, seconds; an end of -1 is that of the recording.
  void ReadSegments() {
    ForEachLine(folder_ / "segments", [this](const std::string& id, std::string rest, const std::string& where) {
      const std::string recording = TakeWord(rest), start = TakeWord(rest), end = TakeWord(rest);
      if (end.empty()) Throw("{}: expected <utterance> <recording> <start> <end>", where);
      const auto found = recordings_.find(recording);
      if (found == recordings_.end()) Throw("{}: recording '{}' is not in wav.scp", where, recording);
      const double start_s = ParseSeconds(start, where), end_s = ParseSeconds(end, where);
      if (start_s < 0 || (end_s >= 0 && end_s <= start_s))
        Throw("{}: from {} to {} s, expected an end after the start", where, start_s, end_s);
      Add({.id = id, .audio_path = found->second, .offset_s = start_s, .duration_s = end_s < 0 ? -1 : end_s - start_s},
          where);
    });
  }

  // An optional file of one value for each utterance.
  using Setter = void (*)(Utterance& utterance, const std::string& value, const std::string& where);
  void ReadColumn(const char* name, Setter set) {
    if (!Has(name)) return;
    ForEachLine(folder_ / name, [this, set](const std::string& id, const std::string& value, const std::string& where) {
      const auto found = index_.find(id);
      if (found == index_.end())
        Throw("{}: utterance '{}' is not in {}", where, id, Has("segments") ? "segments" : "wav.scp");
      set(utterances_[found->second], value, where);
    });
  }

  fs::path folder_;
  std::unordered_map<std::string, std::string> recordings_;
  std::vector<Utterance> utterances_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace

std::vector<Utterance> LoadKaldiManifest(const std::string& folder) { return KaldiFolder(folder).Load(); }

}  // namespace earshot
