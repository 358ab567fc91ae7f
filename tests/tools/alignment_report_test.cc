#include "tools/cli/alignment_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

#include "src/base/atomic_file.h"

namespace earshot {
namespace {

using ::testing::HasSubstr;

TEST(AlignmentReport, PutsEachWordBelowItsReference) {
  EXPECT_EQ(FormatAlignment({"an1", "RUBOUT G M SEVEN", "RUBOUT G N ECHO SEVEN"}),
            "an1  2 errors of 4 words\n"
            "REF: RUBOUT G * M    SEVEN\n"
            "HYP: RUBOUT G N ECHO SEVEN\n"
            "              I S\n");
}

TEST(AlignmentReport, WithoutErrorsHasNoRowOfEdits) {
  EXPECT_EQ(FormatAlignment({"an2", "YES", "YES"}), "an2  0 errors of 1 words\nREF: YES\nHYP: YES\n");
}

TEST(AlignmentReport, CountsCharactersNotBytes) {
  EXPECT_EQ(FormatAlignment({"u", "ÄÖÜ B", "A B"}), "u  1 error of 2 words\nREF: ÄÖÜ B\nHYP: A   B\n     S\n");
}

TEST(AlignmentReport, BreaksLongRows) {
  std::string text;
  for (int i = 0; i < 60; ++i) text += "SEVEN ";
  const std::string report = FormatAlignment({"long", text, text});
  size_t begin = 0;
  int rows = 0;
  for (size_t end; (end = report.find('\n', begin)) != std::string::npos; begin = end + 1, ++rows)
    EXPECT_LE(end - begin, 120u);
  EXPECT_EQ(rows, 1 + 2 * 4);  // 18 words of 6 fit a row
}

TEST(AlignmentReport, NothingHeardAndNothingSaidAreRowsToo) {
  EXPECT_THAT(FormatAlignment({"d", "A BC", ""}), HasSubstr("REF: A BC\nHYP: * **\n     D D\n"));
  EXPECT_THAT(FormatAlignment({"i", "", "A BC"}), HasSubstr("REF: * **\nHYP: A BC\n     I I\n"));
  EXPECT_EQ(FormatAlignment({"n", "", ""}), "n  0 errors of 0 words\nREF:\nHYP:\n");
}

TEST(AlignmentReport, TheWorstComesFirst) {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("earshot_report_" + std::to_string(getpid()) + ".txt")).string();
  const std::vector<ReportedUtterance> utterances = {
      {"good", "A B", "A B"}, {"one-of-two", "A B", "A C"}, {"both", "A B", "C D"}, {"one-of-one", "A", "B"}};
  WriteAlignmentReport(path, utterances);
  const std::string report = ReadFile(path);
  std::filesystem::remove(path);
  std::vector<size_t> places;
  for (const char* id : {"both  2", "one-of-one  1", "one-of-two  1", "good  0"}) places.push_back(report.find(id));
  EXPECT_TRUE(std::is_sorted(places.begin(), places.end()));
  EXPECT_NE(places.back(), std::string::npos);
}

}  // namespace
}  // namespace earshot
