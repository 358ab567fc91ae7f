// Whole runs on a corpus of tones: each word is a pitch, each letter a token.
#include "src/train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numbers>
#include <set>
#include <utility>

#include "src/audio/audio_reader.h"
#include "src/audio/wav_writer.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/text/wer.h"
#include "src/train/checkpoint.h"
#include "src/train/evaluate.h"
#include "src/train/training_data.h"
#include "src/train/worker.h"
#include "tests/support/tensor_match.h"
#include "tests/support/tiny_asr_model.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using torch::Tensor;

constexpr int kRate = 16000;

std::vector<float> Tones(const std::string& text) {
  std::vector<float> samples;
  for (const char c : text) {
    if (c == ' ') continue;
    const double hz = 300 * (1 + c - 'a');
    for (int i = 0; i < kRate / 8; ++i) {
      const double envelope = std::min({1.0, i / 200.0, (kRate / 8 - i) / 200.0});
      samples.push_back(static_cast<float>(0.3 * envelope * std::sin(2 * std::numbers::pi * hz * i / kRate)));
    }
  }
  return samples;
}

// 32 bit float samples, which may be NaN: the one thing that WriteWav refuses.
void WriteFloatWav(const std::string& path, const std::vector<float>& samples) {
  std::ofstream file(path, std::ios::binary);
  const auto number = [&](uint32_t value, int bytes) { file.write(reinterpret_cast<const char*>(&value), bytes); };
  const auto size = static_cast<uint32_t>(samples.size() * sizeof(float));
  file << "RIFF", number(36 + size, 4), file << "WAVEfmt ", number(16, 4);
  number(3, 2), number(1, 2), number(kRate, 4), number(kRate * 4, 4), number(4, 2), number(32, 2);
  file << "data", number(size, 4);
  file.write(reinterpret_cast<const char*>(samples.data()), size);
}

class TrainerTest : public testing::Test {
 protected:
  void SetUp() override {
    SetLogLevel("warning");
    // A Trainer divides the threads among its workers; whatever the machine, each has one here.
    at::set_num_threads(2);
    Random random(1);
    const char* words[] = {"ab", "cd", "e", "ba", "dc"};
    for (int i = 0; i < 12; ++i) {
      std::string text;
      for (int64_t w = 2 + random.Index(3); w > 0; --w)
        text += (text.empty() ? "" : " ") + std::string(words[random.Index(5)]);
      Add(fmt::format("utt-{:02}", i), text, Tones(text));
    }
  }
  void TearDown() override { SetLogFile(""); }

  void Add(const std::string& id, const std::string& text, const std::vector<float>& samples) {
    const std::string path = folder_.Path(id + ".wav");
    WriteWav(path, samples, kRate);
    utterances_.push_back({.id = id, .audio_path = path, .text = text});
  }
  // Adds one utterance for each way in which it can be of no use.
  void AddBadOnes() {
    utterances_.push_back({.id = "missing", .audio_path = folder_.Path("nowhere.wav"), .text = "ab"});
    std::vector<float> broken = Tones("ab cd");
    broken[broken.size() / 2] = NAN;
    WriteFloatWav(folder_.Path("nan.wav"), broken);
    utterances_.push_back({.id = "nan", .audio_path = folder_.Path("nan.wav"), .text = "ab cd"});
    Add("empty", "ab", {});
    Add("truncated", "ab cd", Tones("ab cd"));
    fs::resize_file(folder_.Path("truncated.wav"), fs::file_size(folder_.Path("truncated.wav")) / 2);
    std::string text = "ab";
    for (int i = 0; i < 40; ++i) text += " cd";
    Add("too-long", text, Tones("ab"));
    Add("wordless", "", Tones("ab"));
  }

  // Where the words are: 125 ms a letter, one word after the other.
  std::string WriteAlignments() const {
    const std::string path = folder_.Path("words.jsonl");
    std::ofstream file(path);
    for (const Utterance& utterance : utterances_) {
      json line = {{"id", utterance.id}, {"words", json::array()}};
      double start_s = 0;
      for (const std::string& word : SplitWords(utterance.text)) {
        const double end_s = start_s + 0.125 * static_cast<double>(word.size());
        line["words"].push_back({{"word", word}, {"start", start_s}, {"end", end_s}});
        start_s = end_s;
      }
      file << line << "\n";
    }
    return path;
  }

