// Where audio comes from: files, standard input, pipes, and what is none of them.
#include "src/audio/audio_source.h"

#include <fcntl.h>
#include <sndfile.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "src/audio/audio_reader.h"
#include "src/audio/unique_fd.h"
#include "src/audio/wav_writer.h"
#include "src/base/error.h"
#include "tests/audio/audio_test_util.h"

namespace earshot {
namespace {

// Puts a descriptor in the place of standard input for as long as it lives.
class StandardInput {
 public:
  explicit StandardInput(int fd) : kept_(dup(STDIN_FILENO)) { dup2(fd, STDIN_FILENO); }
  ~StandardInput() {
    if (kept_.get() >= 0)
      dup2(kept_.get(), STDIN_FILENO);
    else
      close(STDIN_FILENO);
  }
  StandardInput(const StandardInput&) = delete;
  StandardInput& operator=(const StandardInput&) = delete;

 private:
  UniqueFd kept_;
};

class AudioSourceTest : public AudioTest {
 protected:
  // Runs use() with standard input a pipe, into which a thread writes bytes, first_bytes of them some time earlier.
  void WithPipedInput(const std::string& bytes, size_t first_bytes, const std::function<void()>& use) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    std::jthread writer([&, fd = ends[1]] {
      WriteAll(fd, bytes.substr(0, first_bytes));
      if (first_bytes > 0) std::this_thread::sleep_for(std::chrono::milliseconds(30));
      WriteAll(fd, bytes.substr(first_bytes));
      close(fd);
    });
    StandardInput input(ends[0]);
    close(ends[0]);
    use();
  }

  static void WriteAll(int fd, const std::string& bytes) {
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t n = write(fd, bytes.data() + at, bytes.size() - at);
      if (n <= 0) return;
      at += static_cast<size_t>(n);
    }
  }

  // One second in a file of the name, by libsndfile, or by ffmpeg for what that does not write.
  std::string Make(const std::string& name) {
    WriteWav(Path("source.wav"), TestSignal(16000, 1, 16000), 16000);
    if (name != "source.wav") RunProgram({"ffmpeg", "-v", "error", "-i", Path("source.wav"), Path(name)});
    return Path(name);
  }
};

TEST_F(AudioSourceTest, StandardInputThroughAPipe) {
  for (const char* name : {"source.wav", "x.flac", "x.mp3", "x.ogg", "x.webm"}) {
    SCOPED_TRACE(name);
    const std::string path = Make(name);
    const auto expected = ReadAudio(path);
    WithPipedInput(ReadBytes(path), 0, [&] {
      const auto samples = ReadAudio("-");
      // ffmpeg and libsndfile differ by a frame or two in how they cut a lossy stream's padding.
      EXPECT_NEAR(static_cast<double>(samples.size()), static_cast<double>(expected.size()), 2400);
      EXPECT_GT(SignalToNoiseDb(expected, samples), 20);
    });
  }
}

TEST_F(AudioSourceTest, WavOnAPipeNeedsNoFfmpeg) {
  const std::string bytes = ReadBytes(Make("source.wav"));
  const auto expected = ReadAudio(Path("source.wav"));
  const std::string path = getenv("PATH");
  setenv("PATH", "/nonexistent", 1);
  // The header may come in pieces.
  for (const size_t first_bytes : {size_t{0}, size_t{3}, size_t{21}, size_t{1000}}) {
    WithPipedInput(bytes, first_bytes, [&] { EXPECT_EQ(ReadAudio("-"), expected) << first_bytes; });
  }
  // Offsets are skipped over; a length that the writer did not know (all ones) is no damage.
  std::string unknown = bytes;
  for (const size_t at : {4, 5, 6, 7, 40, 41, 42, 43}) unknown[at] = '\xFF';
  WithPipedInput(unknown, 0, [&] {
    const auto reader = AudioReader::Open("-", {.offset_s = 0.25});
    EXPECT_EQ(reader->duration_s(), -1);
    std::vector<float> samples(20000);
    EXPECT_EQ(reader->Read(samples), 12000u);
    EXPECT_EQ(samples[0], expected[4000]);
    EXPECT_EQ(reader->Read(samples), 0u);
  });
  setenv("PATH", path.c_str(), 1);
}

TEST_F(AudioSourceTest, ALiveStreamIsNotWaitedForLongerThanAsked) {
  // 100 ms are there and the pipe stays open: a read of 100 ms must return.
  const std::string bytes = ReadBytes(Make("source.wav"));
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]), write_end(ends[1]);
  WriteAll(write_end.get(), bytes.substr(0, 44 + 3200));
  StandardInput input(read_end.get());
  const auto reader = AudioReader::Open("-", {});
  std::vector<float> block(1600);
  EXPECT_EQ(reader->Read(block), block.size());
}

