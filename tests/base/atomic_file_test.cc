#include "src/base/atomic_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "src/base/error.h"
#include "tests/support/temp_folder.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

size_t Entries(const std::string& folder) {
  size_t count = 0;
  for (auto it = fs::directory_iterator(folder); it != fs::directory_iterator(); ++it) ++count;
  return count;
}

TEST(AtomicFileTest, WritesAndReadsBackBytesInMissingFolders) {
  const TempFolder folder;
  const std::string path = folder.Path("a/b/file"), content("x\0y\n", 4);
  WriteFileAtomically(path, content);
  EXPECT_EQ(ReadFile(path), content);
  EXPECT_EQ(Entries(folder.Path("a/b")), 1U);
}

TEST(AtomicFileTest, WithoutCommitTheOldFileStaysAndNothingIsLeft) {
  const TempFolder folder;
  const std::string path = folder.Path("file");
  WriteFileAtomically(path, "old");
  {
    AtomicFile file(path);
    file.stream() << "new";
  }
  EXPECT_EQ(ReadFile(path), "old");
  EXPECT_EQ(Entries(folder.Path("")), 1U);
}

TEST(AtomicFileTest, ErrorsNameTheFile) {
  const TempFolder folder;
  EXPECT_THROW(ReadFile(folder.Path("missing")), Error);
  EXPECT_THROW(ReadFile(folder.Path("")), Error);
  WriteFileAtomically(folder.Path("plain"), "");
  EXPECT_THROW(WriteFileAtomically(folder.Path("plain/below"), ""), Error);
  if (access("/dev/full", W_OK) == 0) {
    fs::create_symlink("/dev/full", folder.Path("link"));
    EXPECT_NO_THROW(WriteFileAtomically(folder.Path("link"), "replaces the link, not what it points to"));
  }
}

}  // namespace
}  // namespace earshot
