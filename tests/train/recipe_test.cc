#include "src/train/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "tests/support/temp_folder.h"

namespace earshot {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class RecipeTest : public testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& yaml) const {
    WriteFileAtomically(folder_.Path(name), yaml);
    return folder_.Path(name);
  }
  std::string ErrorOf(const std::string& yaml, const std::vector<std::string>& sets = {}) const {
    std::vector<std::string> all = {"data.train=train.jsonl"};
    all.insert(all.end(), sets.begin(), sets.end());
    try {
      LoadRecipe({Write("recipe.yaml", yaml)}, all);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }
  TempFolder folder_;
};

TEST_F(RecipeTest, LaterFilesAndSetsComeOnTop) {
  const std::string base = Write("base.yaml",
                                 "model:\n  encoder:\n    dim: 64\n    heads: 2\n    num_layers: 3\n"
                                 "train:\n  epochs: 7\n  schedule:\n    decay: linear\n");
  const std::string corpus = Write("corpus.yaml", "data:\n  train: a.jsonl\nmodel:\n  encoder:\n    num_layers: 4\n");
  const Recipe recipe =
      LoadRecipe({base, corpus}, {"model.encoder.heads=4", "train.optimizer.weight_decay=0.5",
                                  "train.precision=bfloat16", "model.encoder.intermediate_layers=[2, 3]"});
  EXPECT_EQ(recipe.model.encoder.dim, 64);
  EXPECT_EQ(recipe.model.encoder.num_layers, 4);
  EXPECT_EQ(recipe.model.encoder.heads, 4);
  EXPECT_EQ(recipe.model.encoder.intermediate_layers, (std::vector<int>{2, 3}));
  EXPECT_EQ(recipe.train.epochs, 7);
  EXPECT_EQ(recipe.train.schedule.decay, DecayKind::kLinear);
  EXPECT_EQ(recipe.train.optimizer.weight_decay, 0.5);
  EXPECT_EQ(recipe.train.precision, Precision::kBFloat16);
  EXPECT_EQ(recipe.data.train, "a.jsonl");
  // What is written is read back as it was.
  const std::string dumped = DumpOptions(recipe);
  EXPECT_EQ(DumpOptions(LoadRecipe({Write("dump.yaml", dumped)}, {})), dumped);
}

TEST_F(RecipeTest, WrongKeysAndValuesAreNamed) {
  EXPECT_EQ(ErrorOf(""), "no error");
  EXPECT_THAT(ErrorOf("model:\n  encoder:\n    patern: local\n"),
              AllOf(HasSubstr("recipe.yaml"), HasSubstr("model.encoder.patern"), HasSubstr("'pattern'")));
  EXPECT_THAT(ErrorOf("", {"train.schedule.peak_rl=1"}), AllOf(HasSubstr("peak_rl"), HasSubstr("'peak_lr'")));
  EXPECT_THAT(ErrorOf("train:\n  epochs: many\n"), HasSubstr("train.epochs"));
  EXPECT_THAT(ErrorOf("train:\n  precision: half\n"), AllOf(HasSubstr("train.precision"), HasSubstr("bfloat16")));
  EXPECT_THAT(ErrorOf("", {"train.epochs=0"}), HasSubstr("train.epochs is 0, expected 1 or more"));
  EXPECT_THAT(ErrorOf("", {"train.average_decay=1"}), HasSubstr("train.average_decay"));
  EXPECT_THAT(ErrorOf("", {"data.train="}), HasSubstr("data.train is empty"));
  EXPECT_THAT(ErrorOf("", {"data.silence_probability=1"}), HasSubstr("data.silence_probability"));
  EXPECT_THAT(ErrorOf("", {"model.ctc.self_conditioning=true"}), HasSubstr("encoder.intermediate_layers"));
  EXPECT_THAT(ErrorOf("", {"model.features.fbank.sample_rate=8000"}), HasSubstr("data.augment.wave.sample_rate"));
  EXPECT_THAT(ErrorOf("model: [1, 2]\n"), HasSubstr("model"));
}

TEST_F(RecipeTest, RightContextThatNoBatchCouldHaveIsRefused) {
  const std::vector<std::string> chunks = {"model.dynamic_chunk.probability=0.1",
                                           "model.dynamic_chunk.right_frames=[0, 4]"};
  const auto with = [&](const std::string& set) {
    std::vector<std::string> sets = chunks;
    sets.push_back(set);
    return ErrorOf("", sets);
  };
  EXPECT_EQ(ErrorOf("", chunks), "no error");
  EXPECT_THAT(with("model.encoder.pattern=local+memory"), HasSubstr("model.dynamic_chunk.right_frames"));
  EXPECT_THAT(with("model.encoder.skip.from_layer=1"), HasSubstr("model.encoder.skip.from_layer"));
}

TEST_F(RecipeTest, LossesThatCannotBeComputedAreRefused) {
  const std::string alignments = "data.augment.splice.alignments=words.jsonl";
  EXPECT_THAT(ErrorOf("", {"train.loss.frame_weight=1", alignments}), HasSubstr("model.ctc.frame_head is false"));
  EXPECT_THAT(ErrorOf("", {"train.loss.frame_weight=1", "model.ctc.frame_head=true"}), HasSubstr("earshot align"));
  EXPECT_EQ(ErrorOf("", {"train.loss.frame_weight=1", "model.ctc.frame_head=true", alignments}), "no error");
  EXPECT_THAT(ErrorOf("", {"train.loss.gate_speech_weight=1"}), HasSubstr("earshot align"));
  EXPECT_THAT(ErrorOf("", {"train.loss.gate_speech_weight=1", "model.encoder.gate.kind=energy", alignments}),
              HasSubstr("gate.kind is not learned"));
}

}  // namespace
}  // namespace earshot
