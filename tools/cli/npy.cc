#include "tools/cli/npy.h"

#include <bit>

#include "src/base/error.h"

namespace earshot {

static_assert(std::endian::native == std::endian::little, "values are written as they lie in memory");

NpyWriter::NpyWriter(const std::string& path, int columns) : file_(path), columns_(columns) {
  file_.stream() << NpyHeader(0, columns);
}

void NpyWriter::Append(std::span<const float> values) {
  EARSHOT_CHECK(values.size() % static_cast<size_t>(columns_) == 0, "{} values in rows of {}", values.size(), columns_);
  rows_ += static_cast<int64_t>(values.size()) / columns_;
  file_.stream().write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size_bytes()));
}

void NpyWriter::Finish() {
  file_.stream().seekp(0);
  file_.stream() << NpyHeader(rows_, columns_);
  file_.Commit();
}

std::string NpyHeader(int64_t rows, int64_t columns) {
  // Magic, version 1.0, the length of what follows in two bytes; filled with blanks to a multiple of 64.
  constexpr size_t kSize = 128;
  constexpr char kPrefix[] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0, static_cast<char>(kSize - 10), 0};
  std::string header(kPrefix, sizeof(kPrefix));
  header += fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, columns);
  header.resize(kSize - 1, ' ');
  return header + '\n';
}

}  // namespace earshot
