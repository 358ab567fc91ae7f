#include "src/audio/ffmpeg_source.h"

#include <fcntl.h>

#include <nlohmann/json.hpp>

#include "src/base/error.h"

namespace earshot {
namespace {

std::vector<std::string> DecodeCommand(const std::string& url) {
  return {"ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-protocol_whitelist", "file,pipe",
          "-i", url,
          // The first audio stream, without its tags.
          "-map", "0:a:0", "-map_metadata", "-1",
          // AU holds big-endian samples, says "unknown" for the length, and needs no seeking.
          "-c:a", "pcm_f32be", "-f", "au", "pipe:1"};
}

std::vector<std::string> ProbeCommand(const std::string& url) {
  return {"ffprobe",
          "-loglevel",
          "quiet",
          "-protocol_whitelist",
          "file,pipe",
          "-select_streams",
          "a:0",
          "-show_entries",
          "format=format_name,duration:stream=codec_name",
          "-of",
          "json",
          "-i",
          url};
}

}  // namespace

FfmpegSource::FfmpegSource(const std::string& path, int stream, bool is_file)
    : name_(AudioName(path)),
      url_(stream < 0 ? "file:" + path
           : is_file  ? "file:/dev/stdin"
                      : "pipe:0"),
      can_probe_(stream < 0),
      child_(DecodeCommand(url_), stream) {
  try {
    const SndfileSource::Options options = {.is_stream = true, .length_unknown = true};
    output_ = std::make_unique<SndfileSource>(name_, UniqueFd(fcntl(child_.output(), F_DUPFD_CLOEXEC, 3)), options);
  } catch (const NotSndfile&) {
    // No header came: ffmpeg found no audio, and has said so.
    child_.Wait();
    Throw("ffmpeg: {}", child_.LastWords());
  }
}

size_t FfmpegSource::Read(std::span<float> interleaved) {
  child_.DrainErrors();
  return output_->Read(interleaved);
}

std::string FfmpegSource::Damage() {
  const bool good_end = child_.Wait();
  if (good_end && !child_.Complained()) return "";
  return fmt::format("ffmpeg found damage: {}", child_.LastWords());
}

double FfmpegSource::duration_s() const { return Probe().duration_s; }

std::string FfmpegSource::format() const { return Probe().format; }

const FfmpegSource::Facts& FfmpegSource::Probe() const {
  if (facts_) return *facts_;
  facts_ = std::make_unique<Facts>();
  if (!can_probe_) return *facts_;
  try {
    ChildProcess probe(ProbeCommand(url_));
    const nlohmann::json answer = nlohmann::json::parse(probe.ReadOutput());
    facts_->format = answer.at("format").at("format_name").get<std::string>() + ", " +
                     answer.at("streams").at(0).at("codec_name").get<std::string>();
    facts_->duration_s = std::stod(answer.at("format").at("duration").get<std::string>());
  } catch (const std::exception&) {
    // A container without a duration (raw AAC in a pipe's dump, say) or no ffprobe: unknown stays unknown.
  }
  return *facts_;
}

}  // namespace earshot
