// The decoders' side of AudioReader: frames as the file holds them, its rate and its channels.
//
//   std::unique_ptr<AudioSource> source = OpenAudioSource("talk.m4a");
//   size_t frames = source->Read(interleaved);
//
// SndfileSource decodes in the process, FfmpegSource in a child; OpenAudioSource chooses.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace earshot {

class AudioSource {
 public:
  virtual ~AudioSource() = default;

  virtual int sample_rate() const = 0;
  virtual int channels() const = 0;
  // As the header tells; -1: unknown.
  virtual double duration_s() const = 0;
  // Container and codec, for people.
  virtual std::string format() const = 0;

  // interleaved: (frames, channels); its size is a multiple of channels. Returns how many frames were written, 0 at
  // the end. Throws Error when decoding fails.
  virtual size_t Read(std::span<float> interleaved) = 0;
  // Moves to a frame, exactly; false: not possible here, and the position is the first frame. Before any Read.
  virtual bool Seek(int64_t frame) = 0;
  // After Read gave 0: what was wrong although decoding went on or ended quietly. Empty: nothing.
  virtual std::string Damage() = 0;
};

// path: "-" for standard input. Throws Error: see audio_reader.h.
std::unique_ptr<AudioSource> OpenAudioSource(const std::string& path);

// How errors call the file.
std::string AudioName(const std::string& path);

}  // namespace earshot
