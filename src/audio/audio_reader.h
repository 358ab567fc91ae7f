// Audio in, as a stream of mono float samples at the rate that is asked for.
//
//   auto reader = AudioReader::Open("talk.m4a", {.sample_rate = 16000});
//   std::vector<float> block(16000);
//   while (size_t n = reader->Read(block)) Use(std::span(block).first(n));
//
//   std::vector<float> samples = ReadAudio("cut.flac", {.offset_s = 12.5, .duration_s = 3});
//
// WAV (PCM of 8, 16, 24, 32 bits, float, a-law, mu-law), AIFF, AU, NIST SPHERE, FLAC, Ogg Vorbis and Opus and MP3
// are read in the process by libsndfile; everything else (m4a, webm, mkv, mp4, amr, wma ...) by an ffmpeg child, and so
// are Ogg Opus files with time stamps that libsndfile refuses (see ogg_opus.h; their own rate is then 48 kHz).
// Several channels become one by their mean; soxr changes the rate. Memory is constant: ten hours cost what one
// second costs. A reader belongs to one thread at a time; different readers are independent.
//
// "-" is standard input, in any container. A pipe that carries plain WAV is read directly (no ffmpeg needed and no
// probing delay, so `arecord | earshot ...` is live); another container on a pipe is handed to the ffmpeg child,
// unread and without a copy on disk; a redirected file (`< talk.m4a`) is opened as that file. Named pipes and
// process substitution, <(...), do the same.
//
// Errors are thrown as Error and name the file, what was found and what to do: missing, a folder, 0 bytes, not audio,
// a rate outside 1-768 kHz, more than 256 channels, NaN or infinite samples (with the second), an offset past the
// end, ffmpeg not installed (where it is needed).
//
// Truncated or damaged files. What can be decoded is always given first; only at its end is the shortage reported:
// by Error, or by one warning in the log with allow_damaged. It is noticed where the file tells: WAV and AIFF whose
// data chunk is longer than the file; FLAC and Ogg shorter than their header or last page promises (libsndfile ends
// such a stream also at a damaged spot in its middle, so all behind that is lost); MP3 in which the decoder
// stopped early; whatever ffmpeg calls an error. An MP3, AAC or SPHERE file cut at its end looks like a shorter one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace earshot {

class AudioSource;
class Resampler;

struct AudioOptions {
  // Hz of what Read gives. 0: the file's own.
  int sample_rate = 16000;
  // Where to begin, in seconds. Exact to the sample in every format: pieces [a, b) and [b, c) join without gap or
  // overlap at the file's own rate. WAV, FLAC and the like seek; MP3, Ogg, ffmpeg's
  // containers and pipes, where seeking is not exact, are decoded up to here.
  double offset_s = 0;
  // How much to read, in seconds; what lies past the end of the file is not there, and no error. -1: to the end.
  double duration_s = -1;
  // true: a truncated or damaged file ends where decoding ended, with a warning; false: throws Error there.
  bool allow_damaged = false;
};

class AudioReader {
 public:
  // path: "-" for standard input. Throws Error.
  static std::unique_ptr<AudioReader> Open(const std::string& path, const AudioOptions& options);
  ~AudioReader();
  AudioReader(const AudioReader&) = delete;
  AudioReader& operator=(const AudioReader&) = delete;

  // Fills out wholly unless the stream ends; returns how many samples were written, 0 at the end. Full scale is
  // [-1, 1]; float files and lossy codecs may go over it and are not clipped. Throws Error when the audio is damaged:
  // at once for samples that are no numbers, otherwise in the call that would have returned 0.
  size_t Read(std::span<float> out);

  // Of what Read gives.
  int sample_rate() const { return output_rate_; }
  // Of the whole stream, offset and duration_s apart, as far as the header tells (MP3 without a Xing header: an
  // estimate). -1: unknown, as on most pipes. For ffmpeg's containers the first call runs ffprobe.
  double duration_s() const;

 private:
  AudioReader(const std::string& path, const AudioOptions& options);
  void SkipTo(int64_t frame);
  void Refill(size_t wanted);
  void CheckFinite(std::span<const float> mono) const;
  void ReportDamage();

  std::string name_;
  AudioOptions options_;
  std::unique_ptr<AudioSource> source_;
  std::unique_ptr<Resampler> resampler_;  // null where the rates are equal
  int output_rate_ = 0;
  int64_t position_ = 0;              // frames of the source read so far
  int64_t end_ = 0;                   // the frame to stop before
  std::vector<float> frames_, mono_;  // one block of the source, interleaved and mixed
  std::vector<float> ready_;          // samples for Read, from ready_begin_ on
  size_t ready_begin_ = 0;
  bool finished_ = false;
  bool reported_ = false;
};

// All of it at once. No samples (a header alone, a duration_s of 0): an empty vector. Throws Error.
std::vector<float> ReadAudio(const std::string& path, const AudioOptions& options = {});

struct AudioInfo {
  int sample_rate = 0;  // the file's own
  int channels = 0;
  double duration_s = -1;  // as AudioReader::duration_s
  std::string format;      // for people: "FLAC (Free Lossless Audio Codec), Signed 16 bit PCM", "mov,mp4,m4a, aac"
};

// What a file says of itself, without decoding it. Of a pipe this eats the beginning. Throws Error.
AudioInfo ProbeAudio(const std::string& path);

}  // namespace earshot
