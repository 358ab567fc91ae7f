// POST /v1/audio/transcriptions as OpenAI has it: the form that asks, and the answers.
//
//   TranscriptionForm form(content_type, info, {.folder = "/tmp", .max_bytes = 100 << 20});
//   form.Append(bytes);                                 // any number, as they come
//   const TranscriptionRequest request = form.Finish();
//   ... transcribe request.file->path() ...
//   HttpResponse response = FormatTranscription(request, transcript, info);
//
// file is stored as it comes; model (of info, or left out), language, prompt, response_format (json, text, srt,
// verbose_json, vtt), timestamp_granularities[] (word, segment), temperature and stream may come before or after it.
// prompt and temperature have no effect: recognition here samples nothing. Mistakes throw HttpFault. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "src/base/error.h"
#include "src/decode/transcript.h"
#include "src/serve/http_message.h"
#include "src/serve/multipart.h"
#include "src/serve/uploaded_file.h"
#include "src/stream/recognition_service.h"

namespace earshot {

// An error that has its response.
class HttpFault : public Error {
 public:
  HttpFault(int status, const std::string& message, const std::string& code = "", const std::string& param = "")
      : Error(message), response(ErrorResponse(status, message, code, param)) {}
  HttpResponse response;
};

struct UploadLimits {
  std::string folder;  // of the file; empty: $TMPDIR, or /tmp
  int64_t max_bytes = 100 * 1024 * 1024;
};

struct TranscriptionRequest {
  std::string response_format = "json";
  bool word_times = false, segment_times = false, stream = false;
  std::unique_ptr<UploadedFile> file;
};

class TranscriptionForm : private MultipartHandler {
 public:
  TranscriptionForm(std::string_view content_type, const ServiceInfo& info, const UploadLimits& limits);

  void Append(std::string_view bytes);
  TranscriptionRequest Finish();

 private:
  void OnPart(const MultipartHeader& header) override;
  void OnBytes(std::string_view bytes) override;
  // Takes in the field that ended.
  void EndField();
  void CheckLanguage(const std::string& language) const;

  const ServiceInfo& info_;
  const UploadLimits limits_;
  std::optional<MultipartParser> parser_;
  TranscriptionRequest request_;
  std::string name_, value_;
  bool in_file_ = false, in_field_ = false;
};

HttpResponse FormatTranscription(const TranscriptionRequest& request, const Transcript& transcript,
                                 const ServiceInfo& info);

// Server-sent events: "data: {...}\n\n".
std::string DeltaEvent(const std::string& delta);
std::string DoneEvent(const Transcript& transcript);
std::string ErrorEvent(const std::string& message);

}  // namespace earshot
