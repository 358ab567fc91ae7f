#include "src/train/worker.h"

#include <ATen/autocast_mode.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <optional>
#include <thread>

#include "src/base/error.h"
#include "src/base/random.h"
#include "src/nn/dropout.h"
#include "src/train/collate.h"

namespace earshot {
namespace {

// Mixed precision for the life of this object, in this thread.
class Autocast {
 public:
  Autocast(bool enabled, torch::DeviceType device) : enabled_(enabled), device_(device) {
    if (!enabled_) return;
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::set_autocast_dtype(device_, at::kBFloat16);
    at::autocast::increment_nesting();
  }
  ~Autocast() {
    if (!enabled_) return;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_, false);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  bool enabled_;
  torch::DeviceType device_;
};

// How far this batch sees; nullopt: as the model's pattern says.
std::optional<Reach> DrawReach(const DynamicChunkOptions& options, const Pattern& pattern, uint64_t seed) {
  Random random = Random::For({seed, 0x726561636800ull});
  if (options.probability <= 0 || random.Uniform() >= options.probability) return std::nullopt;
  const auto one_of = [&](const std::vector<int>& values) {
    return values[std::min(values.size() - 1,
                           static_cast<size_t>(random.Uniform() * static_cast<double>(values.size())))];
  };
  const double low = std::log2(options.min_frames), high = std::log2(options.max_frames + 1);
  auto chunk = static_cast<int64_t>(std::exp2(low + random.Uniform() * (high - low)));
  chunk = std::clamp<int64_t>(chunk, options.min_frames, options.max_frames);
  return MakeReach(pattern, {.chunk_frames = chunk,
                             .left_frames = one_of(options.left_frames),
                             .right_frames = std::min<int64_t>(chunk, one_of(options.right_frames))});
}

}  // namespace

StepLosses& StepLosses::operator+=(const StepLosses& o) {
  total += o.total;
  ctc += o.ctc;
  intermediate += o.intermediate;
  consistency += o.consistency;
  distillation += o.distillation;
  frame += o.frame;
  gate += o.gate;
  gate_speech += o.gate_speech;
  utterances += o.utterances;
  not_finite.insert(not_finite.end(), o.not_finite.begin(), o.not_finite.end());
  return *this;
}

WorkerPool::WorkerPool(const AsrModel& model, const FlatParameters& flat, const WorkerOptions& options)
    : model_(model), options_(options) {
  EARSHOT_CHECK(options_.num_workers > 0, "{} workers", options_.num_workers);
  workers_.resize(static_cast<size_t>(options_.num_workers));
  for (Worker& worker : workers_) {
    worker.network = std::make_shared<CtcNetwork>(model.config());
    worker.network->to(model.device());
    worker.network->train();
    flat.Share(*worker.network);
    worker.gradients = flat.ZerosLike();
    flat.AttachGradients(*worker.network, worker.gradients);
  }
}

void WorkerPool::ZeroGradients() {
  for (Worker& worker : workers_) {
    for (torch::Tensor& g : worker.gradients) g.zero_();
  }
}

StepLosses WorkerPool::Run(const std::vector<const Example*>& examples, const RunOptions& options) {
  // Examples of a batch are of similar length; dealing them out by length evens out what is left.
  std::vector<const Example*> sorted = examples;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Example* a, const Example* b) { return a->num_frames > b->num_frames; });
  std::vector<std::vector<const Example*>> shares(workers_.size());
  for (size_t i = 0; i < sorted.size(); ++i) {
    const size_t round = i / workers_.size(), place = i % workers_.size();
    shares[round % 2 == 0 ? place : workers_.size() - 1 - place].push_back(sorted[i]);
  }
  std::vector<StepLosses> losses(workers_.size());
  std::vector<std::exception_ptr> failures(workers_.size());
  const auto run = [&](size_t w) {
    try {
      RunOptions share = options;
      share.seed = Random::For({options.seed, w}).state();
      if (!shares[w].empty()) losses[w] = RunShare(workers_[w], shares[w], share);
    } catch (...) {
      failures[w] = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (size_t w = 1; w < workers_.size(); ++w) threads.emplace_back(run, w);
  run(0);
  for (std::thread& thread : threads) thread.join();
  StepLosses sum;
  for (size_t w = 0; w < workers_.size(); ++w) {
    if (failures[w]) std::rethrow_exception(failures[w]);
    sum += losses[w];
  }
  const torch::NoGradGuard no_grad;
  for (size_t w = 1; w < workers_.size(); ++w) {
    for (size_t g = 0; g < 2; ++g) {
      workers_[0].gradients[g] += workers_[w].gradients[g];
      workers_[w].gradients[g].zero_();
    }
  }
  return sum;
}

StepLosses WorkerPool::RunShare(Worker& worker, const std::vector<const Example*>& examples,
                                const RunOptions& options) const {
  const torch::Device device = model_.device();
  SeedDropout(options.seed);
  if (device.is_cuda()) torch::manual_seed(options.seed);
  const int num_views = options_.loss.consistency_weight > 0 ? 2 : 1;
  const Collated batch = Collate(examples, {.dim = model_.extractor()->dim(),
                                            .num_views = num_views,
                                            .spec_augment = &options_.spec_augment,
                                            .cmvn = &model_.cmvn(),
                                            .subsampling = model_.config().encoder.subsampling.factor,
                                            .encoder_frame_s = model_.encoder_frame_s(),
                                            .seed = options.seed});
  LossOptions loss_options = options_.loss;
  loss_options.frame_weight = options.frame_weight;
  Losses losses;
  {
    const Autocast autocast(options_.bfloat16, device.type());
    const std::optional<Reach> reach =
        DrawReach(model_.config().dynamic_chunk, worker.network->encoder().pattern(), options.seed);
    const torch::Tensor features = batch.features.to(device);
    torch::Tensor teacher;
    if (reach && loss_options.distillation_weight > 0) {
      const torch::NoGradGuard no_grad;
      teacher = worker.network->forward(features, batch.lens).log_probs;
      // What is kept of it are weights without a gradient.
      at::autocast::clear_cache();
    }
    const CtcOutput output = worker.network->forward(features, batch.lens, reach ? &*reach : nullptr);
    losses = ComputeLosses(output, batch.targets, num_views, loss_options, teacher);
  }
  StepLosses sum;
  sum.utterances = static_cast<int64_t>(examples.size());
  const torch::Tensor ctc = losses.ctc.to(torch::kCPU, torch::kFloat).contiguous();
  for (size_t i = 0; i < examples.size(); ++i) {
    const float value = ctc.data_ptr<float>()[i];
    if (!std::isfinite(value)) sum.not_finite.push_back(examples[i]->id);
    sum.ctc += value;
  }
  sum.total = losses.total.item<double>();
  sum.intermediate = losses.intermediate;
  sum.consistency = losses.consistency;
  sum.distillation = losses.distillation;
  sum.frame = losses.frame;
  sum.gate = losses.gate;
  sum.gate_speech = losses.gate_speech;
  if (std::isfinite(sum.total)) {
    (losses.total / options.normaliser).backward();
  } else if (sum.not_finite.empty()) {
    for (const Example* e : examples) sum.not_finite.push_back(e->id);
  }
  return sum;
}

}  // namespace earshot
