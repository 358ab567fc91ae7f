#include "src/serve/work_gate.h"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <thread>

namespace earshot {
namespace {

TEST(WorkGate, WorkRunsOnTheExecutor) {
  boost::asio::io_context io;
  WorkGate gate;
  std::thread::id ran_on;
  const WorkGate::Post post = gate.To(io.get_executor());
  std::thread([&] { post([&] { ran_on = std::this_thread::get_id(); }); }).join();
  EXPECT_EQ(ran_on, std::thread::id());
  EXPECT_EQ(io.run(), 1);
  EXPECT_EQ(ran_on, std::this_thread::get_id());
}

TEST(WorkGate, DropsWhatComesOnceItIsClosed) {
  boost::asio::io_context io;
  WorkGate::Post post;
  int before = 0, after = 0;
  {
    WorkGate gate;
    post = gate.To(io.get_executor());
    post([&] { ++before; });
    gate.Close();
    post([&] { ++after; });
  }
  post([&] { ++after; });
  EXPECT_EQ(io.run(), 1);
  EXPECT_EQ(before, 1);
  EXPECT_EQ(after, 0);
}

}  // namespace
}  // namespace earshot
