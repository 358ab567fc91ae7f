// That the emulation finds what it is there to find.
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "src/attention/cuda/primitives.cuh"

namespace earshot::cuda {
namespace {

std::string ErrorOf(int threads, int64_t shared_bytes, const std::function<void()>& body) {
  try {
    emulation::Run({1, 1}, threads, shared_bytes, body);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

class EmulationTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override { emulation::reversed_threads = GetParam(); }
  void TearDown() override { emulation::reversed_threads = false; }
};
INSTANTIATE_TEST_SUITE_P(Orders, EmulationTest, testing::Bool());

TEST_P(EmulationTest, BarrierOrdersWritesAndReads) {
  std::vector<int> got(64);
  EXPECT_EQ(ErrorOf(64, 256,
                    [&] {
                      int* shared = DynamicShared<int>();
                      SharedStore(shared + threadIdx.x, static_cast<int>(threadIdx.x) * 3);
                      __syncthreads();
                      got[threadIdx.x] = SharedLoad(shared + 63 - threadIdx.x);
                    }),
            "");
  for (int i = 0; i < 64; ++i) EXPECT_EQ(got[i], (63 - i) * 3);
}

TEST_P(EmulationTest, MissingBarrierIsARace) {
  EXPECT_NE(ErrorOf(64, 256,
                    [&] {
                      int* shared = DynamicShared<int>();
                      SharedStore(shared + threadIdx.x, 1);
                      SharedLoad(shared + 63 - threadIdx.x);
                    })
                .find("race"),
            std::string::npos);
}

TEST_P(EmulationTest, WarpBarrierOrdersOneWarpOnly) {
  const auto body = [](int distance) {
    return [=] {
      int* shared = DynamicShared<int>();
      SharedStore(shared + threadIdx.x, 1);
      __syncwarp();
      SharedLoad(shared + (threadIdx.x ^ distance));
    };
  };
  EXPECT_EQ(ErrorOf(64, 256, body(1)), "");
  EXPECT_NE(ErrorOf(64, 256, body(32)).find("race"), std::string::npos);
}

TEST_P(EmulationTest, OverwritingWhatOthersReadIsARace) {
  EXPECT_NE(ErrorOf(64, 256,
                    [&] {
                      int* shared = DynamicShared<int>();
                      if (threadIdx.x == 0) SharedStore(shared, 1);
                      __syncthreads();
                      SharedLoad(shared);
                      if (threadIdx.x == 40) SharedStore(shared, 2);
                    })
                .find("race"),
            std::string::npos);
}

TEST_P(EmulationTest, ThreadThatLeavesBeforeABarrierIsFound) {
  EXPECT_NE(ErrorOf(64, 0,
                    [&] {
                      if (threadIdx.x == 7) return;
                      __syncthreads();
                    })
                .find("divergent"),
            std::string::npos);
}

TEST_P(EmulationTest, LanesAtDifferentCollectivesAreFound) {
  EXPECT_NE(ErrorOf(32, 0,
                    [&] {
                      if (threadIdx.x < 16) {
                        __syncwarp();
                      } else {
                        __shfl_xor_sync(kAllLanes, 1, 1);
                      }
                    })
                .find("divergent"),
            std::string::npos);
}

TEST_P(EmulationTest, BarrierOfPartOfTheWarpsIsFound) {
  EXPECT_NE(ErrorOf(64, 0,
                    [&] {
                      __syncthreads();
                      if (threadIdx.x < 32) __syncthreads();
                    })
                .find("divergent"),
            std::string::npos);
}

TEST_P(EmulationTest, CopyArrivesWithTheWait) {
  alignas(16) const float source[4] = {1, 2, 3, 4};
  float before = 0, after = 0;
  EXPECT_EQ(ErrorOf(32, 512,
                    [&] {
                      float* shared = DynamicShared<float>();
                      CopyAsync<16>(shared + threadIdx.x * 4, source, threadIdx.x % 2 == 0);
                      CommitCopies();
                      if (threadIdx.x == 0) before = SharedLoad(shared + 1);
                      WaitCopies<0>();
                      if (threadIdx.x == 0) after = SharedLoad(shared + 1);
                      if (threadIdx.x == 1 && SharedLoad(shared + 5) != 0) after = -1;
                    }),
            "");
  EXPECT_TRUE(std::isnan(before));
  EXPECT_EQ(after, 2);
}

TEST_P(EmulationTest, CopyThatIsNotWaitedForIsFound) {
  alignas(16) const float source[4] = {};
  const auto body = [&](bool waits, bool barrier) {
    return [&source, waits, barrier] {
      float* shared = DynamicShared<float>();
      if (threadIdx.x < 4) CopyAsync<16>(shared + threadIdx.x * 4, source, true);
      CommitCopies();
      if (barrier) __syncthreads();
      if (threadIdx.x == 63) SharedLoad(shared);
      if (waits) WaitCopies<0>();
    };
  };
  EXPECT_NE(ErrorOf(64, 64, body(false, false)), "");
  EXPECT_NE(ErrorOf(64, 64, body(true, true)), "") << "a read before the wait of another thread";
}

TEST_P(EmulationTest, SharedMemoryOutOfBoundsIsFound) {
  EXPECT_NE(ErrorOf(32, 64, [] { SharedStore(DynamicShared<int>() + threadIdx.x, 1); }).find("out of bounds"),
            std::string::npos);
}

// c = a b with the fragments as ldmatrix loads them, against the plain product: the layouts fit one another.
template <class T>
void CheckProduct() {
  float a[16][16], b[16][8], c[16][8];
  std::vector<float> got(16 * 8);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) a[i][j] = static_cast<float>((i * 7 + j * 3) % 11 - 5);
    for (int j = 0; j < 8; ++j) b[i][j] = static_cast<float>((i * 5 + j) % 7 - 3);
  }
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      c[i][j] = 0;
      for (int k = 0; k < 16; ++k) c[i][j] += a[i][k] * b[k][j];
    }
  }
  EXPECT_EQ(ErrorOf(32, 4096,
                    [&] {
                      const int lane = static_cast<int>(threadIdx.x);
                      uint16_t* left = DynamicShared<uint16_t>();  // (16, 16)
                      uint16_t* right = left + 256;                // (16, 16), the columns behind 8 unused
                      for (int i = lane; i < 256; i += 32) {
                        SharedStore(left + i, T::FromFloat(a[i / 16][i % 16]));
                        SharedStore(right + i, T::FromFloat(i % 16 < 8 ? b[i / 16][i % 16] : 0.F));
                      }
                      __syncwarp();
                      uint32_t fragment_a[4], fragment_b[4];
                      LoadMatrices(fragment_a, left + lane % 16 * 16 + lane / 16 * 8);
                      LoadMatricesTransposed(fragment_b, right + lane % 16 * 16 + lane / 16 * 8);
                      float sums[4] = {};
                      Mma<T>(sums, fragment_a, fragment_b[0], fragment_b[1]);
                      for (int i = 0; i < 4; ++i) got[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
                    }),
            "");
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) EXPECT_EQ(got[i * 8 + j], c[i][j]) << i << "," << j;
  }
}
// One warp fills a buffer three times, another one empties it.
TEST_P(EmulationTest, PhasesHandABufferToAndFro) {
  for (const bool waits : {true, false}) {
    std::vector<int> got;
    const std::string error = ErrorOf(64, 256, [&] {
      auto* full = DynamicShared<PhaseBarrier>();
      PhaseBarrier* free = full + 1;
      int* buffer = reinterpret_cast<int*>(full + 2);
      if (threadIdx.x == 0) {
        InitPhases(full, 1);
        InitPhases(free, 1);
      }
      __syncthreads();
      for (int turn = 0; turn < 3; ++turn) {
        if (threadIdx.x == 0) {
          if (turn > 0 && waits) WaitForPhase(free, turn % 2 ^ 1);
          SharedStore(buffer, 7 * turn);
          ArriveAtPhase(full);
        } else if (threadIdx.x == 32) {
          WaitForPhase(full, turn % 2);
          got.push_back(SharedLoad(buffer));
          ArriveAtPhase(free);
        }
      }
    });
    if (waits) {
      EXPECT_EQ(error, "");
      EXPECT_EQ(got, std::vector<int>({0, 7, 14}));
    } else {
      EXPECT_NE(error, "");  // a race, or a phase that has gone by
    }
  }
}

