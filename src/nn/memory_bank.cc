#include "src/nn/memory_bank.h"

#include <algorithm>
#include <vector>

namespace earshot {
namespace {

using torch::Tensor;

// Chunks of one step of the scan: its decay matrix is this square.
constexpr int64_t kScan = 64;

}  // namespace

MemoryBank::MemoryBank(const PatternTerm& term, int64_t dim) : term_(term) {
  pool_ = register_parameter("pool", torch::randn({term.slots, dim}) * 0.02);
  embedding_ = register_parameter("embedding", torch::randn({term.slots, dim}) * 0.02);
  // Half-lives from one chunk to 2^7 of them.
  const Tensor half_life = torch::pow(2.0, torch::linspace(0, 7, term.slots));
  const Tensor decay = torch::pow(0.5, 1.0 / half_life);
  decay_ = register_parameter("decay", torch::log(decay / (1 - decay)));
}

Tensor MemoryBank::forward(const Tensor& x, const Tensor& log_gate, const Tensor& carried, Tensor* next) {
  const int64_t n = x.size(0), frames = x.size(1), dim = x.size(2), slots = term_.slots;
  const int64_t whole = frames / term_.chunk;
  const int64_t chunks = (frames + term_.chunk - 1) / term_.chunk;
  const Tensor old =
      carried.defined() ? carried : torch::zeros({n, 1 + term_.lag, slots, dim}, x.options().dtype(torch::kFloat));

  std::vector<Tensor> states = {old};
  if (whole > 0) {
    const Tensor read = x.narrow(1, 0, whole * term_.chunk).to(torch::kFloat).view({n, whole, term_.chunk, dim});
    Tensor scores = torch::matmul(read, pool_.t().to(torch::kFloat));  // (N, B, C, M)
    if (log_gate.defined())
      scores = scores + log_gate.narrow(1, 0, whole * term_.chunk).view({n, whole, term_.chunk, 1});
    const Tensor z = torch::matmul(torch::softmax(scores, 2).transpose(2, 3), read);  // (N, B, M, D)
    const Tensor log_a = torch::log_sigmoid(decay_.to(torch::kFloat));                // (M)
    const Tensor a = log_a.exp();
    Tensor last = old.select(1, term_.lag);  // (N, M, D)
    for (int64_t begin = 0; begin < whole; begin += kScan) {
      const int64_t size = std::min(kScan, whole - begin);
      // m(b) = a^(b+1) m(-1) + (1 - a) sum over c <= b of a^(b-c) z(c), for all b of the step at once.
      const Tensor steps = torch::arange(size, torch::TensorOptions().dtype(torch::kFloat).device(x.device()));
      const Tensor distance = steps.unsqueeze(1) - steps.unsqueeze(0);  // (b, c)
      const Tensor weights = torch::exp(distance.clamp_min(0).unsqueeze(0) * log_a.view({-1, 1, 1})) *
                             (distance >= 0).to(torch::kFloat).unsqueeze(0) * (1 - a).view({-1, 1, 1});  // (M, b, c)
      const Tensor fade = torch::exp((steps + 1).unsqueeze(1) * log_a.unsqueeze(0));                     // (b, M)
      const Tensor m = torch::einsum("mbc,ncmd->nbmd", {weights, z.narrow(1, begin, size)}) +
                       fade.view({1, size, slots, 1}) * last.unsqueeze(1);
      states.push_back(m);
      last = m.select(1, size - 1);
    }
  }
  const Tensor all = torch::cat(states, 1);  // (N, 1 + lag + whole, M, D): m(-1-lag) ... m(whole-1)
  if (next) *next = all.narrow(1, whole, 1 + term_.lag);
  return all.narrow(1, 0, chunks) + embedding_;
}

}  // namespace earshot