  Recipe MakeRecipe() {
    const std::string manifest = folder_.Path("train.jsonl");
    WriteManifest(manifest, utterances_);
    Recipe r;
    r.model = TinyConfig();
    r.tokenizer = {.type = TokenizerType::kChar, .vocab_size = 30};
    r.data.train = manifest;
    r.data.sampler = {.num_buckets = 2, .max_utterances = 3};
    r.data.augment.wave.speed_factors = {0.95, 1.0, 1.05};
    r.data.spec_augment = {.freq_mask_bins = 3, .num_time_masks = 2, .time_mask_frames = 6, .time_mask_share = 0.2};
    r.train.epochs = 8;
    r.train.workers = 2;
    r.train.precision = Precision::kFloat;
    r.train.average_decay = 0.9;
    r.train.schedule = {.peak_lr = 5e-3, .warmup_steps = 5, .decay = DecayKind::kConstant};
    return r;
  }
  TrainResult Train(const Recipe& recipe, const std::string& name, bool stop = false) const {
    const std::atomic<bool> flag(stop);
    return Trainer(recipe, folder_.Path(name), "cpu").Run(flag);
  }
  std::vector<json> Lines(const std::string& file) const {
    std::ifstream in(folder_.Path(file));
    std::vector<json> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line));
    return lines;
  }
  std::set<std::string> Skipped(const std::string& name) const {
    std::set<std::string> ids;
    for (const json& line : Lines(name + "/skipped.jsonl")) {
      ids.insert(line.at("id").get<std::string>());
      EXPECT_FALSE(line.at("reason").get<std::string>().empty());
    }
    return ids;
  }
  Checkpoint Newest(const std::string& name) const {
    auto checkpoint = LoadNewestCheckpoint(folder_.Path(name + "/checkpoints"));
    EXPECT_TRUE(checkpoint);
    return *checkpoint;
  }

  TempFolder folder_;
  std::vector<Utterance> utterances_;
};

void ExpectSameBits(const TensorMap& a, const TensorMap& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) {
    ASSERT_TRUE(b.contains(name)) << name;
    EXPECT_TRUE(torch::equal(tensor, b.at(name))) << name << ": " << TensorsMatch(tensor, b.at(name), 0).message();
  }
}

TEST_F(TrainerTest, TwentyStepsAreTenAndTenMore) {
  Recipe recipe = MakeRecipe();
  recipe.train.loss.consistency_weight = 0.2;
  recipe.data.silence_probability = 0.1;
  recipe.train.max_steps = 20;
  const TrainResult whole = Train(recipe, "whole");
  EXPECT_EQ(whole.steps, 20);
  EXPECT_TRUE(whole.stopped);
  // Five epochs are over: what a stopped run has learnt so far can be used.
  EXPECT_EQ(whole.model_folder, folder_.Path("whole/model"));
  EXPECT_NO_THROW(AsrModel::Load(whole.model_folder, torch::kCPU));
  EXPECT_EQ(Train(recipe, "whole").steps, 20);  // nothing is left to do
  recipe.train.max_steps = 10;
  EXPECT_EQ(Train(recipe, "parts").steps, 10);
  EXPECT_EQ(Newest("parts").state.step, 10);
  recipe.train.max_steps = 20;
  EXPECT_EQ(Train(recipe, "parts").steps, 20);

  const Checkpoint a = Newest("whole"), b = Newest("parts");
  EXPECT_EQ(a.state.step, b.state.step);
  EXPECT_EQ(a.state.sampler, b.state.sampler);
  EXPECT_EQ(a.state.skipped_steps, 0);
  ExpectSameBits(a.tensors, b.tensors);
  // And the seed matters.
  recipe.train.seed = 2;
  recipe.train.max_steps = 2;
  Train(recipe, "other");
  EXPECT_FALSE(torch::equal(Newest("other").tensors.at("weights.0"), a.tensors.at("weights.0")));
}

