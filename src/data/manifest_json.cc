#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/data/line_reader.h"
#include "src/data/manifest_forms.h"

namespace earshot {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

// One object of a manifest, with the checks that every field needs.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object_.is_object()) Throw("{}: found {}, expected an object {{...}}", where_, object_.type_name());
  }

  bool Has(const char* key) const {
    const auto found = object_.find(key);
    return found != object_.end() && !found->is_null();
  }

  // A text; NeMo's own tools also write numbers where texts are only digits.
  std::string Text(const char* key) const {
    if (!Has(key)) return "";
    const Json& value = object_[key];
    if (value.is_string()) return value.get<std::string>();
    if (value.is_number()) return value.dump();
    Throw("{}: '{}' is {}, expected a text", where_, key, value.dump());
  }

  std::string NeededText(const char* key) const {
    std::string text = Text(key);
    if (text.empty()) Throw("{}: '{}' is missing or empty", where_, key);
    return text;
  }

  // Seconds; a negative one is an error.
  double Seconds(const char* key, double missing) const {
    if (!Has(key)) return missing;
    const Json& value = object_[key];
    if (!value.is_number()) Throw("{}: '{}' is {}, expected seconds", where_, key, value.dump());
    const auto seconds = value.get<double>();
    if (!(seconds >= 0)) Throw("{}: '{}' is {} s, expected 0 or more", where_, key, seconds);
    return seconds;
  }

  Fields Object(const char* key) const {
    if (!Has(key)) Throw("{}: '{}' is missing", where_, key);
    return Fields(object_[key], fmt::format("{}, {}", where_, key));
  }

  std::vector<Fields> List(const char* key) const {
    std::vector<Fields> list;
    if (!Has(key)) return list;
    if (!object_[key].is_array()) Throw("{}: '{}' is no list", where_, key);
    for (const Json& item : object_[key]) list.emplace_back(item, fmt::format("{}, {}", where_, key));
    return list;
  }

  const std::string& where() const { return where_; }

 private:
  const Json& object_;
  std::string where_;
};

Utterance ReadNemoLine(const Fields& fields, const fs::path& folder, IdRegistry& ids) {
  Utterance utterance;
  // "/" with an absolute path on its right is that path.
  utterance.audio_path = (folder / fields.NeededText("audio_filepath")).lexically_normal().string();
  utterance.offset_s = fields.Seconds("offset", 0);
  utterance.duration_s = fields.Seconds("duration", -1);
  utterance.text = fields.Text("text");
  utterance.speaker = fields.Text("speaker");
  utterance.split = fields.Text("split");
  utterance.id = fields.Text("id");
  if (utterance.id.empty())
    utterance.id = ids.MakeUnique(fs::path(utterance.audio_path).stem().string());
  else
    ids.Add(utterance.id, fields.where());
  return utterance;
}

// The file of a recording; Lhotse also knows commands, URLs and audio kept in memory.
std::string SourceFile(const Fields& recording, const fs::path& folder) {
  const std::vector<Fields> sources = recording.List("sources");
  if (sources.empty()) Throw("{}: 'sources' is missing or empty", recording.where());
  const std::string type = sources[0].Text("type");
  if (sources.size() != 1 || type != "file")
    Throw(
        "{}: {} source(s) of type '{}', expected one of type 'file'; save the audio to files first, such as with "
        "CutSet.save_audios",
        recording.where(), sources.size(), type);
  return FindAudio(sources[0].NeededText("source"), folder.string());
}

Utterance ReadLhotseCut(const Fields& cut, const fs::path& folder, IdRegistry& ids) {
  if (!cut.Has("recording"))
    Throw(
        "{}: the cut has no 'recording' (type '{}'); mixed, padded and feature-only cuts are to be saved as audio "
        "first, such as with CutSet.save_audios",
        cut.where(), cut.Text("type"));
  Utterance utterance;
  utterance.id = cut.NeededText("id");
  ids.Add(utterance.id, cut.where());
  utterance.audio_path = SourceFile(cut.Object("recording"), folder);
  utterance.offset_s = cut.Seconds("start", 0);
  utterance.duration_s = cut.Seconds("duration", -1);
  for (const Fields& supervision : cut.List("supervisions")) {
    const std::string text = supervision.Text("text");
    if (!text.empty() && !utterance.text.empty()) utterance.text += ' ';
    utterance.text += text;
    if (utterance.speaker.empty()) utterance.speaker = supervision.Text("speaker");
  }
  if (cut.Has("custom")) utterance.split = cut.Object("custom").Text("split");
  return utterance;
}

}  // namespace

std::vector<Utterance> LoadJsonManifest(const std::string& path) {
  const fs::path folder = fs::path(path).parent_path();
  std::vector<Utterance> utterances;
  IdRegistry ids;
  LineReader reader(path);
  std::string line;
  while (reader.Next(line)) {
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    const Json json = Json::parse(line, nullptr, false);
    if (json.is_discarded()) Throw("{}: not JSON: '{:.60}'; expected one object a line", reader.Where(), line);
    const Fields fields(json, reader.Where());
    if (fields.Has("audio_filepath"))
      utterances.push_back(ReadNemoLine(fields, folder, ids));
    else if (fields.Has("recording") || fields.Has("supervisions") || fields.Has("tracks"))
      utterances.push_back(ReadLhotseCut(fields, folder, ids));
    else
      Throw("{}: neither 'audio_filepath' (NeMo) nor 'recording' (a Lhotse cut) in it", reader.Where());
  }
  return utterances;
}

}  // namespace earshot