// Who arrives tells what it did itself, and of other lanes what it has learnt.
TEST_P(EmulationTest, ArrivalForAWarpNeedsTheWarpTogether) {
  for (const bool together : {true, false}) {
    const std::string error = ErrorOf(64, 256, [=] {
      auto* full = DynamicShared<PhaseBarrier>();
      int* buffer = reinterpret_cast<int*>(full + 1);
      if (threadIdx.x == 0) InitPhases(full, 1);
      __syncthreads();
      if (threadIdx.x < 32) {
        SharedStore(buffer + threadIdx.x, 1);
        if (together) __syncwarp();
        if (threadIdx.x == 0) ArriveAtPhase(full);
      } else {
        WaitForPhase(full, 0);
        SharedLoad(buffer + threadIdx.x - 32);
      }
    });
    EXPECT_EQ(error.find("race") == std::string::npos, together) << error;
  }
}

TEST_P(EmulationTest, PhaseThatNobodyEnds) {
  EXPECT_NE(ErrorOf(32, 64,
                    [] {
                      auto* barrier = DynamicShared<PhaseBarrier>();
                      if (threadIdx.x == 0) InitPhases(barrier, 2);
                      __syncthreads();
                      if (threadIdx.x == 0) ArriveAtPhase(barrier);
                      if (threadIdx.x == 1) WaitForPhase(barrier, 0);
                    })
                .find("waits for ever at mbarrier.try_wait"),
            std::string::npos);
}

