#include "tests/attention/cuda_emulation/attention_problem.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "src/attention/cuda/pattern_terms.h"
#include "tests/attention/random_selection.h"

namespace earshot {
namespace {

const CudaAttentionTable& Table() { return *EarshotCudaAttention(); }

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double FromElement(CudaElement element, uint16_t bits) {
  if (element == CudaElement::kBFloat16) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, 4);
    return value;
  }
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  if (exponent == 31) value = fraction == 0 ? kInfinity : std::numeric_limits<double>::quiet_NaN();
  return bits & 0x8000 ? -value : value;
}

// The nearest, ties to even; of numbers that are no infinity in the type.
uint16_t ToElement(CudaElement element, double value) {
  const int digits = element == CudaElement::kBFloat16 ? 8 : 11, smallest = digits == 8 ? -125 : -13;
  int exponent;
  std::frexp(value, &exponent);
  const double unit = std::ldexp(1, std::max(exponent, smallest) - digits);
  const auto rounded = static_cast<float>(std::nearbyint(value / unit) * unit);
  if (element == CudaElement::kBFloat16) {
    uint32_t bits;
    std::memcpy(&bits, &rounded, 4);
    return static_cast<uint16_t>(bits >> 16);
  }
  const double size = std::abs(rounded);
  std::frexp(size, &exponent);
  const int sign = std::signbit(rounded) ? 0x8000 : 0;
  if (size == 0) return static_cast<uint16_t>(sign);
  if (exponent < smallest) return static_cast<uint16_t>(sign | static_cast<int>(std::ldexp(size, 24)));
  return static_cast<uint16_t>(sign | (exponent + 14) << 10 |
                               (static_cast<int>(std::ldexp(size, 11 - exponent)) & 1023));
}

}  // namespace