TEST_F(TrainerTest, LossFallsAndTheBestModelIsKept) {
  Recipe recipe = MakeRecipe();
  recipe.data.dev = recipe.data.train;
  recipe.train.epochs = 10;
  recipe.train.accumulate = 2;
  recipe.train.evaluate_every = 3;
  recipe.train.keep_checkpoints = 1;
  // A head that only training has.
  recipe.model.ctc.frame_head = true;
  recipe.train.loss.frame_weight = 0.1;
  recipe.data.augment.splice.alignments = WriteAlignments();
  const TrainResult result = Train(recipe, "run");
  EXPECT_FALSE(result.stopped);
  EXPECT_EQ(result.steps, 20);  // four batches an epoch, two at a time
  EXPECT_EQ(result.model_folder, folder_.Path("run/model"));

  const std::vector<json> log = Lines("run/log.jsonl");
  ASSERT_EQ(log.size(), 10);
  EXPECT_LT(log.back().at("ctc").get<double>(), 0.7 * log.front().at("ctc").get<double>());
  double best = 1e9;
  int evaluations = 0;
  for (const json& line : log) {
    if (!line.contains("dev_wer")) continue;
    ++evaluations;
    best = std::min(best, line.at("dev_wer").get<double>());
  }
  EXPECT_EQ(evaluations, 4);  // after 3, 6, 9, and the last
  const Checkpoint newest = Newest("run");
  ASSERT_EQ(newest.state.evaluated.size(), 1);
  const auto& [name, rate] = *newest.state.evaluated.begin();
  EXPECT_NEAR(100 * rate, best, 1e-9);
  std::vector<std::string> kept;
  for (const auto& entry : fs::directory_iterator(folder_.Path("run/models"))) kept.push_back(entry.path().filename());
  EXPECT_EQ(kept, std::vector<std::string>{name});
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.Path("run/checkpoints")), fs::directory_iterator()), 1);

  // The finished model is that one, without what only training needs.
  TensorMap expected = AsrModel::Load(folder_.Path("run/models/" + name), torch::kCPU)->Weights();
  EXPECT_EQ(std::erase_if(expected, [](const auto& item) { return item.first.starts_with("frame_head."); }), 2);
  const auto model = AsrModel::Load(result.model_folder, torch::kCPU);
  ExpectSameBits(model->Weights(), expected);
  EXPECT_FALSE(model->config().ctc.frame_head);
  const Evaluation evaluation = Evaluate(*model, utterances_, {.workers = 1});
  EXPECT_NEAR(100 * evaluation.words.Rate(), best, 1e-9);
  EXPECT_EQ(evaluation.utterances.size(), 12);
  EXPECT_TRUE(evaluation.skipped.empty());

  // A finished run that is started again is finished.
  EXPECT_EQ(Train(recipe, "run").steps, 20);
  // And another may begin where it ended.
  Recipe next = MakeRecipe();
  next.init_from = result.model_folder;
  next.train.max_steps = 1;
  next.train.schedule.peak_lr = 1e-12;
  Train(next, "next");
  const auto start = AsrModel::Load(result.model_folder, torch::kCPU);
  const FlatParameters flat(start->network());
  EXPECT_TRUE(TensorsMatch(Newest("next").tensors.at("weights.0"), flat.values()[0], 1e-6));
}

TEST_F(TrainerTest, ChunksAreDistilledAndEvaluated) {
  Recipe recipe = MakeRecipe();
  recipe.data.dev = recipe.data.train;
  recipe.model.dynamic_chunk = {.probability = 1, .min_frames = 2, .max_frames = 4};
  recipe.model.encoder.dropout = 0;
  recipe.train.precision = Precision::kBFloat16;
  recipe.train.epochs = 1;
  recipe.train.evaluate_latencies_ms = {80, 160};
  Train(recipe, "without");
  recipe.train.loss.distillation_weight = 1e-6;
  Train(recipe, "little");
  const json without = Lines("without/log.jsonl").front(), little = Lines("little/log.jsonl").front();
  EXPECT_EQ(without.at("distillation").get<double>(), 0);
  EXPECT_GT(little.at("distillation").get<double>(), 0);
  // The teacher leaves the gradients of the others as they are.
  EXPECT_NEAR(little.at("gradient_norm").get<double>(), without.at("gradient_norm").get<double>(),
              1e-2 * without.at("gradient_norm").get<double>());
  // How good a model is, is the mean of its error rates.
  const double mean = (little.at("dev_wer").get<double>() + little.at("dev_wer_80_ms").get<double>() +
                       little.at("dev_wer_160_ms").get<double>()) /
                      3;
  EXPECT_NEAR(100 * Newest("little").state.evaluated.begin()->second, mean, 1e-9);
}

