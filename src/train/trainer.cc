#include "src/train/trainer.h"

#include <ATen/Parallel.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/progress_bar.h"
#include "src/model/average.h"
#include "src/model/device.h"
#include "src/model/latency.h"
#include "src/train/checkpoint.h"
#include "src/train/evaluate.h"
#include "src/train/tensorboard.h"
#include "src/train/training_data.h"
#include "src/train/worker.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point since) { return std::chrono::duration<double>(Clock::now() - since).count(); }

bool UseBFloat16(Precision precision, torch::Device device) {
  if (precision != Precision::kAuto) return precision == Precision::kBFloat16;
  // __builtin_cpu_supports knows avx512bf16 from GCC 12 on.
  return device.is_cuda() || __builtin_cpu_supports("avx512bf16");
}

constexpr const char* kEpochPrefix = "epoch-";

std::string EpochName(int64_t epoch) { return fmt::format("{}{:05}", kEpochPrefix, epoch); }

}  // namespace

class Trainer::Impl {
 public:
  Impl(const Recipe& recipe, const std::string& folder, const std::string& device);
  ~Impl() { at::set_num_threads(cores_); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  TrainResult Run(const std::atomic<bool>& stop);

 private:
  // Sums since the last line of the log.
  struct Progress {
    StepLosses losses;
    double audio_s = 0, gradient_norm = 0;
    int64_t steps = 0;
    Clock::time_point start = Clock::now();
  };

  std::string Path(const std::string& name) const { return (fs::path(folder_) / name).string(); }
  void MakeModel();
  void MakeLoader();
  void Resume();
  void Save();
  int64_t TotalSteps() const;
  // One optimiser step on these batches.
  void Step(const std::vector<Batch>& batches, Progress& progress);
  void ReportStep(const Progress& progress, ProgressBar& bar);
  void FinishEpoch(Progress& progress);
  double EvaluateAt(const AsrModel& model, int latency_ms) const;
  // Notes the error rate of the averaged weights on dev in the line; keeps the model when it is among the best.
  void EvaluateEpoch(nlohmann::json& line);
  std::string FinishModel();
  // The model with the moving average (or, without one, the weights) in place of the weights.
  const AsrModel& AveragedModel();

  Recipe recipe_;
  std::string folder_;
  torch::Device device_;
  int cores_ = 1;  // threads that torch had before
  int num_workers_ = 1;
  TrainingData data_;
  std::shared_ptr<AsrModel> model_;     // being trained
  std::shared_ptr<AsrModel> averaged_;  // evaluated
  std::unique_ptr<FlatParameters> flat_, averaged_flat_;
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<WeightAverage> average_;
  std::unique_ptr<WorkerPool> workers_;
  std::unique_ptr<Loader> loader_;
  std::unique_ptr<EventWriter> events_;
  RunState state_;
  int64_t skipped_in_a_row_ = 0;
  double last_lr_ = 0;
};

Trainer::Impl::Impl(const Recipe& recipe, const std::string& folder, const std::string& device)
    : recipe_(recipe), folder_(folder), device_(ParseDevice(device)) {
  recipe_.Validate();
  cores_ = at::get_num_threads();
  num_workers_ = device_.is_cuda() ? 1 : recipe_.train.workers > 0 ? recipe_.train.workers : cores_;
  at::set_num_threads(std::max(1, cores_ / num_workers_));
  data_ = LoadTrainingData(recipe_.data);
  std::error_code error;
  fs::create_directories(folder_, error);
  SetLogFile(Path("train.log"));
  MakeModel();
  MakeLoader();
  Resume();
  WriteFileAtomically(Path("recipe.yaml"), DumpOptions(recipe_));
  LogInfo("{}: {} parameters, {} tokens, {} training utterances, {} for dev, {} steps, {} worker{} in {}", folder_,
          model_->network().NumParameters(), model_->tokenizer().Size(), data_.train.size(), data_.dev.size(),
          TotalSteps(), num_workers_, num_workers_ == 1 ? "" : "s",
          UseBFloat16(recipe_.train.precision, device_) ? "bfloat16" : "float");
}

void Trainer::Impl::MakeModel() {
  const std::string tokenizer = MakeTokenizer(recipe_, data_.train, Path("tokenizer.model"));
  RequireKnownTexts(Tokenizer::FromBytes(tokenizer, Path("tokenizer.model")), data_.train);
  torch::manual_seed(static_cast<uint64_t>(recipe_.train.seed));
  GlobalCmvn cmvn;
  std::shared_ptr<AsrModel> origin;
  if (!recipe_.init_from.empty()) {
    origin = AsrModel::Load(recipe_.init_from, torch::kCPU);
    cmvn = origin->cmvn();
  } else {
    cmvn = ComputeCmvn(recipe_.model.features, data_.train, std::max(1, at::get_num_threads() * num_workers_));
  }
  model_ = std::make_shared<AsrModel>(recipe_.model, tokenizer, cmvn);
  if (origin) {
    // What only training has, the frame head, starts fresh, or is left behind.
    TensorMap weights = model_->Weights();
    for (const auto& [name, tensor] : origin->Weights()) {
      if (weights.contains(name) || !name.starts_with("frame_head.")) weights[name] = tensor;
    }
    model_->SetWeights(weights, recipe_.init_from);
  }
  model_->to(device_);
  averaged_ = std::make_shared<AsrModel>(model_->config(), tokenizer, cmvn);
  averaged_->to(device_);
  flat_ = std::make_unique<FlatParameters>(model_->network());
  averaged_flat_ = std::make_unique<FlatParameters>(averaged_->network());
  optimizer_ = std::make_unique<AdamW>(recipe_.train.optimizer, *flat_);
  average_ = std::make_unique<WeightAverage>(recipe_.train.average_decay, *flat_);
  workers_ = std::make_unique<WorkerPool>(*model_, *flat_,
                                          WorkerOptions{.num_workers = num_workers_,
                                                        .bfloat16 = UseBFloat16(recipe_.train.precision, device_),
                                                        .loss = recipe_.train.loss,
                                                        .spec_augment = recipe_.data.spec_augment});
}

void Trainer::Impl::MakeLoader() {
  SamplerOptions sampler = recipe_.data.sampler;
  sampler.seed = recipe_.train.seed;
  auto tokenizer = std::make_shared<Tokenizer>(model_->tokenizer());
  const int64_t factor = recipe_.model.encoder.subsampling.factor;
  const auto encoder_frames = [factor](int64_t frames) { return (frames + factor - 1) / factor; };
  const ExampleMaker maker(recipe_.data.augment,
                           {.features = model_->extractor(), .tokenizer = tokenizer, .encoder_frames = encoder_frames},
                           data_.train);
  MakeExample make = maker;
  if (recipe_.data.silence_probability > 0) {
    auto silence = std::make_shared<SilenceMaker>(recipe_.data.augment.wave.noise_list, model_->sample_rate());
    make = [maker, silence, extractor = model_->extractor(), probability = recipe_.data.silence_probability](
               const Utterance& utterance, Random& random) {
      if (!random.Chance(probability)) return maker(utterance, random);
      const std::vector<float> samples = silence->Draw(random);
      Example example{.id = utterance.id, .features = extractor->Compute(samples)};
      example.num_frames = extractor->NumFrames(static_cast<int64_t>(samples.size()));
      example.duration_s = static_cast<double>(samples.size()) / extractor->sample_rate();
      return example;
    };
  }
  std::vector<double> durations;
  for (const Utterance& utterance : data_.train) durations.push_back(utterance.duration_s);
  loader_ = std::make_unique<Loader>(data_.train, Sampler(durations, sampler), make, recipe_.data.loader,
                                     Path("skipped.jsonl"));
}

void Trainer::Impl::Resume() {
  const auto checkpoint = LoadNewestCheckpoint(Path("checkpoints"));
  events_ = std::make_unique<EventWriter>(Path("tensorboard"));
  if (!checkpoint) {
    events_->Text("recipe", 0, "```\n" + DumpOptions(recipe_) + "```\n");
    return;
  }
  RequireSameNetwork(Path("recipe.yaml"), recipe_);
  const torch::NoGradGuard no_grad;
  state_ = checkpoint->state;
  for (size_t g = 0; g < 2; ++g) {
    torch::Tensor values = flat_->values()[g];
    TakeTensor(checkpoint->tensors, "weights." + std::to_string(g), checkpoint->path, values);
  }
  optimizer_->Load(checkpoint->tensors, checkpoint->path);
  average_->Load(checkpoint->tensors, checkpoint->path);
  if (state_.sampler.position > loader_->sampler().NumBatches())
    Throw(
        "{}: stands at batch {} of an epoch that now has {}: data.train or data.sampler has changed; set it back, or "
        "train in another folder",
        checkpoint->path, state_.sampler.position, loader_->sampler().NumBatches());
  loader_->Seek(state_.sampler);
  events_->Resume(state_.step);
  LogInfo("resumed from {}: step {} of {}", checkpoint->path, state_.step, TotalSteps());
}

void Trainer::Impl::Save() {
  TensorMap tensors;
  for (size_t g = 0; g < 2; ++g) tensors["weights." + std::to_string(g)] = flat_->values()[g];
  optimizer_->Save(tensors);
  average_->Save(tensors);
  SaveCheckpoint(Path("checkpoints"), state_, tensors, recipe_.train.keep_checkpoints);
  std::error_code error;
  std::vector<fs::path> forgotten;
  for (const auto& entry : fs::directory_iterator(Path("models"), error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kEpochPrefix) && !state_.evaluated.contains(name)) forgotten.push_back(entry.path());
  }
  for (const fs::path& folder : forgotten) fs::remove_all(folder, error);
}

