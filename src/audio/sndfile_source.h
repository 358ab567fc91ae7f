// Decoding by libsndfile, in this process.
//
//   SndfileSource source("talk.flac", std::move(fd), {});
//
// Reads from a descriptor, so that odd file names never matter, and pipes work for the formats that need no seeking
// (WAV, AU). libsndfile ends a truncated or damaged stream as if it were complete; Damage() finds that out.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>

#include "src/audio/audio_source.h"
#include "src/audio/unique_fd.h"

struct sf_private_tag;  // libsndfile's SNDFILE

namespace earshot {

// libsndfile does not take the stream; another decoder may. what() is libsndfile's reason.
class NotSndfile : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class SndfileSource : public AudioSource {
 public:
  struct Options {
    // A pipe or socket: no seeking, no size.
    bool is_stream = false;
    // Frames that the header promises are a placeholder: the writer did not know them yet.
    bool length_unknown = false;
  };

  // name: for errors. Throws NotSndfile.
  SndfileSource(std::string name, UniqueFd fd, const Options& options);
  ~SndfileSource() override;

  int sample_rate() const override { return sample_rate_; }
  int channels() const override { return channels_; }
  double duration_s() const override;
  std::string format() const override;
  size_t Read(std::span<float> interleaved) override;
  bool Seek(int64_t frame) override;
  std::string Damage() override;

 private:
  std::string name_;
  UniqueFd fd_;
  Options options_;
  sf_private_tag* file_ = nullptr;
  int format_ = 0;
  int sample_rate_ = 0;
  int channels_ = 0;
  int64_t num_frames_ = -1;  // -1: unknown
  int64_t position_ = 0;
  std::string failure_;  // how decoding ended before its time
};

// Bytes of a RIFF (WAV) or FORM (AIFF) file that its data chunk reaches past the file's end; 0 where it does not,
// where the length is a streaming writer's placeholder, and in any other file. fd: a regular file; its position stays.
int64_t MissingChunkBytes(int fd);

// A WAV whose writer ended before it filled in the length, which libsndfile takes for an empty one.
bool IsUnfinishedWav(int fd);

// A length near 2 or 4 GiB, or 0, as ffmpeg, sox and arecord write to a pipe before they know it.
bool IsPlaceholderLength(uint32_t length);

}  // namespace earshot
