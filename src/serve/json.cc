#include "src/serve/json.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"

namespace earshot {
namespace {

constexpr int kMaxDepth = 32;

const Json* Find(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

}  // namespace

Json ParseJsonObject(std::string_view text) {
  Json json;
  try {
    json = Json::parse(text.begin(), text.end(), [](int depth, Json::parse_event_t, Json&) {
      if (depth > kMaxDepth) Throw("nested deeper than {} levels", kMaxDepth);
      return true;
    });
  } catch (const Json::exception& e) {
    Throw("not JSON: {}", e.what());
  }
  if (!json.is_object()) Throw("a JSON object was expected, found {}", json.type_name());
  return json;
}

std::string TextOr(const Json& object, const char* key, const std::string& otherwise) {
  const Json* value = Find(object, key);
  if (!value) return otherwise;
  if (!value->is_string()) Throw("'{}' is to be a text, found {}", key, value->type_name());
  return value->get<std::string>();
}

double NumberOr(const Json& object, const char* key, double otherwise) {
  const Json* value = Find(object, key);
  if (!value) return otherwise;
  if (!value->is_number()) Throw("'{}' is to be a number, found {}", key, value->type_name());
  return value->get<double>();
}

bool FlagOr(const Json& object, const char* key, bool otherwise) {
  const Json* value = Find(object, key);
  if (!value) return otherwise;
  if (value->is_number()) return value->get<double>() != 0;
  if (!value->is_boolean()) Throw("'{}' is to be true or false, found {}", key, value->type_name());
  return value->get<bool>();
}

Json ObjectOr(const Json& object, const char* key) {
  const Json* value = Find(object, key);
  if (!value) return Json::object();
  if (!value->is_object()) Throw("'{}' is to be an object, found {}", key, value->type_name());
  return *value;
}

std::string ToText(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

double Milliseconds(double seconds) { return std::round(seconds * 1000) / 1000; }

Json WordJson(const Word& word) {
  return {{"word", word.text},
          {"start", Milliseconds(word.start_s)},
          {"end", Milliseconds(word.end_s)},
          {"confidence", std::round(word.confidence * 1e4) / 1e4}};
}

Json WordsJson(const std::vector<Word>& words) {
  Json list = Json::array();
  for (const Word& word : words) list.push_back(WordJson(word));
  return list;
}

std::string JoinWords(const std::vector<Word>& words, size_t begin, size_t end) {
  std::string text;
  for (size_t i = begin; i < std::min(end, words.size()); ++i) AppendText(text, words[i].text);
  return text;
}

std::string JoinSegments(const std::vector<Segment>& segments) {
  std::string text;
  for (const Segment& segment : segments) AppendText(text, segment.text);
  return text;
}

void AppendText(std::string& text, const std::string& more) {
  if (!text.empty() && !more.empty()) text += ' ';
  text += more;
}

}  // namespace earshot