AttentionProblem::AttentionProblem(const ProblemOptions& o) : options(o), random(o.seed) {
  for (const int32_t length : o.lengths) {
    utterances.push_back({num_queries, length});
    num_queries += length + o.gap;
  }
  num_keys = num_queries + o.extra_keys, num_scores = o.scores ? o.num_scores : 0;
  const auto fill = [&](DeviceVector<uint16_t>& x, int64_t size) {
    x.resize(size);
    for (uint16_t& element : x) element = ToElement(o.element, random.Normal());
  };
  // Queries as the first heads of a fused projection; keys and values as those behind them where they fit.
  const int64_t d = o.head_dim, fused = (o.heads + 2 * o.kv_heads) * d + o.padding, kv = o.kv_heads * d + o.padding;
  const uint16_t nan = 0xFFFF;
  fill(projection, num_queries * fused);
  grad_projection.assign(projection.size(), nan);
  CudaAttentionArguments& a = arguments;
  a.element = o.element, a.heads = o.heads, a.kv_heads = o.kv_heads, a.head_dim = o.head_dim;
  a.scale = 1.F / std::sqrt(static_cast<float>(d));
  a.num_queries = num_queries, a.num_keys = num_keys;
  a.q = {projection.data(), fused, d};
  gradients.grad_q = {grad_projection.data(), fused, d};
  if (o.extra_keys == 0) {
    a.k = {projection.data() + o.heads * d, fused, d};
    a.v = {projection.data() + (o.heads + o.kv_heads) * d, fused, d};
    gradients.grad_k = {grad_projection.data() + o.heads * d, fused, d};
    gradients.grad_v = {grad_projection.data() + (o.heads + o.kv_heads) * d, fused, d};
  } else {
    fill(keys, num_keys * kv), fill(values, num_keys * kv);
    grad_keys.assign(keys.size(), nan), grad_values.assign(values.size(), nan);
    a.k = {keys.data(), kv, d}, a.v = {values.data(), kv, d};
    gradients.grad_k = {grad_keys.data(), kv, d}, gradients.grad_v = {grad_values.data(), kv, d};
  }
  out.assign(num_queries * (o.heads * d + o.padding), nan);
  a.out = {out.data(), o.heads * d + o.padding, d};
  fill(grad_out, static_cast<int64_t>(out.size()));
  gradients.grad_out = {grad_out.data(), o.heads * d + o.padding, d};
  lse.assign(o.heads * (num_queries + 3), 77.F);
  a.lse = lse.data(), a.lse_stride = num_queries + 3;
  if (o.bias) {
    bias.resize(num_keys);
    for (float& b : bias) b = random.Chance(0.05) ? -INFINITY : static_cast<float>(-2 * random.Uniform());
    grad_bias.assign(o.kv_heads * (num_keys + 1), 77.F);
    a.bias = bias.data();
    gradients.grad_bias = grad_bias.data(), gradients.bias_stride = num_keys + 1;
  }
  if (o.scores) {
    scores.resize(num_scores);
    for (float& s : scores) s = static_cast<float>(random.Normal());
    grad_scores.assign(o.kv_heads * (num_scores + 2), 77.F);
    a.scores = scores.data();
    gradients.grad_scores = grad_scores.data(), gradients.scores_stride = num_scores + 2;
    gradients.num_scores = num_scores;
  }
  if (o.rotary) {
    const int64_t rows = o.positions ? 50 : num_keys;
    cosines.resize(rows * d / 2), sines.resize(rows * d / 2);
    for (size_t i = 0; i < cosines.size(); ++i) {
      const double angle = random.Uniform(0, 6.3);
      cosines[i] = static_cast<float>(std::cos(angle)), sines[i] = static_cast<float>(std::sin(angle));
    }
    a.rotary.cosines = cosines.data(), a.rotary.sines = sines.data();
    if (o.positions) {
      for (int32_t i = 0; i < num_queries; ++i) query_positions.push_back(static_cast<int32_t>(random.Index(rows)));
      for (int32_t i = 0; i < num_keys; ++i) key_positions.push_back(static_cast<int32_t>(random.Index(rows)));
      a.rotary.query_positions = query_positions.data(), a.rotary.key_positions = key_positions.data();
    }
  }
  list_arguments_.num_utterances = static_cast<int32_t>(o.lengths.size());
  list_arguments_.host_utterances = list_arguments_.device_utterances = utterances.data();
  for (const CudaUtterance& u : utterances) {
    for (int32_t q = 0; q < u.length; q += kCudaTileQueries)
      tiles.push_back({u.start + q, std::min(u.length - q, kCudaTileQueries)});
  }
}

void* AttentionProblem::Allocate(int64_t bytes) {
  EXPECT_GE(bytes, 0) << Table().message(static_cast<int>(bytes));
  memory_.emplace_back(bytes, static_cast<char>(0xCD));
  return memory_.back().data();
}

void AttentionProblem::AddPattern(const std::string& pattern, const float* threshold, bool drops_queries) {
  CudaListArguments& l = list_arguments_;
  if (!pattern.empty()) {
    const Pattern parsed = Pattern::Parse(pattern);
    ASSERT_TRUE(AddPatternTerms(parsed, &l));
    if (const PatternTerm* t = parsed.learned()) Choose(*t);
  }
  if (threshold) l.row_values = bias.data(), l.threshold = *threshold, l.drops_queries = drops_queries;
  if (drops_queries) arguments.query_values = bias.data(), arguments.query_threshold = *threshold;
  if (also_.num_tiles > 0) l.also = &also_;
  void* memory = Allocate(Table().key_lists_bytes(l));
  ASSERT_EQ(Table().build_key_lists(l, memory, &arguments.lists, nullptr), 0);
  ASSERT_EQ(Synchronize(), 0);
  gradients.window = {};
  if (l.num_terms == 1 && !l.also && !l.selection.blocks && !threshold)
    gradients.window = {l.terms[0], l.num_utterances, l.host_utterances, l.device_utterances};
}

