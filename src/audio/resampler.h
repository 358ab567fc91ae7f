// Change of sample rate in a stream, by soxr (linear phase, 20 bit quality).
//
//   Resampler resampler(44100, 16000);
//   std::vector<float> out;
//   resampler.Process(block, out);   // as often as blocks come
//   resampler.Flush(out);            // the tail
//
// The output does not depend on how the input was cut into blocks, is not delayed (sample i stands at i / output_rate
// seconds), and its length after Flush is llround(samples_in * output_rate / input_rate): never off by the filter.
// Any two rates do, also fractional ones (speed perturbation). Equal rates copy. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

struct soxr;

namespace earshot {

class Resampler {
 public:
  // Hz, or any two numbers of the wanted ratio. Throws Error when either is not positive or soxr refuses the ratio.
  Resampler(double input_rate, double output_rate);
  ~Resampler();
  Resampler(const Resampler&) = delete;
  Resampler& operator=(const Resampler&) = delete;

  // Appends to out what is ready: about samples.size() * output_rate / input_rate, a filter's length (some ms) later.
  void Process(std::span<const float> samples, std::vector<float>& out);
  // The end of the stream: appends the rest. After it the resampler is done; neither call may follow.
  void Flush(std::vector<float>& out);

 private:
  void Run(const float* samples, size_t size, std::vector<float>& out);

  double ratio_;          // output_rate / input_rate
  soxr* soxr_ = nullptr;  // null: equal rates
  int64_t samples_in_ = 0;
  int64_t samples_out_ = 0;
  bool flushed_ = false;
};

// A whole signal at once: llround(samples.size() * output_rate / input_rate) samples.
std::vector<float> Resample(std::span<const float> samples, double input_rate, double output_rate);

}  // namespace earshot
