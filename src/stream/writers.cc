#include "src/stream/writers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/error.h"
#include "src/base/nearest.h"

namespace earshot {
namespace {

constexpr std::pair<OutputFormat, const char*> kFormats[] = {{OutputFormat::kTxt, "txt"},
                                                             {OutputFormat::kJson, "json"},
                                                             {OutputFormat::kSrt, "srt"},
                                                             {OutputFormat::kVtt, "vtt"},
                                                             {OutputFormat::kCtm, "ctm"}};

double ToMilliseconds(double seconds) { return std::round(seconds * 1000) / 1000; }

// One line of valid UTF-8: control characters, of which a newline would end a cue or a record, become
// blanks. The JSON library knows what is valid, so that the formats agree on it.
std::string CleanLine(const std::string& text) {
  using Json = nlohmann::json;
  std::string clean = Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = ' ';
  }
  return clean;
}

std::string FormatJson(const Transcript& transcript, const std::string& name) {
  using Json = nlohmann::ordered_json;
  Json segments = Json::array();
  for (const Segment& segment : transcript.segments) {
    Json words = Json::array();
    for (const Word& word : segment.words) {
      words.push_back({{"word", word.text},
                       {"start", ToMilliseconds(word.start_s)},
                       {"end", ToMilliseconds(word.end_s)},
                       {"confidence", std::round(word.confidence * 1e4) / 1e4}});
    }
    segments.push_back({{"start", ToMilliseconds(segment.start_s)},
                        {"end", ToMilliseconds(segment.end_s)},
                        {"text", segment.text},
                        {"words", std::move(words)}});
  }
  const Json root = {{"name", name},
                     {"text", transcript.text},
                     {"duration", ToMilliseconds(transcript.duration_s)},
                     {"segments", std::move(segments)}};
  return root.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// A field of NIST's formats, which blanks part.
std::string Field(const std::string& text) {
  std::string one = CleanLine(text);
  std::replace(one.begin(), one.end(), ' ', '_');
  return one.empty() ? std::string("_") : one;
}

std::string FormatCtm(const Transcript& transcript, const std::string& name) {
  const std::string recording = Field(name);
  std::string out;
  for (const Segment& segment : transcript.segments) {
    for (const Word& word : segment.words) {
      out += fmt::format("{} 1 {:.3f} {:.3f} {} {:.4f}\n", recording, word.start_s,
                         std::max(0.0, word.end_s - word.start_s), Field(word.text), word.confidence);
    }
  }
  return out;
}

struct Cue {
  int64_t start_ms, end_ms;
  std::vector<std::string> lines;
};

// The words of a segment; where it has only text, the text's words, each with its share of the time.
std::vector<Word> WordsOf(const Segment& segment) {
  if (!segment.words.empty()) return segment.words;
  const double per_byte_s =
      (segment.end_s - segment.start_s) / static_cast<double>(std::max<size_t>(1, segment.text.size()));
  std::vector<Word> words;
  size_t begin = 0;
  while ((begin = segment.text.find_first_not_of(" \t\r\n", begin)) != std::string::npos) {
    const size_t end = std::min(segment.text.find_first_of(" \t\r\n", begin), segment.text.size());
    words.push_back({.text = segment.text.substr(begin, end - begin),
                     .start_s = segment.start_s + static_cast<double>(begin) * per_byte_s,
                     .end_s = segment.start_s + static_cast<double>(end) * per_byte_s});
    begin = end;
  }
  return words;
}

std::vector<Cue> MakeCues(const Transcript& transcript, const SubtitleOptions& options) {
  const auto ms = [](double seconds) { return std::llround(seconds * 1000); };
  std::vector<Segment> segments;
  for (const Segment& segment : transcript.segments) {
    std::vector<Word> words = WordsOf(segment);
    for (Word& word : words) word.text = CleanLine(word.text);
    std::vector<Segment> parts = SegmentWords(words, options.cue);
    segments.insert(segments.end(), std::make_move_iterator(parts.begin()), std::make_move_iterator(parts.end()));
  }
  std::vector<Cue> cues;
  int64_t free_from_ms = 0;
  for (const Segment& segment : segments) {
    Cue cue;
    cue.start_ms = std::max<int64_t>(ms(segment.start_s), free_from_ms);
    cue.end_ms = std::max<int64_t>(ms(segment.end_s), cue.start_ms + ms(options.min_duration_s));
    if (options.cue.max_duration_s > 0)
      cue.end_ms = std::min<int64_t>(cue.end_ms, cue.start_ms + ms(options.cue.max_duration_s));
    cue.lines = WrapWords(segment.words, options.cue.line_characters);
    free_from_ms = cue.end_ms;
    cues.push_back(std::move(cue));
  }
  return cues;
}

std::string TimeOfDay(int64_t ms, char point) {
  return fmt::format("{:02}:{:02}:{:02}{}{:03}", ms / 3600000, ms / 60000 % 60, ms / 1000 % 60, point, ms % 1000);
}

std::string FormatSrt(const std::vector<Cue>& cues) {
  std::string out;
  for (size_t i = 0; i < cues.size(); ++i) {
    out += fmt::format("{}{}\n{} --> {}\n", i == 0 ? "" : "\n", i + 1, TimeOfDay(cues[i].start_ms, ','),
                       TimeOfDay(cues[i].end_ms, ','));
    for (const std::string& line : cues[i].lines) out += line + "\n";
  }
  return out;
}

// WebVTT's cue text (W3C, section 4.2.2) takes '&' and '<' as markup, and "-->" as a timing line.
std::string EscapeVtt(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string FormatVtt(const std::vector<Cue>& cues) {
  std::string out = "WEBVTT\n";
  for (const Cue& cue : cues) {
    out += fmt::format("\n{} --> {}\n", TimeOfDay(cue.start_ms, '.'), TimeOfDay(cue.end_ms, '.'));
    for (const std::string& line : cue.lines) out += EscapeVtt(line) + "\n";
  }
  return out;
}

}  // namespace

OutputFormat ParseOutputFormat(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [format, format_name] : kFormats) {
    if (name == format_name) return format;
    names.emplace_back(format_name);
  }
  Throw("output format '{}' is not known{}", name, Suggestion(name, names));
}

std::string Extension(OutputFormat format) {
  for (const auto& [known, name] : kFormats) {
    if (format == known) return std::string(".") + name;
  }
  EARSHOT_CHECK(false, "output format {}", static_cast<int>(format));
  return "";
}

void SubtitleOptions::Visit(OptionVisitor& v) {
  v.Group("cue", cue);
  v.Field("min_duration_s", min_duration_s);
}

void SubtitleOptions::Validate() const {
  cue.Validate();
  if (!(min_duration_s >= 0)) Throw("min_duration_s: {} s, expected 0 or more", min_duration_s);
  if (cue.max_duration_s > 0 && min_duration_s > cue.max_duration_s)
    Throw("min_duration_s: {} s, expected at most max_duration_s, {} s", min_duration_s, cue.max_duration_s);
}

std::string FormatTranscript(const Transcript& transcript, OutputFormat format, const std::string& name,
                             const SubtitleOptions& options) {
  options.Validate();
  switch (format) {
    case OutputFormat::kTxt: return CleanLine(transcript.text) + "\n";
    case OutputFormat::kJson: return FormatJson(transcript, name);
    case OutputFormat::kSrt: return FormatSrt(MakeCues(transcript, options));
    case OutputFormat::kVtt: return FormatVtt(MakeCues(transcript, options));
    case OutputFormat::kCtm: return FormatCtm(transcript, name);
  }
  EARSHOT_CHECK(false, "output format {}", static_cast<int>(format));
  return "";
}

SpeechFormat ParseSpeechFormat(const std::string& name) {
  if (name == "rttm") return SpeechFormat::kRttm;
  if (name == "json") return SpeechFormat::kJson;
  Throw("speech format '{}' is not known{}", name, Suggestion(name, {"rttm", "json"}));
}

std::string Extension(SpeechFormat format) { return format == SpeechFormat::kRttm ? ".rttm" : ".json"; }

std::string FormatSpeech(const std::vector<SpeechSegment>& segments, double duration_s, SpeechFormat format,
                         const std::string& name) {
  if (format == SpeechFormat::kRttm) {
    std::string out;
    for (const SpeechSegment& segment : segments) {
      out += fmt::format("SPEAKER {} 1 {:.3f} {:.3f} <NA> <NA> speech <NA> <NA>\n", Field(name), segment.start_s,
                         segment.end_s - segment.start_s);
    }
    return out;
  }
  using Json = nlohmann::ordered_json;
  Json list = Json::array();
  for (const SpeechSegment& segment : segments)
    list.push_back({{"start", ToMilliseconds(segment.start_s)}, {"end", ToMilliseconds(segment.end_s)}});
  const Json root = {{"name", name}, {"duration", ToMilliseconds(duration_s)}, {"segments", std::move(list)}};
  return root.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace earshot
