#include "src/model/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "src/base/atomic_file.h"
#include "src/base/error.h"

namespace earshot {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

using nlohmann::json;
using torch::Tensor;

// What the reference implementation accepts at most.
constexpr uint64_t kMostHeaderBytes = 100'000'000;

struct TypeName {
  const char* name;
  torch::ScalarType type;
};
constexpr TypeName kTypes[] = {{"F64", torch::kDouble},    {"F32", torch::kFloat}, {"F16", torch::kHalf},
                               {"BF16", torch::kBFloat16}, {"I64", torch::kInt64}, {"I32", torch::kInt32},
                               {"I16", torch::kInt16},     {"I8", torch::kInt8},   {"U8", torch::kUInt8},
                               {"BOOL", torch::kBool}};

struct Entry {
  std::string name;
  torch::ScalarType type = torch::kFloat;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;
};

torch::ScalarType ParseType(const std::string& path, const std::string& tensor, const std::string& name) {
  for (const TypeName& t : kTypes) {
    if (name == t.name) return t.type;
  }
  Throw("{}: tensor '{}' has type '{}', which is not one that Earshot reads", path, tensor, name);
}

// Bytes of a tensor; throws where the product leaves 62 bits, zeros left out of it (torch's strides overflow beside
// them).
uint64_t Bytes(const std::string& path, const Entry& entry) {
  uint64_t product = c10::elementSize(entry.type);
  bool empty = false;
  for (const int64_t size : entry.shape) {
    empty = empty || size == 0;
    const uint64_t factor = size == 0 ? 1 : static_cast<uint64_t>(size);
    if (size < 0 || product > (uint64_t{1} << 62U) / factor)
      Throw("{}: tensor '{}' has an impossible shape", path, entry.name);
    product *= factor;
  }
  return empty ? 0 : product;
}

Entry ParseEntry(const std::string& path, const std::string& name, const json& value) {
  Entry entry;
  entry.name = name;
  try {
    entry.type = ParseType(path, name, value.at("dtype").get<std::string>());
    for (const json& size : value.at("shape")) {
      if (!size.is_number_unsigned()) Throw("{}: tensor '{}' has an impossible shape", path, name);
      entry.shape.push_back(size.get<int64_t>());
    }
    const json& offsets = value.at("data_offsets");
    if (offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) {
      Throw("{}: tensor '{}' lacks a proper data_offsets", path, name);
    }
    entry.begin = offsets[0].get<uint64_t>();
    entry.end = offsets[1].get<uint64_t>();
  } catch (const json::exception&) {
    Throw("{}: tensor '{}' lacks a proper dtype, shape or data_offsets", path, name);
  }
  const uint64_t bytes = Bytes(path, entry);
  if (entry.end < entry.begin || entry.end - entry.begin != bytes) {
    Throw("{}: tensor '{}' has the offsets {} to {}, its shape and type make {} bytes", path, name, entry.begin,
          entry.end, bytes);
  }
  return entry;
}

json ParseHeader(const std::string& path, const std::string& text) {
  std::set<std::string> names;
  std::string twice;
  // A JSON object may name a key twice, and the last one would win silently.
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth == 1 && event == json::parse_event_t::key && !names.insert(parsed.get<std::string>()).second)
      twice = parsed.get<std::string>();
    return true;
  };
  json header;
  try {
    header = json::parse(text, watch);
  } catch (const json::exception& e) {
    Throw("{}: the header is not JSON; is this a safetensors file, and complete?", path);
  }
  if (!header.is_object()) Throw("{}: the header is not a JSON object; is this a safetensors file?", path);
  if (!twice.empty()) Throw("{}: names tensor '{}' twice", path, twice);
  return header;
}

}  // namespace

SafetensorsFile LoadSafetensors(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) Throw("{}: is a folder, expected a safetensors file", path);
  std::ifstream file(path, std::ios::binary);
  if (!file) Throw("{}: cannot be read: {}", path, std::strerror(errno));
  const uint64_t size = std::filesystem::file_size(path, error);
  uint64_t header_bytes = 0;
  if (error || size < sizeof(header_bytes)) Throw("{}: holds {} bytes, too few for a safetensors file", path, size);
  file.read(reinterpret_cast<char*>(&header_bytes), sizeof(header_bytes));
  if (header_bytes > kMostHeaderBytes || header_bytes > size - sizeof(header_bytes)) {
    Throw("{}: announces a header of {} bytes in a file of {}; not a safetensors file, or cut short", path,
          header_bytes, size);
  }
  std::string text(header_bytes, '\0');
  file.read(text.data(), static_cast<std::streamsize>(header_bytes));

  SafetensorsFile result;
  std::vector<Entry> entries;
  // Named, because items() only refers to it.
  const json header = ParseHeader(path, text);
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries.push_back(ParseEntry(path, name, value));
      continue;
    }
    for (const auto& [key, item] : value.items()) {
      if (!item.is_string()) Throw("{}: metadata '{}' is not a text", path, key);
      result.metadata[key] = item.get<std::string>();
    }
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  uint64_t expected = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != expected)
      Throw("{}: tensor '{}' begins at byte {} of the data, expected {}", path, entry.name, entry.begin, expected);
    expected = entry.end;
  }
  const uint64_t data_bytes = size - sizeof(header_bytes) - header_bytes;
  if (expected != data_bytes)
    Throw("{}: the tensors take {} bytes, the file has {}; was it cut short?", path, expected, data_bytes);
  for (const Entry& entry : entries) {
    Tensor tensor = torch::empty(entry.shape, entry.type);
    file.read(static_cast<char*>(tensor.data_ptr()), static_cast<std::streamsize>(entry.end - entry.begin));
    if (!file) Throw("{}: tensor '{}' cannot be read: {}", path, entry.name, std::strerror(errno));
    result.tensors[entry.name] = std::move(tensor);
  }
  return result;
}

void SaveSafetensors(const std::string& path, const TensorMap& tensors,
                     const std::map<std::string, std::string>& metadata) {
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::vector<Tensor> data;
  uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const Tensor plain = tensor.detach().to(torch::kCPU).contiguous();
    const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                    [&](const TypeName& t) { return t.type == plain.scalar_type(); });
    EARSHOT_CHECK(type != std::end(kTypes), "tensor {} has a type that safetensors do not know", name);
    const uint64_t bytes = plain.nbytes();
    header[name] = {{"dtype", type->name}, {"shape", plain.sizes().vec()}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
    data.push_back(plain);
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begins aligned
  AtomicFile file(path);
  const uint64_t header_bytes = text.size();
  file.stream().write(reinterpret_cast<const char*>(&header_bytes), sizeof(header_bytes));
  file.stream().write(text.data(), static_cast<std::streamsize>(text.size()));
  for (const Tensor& tensor : data)
    file.stream().write(static_cast<const char*>(tensor.data_ptr()), static_cast<std::streamsize>(tensor.nbytes()));
  file.Commit();
}

}  // namespace earshot
