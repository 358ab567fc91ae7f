#include "src/train/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>

#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "tests/support/temp_folder.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

RunState State(int64_t step) {
  return {.step = step,
          .skipped_steps = 2,
          .sampler = {.epoch = 3, .position = 17},
          .evaluated = {{"epoch-00001", 0.25}, {"epoch-002", 1.0 / 3}},
          .seconds = 12.5};
}

TensorMap Tensors(double value) {
  return {{"weights.0", torch::full({3}, value)}, {"adamw.steps", torch::tensor(5.0F)}};
}

TEST(CheckpointTest, ComesBackAsItWas) {
  const TempFolder folder;
  EXPECT_FALSE(LoadNewestCheckpoint(folder.Path("checkpoints")));
  SaveCheckpoint(folder.Path("checkpoints"), State(12), Tensors(0.1), 2);
  const auto loaded = LoadNewestCheckpoint(folder.Path("checkpoints"));
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->state.step, 12);
  EXPECT_EQ(loaded->state.skipped_steps, 2);
  EXPECT_EQ(loaded->state.sampler, (SamplerState{.epoch = 3, .position = 17}));
  EXPECT_EQ(loaded->state.evaluated, State(12).evaluated);
  EXPECT_EQ(loaded->state.seconds, 12.5);
  ASSERT_EQ(loaded->tensors.size(), 2);
  EXPECT_TRUE(torch::equal(loaded->tensors.at("weights.0"), torch::full({3}, 0.1)));
}

TEST(CheckpointTest, KeepsTheNewest) {
  const TempFolder folder;
  for (const int64_t step : {9, 10, 99999, 100000}) SaveCheckpoint(folder.Path(""), State(step), Tensors(1), 2);
  EXPECT_FALSE(fs::exists(folder.Path("step-00000010")));
  EXPECT_TRUE(fs::exists(folder.Path("step-00099999")));
  EXPECT_EQ(LoadNewestCheckpoint(folder.Path(""))->state.step, 100000);
  // The same step again takes the place of the old one.
  SaveCheckpoint(folder.Path(""), State(100000), Tensors(7), 2);
  EXPECT_EQ(LoadNewestCheckpoint(folder.Path(""))->tensors.at("weights.0")[0].item<double>(), 7);
}

TEST(CheckpointTest, WhatWasNotFinishedDoesNotCount) {
  const TempFolder folder;
  SaveCheckpoint(folder.Path(""), State(5), Tensors(1), 3);
  fs::create_directories(folder.Path("step-00000006.unfinished"));
  WriteFileAtomically(folder.Path("step-00000007"), "a file");
  fs::create_directories(folder.Path("notes"));
  EXPECT_EQ(LoadNewestCheckpoint(folder.Path(""))->state.step, 5);
  SaveCheckpoint(folder.Path(""), State(6), Tensors(2), 3);  // over what a killed run left
  EXPECT_EQ(LoadNewestCheckpoint(folder.Path(""))->state.step, 6);
}

TEST(CheckpointTest, DamageIsNamed) {
  const TempFolder folder;
  const std::string state = folder.Path("step-00000005/state.json");
  const auto error = [&]() -> std::string {
    try {
      LoadNewestCheckpoint(folder.Path(""));
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  SaveCheckpoint(folder.Path(""), State(5), Tensors(1), 3);
  const std::string whole = ReadFile(state);
  for (const std::string& text :
       {whole.substr(0, whole.size() / 2), std::string("{}"), std::string("[1]"), std::string()}) {
    WriteFileAtomically(state, text);
    EXPECT_THAT(error(), testing::AllOf(testing::HasSubstr(state), testing::HasSubstr("remove"))) << text;
  }
  WriteFileAtomically(state, whole);
  EXPECT_EQ(error(), "no error");
  fs::remove(folder.Path("step-00000005/tensors.safetensors"));
  EXPECT_THAT(error(), testing::HasSubstr("tensors.safetensors"));
}

}  // namespace
}  // namespace earshot