TEST_F(TrainerTest, TheMeanOfTheBestIsTaken) {
  Recipe recipe = MakeRecipe();
  recipe.train.epochs = 3;
  recipe.train.average_best = 2;  // without dev, the newest two
  const TrainResult result = Train(recipe, "run");
  const TensorMap a = AsrModel::Load(folder_.Path("run/models/epoch-00002"), torch::kCPU)->Weights();
  const TensorMap b = AsrModel::Load(folder_.Path("run/models/epoch-00003"), torch::kCPU)->Weights();
  EXPECT_FALSE(fs::exists(folder_.Path("run/models/epoch-00001")));
  for (const auto& [name, tensor] : AsrModel::Load(result.model_folder, torch::kCPU)->Weights())
    EXPECT_TRUE(TensorsMatch(tensor, 0.5 * (a.at(name) + b.at(name)), 1e-6, 1e-6)) << name;
}

TEST_F(TrainerTest, BadUtterancesAreLeftOutAndListed) {
  AddBadOnes();
  Recipe recipe = MakeRecipe();
  recipe.train.epochs = 2;
  recipe.data.loader.max_skipped_share = 0.5;
  const TrainResult result = Train(recipe, "run");
  EXPECT_FALSE(result.stopped);
  EXPECT_EQ(Skipped("run"), (std::set<std::string>{"missing", "nan", "empty", "truncated", "too-long", "wordless"}));
  EXPECT_EQ(Newest("run").state.skipped_steps, 0);
  // The same ones make an evaluation name them and go on.
  const auto model = AsrModel::Load(result.model_folder, torch::kCPU);
  std::set<std::string> skipped;
  for (const SkippedUtterance& s : Evaluate(*model, utterances_, {.workers = 2}).skipped) skipped.insert(s.id);
  EXPECT_THAT(skipped, testing::IsSupersetOf({"missing", "nan", "truncated"}));
  EXPECT_FALSE(skipped.contains("utt-00"));
}

TEST_F(TrainerTest, TooManyBadUtterancesEndTheRun) {
  AddBadOnes();
  Recipe recipe = MakeRecipe();
  recipe.data.loader.max_skipped_share = 0.1;
  try {
    Train(recipe, "run");
    FAIL() << "6 of 18 utterances are of no use";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("skipped"));
  }
  utterances_.erase(utterances_.begin(), utterances_.begin() + 12);
  utterances_.resize(1);  // the missing one alone
  EXPECT_THROW(Train(MakeRecipe(), "none"), Error);
}

TEST_F(TrainerTest, AStoppedRunSavesAndGoesOn) {
  Recipe recipe = MakeRecipe();
  recipe.train.epochs = 2;
  const TrainResult stopped = Train(recipe, "stopped", /*stop=*/true);
  EXPECT_TRUE(stopped.stopped);
  EXPECT_EQ(stopped.steps, 1);
  EXPECT_EQ(Newest("stopped").state.step, 1);
  EXPECT_FALSE(fs::exists(folder_.Path("stopped/model")));
  const TrainResult resumed = Train(recipe, "stopped");
  EXPECT_FALSE(resumed.stopped);
  const TrainResult whole = Train(recipe, "whole");
  EXPECT_EQ(resumed.steps, whole.steps);
  EXPECT_EQ(ReadFile(resumed.model_folder + "/model.safetensors"), ReadFile(whole.model_folder + "/model.safetensors"));
  // Another network cannot go on from there, of another shape or of the same.
  recipe.train.epochs = 3;
  const auto error = [&](const Recipe& changed) -> std::string {
    try {
      Train(changed, "stopped");
    } catch (const Error& e) {
      return e.what();
    }
    return "none";
  };
  Recipe changed = recipe;
  changed.model.encoder.dim = 32;
  EXPECT_THAT(error(changed), HasSubstr("model.encoder.dim is '16', and now '32'"));
  changed = recipe;
  changed.model.encoder.pattern = "sliding(left=5,right=1)";
  EXPECT_THAT(error(changed), HasSubstr("model.encoder.pattern is"));
  recipe.model.encoder.dropout = 0.2;
  recipe.model.encoder.gate.attention_threshold = 0.2;
  EXPECT_EQ(error(recipe), "none");
}

