#include "src/serve/openai_transcriptions.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "src/serve/json.h"
#include "src/stream/writers.h"

namespace earshot {
namespace {

// A prompt is the longest of the fields.
constexpr size_t kMaxField = 64 * 1024;

std::string Shorten(const std::string& text) { return text.size() <= 100 ? text : text.substr(0, 100) + "..."; }

bool ParseFlag(const std::string& name, const std::string& value) {
  if (value == "true" || value == "True" || value == "1") return true;
  if (value == "false" || value == "False" || value == "0" || value.empty()) return false;
  throw HttpFault(400, fmt::format("{}: '{}', expected true or false", name, Shorten(value)), "invalid_value", name);
}

void CheckTemperature(const std::string& value) {
  double number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || !(number >= 0 && number <= 2))
    throw HttpFault(400, fmt::format("temperature: '{}', expected a number from 0 to 2", Shorten(value)),
                    "invalid_value", "temperature");
}

Json Usage(const Transcript& transcript) {
  return {{"type", "duration"}, {"seconds", std::ceil(transcript.duration_s)}};
}

// The keys that have no meaning for this recogniser have the value that says "nothing to report".
Json SegmentJson(const Segment& segment, size_t id) {
  double log_prob = 0;
  for (const Word& word : segment.words) log_prob += std::log(std::max(word.confidence, 1e-6f));
  if (!segment.words.empty()) log_prob /= static_cast<double>(segment.words.size());
  return {{"id", id},
          {"seek", 0},
          {"start", Milliseconds(segment.start_s)},
          {"end", Milliseconds(segment.end_s)},
          {"text", segment.text},
          {"tokens", Json::array()},
          {"temperature", 0.0},
          {"avg_logprob", std::round(log_prob * 1e4) / 1e4},
          {"compression_ratio", 1.0},
          {"no_speech_prob", 0.0}};
}

Json VerboseJson(const TranscriptionRequest& request, const Transcript& transcript, const ServiceInfo& info) {
  Json json = {{"task", "transcribe"},
               {"language", info.language},
               {"duration", Milliseconds(transcript.duration_s)},
               {"text", transcript.text}};
  if (request.segment_times || !request.word_times) {
    json["segments"] = Json::array();
    for (size_t i = 0; i < transcript.segments.size(); ++i)
      json["segments"].push_back(SegmentJson(transcript.segments[i], i));
  }
  if (request.word_times) {
    json["words"] = Json::array();
    for (const Segment& segment : transcript.segments) {
      for (const Word& word : segment.words) json["words"].push_back(WordJson(word));
    }
  }
  json["usage"] = Usage(transcript);
  return json;
}

std::string Event(const Json& json) { return "data: " + ToText(json) + "\n\n"; }

}  // namespace

TranscriptionForm::TranscriptionForm(std::string_view content_type, const ServiceInfo& info, const UploadLimits& limits)
    : info_(info), limits_(limits) {
  try {
    parser_.emplace(BoundaryOf(content_type), static_cast<MultipartHandler&>(*this));
  } catch (const Error& e) {
    throw HttpFault(400, e.what(), "invalid_content_type");
  }
}

void TranscriptionForm::Append(std::string_view bytes) {
  try {
    parser_->Append(bytes);
  } catch (const HttpFault&) {
    throw;
  } catch (const Error& e) {
    throw HttpFault(400, e.what(), "invalid_form");
  }
}

void TranscriptionForm::OnPart(const MultipartHeader& header) {
  EndField();
  name_ = header.name;
  in_file_ = header.name == "file";
  in_field_ = !in_file_;
  if (!in_file_) return;
  if (request_.file) throw HttpFault(400, "file: there are two", "invalid_value", "file");
  try {
    request_.file = std::make_unique<UploadedFile>(limits_.folder, header.filename);
  } catch (const Error& e) {
    throw HttpFault(500, e.what());
  }
}

void TranscriptionForm::OnBytes(std::string_view bytes) {
  if (!in_file_) {
    if (value_.size() + bytes.size() > kMaxField)
      throw HttpFault(400, fmt::format("{}: more than {} bytes", Shorten(name_), kMaxField), "invalid_value", name_);
    value_ += bytes;
    return;
  }
  if (request_.file->size() + static_cast<int64_t>(bytes.size()) > limits_.max_bytes)
    throw HttpFault(413, fmt::format("file: more than {} bytes", limits_.max_bytes), "file_too_large", "file");
  try {
    request_.file->Append(bytes);
  } catch (const Error& e) {
    throw HttpFault(500, e.what());
  }
}