void AttentionProblem::Choose(const PatternTerm& term) {
  const int32_t longest = *std::max_element(options.lengths.begin(), options.lengths.end());
  const int64_t blocks = (longest + term.chunk - 1) / term.chunk;
  for (const int32_t length : options.lengths) {
    const std::vector<int64_t> of_utterance =
        RandomSelection(term, 0, blocks, (length + term.chunk - 1) / term.chunk + 1, random);
    chosen_blocks.insert(chosen_blocks.end(), of_utterance.begin(), of_utterance.end());
  }
  ASSERT_TRUE(!options.scores || static_cast<size_t>(num_scores) == chosen_blocks.size());
  selection = {chosen_blocks.data(), static_cast<int32_t>(blocks), static_cast<int32_t>(term.blocks),
               static_cast<int32_t>(term.chunk)};
  list_arguments_.selection = selection;
}

void AttentionProblem::AddEntries(const std::vector<std::vector<CudaKeyEntry>>& entries_of_tiles) {
  also_offsets_ = {0};
  for (const auto& entries : entries_of_tiles) {
    also_entries_.insert(also_entries_.end(), entries.begin(), entries.end());
    also_offsets_.push_back(static_cast<int32_t>(also_entries_.size()));
  }
  also_ = {static_cast<int32_t>(tiles.size()), tiles.data(), also_offsets_.data(), also_entries_.data(),
           static_cast<int64_t>(also_entries_.size())};
  arguments.lists = also_;
}

void AttentionProblem::AddRandomEntries(int rows, bool several_ranges) {
  std::vector<std::vector<CudaKeyEntry>> entries(tiles.size());
  for (size_t t = 0; t < tiles.size(); ++t) {
    std::vector<int32_t> order(num_keys);
    for (int32_t i = 0; i < num_keys; ++i) order[i] = i;
    random.Shuffle(order);
    if (t % 4 == 3) continue;  // nobody sees anything
    for (int i = 0; i < std::min(rows, num_keys); ++i) {
      int begin = 0;
      for (int range = several_ranges ? 3 : 1; range > 0 && begin < tiles[t].num_queries; --range) {
        const int first = begin + static_cast<int>(random.Index(tiles[t].num_queries - begin));
        const int end = first + 1 + static_cast<int>(random.Index(tiles[t].num_queries - first));
        const int score = options.scores ? static_cast<int>(random.Index(num_scores + 1)) - 1 : -1;
        entries[t].push_back({order[i], static_cast<uint16_t>(first), static_cast<uint16_t>(end), score});
        begin = end;
      }
    }
    random.Shuffle(entries[t]);
  }
  AddEntries(entries);
}

std::vector<std::vector<CudaKeyEntry>> AttentionProblem::Entries() const {
  const CudaKeyLists& l = arguments.lists;
  std::vector<std::vector<CudaKeyEntry>> entries(l.num_tiles);
  EXPECT_LE(l.tile_offsets[l.num_tiles], l.capacity);
  for (int32_t t = 0; t < l.num_tiles; ++t)
    entries[t].assign(l.entries + l.tile_offsets[t], l.entries + l.tile_offsets[t + 1]);
  return entries;
}

void AttentionProblem::Forward() {
  ASSERT_EQ(Table().forward(arguments, nullptr), 0);
  ASSERT_EQ(Synchronize(), 0);
}

bool AttentionProblem::GoesByWindow() {
  gradients.forward = arguments;
  return Table().takes_window(gradients);
}

void AttentionProblem::Backward() {
  if (!GoesByWindow()) {
    const CudaTransposeArguments transpose = {arguments.lists, num_keys, num_scores};
    void* memory = Allocate(Table().transposed_lists_bytes(transpose));
    ASSERT_EQ(Table().build_transposed_lists(transpose, memory, &gradients.transposed, nullptr), 0);
  }
  void* memory = Allocate(Table().backward_bytes(gradients));
  ASSERT_EQ(Table().backward(gradients, memory, nullptr), 0);
  ASSERT_EQ(Synchronize(), 0);
}

std::vector<double> AttentionProblem::Read(const CudaConstHeads& from, int32_t rows, int32_t num_heads) const {
  std::vector<double> x;
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t head = 0; head < num_heads; ++head) {
      const auto* data = static_cast<const uint16_t*>(from.data) + row * from.frame_stride + head * from.head_stride;
      for (int32_t c = 0; c < options.head_dim; ++c) x.push_back(FromElement(options.element, data[c]));
    }
  }
  return x;
}