TEST_F(TrainerTest, WhatWouldBeLearntOrMeasuredWronglyIsRefused) {
  const auto error = [&](const Recipe& recipe, const std::string& name) -> std::string {
    try {
      Train(recipe, name);
    } catch (const Error& e) {
      return e.what();
    }
    return "none";
  };
  Recipe recipe = MakeRecipe();
  recipe.train.epochs = 1;
  ASSERT_EQ(error(recipe, "known"), "none");
  // Nothing of dev can be read.
  const std::vector<Utterance> good = std::exchange(utterances_, {});
  utterances_.push_back({.id = "missing", .audio_path = folder_.Path("nowhere.wav"), .text = "ab"});
  recipe.data.dev = folder_.Path("dev.jsonl");
  WriteManifest(recipe.data.dev, utterances_);
  EXPECT_THAT(error(recipe, "deaf"), HasSubstr("none of the 1 utterances can be recognised: missing"));
  recipe.data.dev = "";
  // Every letter of these texts is unknown to that tokenizer.
  recipe.tokenizer_model = folder_.Path("known/tokenizer.model");
  utterances_ = good;
  for (Utterance& utterance : utterances_) {
    for (char& c : utterance.text) c = static_cast<char>(std::toupper(c));
  }
  recipe.data.train = folder_.Path("upper.jsonl");
  WriteManifest(recipe.data.train, utterances_);
  EXPECT_THAT(error(recipe, "unknown"), HasSubstr("unknown to the tokenizer"));
}

// The line of an epoch is that of its steps, wherever the run stops.
TEST_F(TrainerTest, AnEpochThatEndsWithTheLastStepIsWhole) {
  Recipe recipe = MakeRecipe();
  recipe.train.epochs = 3;
  const int64_t steps = Train(recipe, "whole").steps / 3;
  recipe.train.max_steps = steps;
  EXPECT_TRUE(Train(recipe, "parts").stopped);
  recipe.train.max_steps = 0;
  Train(recipe, "parts");
  const auto losses = [&](const std::string& name) {
    std::ifstream log(folder_.Path(name + "/log.jsonl"));
    std::vector<double> all;
    for (std::string line; std::getline(log, line);) all.push_back(json::parse(line).at("loss"));
    return all;
  };
  EXPECT_EQ(losses("parts"), losses("whole"));
  EXPECT_EQ(losses("parts").size(), 3);
}

TEST_F(TrainerTest, StepsWithoutAFiniteLossAreSkipped) {
  Recipe recipe = MakeRecipe();
  recipe.train.schedule = {.peak_lr = 1e30, .warmup_steps = 0, .decay = DecayKind::kConstant};
  recipe.train.max_steps = 6;
  EXPECT_EQ(Train(recipe, "run").steps, 6);
  const Checkpoint newest = Newest("run");
  // The first step still counts, and blows the weights up; no later one may touch them.
  EXPECT_EQ(newest.state.skipped_steps, 5);
  EXPECT_EQ(newest.tensors.at("adamw.steps").item<double>(), 1);
  EXPECT_TRUE(newest.tensors.at("weights.0").isfinite().all().item<bool>());
  EXPECT_TRUE(newest.tensors.at("adamw.mean.0").isfinite().all().item<bool>());
  const std::string log = ReadFile(folder_.Path("run/train.log"));
  EXPECT_THAT(log,
              HasSubstr("step 1: the loss or its gradient is not a number, the step is skipped; utterances: utt-"));
}

