// Augmentation of waves: speed, room, noise, gain, in this order, each drawn anew for every utterance.
//
//   WaveAugment augment({.speed_factors = {0.9, 1.0, 1.1}, .noise_list = "noise/manifest.jsonl",
//                        .noise_probability = 0.5});
//   Random random = Random::For({seed, epoch, utterance});
//   augment.Apply(samples, 16000, random);   // the same state of random gives the same samples
//
// Noises and rooms are read once, by the constructor. Immutable after that, and thread-safe. (Vocal tract length
// is a parameter of FeatureExtractor::Compute.)
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "src/base/options.h"
#include "src/base/random.h"

namespace earshot {

struct WaveAugmentOptions {
  // Hz, that noises and rooms are kept at: that of the samples to come.
  int sample_rate = 16000;
  // One is drawn. 1.1: 1.1 times as fast and as high (Ko et al. 2015). Empty: speed_range alone.
  std::vector<double> speed_factors = {};
  // Lowest and highest factor, drawn evenly, on top. Empty: none.
  std::vector<double> speed_range = {};
  // Lowest and highest gain in dB, drawn evenly. Empty: none.
  std::vector<double> gain_db = {};
  // A list of recordings: JSON lines with "audio_filepath", or plain paths, one a line; relative to the list's
  // folder. Empty: none.
  std::string noise_list = {};
  double noise_probability = 0;
  // Lowest and highest signal-to-noise ratio in dB, drawn evenly; the signal is the active part of the speech.
  std::vector<double> snr_db = {5, 25};
  // Room impulse responses, listed like the noises.
  std::string rir_list = {};
  double rir_probability = 0;

  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

class WaveAugment {
 public:
  // Throws Error when the options do not hold together, or a recording cannot be read or is silent.
  explicit WaveAugment(const WaveAugmentOptions& options);

  // In place; speed changes the length. sample_rate must be that of the options.
  void Apply(std::vector<float>& samples, int sample_rate, Random& random) const;

 private:
  WaveAugmentOptions options_;
  std::vector<std::vector<float>> noises_;
  std::vector<std::vector<float>> rooms_;
};

// The recordings of a noise_list or rir_list, whole, at this rate. Throws Error when the list or one of them cannot be
// read, or one is silent.
std::vector<std::vector<float>> LoadRecordings(const std::string& list, int sample_rate);

// The steps, for tests and for callers with draws of their own.

// factor times as fast, pitch with it: S / factor samples, rounded.
std::vector<float> ChangeSpeed(std::span<const float> samples, double factor, int sample_rate);

// Mean square of the frames of 25 ms that speak: those within 30 dB of the loudest. 0 for silence.
double ActivePower(std::span<const float> samples, int sample_rate);

// Adds noise from noise[offset] on, over and over where it is short, so that ActivePower(samples) is snr_db above
// the mean square of what is added. Silent samples, or a silent stretch of noise, stay as they are.
void AddNoise(std::span<float> samples, std::span<const float> noise, size_t offset, double snr_db, int sample_rate);

// Convolves with an impulse response. Its largest value is the direct path and stays in place, so words keep their
// times; length and mean square stay too.
void Reverberate(std::span<float> samples, std::span<const float> impulse_response);

}  // namespace earshot
