#include "src/audio/resampler.h"

#include <soxr.h>

#include <algorithm>
#include <cmath>

#include "src/base/error.h"

namespace earshot {
namespace {

// Input handed to soxr at a time: it buffers what it is given.
constexpr size_t kBlock = 8192;

}  // namespace

Resampler::Resampler(double input_rate, double output_rate) : ratio_(output_rate / input_rate) {
  if (!(input_rate > 0) || !(output_rate > 0) || !std::isfinite(ratio_) || !(ratio_ > 0))
    Throw("resampling from {} Hz to {} Hz, expected two positive rates", input_rate, output_rate);
  if (input_rate == output_rate) return;
  soxr_error_t error = nullptr;
  const soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
  const soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
  const soxr_runtime_spec_t runtime = soxr_runtime_spec(1);
  soxr_ = soxr_create(input_rate, output_rate, 1, &error, &io, &quality, &runtime);
  if (soxr_ == nullptr || error != nullptr) {
    soxr_delete(soxr_);
    Throw("resampling from {} Hz to {} Hz: soxr: {}", input_rate, output_rate, error ? error : "no memory");
  }
}

Resampler::~Resampler() { soxr_delete(soxr_); }

void Resampler::Process(std::span<const float> samples, std::vector<float>& out) {
  EARSHOT_CHECK(!flushed_, "Process after Flush: make a Resampler for each stream");
  samples_in_ += static_cast<int64_t>(samples.size());
  if (soxr_ == nullptr) {
    out.insert(out.end(), samples.begin(), samples.end());
    return;
  }
  for (size_t at = 0; at < samples.size(); at += kBlock)
    Run(samples.data() + at, std::min(kBlock, samples.size() - at), out);
}

void Resampler::Flush(std::vector<float>& out) {
  EARSHOT_CHECK(!flushed_, "Flush twice: make a Resampler for each stream");
  flushed_ = true;
  if (soxr_ == nullptr) return;
  const size_t begin = out.size();
  const int64_t before = samples_out_;
  // A null input is soxr's word for the end.
  Run(nullptr, 0, out);
  // soxr counts in its own fixed point and may round a half the other way.
  const int64_t rest = std::llround(static_cast<double>(samples_in_) * ratio_) - before;
  out.resize(begin + static_cast<size_t>(std::max<int64_t>(rest, 0)), 0.0f);
}

void Resampler::Run(const float* samples, size_t size, std::vector<float>& out) {
  size_t room = static_cast<size_t>(static_cast<double>(size) * ratio_) + 1024;
  for (;;) {
    const size_t begin = out.size();
    out.resize(begin + room);
    size_t taken = 0, given = 0;
    const soxr_error_t error = soxr_process(soxr_, samples, size, &taken, out.data() + begin, room, &given);
    out.resize(begin + given);
    if (error != nullptr) Throw("resampling failed: soxr: {}", error);
    samples_out_ += static_cast<int64_t>(given);
    // Done when the input is taken and the output did not fill its room; at the end, when nothing more comes.
    if (samples == nullptr ? given == 0 : taken == size && given < room) return;
    if (samples != nullptr) {
      samples += taken;
      size -= taken;
    }
  }
}

std::vector<float> Resample(std::span<const float> samples, double input_rate, double output_rate) {
  Resampler resampler(input_rate, output_rate);
  std::vector<float> out;
  out.reserve(static_cast<size_t>(static_cast<double>(samples.size()) * output_rate / input_rate) + 16384);
  resampler.Process(samples, out);
  resampler.Flush(out);
  return out;
}

}  // namespace earshot
