// What an idle server keeps of memory.
#include <malloc.h>

#include <cstring>
#include <fstream>
#include <vector>

#include "tests/serve/server_fixture.h"

namespace earshot {
namespace {

using MemoryTest = ServerFixture;

double ResidentMb() {
  std::ifstream file("/proc/self/statm");
  double all = 0, resident = 0;
  file >> all >> resident;
  return resident * 4096 / (1 << 20);
}

TEST_F(MemoryTest, GoesBackOnceNothingIsLeftToDo) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizers have a malloc of their own";
#endif
  Begin();
  // Blocks too small for pages of their own, and the last one stays: what was before it is kept for the next request.
  std::vector<void*> blocks(4000);
  for (void*& block : blocks) {
    block = malloc(32 << 10);
    memset(block, 1, 32 << 10);
  }
  void* last = blocks.back();
  blocks.pop_back();
  for (void* block : blocks) free(block);
  const double kept = ResidentMb();
  TestClient client(port_);
  client.Send(TranscriptionRequestBytes(Sound(1)));
  EXPECT_EQ(client.ReadResponse().status, 200);
  EXPECT_TRUE(Eventually([&] { return ResidentMb() < kept - 100; })) << kept << " MB, and " << ResidentMb() << " MB";
  free(last);
}

}  // namespace
}  // namespace earshot
