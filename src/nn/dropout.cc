#include "src/nn/dropout.h"

#include <ATen/Parallel.h>

#include "src/base/random.h"

namespace earshot {
namespace {

using torch::Tensor;

Random& ThreadRandom() {
  thread_local Random random(0);
  return random;
}

// out[i] = x[i] * scale where the hash of i reaches the threshold, else 0.
template <class T>
inline void MaskLoop(const T* x, T* out, int64_t begin, int64_t end, uint32_t seed, uint32_t threshold, float scale) {
  for (int64_t i = begin; i < end; ++i) {
    uint32_t h = static_cast<uint32_t>(i) * 0x9E3779B1U + seed;
    h = (h ^ (h >> 16U)) * 0x85EBCA6BU;
    h = (h ^ (h >> 13U)) * 0xC2B2AE35U;
    h ^= h >> 16U;
    // A product, not a choice of results: compilers turn this form into vectors.
    out[i] = static_cast<T>(static_cast<float>(x[i]) * (h >= threshold ? scale : 0.0F));
  }
}

// ThreadSanitizer is not there yet when the loader chooses.
#if defined(__SANITIZE_THREAD__)
#define EARSHOT_CLONES
#else
#define EARSHOT_CLONES __attribute__((target_clones("default", "avx2", "arch=x86-64-v4")))
#endif

// The common case, compiled for each kind of CPU and chosen at run time.
EARSHOT_CLONES void MaskFloats(const float* x, float* out, int64_t begin, int64_t end, uint32_t seed,
                               uint32_t threshold, float scale) {
  MaskLoop(x, out, begin, end, seed, threshold, scale);
}

Tensor ApplyMask(const Tensor& input, uint32_t seed, double probability) {
  const Tensor x = input.contiguous();
  Tensor out = torch::empty_like(x);
  const auto threshold = static_cast<uint32_t>(probability * 4294967296.0);
  const auto scale = static_cast<float>(1.0 / (1.0 - probability));
  at::parallel_for(0, x.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
    if (x.scalar_type() == torch::kFloat) {
      MaskFloats(x.const_data_ptr<float>(), out.data_ptr<float>(), begin, end, seed, threshold, scale);
    } else if (x.scalar_type() == torch::kBFloat16) {
      MaskLoop(x.const_data_ptr<at::BFloat16>(), out.data_ptr<at::BFloat16>(), begin, end, seed, threshold, scale);
    } else {
      MaskLoop(x.const_data_ptr<double>(), out.data_ptr<double>(), begin, end, seed, threshold, scale);
    }
  });
  return out;
}

class HashedDropout : public torch::autograd::Function<HashedDropout> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, int64_t seed, double probability) {
    context->saved_data["seed"] = seed;
    context->saved_data["probability"] = probability;
    return ApplyMask(x, static_cast<uint32_t>(seed), probability);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto seed = static_cast<uint32_t>(context->saved_data["seed"].toInt());
    return {ApplyMask(grads[0], seed, context->saved_data["probability"].toDouble()), Tensor(), Tensor()};
  }
};

}  // namespace

void SeedDropout(uint64_t seed) { ThreadRandom() = Random(seed); }

double DropoutUniform() { return ThreadRandom().Uniform(); }

Tensor Dropout(const Tensor& x, double probability, bool training) {
  if (!training || probability <= 0) return x;
  if (!x.is_cpu() || x.scalar_type() == torch::kHalf) return torch::dropout(x, probability, true);
  return HashedDropout::apply(x, static_cast<int64_t>(ThreadRandom().Next()), probability);
}

}  // namespace earshot
