#include "src/audio/sndfile_source.h"

#include <fcntl.h>
#include <sndfile.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "src/base/error.h"

namespace earshot {
namespace {

// libsndfile answers SF_COUNT_MAX, or a number near it by arithmetic on one, for "unknown".
constexpr int64_t kMostFrames = int64_t{1} << 52;

// What may follow the last frame of an MP3 file unread: ID3v1, Lyrics3 and small APE tags.
constexpr int64_t kMp3TailBytes = 8192;

std::string FormatName(int command, int format) {
  SF_FORMAT_INFO info{};
  info.format = format;
  if (sf_command(nullptr, command, &info, sizeof(info)) != 0 || info.name == nullptr) return "unknown";
  return info.name;
}

// libsndfile's last error (of opening: null), without its decoration.
std::string Reason(SNDFILE* file) {
  std::string reason = sf_strerror(file);
  while (reason.ends_with('.')) reason.pop_back();
  if (reason.starts_with("Error : ")) reason.erase(0, 8);
  return reason;
}

// Four bytes as RIFF (little-endian) or AIFF (big-endian) stores a length.
uint32_t Length(const std::array<uint8_t, 4>& bytes, bool big_endian) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | bytes[big_endian ? i : 3 - i];
  return value;
}

}  // namespace

bool IsPlaceholderLength(uint32_t length) {
  // sox: 0x7FFFFFFF less a header; arecord: 0x80000000 or so; ffmpeg: 0xFFFFFFFF.
  return length == 0 || length >= 0x7FFF0000;
}

bool IsUnfinishedWav(int fd) {
  std::array<char, 8> head;
  return pread(fd, head.data(), head.size(), 0) == 8 && std::memcmp(head.data(), "RIFF\0\0\0\0", 8) == 0;
}

int64_t MissingChunkBytes(int fd) {
  struct Chunk {
    std::array<char, 4> id;
    std::array<uint8_t, 4> length;
  } chunk;
  static_assert(sizeof(Chunk) == 8);
  struct stat status;
  if (fstat(fd, &status) != 0 || pread(fd, &chunk, 8, 0) != 8) return 0;
  const auto is = [&](const char* id) { return std::memcmp(chunk.id.data(), id, 4) == 0; };
  const bool big_endian = is("FORM") || is("RIFX");
  if (!big_endian && !is("RIFF")) return 0;

  // Both are a list of chunks {id, length, content, padded to even} from byte 12 on.
  for (int64_t at = 12; pread(fd, &chunk, 8, at) == 8;) {
    const uint32_t length = Length(chunk.length, big_endian);
    if (is("data") || is("SSND")) {
      if (IsPlaceholderLength(length)) return 0;
      return std::max<int64_t>(0, at + 8 + length - status.st_size);
    }
    at += 8 + int64_t{length} + length % 2;
  }
  return 0;
}

SndfileSource::SndfileSource(std::string name, UniqueFd fd, const Options& options)
    : name_(std::move(name)), fd_(std::move(fd)), options_(options) {
  SF_INFO info{};
  // libsndfile closes what it cannot read, even where it is told not to: it gets a descriptor of its own to close.
  const int of_sndfile = fcntl(fd_.get(), F_DUPFD_CLOEXEC, 3);
  if (of_sndfile < 0) Throw("{}: cannot be read: {}", name_, std::strerror(errno));
  file_ = sf_open_fd(of_sndfile, SFM_READ, &info, SF_TRUE);
  if (file_ == nullptr) throw NotSndfile(Reason(nullptr));
  format_ = info.format;
  sample_rate_ = info.samplerate;
  channels_ = info.channels;
  if (!options.length_unknown && info.frames >= 0 && info.frames < kMostFrames) num_frames_ = info.frames;
}

SndfileSource::~SndfileSource() { sf_close(file_); }

double SndfileSource::duration_s() const {
  return num_frames_ < 0 ? -1 : static_cast<double>(num_frames_) / sample_rate_;
}

std::string SndfileSource::format() const {
  return FormatName(SFC_GET_FORMAT_INFO, format_ & SF_FORMAT_TYPEMASK) + ", " +
         FormatName(SFC_GET_FORMAT_INFO, format_ & SF_FORMAT_SUBMASK);
}

size_t SndfileSource::Read(std::span<float> interleaved) {
  const sf_count_t wanted = static_cast<sf_count_t>(interleaved.size()) / channels_;
  const sf_count_t frames = sf_readf_float(file_, interleaved.data(), wanted);
  position_ += frames;
  if (frames < wanted && sf_error(file_) != SF_ERR_NO_ERROR && failure_.empty()) {
    failure_ = fmt::format("decoding failed after {:.2f} s: {}; the file is truncated or damaged",
                           static_cast<double>(position_) / sample_rate_, Reason(file_));
  }
  return static_cast<size_t>(frames);
}

bool SndfileSource::Seek(int64_t frame) {
  if (options_.is_stream) return false;
  // Not trusted: mpg123 seeks by an estimate of bytes per frame, wrong in a file of variable rate without an index,
  // and after a seek in Vorbis libsndfile 1.2.0 gives samples of another place.
  const int container = format_ & SF_FORMAT_TYPEMASK;
  if (container == SF_FORMAT_MPEG || container == SF_FORMAT_OGG) return false;
  if (sf_seek(file_, frame, SEEK_SET) == frame) {
    position_ = frame;
    return true;
  }
  if (sf_seek(file_, 0, SEEK_SET) != 0) Throw("{}: cannot seek: {}; is the file damaged?", name_, Reason(file_));
  return false;
}

std::string SndfileSource::Damage() {
  if (!failure_.empty()) return failure_;
  const double read_s = static_cast<double>(position_) / sample_rate_;
  const int container = format_ & SF_FORMAT_TYPEMASK;
  struct stat status;
  const bool is_regular = !options_.is_stream && fstat(fd_.get(), &status) == 0;
  if (container == SF_FORMAT_MPEG) {
    // The number of frames is an estimate here, so the bytes that were left over have to tell.
    const int64_t unread = is_regular ? status.st_size - lseek(fd_.get(), 0, SEEK_CUR) : 0;
    if (unread <= kMp3TailBytes) return "";
    return fmt::format("the MP3 decoder stopped after {:.2f} s with {} of {} bytes unread; the file is damaged there",
                       read_s, unread, status.st_size);
  }
  if (is_regular) {
    const int64_t missing = MissingChunkBytes(fd_.get());
    if (missing > 0)
      return fmt::format("ends after {:.2f} s, {} bytes before its header says; the file is truncated", read_s,
                         missing);
    if (container == SF_FORMAT_OGG && num_frames_ < 0)
      return fmt::format("the Ogg stream ends after {:.2f} s without a last page; the file is truncated", read_s);
  }
  if (num_frames_ > position_)
    return fmt::format("the header promises {:.2f} s, {:.2f} s could be decoded; the file is truncated or damaged",
                       duration_s(), read_s);
  return "";
}

}  // namespace earshot
