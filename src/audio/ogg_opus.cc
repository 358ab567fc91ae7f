#include "src/audio/ogg_opus.h"

#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

namespace earshot {
namespace {

constexpr uint8_t kContinued = 1, kFirstPage = 2, kLastPage = 4;
constexpr size_t kFixedBytes = 27;

// OpusHead and OpusTags, before the first packet of audio.
constexpr int kHeaderPackets = 2;

// RFC 3533, section 6.
struct Page {
  uint8_t flags;
  int64_t granule;
  uint32_t serial, sequence;
  // Lengths of the pieces of packets in the body; one of 255 is continued by the next, in the next page if need be.
  std::vector<uint8_t> lacing;
  std::vector<uint8_t> body;
  int64_t end;  // where the next page begins, in bytes
};

uint64_t LittleEndian(std::span<const uint8_t> bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | bytes[i];
  return value;
}

bool ReadAll(int fd, std::span<uint8_t> out, int64_t at) {
  return pread(fd, out.data(), out.size(), at) == static_cast<ssize_t>(out.size());
}

// nullopt: the file ends here, or there is something else than a page.
std::optional<Page> ReadPage(int fd, int64_t at) {
  std::array<uint8_t, kFixedBytes> head;
  if (!ReadAll(fd, head, at) || std::memcmp(head.data(), "OggS", 5) != 0) return std::nullopt;  // ... and version 0
  const std::span<const uint8_t> bytes(head);
  Page page{.flags = head[5],
            .granule = static_cast<int64_t>(LittleEndian(bytes.subspan(6, 8))),
            .serial = static_cast<uint32_t>(LittleEndian(bytes.subspan(14, 4))),
            .sequence = static_cast<uint32_t>(LittleEndian(bytes.subspan(18, 4))),
            .lacing = std::vector<uint8_t>(head[26]),
            .body = {},
            .end = 0};
  at += static_cast<int64_t>(kFixedBytes);
  if (!ReadAll(fd, page.lacing, at)) return std::nullopt;
  at += static_cast<int64_t>(page.lacing.size());
  size_t size = 0;
  for (const uint8_t piece : page.lacing) size += piece;
  page.body.resize(size);
  if (!ReadAll(fd, page.body, at)) return std::nullopt;
  page.end = at + static_cast<int64_t>(size);
  return page;
}

// Samples at 48 kHz in a packet, by its first two bytes: RFC 6716, section 3.1. packet: at least its first piece.
int64_t PacketSamples(std::span<const uint8_t> packet) {
  if (packet.empty()) return 0;
  const int config = packet[0] >> 3;
  constexpr std::array<int64_t, 4> kSilk = {480, 960, 1920, 2880};
  const int64_t frame = config < 12   ? kSilk[static_cast<size_t>(config % 4)]  // SILK: 10, 20, 40, 60 ms
                        : config < 16 ? 480 << config % 2                       // hybrid: 10, 20 ms
                                      : 120 << config % 4;                      // CELT: 2.5, 5, 10, 20 ms
  const int code = packet[0] & 3;
  if (code < 3) return code == 0 ? frame : 2 * frame;
  return packet.size() < 2 ? 0 : frame * (packet[1] & 63);
}

}  // namespace

bool HasUnevenOggOpusPages(int fd) {
  std::optional<Page> page = ReadPage(fd, 0);
  if (!page || (page->flags & kFirstPage) == 0 || page->body.size() < 8 ||
      std::memcmp(page->body.data(), "OpusHead", 8) != 0)
    return false;
  const uint32_t serial = page->serial;
  uint32_t sequence = page->sequence;
  int num_packets = 0;  // begun; counted no further than the headers
  int64_t samples = 0;  // in the packets that are complete
  int64_t pending = 0;  // in the one that is not
  bool open = false;    // there is one
  bool uneven = false;
  for (; page; page = ReadPage(fd, page->end)) {
    if (page->serial != serial) continue;
    if (page->sequence != sequence++ || ((page->flags & kContinued) != 0) != open) return false;
    bool completed = false;
    size_t at = 0;
    for (const uint8_t piece : page->lacing) {
      if (!open) {
        const bool is_audio = num_packets == kHeaderPackets;
        pending = is_audio ? PacketSamples(std::span(page->body).subspan(at, piece)) : 0;
        if (!is_audio) ++num_packets;
      }
      at += piece;
      open = piece == 255;
      if (open) continue;
      samples += pending;
      completed = true;
    }
    const bool is_last = (page->flags & kLastPage) != 0;
    // On a page where no packet ends the position means nothing.
    if (completed && (is_last ? page->granule > samples : page->granule != samples)) uneven = true;
    if (is_last) return uneven;
  }
  return false;
}

}  // namespace earshot