std::vector<double> AttentionProblem::Rotated(const CudaConstHeads& from, int32_t rows, int32_t num_heads,
                                              const DeviceVector<int32_t>& positions) const {
  std::vector<double> x = Read(from, rows, num_heads);
  if (!options.rotary) return x;
  const int32_t half = options.head_dim / 2;
  for (int64_t i = 0; i < static_cast<int64_t>(rows) * num_heads; ++i) {
    const int64_t row = i / num_heads, position = positions.empty() ? row : positions[row];
    for (int32_t c = 0; c < half; ++c) {
      double &a = x[i * 2 * half + c], &b = x[i * 2 * half + half + c];
      const double cosine = cosines[position * half + c], sine = sines[position * half + c], low = a;
      a = FromElement(options.element, ToElement(options.element, low * cosine - b * sine));
      b = FromElement(options.element, ToElement(options.element, b * cosine + low * sine));
    }
  }
  return x;
}

void AttentionProblem::Unrotate(std::vector<double>& x, int32_t num_heads,
                                const DeviceVector<int32_t>& positions) const {
  if (!options.rotary) return;
  const int32_t half = options.head_dim / 2;
  for (int64_t i = 0; i < static_cast<int64_t>(x.size()) / (2 * half); ++i) {
    const int64_t row = i / num_heads, position = positions.empty() ? row : positions[row];
    for (int32_t c = 0; c < half; ++c) {
      double &a = x[i * 2 * half + c], &b = x[i * 2 * half + half + c];
      const double cosine = cosines[position * half + c], sine = sines[position * half + c], low = a;
      a = low * cosine + b * sine;
      b = b * cosine - low * sine;
    }
  }
}

AttentionProblem::Answer AttentionProblem::Compute() const {
  const CudaAttentionArguments& a = arguments;
  const int64_t d = a.head_dim, heads = a.heads, kv_heads = a.kv_heads;
  const std::vector<double> q = Rotated(a.q, num_queries, a.heads, query_positions);
  const std::vector<double> k = Rotated(a.k, num_keys, a.kv_heads, key_positions);
  const std::vector<double> v = Read(a.v, num_keys, a.kv_heads), g = Read(gradients.grad_out, num_queries, a.heads);
  Answer answer;
  answer.out.assign(num_queries * heads * d, 0), answer.lse.assign(heads * num_queries, -kInfinity);
  answer.grad_q.assign(q.size(), 0), answer.grad_k.assign(k.size(), 0), answer.grad_v.assign(v.size(), 0);
  answer.grad_bias.assign(kv_heads * num_keys, 0), answer.grad_scores.assign(kv_heads * num_scores, 0);
  const auto dot = [d](const double* x, const double* y) {
    double sum = 0;
    for (int64_t c = 0; c < d; ++c) sum += x[c] * y[c];
    return sum;
  };
  const auto add = [d](double* to, double weight, const double* x) {
    for (int64_t c = 0; c < d; ++c) to[c] += weight * x[c];
  };
  const auto entries = Entries();
  for (int32_t t = 0; t < a.lists.num_tiles; ++t) {
    for (int32_t i = 0; i < a.lists.tiles[t].num_queries; ++i) {
      const int64_t query = a.lists.tiles[t].first_query + i;
      if (a.query_values && a.query_values[query] < a.query_threshold) continue;
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t kv = h / (heads / kv_heads), at = (query * heads + h) * d;
        std::vector<const CudaKeyEntry*> seen;
        std::vector<double> logits;
        double maximum = -kInfinity, total = 0, with_out = 0;
        for (const CudaKeyEntry& e : entries[t]) {
          if (i < e.first || i >= e.end) continue;
          double logit = a.scale * dot(&q[at], &k[(e.row * kv_heads + kv) * d]);
          if (options.bias) logit += bias[e.row];
          if (options.scores && e.score >= 0) logit += scores[e.score];
          seen.push_back(&e), logits.push_back(logit), maximum = std::max(maximum, logit);
        }
        if (maximum == -kInfinity) continue;
        for (const double logit : logits) total += std::exp(logit - maximum);
        const double lse_of_query = maximum + std::log(total);
        answer.lse[h * num_queries + query] = lse_of_query;
        for (size_t n = 0; n < seen.size(); ++n)
          add(&answer.out[at], std::exp(logits[n] - lse_of_query), &v[(seen[n]->row * kv_heads + kv) * d]);
        with_out = dot(&answer.out[at], &g[at]);
        for (size_t n = 0; n < seen.size(); ++n) {
          const CudaKeyEntry& e = *seen[n];
          const int64_t key = (e.row * kv_heads + kv) * d;
          const double weight = std::exp(logits[n] - lse_of_query);
          const double grad = weight * (dot(&g[at], &v[key]) - with_out);
          add(&answer.grad_v[key], weight, &g[at]);
          add(&answer.grad_q[at], grad * a.scale, &k[key]);
          add(&answer.grad_k[key], grad * a.scale, &q[at]);
          answer.grad_bias[kv * num_keys + e.row] += grad;
          if (options.scores && e.score >= 0) answer.grad_scores[kv * num_scores + e.score] += grad;
        }
      }
    }
  }
  Unrotate(answer.grad_q, a.heads, query_positions);
  Unrotate(answer.grad_k, a.kv_heads, key_positions);
  return answer;
}