TEST_F(TrainerTest, WorkersShareABatchWithoutChangingItsGradient) {
  ModelConfig config = TinyConfig();
  config.encoder.dropout = 0;
  config.ctc.dropout = 0;
  torch::manual_seed(1);
  AsrModel model(config, LetterTokenizer(folder_), {});
  const FlatParameters flat(model.network());
  std::vector<Example> examples;
  Random random(2);
  for (const int64_t frames : {40, 91, 64, 33, 80}) {
    Example e{.id = std::to_string(frames), .num_frames = frames, .tokens = {3, 4, 5}};
    for (int64_t i = 0; i < frames * 16; ++i) e.features.push_back(static_cast<float>(random.Normal()));
    examples.push_back(std::move(e));
  }
  std::vector<const Example*> batch;
  for (const Example& e : examples) batch.push_back(&e);
  const SpecAugmentOptions none = {.num_freq_masks = 0, .num_time_masks = 0};
  std::vector<FlatParameters::Pair> gradients;
  std::vector<double> totals;
  for (const int workers : {1, 2, 7}) {
    WorkerPool pool(model, flat, {.num_workers = workers, .spec_augment = none});
    const StepLosses losses = pool.Run(batch, {.seed = 1, .normaliser = 5});
    EXPECT_EQ(losses.utterances, 5);
    EXPECT_TRUE(losses.not_finite.empty());
    totals.push_back(losses.total);
    gradients.push_back(pool.gradients());
    // Gradients add up until they are zeroed.
    const Tensor once = pool.gradients()[0].clone();
    pool.Run(batch, {.seed = 1, .normaliser = 5});
    EXPECT_TRUE(TensorsMatch(pool.gradients()[0], 2 * once, 1e-6, 1e-4));
    pool.ZeroGradients();
    EXPECT_EQ(pool.gradients()[0].abs().max().item<double>(), 0);
    pool.Run(batch, {.seed = 1, .normaliser = 5});
    EXPECT_TRUE(TensorsMatch(pool.gradients()[0], once, 1e-6, 1e-4));
    gradients.back()[0] = once;
    gradients.back()[1] = pool.gradients()[1].clone();
  }
  EXPECT_GT(gradients[0][0].abs().max().item<double>(), 1e-3);
  for (size_t i = 1; i < 3; ++i) {
    EXPECT_NEAR(totals[i], totals[0], 1e-3);
    for (size_t g = 0; g < 2; ++g) EXPECT_TRUE(TensorsMatch(gradients[i][g], gradients[0][g], 1e-5, 1e-4));
  }
  // An example that is not a number is named.
  examples[1].features[100] = NAN;
  WorkerPool pool(model, flat, {.num_workers = 2, .spec_augment = none});
  EXPECT_THAT(pool.Run(batch, {.seed = 1}).not_finite, testing::Contains("91"));
}

TEST_F(TrainerTest, NormalisationIsThatOfAllFrames) {
  FeatureOptions features = TinyConfig().features;
  const GlobalCmvn one = ComputeCmvn(features, utterances_, 1), three = ComputeCmvn(features, utterances_, 3);
  EXPECT_EQ(one.mean, three.mean);
  EXPECT_EQ(one.inverse_std, three.inverse_std);
  const auto extractor = MakeFeatureExtractor(features);
  std::vector<Tensor> all;
  for (const Utterance& u : utterances_)
    all.push_back(torch::tensor(extractor->Compute(ReadAudio(u.audio_path, {.sample_rate = kRate}))).view({-1, 16}));
  const Tensor frames = torch::cat(all).to(torch::kDouble);
  EXPECT_TRUE(TensorsMatch(torch::tensor(one.mean), frames.mean(0), 1e-4));
  EXPECT_TRUE(TensorsMatch(torch::tensor(one.inverse_std), 1 / frames.std(0, /*unbiased=*/false), 1e-4, 1e-4));
}

TEST(SilenceMakerTest, SecondsOfLittle) {
  const SilenceMaker silence("", 8000);
  Random random(1);
  double loudest = 0;
  for (int i = 0; i < 30; ++i) {
    const std::vector<float> samples = silence.Draw(random);
    EXPECT_GE(samples.size(), 8000);
    EXPECT_LE(samples.size(), 6 * 8000);
    double power = 0;
    for (const float s : samples) power += static_cast<double>(s) * s / static_cast<double>(samples.size());
    ASSERT_TRUE(std::isfinite(power));
    loudest = std::max(loudest, power);
  }
  EXPECT_GT(loudest, 0);
  EXPECT_LT(loudest, 1);
}

}  // namespace
}  // namespace earshot
