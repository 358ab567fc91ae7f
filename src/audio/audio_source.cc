#include "src/audio/audio_source.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "src/audio/ffmpeg_source.h"
#include "src/audio/ogg_opus.h"
#include "src/audio/sndfile_source.h"
#include "src/base/error.h"

namespace earshot {
namespace {

constexpr int kMinRate = 1000;
constexpr int kMaxRate = 768000;
constexpr int kMaxChannels = 256;

// Enough of "RIFF" length "WAVE" "fmt " length tag to know a plain WAV.
constexpr size_t kHeadBytes = 22;
using Head = std::array<uint8_t, kHeadBytes>;

// The first bytes of a pipe or socket, which stay in it to be read again. Returns how many there are, less than
// kHeadBytes only where the stream is shorter or cannot be looked into (a terminal, say): then peekable is false.
size_t Peek(int fd, mode_t mode, Head& head, bool& peekable) {
  peekable = true;
  if (S_ISSOCK(mode)) {
    const ssize_t n = recv(fd, head.data(), head.size(), MSG_PEEK | MSG_WAITALL);
    return n < 0 ? 0 : static_cast<size_t>(n);
  }
  while (S_ISFIFO(mode)) {
    // The end of the writer is asked for first, so that nothing can come between the two answers.
    pollfd state = {.fd = fd, .events = POLLIN, .revents = 0};
    poll(&state, 1, -1);
    std::array<int, 2> ends;
    if (pipe2(ends.data(), O_CLOEXEC) != 0) break;
    const UniqueFd copy_out(ends[0]), copy_in(ends[1]);
    // tee copies from pipe to pipe and consumes nothing.
    const ssize_t copied = tee(fd, copy_in.get(), head.size(), 0);
    if (copied < 0) break;
    const ssize_t n = copied == 0 ? 0 : read(copy_out.get(), head.data(), head.size());
    if (n == 0 || n == static_cast<ssize_t>(head.size()) || (state.revents & POLLHUP) != 0)
      return static_cast<size_t>(std::max<ssize_t>(n, 0));
    poll(nullptr, 0, 2);  // ms; the rest of the header is on its way
  }
  peekable = false;
  return 0;
}

// A WAV that libsndfile certainly reads from a pipe: once it has begun to read, nobody else can.
bool IsPlainWav(const Head& head) {
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  const int tag = head[20] | head[21] << 8;
  const bool known = tag == 1 || tag == 3 || tag == 6 || tag == 7 || tag == 0xFFFE;  // PCM, float, a-law, mu-law, GUID
  const bool finished = text.substr(4, 4) != std::string_view("\0\0\0\0", 4);
  return text.starts_with("RIFF") && finished && text.substr(8, 8) == "WAVEfmt " && known;
}

std::unique_ptr<AudioSource> OpenStream(const std::string& path, UniqueFd fd, mode_t mode) {
  Head head{};
  bool peekable = false;
  const size_t size = Peek(fd.get(), mode, head, peekable);
  const std::string name = AudioName(path);
  if (peekable && size == 0) Throw("{}: is empty, expected audio; did the program before the pipe fail?", name);
  if (size < head.size() || !IsPlainWav(head)) {
    try {
      return std::make_unique<FfmpegSource>(path, fd.get());
    } catch (const Error& error) {
      Throw("{}: cannot be read as audio: {}", name, error.what());
    }
  }
  const uint32_t length = head[4] | uint32_t{head[5]} << 8 | uint32_t{head[6]} << 16 | uint32_t{head[7]} << 24;
  try {
    return std::make_unique<SndfileSource>(
        name, std::move(fd), SndfileSource::Options{.is_stream = true, .length_unknown = IsPlaceholderLength(length)});
  } catch (const NotSndfile& error) {
    Throw("{}: damaged WAV header: {}", name, error.what());
  }
}

std::unique_ptr<AudioSource> OpenFile(const std::string& path, UniqueFd fd) {
  // ffmpeg gets a standard input that is a file as a descriptor, all else by name.
  const bool is_input = path == "-";
  UniqueFd spare(is_input ? fcntl(fd.get(), F_DUPFD_CLOEXEC, 3) : -1);
  // What another program has read of it already is read again.
  if (is_input) lseek(fd.get(), 0, SEEK_SET);
  std::string reason;
  try {
    if (IsUnfinishedWav(fd.get())) throw NotSndfile("a WAV whose length was never filled in");
    if (HasUnevenOggOpusPages(fd.get())) throw NotSndfile("Ogg Opus whose page positions do not follow its packets");
    return std::make_unique<SndfileSource>(AudioName(path), std::move(fd), SndfileSource::Options{});
  } catch (const NotSndfile& error) {
    reason = error.what();
  }
  try {
    return std::make_unique<FfmpegSource>(path, spare.get(), is_input);
  } catch (const Error& error) {
    Throw("{}: cannot be read as audio: libsndfile: {}; {}; is it an audio file, and whole?", AudioName(path), reason,
          error.what());
  }
}

}  // namespace

std::string AudioName(const std::string& path) { return path == "-" ? "standard input" : path; }

std::unique_ptr<AudioSource> OpenAudioSource(const std::string& path) {
  const std::string name = AudioName(path);
  if (path.empty()) Throw("an empty file name, expected an audio file");
  UniqueFd fd(path == "-" ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  if (fd.get() < 0 || fstat(fd.get(), &status) != 0)
    Throw("{}: cannot be opened: {}; is the path right?", name, std::strerror(errno));
  if (S_ISDIR(status.st_mode)) Throw("{}: is a folder, expected an audio file", name);

  std::unique_ptr<AudioSource> source;
  if (S_ISREG(status.st_mode)) {
    if (status.st_size == 0) Throw("{}: is empty (0 bytes), expected audio; was its download or copy cut off?", name);
    source = OpenFile(path, std::move(fd));
  } else {
    source = OpenStream(path, std::move(fd), status.st_mode);
  }
  if (source->sample_rate() < kMinRate || source->sample_rate() > kMaxRate)
    Throw("{}: sample rate {} Hz, expected {} to {}; is the header damaged?", name, source->sample_rate(), kMinRate,
          kMaxRate);
  if (source->channels() < 1 || source->channels() > kMaxChannels)
    Throw("{}: {} channels, expected 1 to {}; is the header damaged?", name, source->channels(), kMaxChannels);
  return source;
}

}  // namespace earshot