double AttentionProblem::Compare(const std::string& name, const std::vector<double>& expected,
                                 const std::vector<double>& got) {
  EXPECT_EQ(expected.size(), got.size()) << name;
  double scale = 0.01, largest = 0;
  for (const double x : expected) scale = std::max(scale, std::isinf(x) ? 0 : std::abs(x));
  size_t where = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    double difference = expected[i] == got[i] ? 0 : std::abs(expected[i] - got[i]) / scale;
    if (std::isnan(difference)) difference = kInfinity;
    if (difference > largest) largest = difference, where = i;
  }
  if (!expected.empty()) {
    worst += name + ": largest difference " + std::to_string(largest * scale) + " of " + std::to_string(scale) +
             " at " + std::to_string(where) + " (" + std::to_string(expected[where]) + " expected, " +
             std::to_string(got[where]) + " found)\n";
  }
  return largest;
}

namespace {

// (rows, columns) out of (rows, stride).
std::vector<double> Matrix(const DeviceVector<float>& from, int64_t rows, int64_t columns) {
  std::vector<double> matrix;
  const int64_t stride = rows > 0 ? static_cast<int64_t>(from.size()) / rows : 0;
  for (int64_t i = 0; i < rows && stride > 0; ++i) {
    for (int64_t j = 0; j < columns; ++j) matrix.push_back(from[i * stride + j]);
  }
  return matrix;
}

CudaConstHeads Const(const CudaHeads& heads) { return {heads.data, heads.frame_stride, heads.head_stride}; }

}  // namespace

double AttentionProblem::ForwardError() {
  const Answer answer = Compute();
  worst.clear();
  const double of_out = Compare("out", answer.out, Read(Const(arguments.out), num_queries, arguments.heads));
  return std::max(of_out, Compare("lse", answer.lse, Matrix(lse, arguments.heads, num_queries)));
}

double AttentionProblem::BackwardError() {
  const Answer answer = Compute();
  const int32_t kv_heads = arguments.kv_heads;
  worst.clear();
  double error = Compare("grad_q", answer.grad_q, Read(Const(gradients.grad_q), num_queries, arguments.heads));
  error = std::max(error, Compare("grad_k", answer.grad_k, Read(Const(gradients.grad_k), num_keys, kv_heads)));
  error = std::max(error, Compare("grad_v", answer.grad_v, Read(Const(gradients.grad_v), num_keys, kv_heads)));
  if (options.bias)
    error = std::max(error, Compare("grad_bias", answer.grad_bias, Matrix(grad_bias, kv_heads, num_keys)));
  if (options.scores)
    error = std::max(error, Compare("grad_scores", answer.grad_scores, Matrix(grad_scores, kv_heads, num_scores)));
  return error;
}

}  // namespace earshot