int64_t Trainer::Impl::TotalSteps() const {
  const int64_t per_epoch = (loader_->sampler().NumBatches() + recipe_.train.accumulate - 1) / recipe_.train.accumulate;
  return per_epoch * recipe_.train.epochs;
}

void Trainer::Impl::Step(const std::vector<Batch>& batches, Progress& progress) {
  const TrainOptions& o = recipe_.train;
  int64_t utterances = 0;
  for (const Batch& batch : batches) utterances += static_cast<int64_t>(batch.examples.size());
  const double done = static_cast<double>(state_.step) / static_cast<double>(TotalSteps());
  workers_->ZeroGradients();
  StepLosses losses;
  for (size_t b = 0; b < batches.size(); ++b) {
    std::vector<const Example*> examples;
    for (const Example& example : batches[b].examples) {
      examples.push_back(&example);
      progress.audio_s += example.duration_s;
    }
    const uint64_t seed = Random::For({static_cast<uint64_t>(o.seed), static_cast<uint64_t>(state_.step), b}).state();
    losses += workers_->Run(
        examples,
        {.seed = seed, .normaliser = static_cast<double>(utterances), .frame_weight = FrameWeight(o.loss, done)});
  }
  FlatParameters::Pair& gradients = workers_->gradients();
  const double norm =
      std::sqrt(gradients[0].square().sum().item<double>() + gradients[1].square().sum().item<double>());
  const int64_t step = state_.step++;
  ++progress.steps;
  if (!losses.not_finite.empty() || !std::isfinite(norm)) {
    ++state_.skipped_steps;
    std::vector<std::string> ids = losses.not_finite;
    if (ids.empty()) {
      for (const Batch& batch : batches) {
        for (const Example& example : batch.examples) ids.push_back(example.id);
      }
    }
    LogWarning("step {}: the loss or its gradient is not a number, the step is skipped; utterances: {}", step,
               fmt::join(ids, " "));
    // A weight that is not a number never recovers: all steps to come would be skipped.
    const bool of_all = state_.skipped_steps > 100 && state_.skipped_steps * 2 > state_.step;
    if (++skipped_in_a_row_ > 100 || of_all) {
      Throw(
          "{} of {} steps gave no finite loss, {} of them one after the other at the end; lower train.schedule.peak_lr "
          "or look at the utterances named in {}",
          state_.skipped_steps, state_.step, skipped_in_a_row_, Path("train.log"));
    }
    return;
  }
  skipped_in_a_row_ = 0;
  if (o.clip_norm > 0 && norm > o.clip_norm) {
    for (torch::Tensor& g : gradients) g.mul_(o.clip_norm / norm);
  }
  last_lr_ = LearningRate(o.schedule, step, TotalSteps());
  optimizer_->Step(gradients, last_lr_);
  average_->Step(step);
  progress.losses += losses;
  progress.gradient_norm += norm;
}

