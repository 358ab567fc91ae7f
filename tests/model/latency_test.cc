#include "src/model/latency.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "src/base/error.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_asr_model.h"

namespace earshot {
namespace {

using testing::HasSubstr;

class LatencyTest : public testing::Test {
 protected:
  // Of frames of 40 ms.
  std::shared_ptr<const AsrModel> Model(const std::string& pattern = "local(chunk=8,left=32)",
                                        int skip_from = 0) const {
    ModelConfig config = TinyConfig();
    config.encoder.num_layers = 2;
    config.encoder.pattern = pattern;
    config.encoder.gate.kind = GateKind::kLearned;
    config.encoder.skip.from_layer = skip_from;
    config.dynamic_chunk.left_frames = {8, 24};
    const auto dim = static_cast<size_t>(config.features.fbank.num_mel_bins);
    const GlobalCmvn cmvn{std::vector<float>(dim), std::vector<float>(dim, 1)};
    return std::make_shared<const AsrModel>(config, LetterTokenizer(folder_), cmvn);
  }
  template <class... Args>
  Reach Of(const LatencyOptions& options, Args... model) const {
    return ReachForLatency(*Model(model...), options);
  }
  std::string ErrorOf(const LatencyOptions& options) {
    try {
      ReachIfGiven(*Model(), options);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

 private:
  TempFolder folder_;
};

TEST_F(LatencyTest, IsChunkAndRightContext) {
  struct Case {
    LatencyOptions options;
    int64_t chunk, right;
  };
  for (const auto& [options, chunk, right] : std::vector<Case>{{{.latency_ms = 40}, 1, 0},
                                                               {{.latency_ms = 80}, 1, 1},
                                                               {{.latency_ms = 160}, 1, 3},
                                                               {{.latency_ms = 320}, 1, 7},
                                                               {{.latency_ms = 350}, 1, 7},
                                                               {{.latency_ms = 640}, 4, 12},
                                                               {{.latency_ms = 1280}, 20, 12},
                                                               {{.latency_ms = 320, .right_context_ms = 0}, 8, 0},
                                                               {{.latency_ms = 320, .right_context_ms = 170}, 4, 4}}) {
    const Reach reach = Of(options);
    EXPECT_EQ(reach.chunk_frames, chunk) << options.latency_ms;
    EXPECT_EQ(reach.right_frames, right) << options.latency_ms;
    EXPECT_EQ(reach.pattern, Pattern::Parse("local(chunk=" + std::to_string(chunk) +
                                            ",left=24,lookahead=" + std::to_string(right) + ")"));
  }
  EXPECT_EQ(Of({.latency_ms = 320, .left_context_ms = 400}).pattern,
            Pattern::Parse("local(chunk=1,left=10,lookahead=7)"));
}

TEST_F(LatencyTest, HasNoRightContextWhereFramesComeOnce) {
  EXPECT_EQ(Of({.latency_ms = 320}, "local(chunk=8,left=32)", 1).right_frames, 0);
  const Reach with_memory = Of({.latency_ms = 320}, "local(chunk=8,left=32)+memory(slots=2,chunk=8)");
  EXPECT_EQ(with_memory.right_frames, 0);
  EXPECT_EQ(with_memory.chunk_frames, 8);
  EXPECT_THROW(Of({.latency_ms = 320, .right_context_ms = 80}, "local(chunk=8,left=32)+memory(slots=2,chunk=8)"),
               Error);
}

TEST_F(LatencyTest, WhatCannotBeIsNamed) {
  EXPECT_THAT(ErrorOf({.latency_ms = 20}), HasSubstr("this model takes 40"));
  EXPECT_THAT(ErrorOf({.latency_ms = 40000}), HasSubstr("to 30000"));
  EXPECT_THAT(ErrorOf({.latency_ms = -1}), HasSubstr("latency_ms is -1"));
  EXPECT_THAT(ErrorOf({.latency_ms = 320, .right_context_ms = 320}), HasSubstr("right_context_ms is 320"));
  EXPECT_THAT(ErrorOf({.latency_ms = 100, .right_context_ms = 90}), HasSubstr("leaves no encoder frame"));
  EXPECT_THAT(ErrorOf({.latency_ms = 320, .left_context_ms = -3}), HasSubstr("left_context_ms is -3"));
  EXPECT_THAT(ErrorOf({.right_context_ms = 80}), HasSubstr("latency_ms is not given"));
  EXPECT_EQ(ErrorOf({}), "no error");
}

}  // namespace
}  // namespace earshot