TEST_P(EmulationTest, GroupThatDoesNotWaitTogether) {
  for (const bool alone : {false, true}) {
    const std::string error = ErrorOf(128, 64, [&] {
      float sums[4][4] = {};
      BeginProducts();
      CommitProducts();
      if (!alone || threadIdx.x < 32) WaitProducts<0>(sums);
    });
    EXPECT_EQ(error.find("divergent group") != std::string::npos, alone) << error;
  }
}

// A tile may be written to again when products with it have been waited for, not before.
TEST_P(EmulationTest, TileOfProductsThatNobodyHasWaitedFor) {
  for (const bool early : {false, true}) {
    const std::string error = ErrorOf(160, 2 * 8192 + 64, [=] {
      auto* tile = DynamicShared<uint16_t>();
      auto* free = reinterpret_cast<PhaseBarrier*>(tile + 8192);
      if (threadIdx.x == 0) InitPhases(free, 4);
      for (int i = static_cast<int>(threadIdx.x); i < 8192; i += 160) SharedStore(tile + i, uint16_t{0x3F80});
      __syncthreads();
      const auto say_free = [&] {
        __syncwarp();
        if (threadIdx.x % 32 == 0) ArriveAtPhase(free);
      };
      if (threadIdx.x < 128) {
        float sums[8][4] = {};
        BeginProducts();
        MultiplyTiles<BFloat16>(sums, TileDescriptor(tile), TileDescriptor(tile + 4096), false);
        CommitProducts();
        EXPECT_EQ(sums[0][0], 0);
        if (early) say_free();
        WaitProducts<0>(sums);
        if (!early) say_free();
        EXPECT_EQ(sums[0][0], 16);
      } else {
        WaitForPhase(free, 0);
        SharedStore(tile + threadIdx.x, uint16_t{0x3F80});
      }
    });
    EXPECT_EQ(error.find("race") != std::string::npos, early) << error;
  }
}

TEST_P(EmulationTest, ProductThatIsNotWaitedForIsFound) {
  EXPECT_NE(ErrorOf(128, 2 * 8192,
                    [] {
                      auto* tile = DynamicShared<uint16_t>();
                      for (int i = static_cast<int>(threadIdx.x); i < 8192; i += 128)
                        SharedStore(tile + i, uint16_t{0});
                      __syncthreads();
                      float sums[8][4] = {};
                      MultiplyTiles<BFloat16>(sums, TileDescriptor(tile), TileDescriptor(tile + 4096), false);
                      CommitProducts();
                    })
                .find("products were never waited for"),
            std::string::npos);
}

TEST_P(EmulationTest, ProductOfBFloat16) { CheckProduct<BFloat16>(); }
TEST_P(EmulationTest, ProductOfFloat16) { CheckProduct<Float16>(); }

}  // namespace
}  // namespace earshot::cuda