void Trainer::Impl::ReportStep(const Progress& progress, ProgressBar& bar) {
  const double seconds = Seconds(progress.start),
               count = std::max(1.0, static_cast<double>(progress.losses.utterances));
  bar.Update(state_.sampler.position,
             fmt::format("loss {:.3f}, lr {:.1e}, {:.0f} utt/s, {:.0f} x real time", progress.losses.ctc / count,
                         last_lr_, count / seconds, progress.audio_s / seconds));
  if (state_.step % 20 != 0) return;
  events_->Scalar("train/ctc", state_.step, progress.losses.ctc / count);
  events_->Scalar("train/lr", state_.step, last_lr_);
  events_->Scalar("train/times_real_time", state_.step, progress.audio_s / seconds);
}

const AsrModel& Trainer::Impl::AveragedModel() {
  const torch::NoGradGuard no_grad;
  const FlatParameters::Pair& source = recipe_.train.average_decay > 0 ? average_->values() : flat_->values();
  for (size_t g = 0; g < 2; ++g) {
    torch::Tensor target = averaged_flat_->values()[g];
    target.copy_(source[g]);
  }
  return *averaged_;
}

double Trainer::Impl::EvaluateAt(const AsrModel& model, int latency_ms) const {
  const Reach reach = ReachForLatency(model, {.latency_ms = latency_ms});
  return Evaluate(model, data_.dev, {.normalize = recipe_.data.normalize, .workers = num_workers_, .reach = reach})
      .words.Rate();
}

