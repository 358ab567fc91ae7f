#include "src/audio/wav_recorder.h"

#include <filesystem>
#include <limits>

#include "src/audio/audio_reader.h"
#include "src/audio/wav_writer.h"
#include "src/base/error.h"
#include "tests/audio/audio_test_util.h"

namespace earshot {
namespace {

using WavRecorderTest = AudioTest;

TEST_F(WavRecorderTest, PiecesMakeTheFileThatTheWholeMakes) {
  const std::vector<float> signal = TestSignal(20000, 1, 16000);
  WriteWav(Path("whole.wav"), signal, 16000);
  {
    WavRecorder recorder(Path("pieces.wav"), 16000);
    std::span<const float> rest = signal;
    for (size_t size = 0; !rest.empty(); size = size * 2 + 1) {
      recorder.Append(rest.first(std::min(size, rest.size())));
      rest = rest.subspan(std::min(size, rest.size()));
    }
    recorder.Finish();
    EXPECT_EQ(ReadBytes(Path("pieces.wav")), ReadBytes(Path("whole.wav")));
  }
  EXPECT_EQ(ReadBytes(Path("pieces.wav")), ReadBytes(Path("whole.wav")));
}

TEST_F(WavRecorderTest, IsValidWhileItGrows) {
  WavRecorder recorder(Path("x.wav"), 8000);
  const std::vector<float> second(8000, 0.25f);
  for (int s = 1; s <= 3; ++s) {
    recorder.Append(second);
    std::filesystem::copy_file(Path("x.wav"), Path("copy.wav"), std::filesystem::copy_options::overwrite_existing);
    EXPECT_EQ(ReadAudio(Path("copy.wav"), {.sample_rate = 0}), std::vector<float>(8000u * s, 0.25f));
  }
}

TEST_F(WavRecorderTest, DestructorFinishes) {
  { WavRecorder(Path("x.wav"), 16000).Append(std::vector<float>{0.5f, -0.5f}); }
  EXPECT_EQ(ReadAudio(Path("x.wav")), (std::vector<float>{0.5f, -0.5f}));
}

TEST_F(WavRecorderTest, ClipsAndTakesWhatIsNoNumberAsSilence) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  { WavRecorder(Path("x.wav"), 16000).Append(std::vector<float>{2, -inf, nan, -2}); }
  EXPECT_EQ(ReadAudio(Path("x.wav")), (std::vector<float>{1 - 1.0f / 32768, -1, 0, -1}));
}

TEST_F(WavRecorderTest, BadTargetsThrow) {
  EXPECT_THROW(WavRecorder(Path("x.wav"), 0), Error);
  EXPECT_NE(ErrorOf([&] { WavRecorder(Path("none/x.wav"), 16000); }).find("none/x.wav: cannot be made"),
            std::string::npos);
  EXPECT_NE(ErrorOf([] { WavRecorder("/dev/full", 16000); }).find("No space left"), std::string::npos);
}

}  // namespace
}  // namespace earshot
