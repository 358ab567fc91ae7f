// Random problems for the attention kernels, and their answers by the definition, in double.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "src/attention/attention_kernel.h"
#include "src/base/random.h"

namespace earshot {

inline uint16_t ToBFloat16(double x) {
  const auto bits = std::bit_cast<uint32_t>(static_cast<float>(x));
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// (frames, heads, d) values of either type; frames lie `frame_stride` apart, which may be more than heads x d.
class HeadsArray {
 public:
  HeadsArray(KernelType type, int64_t frames, int heads, int d, int64_t gap = 0)
      : type_(type), d_(d), frame_stride_(static_cast<int64_t>(heads) * d + gap) {
    // Not one value behind the last: a read of it would be found.
    const auto count = static_cast<size_t>(std::max<int64_t>(0, frames * frame_stride_ - gap));
    if (type == KernelType::kFloat) {
      floats_.resize(count);
    } else {
      shorts_.resize(count);
    }
  }
  double Get(int64_t frame, int64_t head, int64_t c) const {
    const auto i = static_cast<size_t>(frame * frame_stride_ + head * d_ + c);
    if (type_ == KernelType::kFloat) return static_cast<double>(floats_[i]);
    return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(shorts_[i]) << 16));
  }
  void Set(int64_t frame, int64_t head, int64_t c, double x) {
    const auto i = static_cast<size_t>(frame * frame_stride_ + head * d_ + c);
    if (type_ == KernelType::kFloat) {
      floats_[i] = static_cast<float>(x);
    } else {
      shorts_[i] = ToBFloat16(x);
    }
  }
  HeadsView View() { return {Data(), frame_stride_, d_}; }
  ConstHeadsView ConstView() { return {Data(), frame_stride_, d_}; }
  bool operator==(const HeadsArray& other) const { return floats_ == other.floats_ && shorts_ == other.shorts_; }

 private:
  void* Data() { return type_ == KernelType::kFloat ? static_cast<void*>(floats_.data()) : shorts_.data(); }

  KernelType type_;
  int64_t d_, frame_stride_;
  std::vector<float> floats_;
  std::vector<uint16_t> shorts_;
};

struct ProblemSpec {
  KernelType type = KernelType::kFloat;
  int heads = 1, kv_heads = 1, head_dim = 64;
  int64_t first_query = 0, rows = 0;  // rows of k and v
  bool bias = false;
  int num_scores = 0;
  double logit_scale = 1;  // q is so much larger than what gives logits of variance 1
};

// The largest difference, absolute and over the largest value.
struct Difference {
  double absolute = 0, scale = 0;
  bool finite = true;
  void Add(double got, double expected) {
    if (got == expected) return;  // infinities too
    finite = finite && std::isfinite(got) && std::isfinite(expected);
    absolute = std::max(absolute, std::abs(got - expected));
    scale = std::max(scale, std::abs(expected));
  }
  void Scale(double value) { scale = std::max(scale, std::abs(value)); }
  double Relative() const { return !finite ? 1 / 0.0 : absolute == 0 ? 0 : absolute / scale; }
};