TEST_F(AudioSourceTest, RedirectedFilesMayNeedSeeking) {
  // An m4a with its index at the end cannot be read from a pipe; redirected it can.
  for (const char* name : {"source.wav", "x.flac", "x.m4a"}) {
    SCOPED_TRACE(name);
    const std::string path = Make(name);
    const auto expected = ReadAudio(path);
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    StandardInput input(fd.get());
    EXPECT_EQ(ReadAudio("-"), expected);
    EXPECT_EQ(ReadAudio("-"), expected) << "the second time";
  }
}

TEST_F(AudioSourceTest, NamedPipesAndSockets) {
  const std::string bytes = ReadBytes(Make("source.wav"));
  const auto expected = ReadAudio(Path("source.wav"));
  ASSERT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
  std::jthread writer([&] {
    const UniqueFd fd(open(Path("fifo").c_str(), O_WRONLY));
    WriteAll(fd.get(), bytes);
  });
  EXPECT_EQ(ReadAudio(Path("fifo")), expected);

  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd near_end(ends[0]);
  std::jthread sender([&, fd = ends[1]] {
    WriteAll(fd, bytes);
    close(fd);
  });
  StandardInput input(near_end.get());
  EXPECT_EQ(ReadAudio("-"), expected);
}

TEST_F(AudioSourceTest, WhatIsNoAudioFileSaysSo) {
  const auto error = [](const std::string& path) { return ErrorOf([&] { ReadAudio(path); }); };
  EXPECT_EQ(error(Path("none.wav")),
            Path("none.wav") + ": cannot be opened: No such file or directory; is the path right?");
  EXPECT_EQ(error(""), "an empty file name, expected an audio file");

  std::filesystem::create_directory(Path("folder.wav"));
  EXPECT_EQ(error(Path("folder.wav")), Path("folder.wav") + ": is a folder, expected an audio file");

  WriteBytes(Path("empty.wav"), "");
  EXPECT_EQ(error(Path("empty.wav")),
            Path("empty.wav") + ": is empty (0 bytes), expected audio; was its download or copy cut off?");

  WriteBytes(Path("text.wav"), "Dear all,\n\nthis is a letter and holds no sound at all.\n");
  const std::string text = error(Path("text.wav"));
  EXPECT_TRUE(text.starts_with(Path("text.wav") + ": cannot be read as audio: libsndfile: Format not recognised; "
                                                  "ffmpeg: "))
      << text;
  EXPECT_TRUE(text.ends_with("; is it an audio file, and whole?")) << text;

  WithPipedInput("", 0, [&] {
    EXPECT_EQ(error("-"), "standard input: is empty, expected audio; did the program before the pipe fail?");
  });
  WithPipedInput("short", 0, [&] {
    EXPECT_TRUE(error("-").starts_with("standard input: cannot be read as audio: ffmpeg: ")) << error("-");
  });
}

TEST_F(AudioSourceTest, AbsurdRatesAndChannelCountsSayWhatWasFound) {
  WriteWav(Path("x.wav"), TestSignal(1000, 1, 16000), 16000);
  const std::string good = ReadBytes(Path("x.wav"));
  const auto with = [&](size_t at, int value, int size) {
    std::string bytes = good;
    for (int i = 0; i < size; ++i) bytes[at + static_cast<size_t>(i)] = static_cast<char>(value >> 8 * i);
    WriteBytes(Path("bad.wav"), bytes);
    return ErrorOf([&] { ReadAudio(Path("bad.wav")); });
  };
  EXPECT_EQ(with(24, 12, 4), Path("bad.wav") + ": sample rate 12 Hz, expected 1000 to 768000; is the header damaged?");
  EXPECT_EQ(with(24, 2000000, 4),
            Path("bad.wav") + ": sample rate 2000000 Hz, expected 1000 to 768000; is the header damaged?");
  EXPECT_EQ(with(22, 500, 2), Path("bad.wav") + ": 500 channels, expected 1 to 256; is the header damaged?");
  EXPECT_FALSE(with(22, 0, 2).empty());
  EXPECT_FALSE(with(22, 65535, 2).empty());
  EXPECT_FALSE(with(24, 0, 4).empty());
  EXPECT_FALSE(with(24, -1, 4).empty());
}

}  // namespace
}  // namespace earshot
