#include "tools/cli/command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <memory>
#include <new>
#include <stdexcept>
#include <system_error>

#include "src/base/error.h"

namespace earshot {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// A command that throws what its --fail names.
void AddTrial(CLI::App& app) {
  auto fail = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("trial", "Throws.");
  command->add_option("--fail", *fail, "what to throw");
  command->add_option("FILE", "a file")->required();
  command->footer(Examples({{"earshot trial --fail error x", "fails"}}));
  command->callback([fail] {
    if (*fail == "error") throw Error("x.wav: 0 bytes");
    if (*fail == "logic") EARSHOT_CHECK(false, "on purpose");
    if (*fail == "memory") throw std::bad_alloc();
    if (*fail == "trace") throw std::runtime_error("shapes differ\nframe #0: at::add");
    if (*fail == "disk") throw std::system_error(ENOSPC, std::generic_category(), "cannot write");
    if (*fail == "odd") throw 7;
    RequireOneOf("--fail", *fail, {"error", "logic", "none"});
  });
}

struct Outcome {
  int code;
  std::string out, err;
};

Outcome Earshot(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "earshot");
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  const int code = RunProgram(static_cast<int>(arguments.size()), arguments.data(), {AddTrial});
  return {code, ::testing::internal::GetCapturedStdout(), ::testing::internal::GetCapturedStderr()};
}

void ExpectOneLine(const Outcome& outcome, const ::testing::Matcher<std::string>& line) {
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, AllOf(StartsWith("earshot: "), line));
  EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
}

TEST(Command, GoodArgumentsRun) {
  const Outcome outcome = Earshot({"trial", "--fail", "none", "x"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "");
}

TEST(Command, EveryExceptionIsOneLine) {
  EXPECT_EQ(Earshot({"trial", "--fail", "error", "x"}).err, "earshot: x.wav: 0 bytes\n");
  ExpectOneLine(Earshot({"trial", "--fail", "logic", "x"}), AllOf(HasSubstr("on purpose"), HasSubstr("report")));
  ExpectOneLine(Earshot({"trial", "--fail", "memory", "x"}), HasSubstr("out of memory"));
  ExpectOneLine(Earshot({"trial", "--fail", "trace", "x"}), HasSubstr("shapes differ; please report"));
  EXPECT_EQ(Earshot({"trial", "--fail", "disk", "x"}).err, "earshot: cannot write: No space left on device\n");
  ExpectOneLine(Earshot({"trial", "--fail", "odd", "x"}), HasSubstr("report"));
}

TEST(Command, UnknownNamesGetTheNearest) {
  EXPECT_EQ(Earshot({"tiral", "x"}).err, "earshot: command 'tiral' is not known; did you mean 'trial'?\n");
  EXPECT_EQ(Earshot({"trial", "--fial=error", "x"}).err,
            "earshot: option '--fial' is not known; did you mean '--fail'?\n");
  EXPECT_EQ(Earshot({"trial", "--queit", "x"}).err,
            "earshot: option '--queit' is not known; did you mean '--quiet'?\n");
  // The file is missing as well, but that is not the first thing to say.
  ExpectOneLine(Earshot({"trial", "--fial"}), HasSubstr("did you mean '--fail'?"));
  ExpectOneLine(Earshot({"trial", "--fail", "eror", "x"}),
                HasSubstr("--fail 'eror' is not known; did you mean 'error'?"));
  ExpectOneLine(Earshot({"trial", "--some-other-thing", "x"}), HasSubstr("see earshot trial --help"));
}

TEST(Command, UsageErrorsAreOneLine) {
  ExpectOneLine(Earshot({}), HasSubstr("expected a command: trial"));
  ExpectOneLine(Earshot({"trial"}), AllOf(HasSubstr("FILE"), HasSubstr("earshot trial --help")));
  ExpectOneLine(Earshot({"trial", "x", "y"}), HasSubstr("argument 'y' is one too many"));
  ExpectOneLine(Earshot({"trial", "x", "--fail"}), HasSubstr("--fail"));
  ExpectOneLine(Earshot({"--log-level", "loud", "trial", "x"}), HasSubstr("log level 'loud'"));
}

TEST(Command, HelpHasExamplesAndVersionANumber) {
  const Outcome help = Earshot({"trial", "--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, HasSubstr("Examples:\n  earshot trial --fail error x\n"));
  const Outcome version = Earshot({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_EQ(version.out, "earshot " EARSHOT_VERSION "\n");
}

TEST(Command, FirstLineLeavesTheTrace) {
  EXPECT_EQ(FirstLine(std::runtime_error("one\ntwo\n")), "one");
  EXPECT_EQ(FirstLine(std::runtime_error("one")), "one");
}

}  // namespace
}  // namespace earshot
