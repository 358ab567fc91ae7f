// Decoding by an ffmpeg child process: every container and codec that libsndfile does not read.
//
//   FfmpegSource source("talk.m4a", -1);
//
// The child writes AU (a header of rate and channels, then float samples) into a pipe that libsndfile reads. It may
// open local files and pipes only, so a playlist cannot make it fetch an address; file names are passed behind
// "file:", so none can be taken for an option or a protocol. The child is killed with the source.
//
// No seeking: containers keep times in milliseconds or drop the codec's overlap there, so what follows a seek is not
// the same samples.
#pragma once

#include <memory>
#include <string>

#include "src/audio/audio_source.h"
#include "src/audio/child_process.h"
#include "src/audio/sndfile_source.h"

namespace earshot {

class FfmpegSource : public AudioSource {
 public:
  // stream: a pipe, socket or file that becomes the child's standard input, read instead of path; -1: none.
  // is_file: that stream is a regular file, which the child opens anew so that it can seek.
  // Throws Error with what ffmpeg said, or that it is not installed.
  FfmpegSource(const std::string& path, int stream, bool is_file = false);

  int sample_rate() const override { return output_->sample_rate(); }
  int channels() const override { return output_->channels(); }
  // Both by ffprobe, once; -1 and "ffmpeg" where it is missing or the input is a stream.
  double duration_s() const override;
  std::string format() const override;
  size_t Read(std::span<float> interleaved) override;
  bool Seek(int64_t frame) override { return false; }
  std::string Damage() override;

 private:
  struct Facts {
    double duration_s = -1;
    std::string format = "ffmpeg";
  };
  const Facts& Probe() const;

  std::string name_;
  std::string url_;
  bool can_probe_;
  mutable std::unique_ptr<Facts> facts_;
  ChildProcess child_;
  std::unique_ptr<SndfileSource> output_;
};

}  // namespace earshot