// One unit with all that the kernels read and write.
class Problem {
 public:
  Problem(const ProblemSpec& spec, KeyUnit unit, Random& random)
      : spec_(spec),
        unit_(std::move(unit)),
        frames_(unit_.first_query + unit_.num_queries),
        q_(spec.type, frames_, spec.heads, spec.head_dim, 24),
        k_(spec.type, spec.rows, spec.kv_heads, spec.head_dim, 8),
        v_(spec.type, spec.rows, spec.kv_heads, spec.head_dim),
        out_(spec.type, frames_, spec.heads, spec.head_dim, 40),
        grad_out_(spec.type, frames_, spec.heads, spec.head_dim),
        grad_q_(spec.type, frames_, spec.heads, spec.head_dim),
        lse_(static_cast<size_t>(spec.heads * frames_)) {
    Fill(q_, frames_, spec.heads, spec.logit_scale, random);
    Fill(k_, spec.rows, spec.kv_heads, 1, random);
    Fill(v_, spec.rows, spec.kv_heads, 1, random);
    Fill(grad_out_, frames_, spec.heads, 1, random);
    if (spec.bias) {
      for (int64_t j = 0; j < spec.rows; ++j) bias_.push_back(static_cast<float>(random.Uniform(-3, 0)));
    }
    for (int j = 0; j < spec.num_scores; ++j) scores_.push_back(static_cast<float>(random.Uniform(-2, 2)));
    const auto kv = static_cast<size_t>(spec.kv_heads);
    grad_k_.resize(kv * static_cast<size_t>(spec.rows * spec.head_dim));
    grad_v_.resize(grad_k_.size());
    grad_bias_.resize(kv * bias_.size());
    grad_scores_.resize(kv * scores_.size());
  }

  AttentionArguments Arguments() {
    return {.type = spec_.type,
            .heads = spec_.heads,
            .kv_heads = spec_.kv_heads,
            .head_dim = spec_.head_dim,
            .scale = Scale(),
            .q = q_.ConstView(),
            .k = k_.ConstView(),
            .v = v_.ConstView(),
            .bias = bias_.empty() ? nullptr : bias_.data(),
            .scores = scores_.empty() ? nullptr : scores_.data(),
            .out = out_.View(),
            .lse = lse_.data(),
            .lse_stride = frames_};
  }
  void Forward(SimdLevel level) {
    AttentionScratch scratch;
    for (int head = 0; head < spec_.kv_heads; ++head) AttentionForward(level, Arguments(), unit_, head, scratch);
  }
  // Gradients of sum(out x grad_out), added to what there was.
  void Backward(SimdLevel level) {
    AttentionScratch scratch;
    const int64_t d = spec_.head_dim;
    const AttentionGradients gradients = {.grad_out = grad_out_.ConstView(),
                                          .grad_q = grad_q_.View(),
                                          .grad_k = {grad_k_.data(), d, spec_.rows * d},
                                          .grad_v = {grad_v_.data(), d, spec_.rows * d},
                                          .grad_bias = bias_.empty() ? nullptr : grad_bias_.data(),
                                          .bias_stride = static_cast<int64_t>(bias_.size()),
                                          .grad_scores = scores_.empty() ? nullptr : grad_scores_.data(),
                                          .scores_stride = static_cast<int64_t>(scores_.size())};
    for (int head = 0; head < spec_.kv_heads; ++head)
      AttentionBackward(level, Arguments(), gradients, unit_, head, scratch);
  }

  // By the definition, from the values that the kernel reads. Row (head, query of the unit): weights over entries.
  struct Answer {
    std::vector<std::vector<double>> weights;
    std::vector<double> lse;
    std::vector<double> out;  // (heads, queries, d)
  };
  Answer Solve() const;
  // Differences of out (scaled by the largest value: `value_scale`, or by the largest output) and lse.
  Difference CompareOut(const Answer& answer, bool value_scale) const;
  Difference CompareLse(const Answer& answer) const;
  // Of grad_q, grad_k, grad_v, grad_bias, grad_scores.
  std::vector<Difference> CompareGradients(const Answer& answer) const;

  const ProblemSpec& spec() const { return spec_; }
  const KeyUnit& unit() const { return unit_; }
  std::vector<float>& bias() { return bias_; }
  std::vector<float>& scores() { return scores_; }
  HeadsArray& q() { return q_; }
  HeadsArray& k() { return k_; }
  HeadsArray& v() { return v_; }
  HeadsArray& out() { return out_; }
  std::vector<float>& lse() { return lse_; }
  bool SameResults(const Problem& other) const {
    return out_ == other.out_ && lse_ == other.lse_ && grad_q_ == other.grad_q_ && grad_k_ == other.grad_k_ &&
           grad_v_ == other.grad_v_ && grad_bias_ == other.grad_bias_ && grad_scores_ == other.grad_scores_;
  }