void Trainer::Impl::EvaluateEpoch(nlohmann::json& line) {
  const AsrModel& model = AveragedModel();
  double rate = 0;
  if (!data_.dev.empty()) {
    const int threads = at::get_num_threads();
    at::set_num_threads(threads * num_workers_);
    const Evaluation evaluation =
        Evaluate(model, data_.dev, {.normalize = recipe_.data.normalize, .workers = num_workers_});
    if (evaluation.utterances.empty())
      Throw("data.dev: none of the {} utterances can be recognised: {}: {}", data_.dev.size(),
            evaluation.skipped.front().id, evaluation.skipped.front().reason);
    if (!evaluation.skipped.empty())
      LogWarning("data.dev: {} of {} utterances are left out, {} first: {}", evaluation.skipped.size(),
                 data_.dev.size(), evaluation.skipped.front().id, evaluation.skipped.front().reason);
    rate = evaluation.words.Rate();
    line["dev_wer"] = 100 * rate;
    events_->Scalar("dev/wer", state_.step, 100 * rate);
    events_->Scalar("dev/cer", state_.step, 100 * evaluation.characters.Rate());
    events_->Scalar("dev/gate", state_.step, evaluation.mean_gate);
    LogInfo(
        "epoch {}: dev WER {:.2f} % ({} sub, {} del, {} ins of {} words), CER {:.2f} %, gate {:.2f}, {:.0f} x real "
        "time",
        state_.sampler.epoch, 100 * rate, evaluation.words.substitutions, evaluation.words.deletions,
        evaluation.words.insertions, evaluation.words.reference, 100 * evaluation.characters.Rate(),
        evaluation.mean_gate, evaluation.seconds_audio / std::max(1e-9, evaluation.seconds_wall));
    for (const int latency_ms : recipe_.train.evaluate_latencies_ms) {
      const double streamed = EvaluateAt(model, latency_ms);
      line[fmt::format("dev_wer_{}_ms", latency_ms)] = 100 * streamed;
      events_->Scalar(fmt::format("dev/wer_{}_ms", latency_ms), state_.step, 100 * streamed);
      LogInfo("epoch {}: at {} ms: dev WER {:.2f} %", state_.sampler.epoch, latency_ms, 100 * streamed);
      rate += streamed;
    }
    rate /= 1 + static_cast<double>(recipe_.train.evaluate_latencies_ms.size());
    at::set_num_threads(threads);
  }
  const std::string name = EpochName(state_.sampler.epoch);
  model.Save(Path("models/" + name));
  // Without dev, the newest counts as the best.
  state_.evaluated[name] = data_.dev.empty() ? -static_cast<double>(state_.sampler.epoch) : rate;
  while (state_.evaluated.size() > static_cast<size_t>(recipe_.train.average_best)) {
    // Of equals the older one goes; from the folder once the checkpoint knows nothing of it either.
    const auto worst = std::max_element(state_.evaluated.begin(), state_.evaluated.end(),
                                        [](const auto& a, const auto& b) { return a.second < b.second; });
    state_.evaluated.erase(worst);
  }
}