void TranscriptionForm::EndField() {
  const bool was_field = std::exchange(in_field_, false);
  const std::string value = std::exchange(value_, "");
  if (!was_field) return;
  if (name_ == "model") {
    if (value != info_.model)
      throw HttpFault(404, fmt::format("the model '{}' is not served here; expected '{}'", Shorten(value), info_.model),
                      "model_not_found", "model");
  } else if (name_ == "response_format") {
    constexpr const char* kFormats[] = {"json", "text", "srt", "verbose_json", "vtt"};
    if (std::find(std::begin(kFormats), std::end(kFormats), value) == std::end(kFormats))
      throw HttpFault(
          400, fmt::format("response_format: '{}', expected json, text, srt, verbose_json or vtt", Shorten(value)),
          "invalid_value", "response_format");
    request_.response_format = value;
  } else if (name_ == "timestamp_granularities[]" || name_ == "timestamp_granularities") {
    if (value != "word" && value != "segment")
      throw HttpFault(400, fmt::format("timestamp_granularities: '{}', expected word or segment", Shorten(value)),
                      "invalid_value", "timestamp_granularities");
    (value == "word" ? request_.word_times : request_.segment_times) = true;
  } else if (name_ == "stream") {
    request_.stream = ParseFlag(name_, value);
  } else if (name_ == "temperature") {
    CheckTemperature(value);
  } else if (name_ == "language") {
    CheckLanguage(value);
  }
  // prompt, include[], chunking_strategy and what may be added have no effect on recognition here.
}

void TranscriptionForm::CheckLanguage(const std::string& language) const {
  const auto primary = [](const std::string& tag) {
    std::string lower = tag.substr(0, tag.find_first_of("-_"));
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return lower;
  };
  if (language.empty() || info_.language.empty() || primary(language) == primary(info_.language)) return;
  throw HttpFault(
      400, fmt::format("language: '{}', and the model '{}' knows '{}'", Shorten(language), info_.model, info_.language),
      "unsupported_language", "language");
}

TranscriptionRequest TranscriptionForm::Finish() {
  EndField();
  try {
    parser_->Finish();
  } catch (const Error& e) {
    throw HttpFault(400, e.what(), "invalid_form");
  }
  if (!request_.file) throw HttpFault(400, "file: missing", "missing_required_parameter", "file");
  if (request_.file->size() == 0) throw HttpFault(400, "file: empty", "invalid_value", "file");
  if ((request_.word_times || request_.segment_times) && request_.response_format != "verbose_json")
    throw HttpFault(400, "timestamp_granularities: only with response_format verbose_json", "invalid_value",
                    "timestamp_granularities");
  try {
    request_.file->Finish();
  } catch (const Error& e) {
    throw HttpFault(500, e.what());
  }
  return std::move(request_);
}

HttpResponse FormatTranscription(const TranscriptionRequest& request, const Transcript& transcript,
                                 const ServiceInfo& info) {
  HttpResponse response;
  if (request.response_format == "text") {
    response.body = FormatTranscript(transcript, OutputFormat::kTxt, "");
  } else if (request.response_format == "srt") {
    response.content_type = "application/x-subrip; charset=utf-8";
    response.body = FormatTranscript(transcript, OutputFormat::kSrt, "");
  } else if (request.response_format == "vtt") {
    response.content_type = "text/vtt; charset=utf-8";
    response.body = FormatTranscript(transcript, OutputFormat::kVtt, "");
  } else {
    response.content_type = "application/json";
    response.body = ToText(request.response_format == "verbose_json"
                               ? VerboseJson(request, transcript, info)
                               : Json{{"text", transcript.text}, {"usage", Usage(transcript)}});
  }
  return response;
}

std::string DeltaEvent(const std::string& delta) {
  return Event({{"type", "transcript.text.delta"}, {"delta", delta}});
}

std::string DoneEvent(const Transcript& transcript) {
  return Event({{"type", "transcript.text.done"}, {"text", transcript.text}});
}

std::string ErrorEvent(const std::string& message) {
  return "event: error\ndata: " + ErrorJson(message, "server_error", "", "") + "\n\n";
}

}  // namespace earshot