 private:
  float Scale() const { return static_cast<float>(1 / std::sqrt(static_cast<double>(spec_.head_dim))); }
  static void Fill(HeadsArray& array, int64_t frames, int heads, double size, Random& random) {
    for (int64_t t = 0; t < frames; ++t)
      for (int h = 0; h < heads; ++h)
        for (int c = 0; c < array.View().head_stride; ++c) array.Set(t, h, c, size * random.Normal());
  }
  bool Sees(const KeyEntry& entry, int r) const { return entry.first <= r && r < entry.end; }
  int KvHead(int head) const { return head / (spec_.heads / spec_.kv_heads); }
  size_t RowIndex(int head, int r) const {
    return static_cast<size_t>(head) * static_cast<size_t>(unit_.num_queries) + static_cast<size_t>(r);
  }
  size_t OutIndex(int head, int r, int c) const {
    return RowIndex(head, r) * static_cast<size_t>(spec_.head_dim) + static_cast<size_t>(c);
  }

  ProblemSpec spec_;
  KeyUnit unit_;
  int64_t frames_;
  HeadsArray q_, k_, v_, out_, grad_out_, grad_q_;
  std::vector<float> lse_, bias_, scores_, grad_k_, grad_v_, grad_bias_, grad_scores_;
};

inline Problem::Answer Problem::Solve() const {
  Answer answer;
  const int d = spec_.head_dim, n = unit_.num_queries;
  answer.out.resize(static_cast<size_t>(spec_.heads) * static_cast<size_t>(n) * static_cast<size_t>(d));
  for (int head = 0; head < spec_.heads; ++head) {
    for (int r = 0; r < n; ++r) {
      std::vector<double> logits;
      double largest = -std::numeric_limits<double>::infinity();
      for (const KeyEntry& entry : unit_.keys) {
        double logit = -std::numeric_limits<double>::infinity();
        if (Sees(entry, r)) {
          logit = 0;
          for (int c = 0; c < d; ++c)
            logit += q_.Get(unit_.first_query + r, head, c) * k_.Get(entry.row, KvHead(head), c);
          logit *= static_cast<double>(Scale());
          if (!bias_.empty()) logit += static_cast<double>(bias_[static_cast<size_t>(entry.row)]);
          if (entry.score >= 0) logit += static_cast<double>(scores_[static_cast<size_t>(entry.score)]);
        }
        logits.push_back(logit);
        largest = std::max(largest, logit);
      }
      double sum = 0;
      for (double& x : logits) sum += x = std::isinf(largest) ? 0 : std::exp(x - largest);
      for (size_t e = 0; e < logits.size(); ++e) {
        if (sum > 0) logits[e] /= sum;
        if (logits[e] == 0) continue;
        for (int c = 0; c < d; ++c)
          answer.out[OutIndex(head, r, c)] += logits[e] * v_.Get(unit_.keys[e].row, KvHead(head), c);
      }
      answer.lse.push_back(largest + std::log(sum));
      if (sum == 0) answer.lse.back() = -std::numeric_limits<double>::infinity();
      answer.weights.push_back(std::move(logits));
    }
  }
  return answer;
}

inline Difference Problem::CompareOut(const Answer& answer, bool value_scale) const {
  Difference difference;
  for (int head = 0; head < spec_.heads; ++head)
    for (int r = 0; r < unit_.num_queries; ++r)
      for (int c = 0; c < spec_.head_dim; ++c) {
        const double expected = answer.out[OutIndex(head, r, c)];
        difference.Add(out_.Get(unit_.first_query + r, head, c), expected);
        difference.Scale(expected);
      }
  if (value_scale) {
    for (const KeyEntry& entry : unit_.keys)
      for (int c = 0; c < spec_.head_dim; ++c) difference.Scale(v_.Get(entry.row, 0, c));
  }
  return difference;
}