void Trainer::Impl::FinishEpoch(Progress& progress) {
  const bool last = state_.sampler.epoch >= recipe_.train.epochs;
  const double seconds = Seconds(progress.start),
               count = std::max(1.0, static_cast<double>(progress.losses.utterances));
  state_.seconds += seconds;
  const bool evaluate = last || state_.sampler.epoch % recipe_.train.evaluate_every == 0;
  nlohmann::json line = {{"epoch", state_.sampler.epoch}, {"step", state_.step}};
  if (progress.steps > 0) {
    line.update({{"loss", progress.losses.total / count},
                 {"ctc", progress.losses.ctc / count},
                 {"intermediate", progress.losses.intermediate / count},
                 {"consistency", progress.losses.consistency / count},
                 {"distillation", progress.losses.distillation / count},
                 {"frame", progress.losses.frame / count},
                 {"gate_budget", progress.losses.gate / count},
                 {"gate_speech", progress.losses.gate_speech / count},
                 {"gradient_norm", progress.gradient_norm / static_cast<double>(progress.steps)},
                 {"lr", last_lr_},
                 {"seconds", seconds},
                 {"times_real_time", progress.audio_s / seconds},
                 {"skipped_utterances", loader_->counts().skipped}});
    LogInfo("epoch {}: loss {:.3f}, CTC {:.3f}, lr {:.2e}, {:.0f} s, {:.0f} x real time", state_.sampler.epoch,
            progress.losses.total / count, progress.losses.ctc / count, last_lr_, seconds, progress.audio_s / seconds);
  } else {
    LogInfo("epoch {}: was stopped behind its last step", state_.sampler.epoch);
  }
  if (evaluate) EvaluateEpoch(line);
  std::ofstream log(Path("log.jsonl"), std::ios::app);
  log << line.dump() << "\n";
  events_->Flush();
  if (last || state_.sampler.epoch % recipe_.train.save_every == 0) Save();
  progress = Progress();
}

std::string Trainer::Impl::FinishModel() {
  std::vector<TensorMap> weights;
  std::vector<std::string> sources;
  for (const auto& [name, rate] : state_.evaluated) {
    const std::string folder = Path("models/" + name);
    weights.push_back(AsrModel::Load(folder, torch::kCPU)->Weights());
    sources.push_back(folder);
  }
  TensorMap mean = AverageWeights(weights, sources);
  ModelConfig config = model_->config();
  // The frame head has done its work.
  if (config.ctc.frame_head) {
    config.ctc.frame_head = false;
    std::erase_if(mean, [](const auto& item) { return item.first.starts_with("frame_head."); });
  }
  AsrModel finished(config, model_->tokenizer_bytes(), model_->cmvn());
  finished.SetWeights(mean, folder_);
  finished.Save(Path("model"));
  return Path("model");
}

TrainResult Trainer::Impl::Run(const std::atomic<bool>& stop) {
  const TrainOptions& o = recipe_.train;
  Progress progress;
  const auto should_stop = [&] { return stop || (o.max_steps > 0 && state_.step >= o.max_steps); };
  // Steps that end an epoch leave it whole: it is evaluated, and its line is that of all its steps.
  const auto epoch_is_over = [&] { return !stop && state_.sampler.position >= loader_->sampler().NumBatches(); };
  bool stopped = o.max_steps > 0 && state_.step >= o.max_steps;
  while (state_.sampler.epoch < o.epochs && !stopped) {
    ProgressBar bar(fmt::format("epoch {}/{}", state_.sampler.epoch + 1, o.epochs), loader_->sampler().NumBatches());
    while (true) {
      std::vector<Batch> batches;
      bool ended = false;
      while (static_cast<int>(batches.size()) < o.accumulate && !ended) {
        if (auto batch = loader_->Next()) {
          batches.push_back(std::move(*batch));
        } else {
          ended = true;
        }
      }
      if (!batches.empty()) {
        Step(batches, progress);
        state_.sampler = loader_->state();
        ReportStep(progress, bar);
      }
      if (ended) break;
      if (should_stop() && !epoch_is_over()) {
        stopped = true;
        break;
      }
    }
    if (stopped) break;
    bar.Finish();
    state_.sampler = loader_->state();
    FinishEpoch(progress);
    stopped = should_stop();
  }
  if (state_.sampler.epoch < o.epochs) {
    state_.seconds += Seconds(progress.start);
    Save();
    events_->Flush();
    LogInfo("stopped at step {} of {}; the same command goes on from here", state_.step, TotalSteps());
    if (state_.evaluated.empty()) return {.steps = state_.step, .stopped = true};
    const std::string best = FinishModel();
    LogInfo("{}: the best so far", best);
    return {.steps = state_.step, .stopped = true, .model_folder = best};
  }
  const std::string model = FinishModel();
  LogInfo("finished after {} steps and {:.0f} s: {}", state_.step, state_.seconds, model);
  return {.steps = state_.step, .stopped = false, .model_folder = model};
}

Trainer::Trainer(const Recipe& recipe, const std::string& folder, const std::string& device)
    : impl_(std::make_unique<Impl>(recipe, folder, device)) {}

Trainer::~Trainer() = default;

TrainResult Trainer::Run(const std::atomic<bool>& stop) { return impl_->Run(stop); }

}  // namespace earshot
