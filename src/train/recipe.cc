#include "src/train/recipe.h"

#include <algorithm>
#include <filesystem>

#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "src/base/log.h"

namespace earshot {

void DataOptions::Visit(OptionVisitor& v) {
  v.Field("train", train);
  v.Field("dev", dev);
  v.Field("train_split", train_split);
  v.Field("dev_split", dev_split);
  v.Group("normalize", normalize);
  v.Group("sampler", sampler);
  v.Group("loader", loader);
  v.Group("augment", augment);
  v.Group("spec_augment", spec_augment);
  v.Field("silence_probability", silence_probability);
}

void DataOptions::Validate() const {
  if (train.empty())
    Throw("data.train is empty; name the training manifest, by --set data.train=FILE.jsonl for example");
  if (!(silence_probability >= 0 && silence_probability < 1)) {
    Throw("data.silence_probability is {}, expected at least 0 and below 1", silence_probability);
  }
  sampler.Validate();
  loader.Validate();
  augment.Validate();
  spec_augment.Validate();
}

void TrainOptions::Visit(OptionVisitor& v) {
  v.Field("seed", seed);
  v.Field("epochs", epochs);
  v.Field("max_steps", max_steps);
  v.Field("accumulate", accumulate);
  v.Field("workers", workers);
  v.Enum("precision", precision,
         {{"auto", Precision::kAuto}, {"float", Precision::kFloat}, {"bfloat16", Precision::kBFloat16}});
  v.Field("clip_norm", clip_norm);
  v.Field("average_decay", average_decay);
  v.Group("optimizer", optimizer);
  v.Group("schedule", schedule);
  v.Group("loss", loss);
  v.Field("evaluate_every", evaluate_every);
  v.Field("evaluate_latencies_ms", evaluate_latencies_ms);
  v.Field("keep_checkpoints", keep_checkpoints);
  v.Field("save_every", save_every);
  v.Field("average_best", average_best);
}

void TrainOptions::Validate() const {
  const auto at_least = [](const char* key, int64_t value, int64_t least) {
    if (value < least) Throw("train.{} is {}, expected {} or more", key, value, least);
  };
  at_least("epochs", epochs, 1);
  at_least("max_steps", max_steps, 0);
  at_least("accumulate", accumulate, 1);
  at_least("workers", workers, 0);
  at_least("evaluate_every", evaluate_every, 1);
  for (const int latency_ms : evaluate_latencies_ms) at_least("evaluate_latencies_ms", latency_ms, 1);
  at_least("keep_checkpoints", keep_checkpoints, 1);
  at_least("save_every", save_every, 1);
  at_least("average_best", average_best, 1);
  if (!(clip_norm >= 0)) Throw("train.clip_norm is {}, expected 0 or more", clip_norm);
  if (!(average_decay >= 0 && average_decay < 1))
    Throw("train.average_decay is {}, expected at least 0 and below 1", average_decay);
  optimizer.Validate();
  schedule.Validate();
  loss.Validate();
}

void Recipe::Visit(OptionVisitor& v) {
  v.Group("model", model);
  v.Group("tokenizer", tokenizer);
  v.Field("tokenizer_model", tokenizer_model);
  v.Field("init_from", init_from);
  v.Group("data", data);
  v.Group("train", train);
}

void Recipe::Validate() const {
  model.Validate();
  tokenizer.Validate();
  data.Validate();
  train.Validate();
  const int rate = model.features.fbank.sample_rate;
  if (data.augment.wave.sample_rate != rate) {
    Throw("data.augment.wave.sample_rate is {}, model.features.fbank.sample_rate {}: expected the same",
          data.augment.wave.sample_rate, rate);
  }
  const DynamicChunkOptions& chunks = model.dynamic_chunk;
  const bool ahead =
      chunks.probability > 0 && *std::max_element(chunks.right_frames.begin(), chunks.right_frames.end()) > 0;
  if (ahead && Pattern::Parse(model.encoder.pattern).memory())
    Throw(
        "model.dynamic_chunk.right_frames is more than 0, but model.encoder.pattern has memory, which takes each frame "
        "once; set it to [0]");
  if (ahead && model.encoder.skip.from_layer > 0)
    Throw(
        "model.dynamic_chunk.right_frames is more than 0, but with model.encoder.skip.from_layer {} frames are left "
        "out; set it to [0], or from_layer when the model is used (--set encoder.skip.from_layer={})",
        model.encoder.skip.from_layer, model.encoder.skip.from_layer);
  const LossOptions& loss = train.loss;
  if (!train.evaluate_latencies_ms.empty() && model.dynamic_chunk.probability == 0)
    Throw("train.evaluate_latencies_ms is given, but model.dynamic_chunk.probability is 0: the model knows no chunks");
  if (loss.distillation_weight > 0 && model.dynamic_chunk.probability == 0)
    Throw("train.loss.distillation_weight is {}, but model.dynamic_chunk.probability is 0: nothing is seen in chunks",
          loss.distillation_weight);
  if (loss.frame_weight > 0 && !model.ctc.frame_head)
    Throw("train.loss.frame_weight is {}, but model.ctc.frame_head is false; set it to true", loss.frame_weight);
  if (loss.gate_speech_weight > 0 && model.encoder.gate.kind != GateKind::kLearned)
    Throw("train.loss.gate_speech_weight is {}, but model.encoder.gate.kind is not learned", loss.gate_speech_weight);
  for (const auto& [key, weight] :
       {std::pair{"frame_weight", loss.frame_weight}, {"gate_speech_weight", loss.gate_speech_weight}}) {
    if (weight > 0 && data.augment.splice.alignments.empty())
      Throw("train.loss.{} is {}, but data.augment.splice.alignments is empty; `earshot align` makes the file", key,
            weight);
  }
}

Recipe LoadRecipe(const std::vector<std::string>& files, const std::vector<std::string>& sets) {
  Recipe recipe;
  for (const std::string& file : files) ReadOptions(file, ReadFile(file), {}, recipe);
  ReadOptions("--set", "", sets, recipe);
  recipe.Validate();
  return recipe;
}

namespace {

// What a run may go on with otherwise than it began: how it is trained, and what of the model is no part of the
// network.
bool MayChange(const std::string& key) {
  if (!key.starts_with("model.")) return true;
  for (const char* free : {"dropout", "layer_drop", "dynamic_chunk.", "encoder.skip.", "gate.threshold",
                           "gate.attention_threshold", "blank_penalty"}) {
    if (key.find(free) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

void RequireSameNetwork(const std::string& path, const Recipe& recipe) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return;
  Recipe before;
  ReadOptions(path, ReadFile(path), {}, before);
  const auto old = ListOptions(before), now = ListOptions(recipe);
  for (size_t i = 0; i < now.size(); ++i) {
    const auto& [key, value] = now[i];
    if (old[i].second == value) continue;
    if (!MayChange(key))
      Throw(
          "{}: {} is '{}', and now '{}': a run goes on with the network that it began with; set it back, or train in "
          "another folder (init_from takes over weights)",
          path, key, old[i].second, value);
    LogInfo("goes on with {} '{}', which was '{}'", key, value, old[i].second);
  }
}

}  // namespace earshot
