#include "src/audio/ffmpeg_source.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cerrno>
#include <filesystem>

#include "src/audio/audio_reader.h"
#include "src/audio/wav_writer.h"
#include "src/base/error.h"
#include "tests/audio/audio_test_util.h"

namespace earshot {
namespace {

class FfmpegSourceTest : public AudioTest {
 protected:
  // A signal of the rate and channels, encoded by ffmpeg as the ending says.
  std::string Make(const std::string& name, int sample_rate = 16000, int channels = 1, double seconds = 1) {
    signal_ = TestSignal(static_cast<int64_t>(seconds * sample_rate), channels, sample_rate);
    std::vector<float> mono = MeanOfChannels(signal_, channels);
    WriteWav(Path("mono.wav"), mono, sample_rate);
    // Channels that all are their mean, so that an encoder's stereo tricks change nothing that is measured here.
    RunProgram({"ffmpeg", "-v", "error", "-y", "-i", Path("mono.wav"), "-af",
                fmt::format("pan={}c|c0=c0{}", channels, channels > 1 ? "|c1=c0" : ""), Path(name)});
    signal_ = std::move(mono);
    return Path(name);
  }

  std::vector<float> signal_;
};

int OpenDescriptors() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

TEST_F(FfmpegSourceTest, OtherContainers) {
  struct Case {
    const char* name;
    int sample_rate, channels;
  };
  for (const auto& [name, sample_rate, channels] :
       {Case{"x.m4a", 44100, 2}, Case{"x.aac", 16000, 1}, Case{"x.webm", 48000, 2}, Case{"x.mka", 22050, 1},
        Case{"x.wma", 44100, 2}}) {
    SCOPED_TRACE(name);
    const std::string path = Make(name, sample_rate, channels);
    const AudioInfo info = ProbeAudio(path);
    EXPECT_EQ(info.sample_rate, sample_rate);
    EXPECT_EQ(info.channels, channels);
    EXPECT_NE(info.format, "ffmpeg");
    EXPECT_NEAR(info.duration_s, 1, 0.2);
    const auto samples = ReadAudio(path, {.sample_rate = 0});
    EXPECT_NEAR(static_cast<double>(samples.size()), sample_rate, 0.2 * sample_rate);
    // Raw AAC has no word for the codec's delay, and WMA's decoder drops more than it: the best of all shifts.
    const auto expected = std::span(signal_).subspan(6000, 2000);
    double best = -100;
    for (size_t begin = 3900; begin <= 8100 && best < 15; ++begin)
      best = std::max(best, SignalToNoiseDb(expected, std::span(samples).subspan(begin, 2000)));
    EXPECT_GT(best, 15);
  }
}

TEST_F(FfmpegSourceTest, PiecesJoinExactly) {
  const std::string path = Make("x.m4a", 16000, 2, 2);
  const auto whole = ReadAudio(path);
  auto joined = ReadAudio(path, {.duration_s = 0.777});
  const auto rest = ReadAudio(path, {.offset_s = 0.777});
  joined.insert(joined.end(), rest.begin(), rest.end());
  EXPECT_EQ(joined, whole);
}

TEST_F(FfmpegSourceTest, OddFileNames) {
  const auto expected = ReadAudio(Make("plain.m4a"));
  const auto old_folder = std::filesystem::current_path();
  std::filesystem::current_path(Path(""));
  for (const char* name : {"-i.m4a", "-", "a b'c\"$(x)`;|&.m4a", "http:x.m4a", "concat:a|b", "line\nbreak.m4a",
                           "%03d.m4a", "Straße ü.m4a", "pipe:0"}) {
    // "-" alone is standard input; as a file it is "./-".
    const std::string path = std::string(name) == "-" ? "./-" : name;
    std::filesystem::copy_file("plain.m4a", path);
    EXPECT_EQ(ReadAudio(path), expected) << name;
  }
  std::filesystem::current_path(old_folder);
}

TEST_F(FfmpegSourceTest, AMissingFfmpegSaysHowToInstallIt) {
  const std::string path = Make("x.m4a");
  const std::string old_path = getenv("PATH");
  setenv("PATH", "/nonexistent", 1);
  const std::string error = ErrorOf([&] { ReadAudio(path); });
  setenv("PATH", old_path.c_str(), 1);
  EXPECT_EQ(error, path +
                       ": cannot be read as audio: libsndfile: Format not recognised; the program 'ffmpeg' is not "
                       "in PATH; install it (Debian, Ubuntu: apt install ffmpeg); is it an audio file, and whole?");
}

TEST_F(FfmpegSourceTest, APlaylistFetchesNothing) {
  const UniqueFd server(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(server.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(server.get(), 4), 0);
  ASSERT_EQ(getsockname(server.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string url = fmt::format("http://127.0.0.1:{}/x.ts", ntohs(address.sin_port));
  WriteBytes(Path("list.m3u8"), "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n" + url + "\n#EXT-X-ENDLIST\n");
  const std::string error = ErrorOf([&] { ReadAudio(Path("list.m3u8")); });
  EXPECT_NE(error.find("not on whitelist"), std::string::npos) << error;
  EXPECT_EQ(accept(server.get(), nullptr, nullptr), -1) << "somebody called";
  EXPECT_EQ(errno, EAGAIN);
}

TEST_F(FfmpegSourceTest, GoingEarlyLeavesNoChildAndNoDescriptor) {
  const std::string path = Make("x.m4a", 48000, 1, 5);
  ReadAudio(path, {.duration_s = 0.1});
  const int before = OpenDescriptors();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ReadAudio(path, {.duration_s = 0.1}).size(), 1600u);
  EXPECT_EQ(OpenDescriptors(), before);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST_F(FfmpegSourceTest, TruncatedContainers) {
  // An m4a keeps its index at the end: nothing is left of half a file. A webm plays to where it breaks off.
  std::string bytes = ReadBytes(Make("x.m4a", 16000, 1, 4));
  WriteBytes(Path("cut.m4a"), bytes.substr(0, bytes.size() / 2));
  const std::string error = ErrorOf([&] { ReadAudio(Path("cut.m4a"), {.allow_damaged = true}); });
  EXPECT_NE(error.find("moov atom not found"), std::string::npos) << error;

  bytes = ReadBytes(Make("x.webm", 48000, 1, 4));
  WriteBytes(Path("cut.webm"), bytes.substr(0, bytes.size() / 2));
  const std::string cut = ErrorOf([&] { ReadAudio(Path("cut.webm")); });
  EXPECT_NE(cut.find("cut.webm: ffmpeg found damage: "), std::string::npos) << cut;
  EXPECT_NEAR(static_cast<double>(ReadAudio(Path("cut.webm"), {.allow_damaged = true}).size()), 32000, 12000);
}

TEST_F(FfmpegSourceTest, AVideoWithoutSoundSaysSo) {
  RunProgram({"ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=duration=0.2:size=64x64", Path("silent.mp4")});
  const std::string error = ErrorOf([&] { ReadAudio(Path("silent.mp4")); });
  EXPECT_NE(error.find("matches no streams"), std::string::npos) << error;
}

}  // namespace
}  // namespace earshot