inline Difference Problem::CompareLse(const Answer& answer) const {
  Difference difference;
  difference.Scale(1);
  for (int head = 0; head < spec_.heads; ++head)
    for (int r = 0; r < unit_.num_queries; ++r) {
      const double expected = answer.lse[RowIndex(head, r)];
      difference.Add(static_cast<double>(lse_[static_cast<size_t>(head * frames_ + unit_.first_query + r)]), expected);
      if (std::isfinite(expected)) difference.Scale(expected);
    }
  return difference;
}

inline std::vector<Difference> Problem::CompareGradients(const Answer& answer) const {
  const int d = spec_.head_dim, n = unit_.num_queries;
  std::vector<double> k(grad_k_.size()), v(k), bias(grad_bias_.size()), scores(grad_scores_.size());
  std::vector<Difference> differences(5);
  for (int head = 0; head < spec_.heads; ++head) {
    const auto kv = static_cast<size_t>(KvHead(head));
    for (int r = 0; r < n; ++r) {
      const int64_t frame = unit_.first_query + r;
      const std::vector<double>& weights = answer.weights[RowIndex(head, r)];
      double delta = 0;
      for (int c = 0; c < d; ++c) delta += grad_out_.Get(frame, head, c) * answer.out[OutIndex(head, r, c)];
      std::vector<double> q(static_cast<size_t>(d));
      for (size_t e = 0; e < weights.size(); ++e) {
        if (weights[e] == 0) continue;
        const KeyEntry& entry = unit_.keys[e];
        const auto row = static_cast<size_t>(entry.row);
        const size_t at = (kv * static_cast<size_t>(spec_.rows) + row) * static_cast<size_t>(d);
        double product = 0;
        for (int c = 0; c < d; ++c) product += grad_out_.Get(frame, head, c) * v_.Get(entry.row, KvHead(head), c);
        const double grad = weights[e] * (product - delta), scaled = grad * static_cast<double>(Scale());
        // Where one weight is nearly 1 the difference is nearly 0: the scale is that of what is subtracted.
        const double size = weights[e] * (std::abs(product) + std::abs(delta));
        for (Difference& difference : differences) difference.Scale(&difference >= &differences[3] ? size : 0);
        for (int c = 0; c < d; ++c) {
          const auto i = static_cast<size_t>(c);
          const double scaled_size = size * static_cast<double>(Scale());
          differences[0].Scale(scaled_size * k_.Get(entry.row, KvHead(head), c));
          differences[1].Scale(scaled_size * q_.Get(frame, head, c));
          q[i] += scaled * k_.Get(entry.row, KvHead(head), c);
          k[at + i] += scaled * q_.Get(frame, head, c);
          v[at + i] += weights[e] * grad_out_.Get(frame, head, c);
        }
        if (!bias.empty()) bias[kv * bias_.size() + row] += grad;
        if (entry.score >= 0) scores[kv * scores_.size() + static_cast<size_t>(entry.score)] += grad;
      }
      for (int c = 0; c < d; ++c) {
        differences[0].Add(grad_q_.Get(frame, head, c), q[static_cast<size_t>(c)]);
        differences[0].Scale(q[static_cast<size_t>(c)]);
      }
    }
  }
  const auto add = [](Difference& difference, const std::vector<float>& got, const std::vector<double>& expected) {
    for (size_t i = 0; i < got.size(); ++i) {
      difference.Add(static_cast<double>(got[i]), expected[i]);
      difference.Scale(expected[i]);
    }
  };
  add(differences[1], grad_k_, k);
  add(differences[2], grad_v_, v);
  add(differences[3], grad_bias_, bias);
  add(differences[4], grad_scores_, scores);
  return differences;
}

}  // namespace earshot
