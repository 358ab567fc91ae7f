#include "src/audio/child_process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <cerrno>

#include "src/base/error.h"
#include "tests/audio/audio_test_util.h"

namespace earshot {
namespace {

TEST(ChildProcessTest, ArgumentsArriveAsTheyAre) {
  const std::string odd = "a b'c\"$(touch x)`;|&\n*é-";
  EXPECT_EQ(RunProgram({"printf", "%s|%s", odd, ""}), odd + "|");
}

TEST(ChildProcessTest, KeepsWhatTheChildSaid) {
  ChildProcess child({"sh", "-c", "echo one >&2; echo two >&2; exit 3"});
  EXPECT_EQ(child.ReadOutput(), "");
  EXPECT_FALSE(child.Wait());
  EXPECT_EQ(child.LastWords(), "one; two");
}

TEST(ChildProcessTest, SilentEndsAreDescribed) {
  ChildProcess failed({"sh", "-c", "exit 3"});
  EXPECT_FALSE(failed.Wait());
  EXPECT_EQ(failed.LastWords(), "sh ended with exit code 3 and said nothing");
  ChildProcess killed({"sh", "-c", "kill -9 $$"});
  EXPECT_FALSE(killed.Wait());
  EXPECT_EQ(killed.LastWords(), "sh was ended by signal 9");
}

TEST(ChildProcessTest, AFloodOfComplaintsDoesNotStopIt) {
  // 300 KB on standard error is more than a pipe holds.
  ChildProcess child({"sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x >&2 2>/dev/null; echo done"});
  EXPECT_EQ(child.ReadOutput(), "done\n");
  EXPECT_TRUE(child.Wait());
  EXPECT_TRUE(child.Complained());
  EXPECT_LE(child.LastWords().size(), 2000u);
}

TEST(ChildProcessTest, StandardInputIsEmptyUnlessGiven) { EXPECT_EQ(RunProgram({"cat"}), ""); }

TEST(ChildProcessTest, AnUnknownProgramIsAnErrorThatSaysWhatToDo) {
  const std::string error = ErrorOf([] { ChildProcess child({"earshot-no-such-program"}); });
  EXPECT_EQ(error,
            "the program 'earshot-no-such-program' is not in PATH; install it (Debian, Ubuntu: apt install ffmpeg)");
}

TEST(ChildProcessTest, AnUnfinishedChildIsKilledAndReaped) {
  pid_t pid = 0;
  {
    ChildProcess child({"sh", "-c", "echo $$; exec sleep 1000"});
    char text[32] = {};
    ASSERT_GT(read(child.output(), text, sizeof(text) - 1), 0);
    pid = std::stoi(text);
    ASSERT_EQ(kill(pid, 0), 0);
  }
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH) << "neither running nor a zombie";
}

}  // namespace
}  // namespace earshot
