#include "src/decode/prefix_beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace earshot {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();
// Tokens less likely than e^-12 in a frame change no text.
constexpr float kLeast = -12;
// Nor do prefixes that fall so far behind the best.
constexpr double kBehind = 12;

double LogAdd(double a, double b) {
  const double high = std::max(a, b), low = std::min(a, b);
  return low == kNever ? high : high + std::log1p(std::exp(low - high));
}

}  // namespace

double PrefixBeamSearch::Prefix::Total() const { return LogAdd(blank, other); }

PrefixBeamSearch::PrefixBeamSearch(Tokenizer tokenizer, double encoder_frame_s, const DecoderOptions& options)
    : tokenizer_(std::move(tokenizer)), frame_s_(encoder_frame_s), options_(options) {
  options_.Validate();
  Finish();
}

double PrefixBeamSearch::best_score() const { return prefixes_.front().Total(); }

void PrefixBeamSearch::Accept(const torch::Tensor& log_probs) {
  const torch::Tensor rows = log_probs.to(torch::kCPU, torch::kFloat).contiguous();
  for (int64_t t = 0; t < rows.size(0); ++t) AcceptFrame(rows.data_ptr<float>() + t * rows.size(1), rows.size(1));
  if (rows.size(0) > 0) UpdateWords();
}

PrefixBeamSearch::Prefix& PrefixBeamSearch::Next(int node) {
  const auto [at, fresh] = place_.try_emplace(node, next_.size());
  if (fresh) next_.push_back({.node = node, .blank = kNever, .other = kNever});
  return next_[at->second];
}

int PrefixBeamSearch::Child(int node, int token, float probability) {
  const int64_t key = (static_cast<int64_t>(node) << 32) + token;
  const auto [at, fresh] = children_.try_emplace(key, static_cast<int>(nodes_.size()));
  if (fresh) {
    const int depth = node < 0 ? 1 : nodes_[static_cast<size_t>(node)].depth + 1;
    nodes_.push_back({.parent = node, .depth = depth, .token = {token, frame_, frame_ + 1, probability}});
  }
  return at->second;
}

void PrefixBeamSearch::AcceptFrame(const float* log_probs, int64_t num_tokens) {
  const int blank = tokenizer_.blank_id();
  std::vector<int> tokens(static_cast<size_t>(num_tokens));
  std::iota(tokens.begin(), tokens.end(), 0);
  const auto count = static_cast<std::ptrdiff_t>(std::min<int64_t>(num_tokens, options_.tokens_per_frame));
  std::partial_sort(tokens.begin(), tokens.begin() + count, tokens.end(),
                    [&](int a, int b) { return log_probs[a] > log_probs[b]; });
  tokens.resize(static_cast<size_t>(count));
  const int best = tokens.front();

  next_.clear();
  place_.clear();
  for (const Prefix& prefix : prefixes_) {
    const double total = prefix.Total();
    const int last = prefix.node < 0 ? blank : nodes_[static_cast<size_t>(prefix.node)].token.token;
    Prefix& same = Next(prefix.node);
    same.blank = LogAdd(same.blank, total + log_probs[blank]);
    for (const int token : tokens) {
      const double score = log_probs[token];
      if (token == blank || score < kLeast) continue;
      if (token == last) {
        // The same token goes on, or, behind a blank, comes a second time.
        Prefix& longer = Next(prefix.node);
        longer.other = LogAdd(longer.other, prefix.other + score);
        if (token == best) {
          DecodedToken& heard = nodes_[static_cast<size_t>(prefix.node)].token;
          if (heard.end_frame == frame_) {
            const auto frames = static_cast<float>(heard.end_frame - heard.start_frame);
            heard.confidence = (heard.confidence * frames + std::exp(log_probs[token])) / (frames + 1);
            heard.end_frame = frame_ + 1;
          }
        }
        if (prefix.blank == kNever) continue;
        Prefix& again = Next(Child(prefix.node, token, std::exp(log_probs[token])));
        again.other = LogAdd(again.other, prefix.blank + score);
      } else {
        Prefix& longer = Next(Child(prefix.node, token, std::exp(log_probs[token])));
        longer.other = LogAdd(longer.other, total + score);
      }
    }
  }
  const auto keep = std::min(next_.size(), static_cast<size_t>(options_.beam_size));
  std::partial_sort(next_.begin(), next_.begin() + static_cast<std::ptrdiff_t>(keep), next_.end(),
                    [](const Prefix& a, const Prefix& b) { return a.Total() > b.Total(); });
  next_.resize(keep);
  const double least = next_.front().Total() - kBehind;
  while (next_.back().Total() < least) next_.pop_back();
  prefixes_.swap(next_);
  trailing_blanks_ = best == blank ? trailing_blanks_ + 1 : 0;
  ++frame_;
}

std::vector<DecodedToken> PrefixBeamSearch::TokensOf(int node) const {
  std::vector<DecodedToken> tokens;
  for (; node >= 0; node = nodes_[static_cast<size_t>(node)].parent)
    tokens.push_back(nodes_[static_cast<size_t>(node)].token);
  std::reverse(tokens.begin(), tokens.end());
  return tokens;
}

void PrefixBeamSearch::UpdateWords() {
  // The deepest node that all prefixes pass.
  int common = prefixes_.front().node;
  const auto depth = [&](int node) { return node < 0 ? 0 : nodes_[static_cast<size_t>(node)].depth; };
  for (const Prefix& prefix : prefixes_) {
    int other = prefix.node;
    while (common != other) {
      int& deeper = depth(common) >= depth(other) ? common : other;
      deeper = nodes_[static_cast<size_t>(deeper)].parent;
    }
  }
  std::vector<DecodedToken> tokens = TokensOf(prefixes_.front().node);
  words_ = WordsOf(tokens, tokenizer_, frame_s_);
  // Of the tokens that are known the last word may still grow.
  tokens.resize(static_cast<size_t>(depth(common)));
  tokens.resize(LastWordBegin(tokens, tokenizer_));
  stable_words_ = WordsOf(tokens, tokenizer_, frame_s_).size();
}

std::vector<Word> PrefixBeamSearch::Finish() {
  std::vector<Word> words = std::move(words_);
  words_.clear();
  stable_words_ = 0;
  trailing_blanks_ = 0;
  nodes_.clear();
  children_.clear();
  prefixes_ = {{.node = -1, .blank = 0, .other = kNever}};
  return words;
}

}  // namespace earshot
