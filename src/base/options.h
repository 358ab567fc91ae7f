// Options: plain structs whose one Visit drives YAML, --set a.b=c, --dump-config and the model folder.
//
//   struct ChunkOptions {
//     // Encoder frames computed at a time.
//     int chunk_frames = 16;
//     void Visit(OptionVisitor& v) { v.Field("chunk_frames", chunk_frames); }
//   };
//
//   ChunkOptions options;
//   ReadOptions("recipe.yaml", ReadFile("recipe.yaml"), {"chunk_frames=8"}, options);
//   std::string yaml = DumpOptions(options);
//
// Keys that are not there keep their default. An unknown key, a value of the wrong type or a --set
// that names nothing throws Error with the full key, the line, and the nearest spelling.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace earshot {

class OptionVisitor {
 public:
  virtual ~OptionVisitor() = default;

  virtual void Field(const char* key, bool& value) = 0;
  virtual void Field(const char* key, int& value) = 0;
  virtual void Field(const char* key, int64_t& value) = 0;
  virtual void Field(const char* key, float& value) = 0;
  virtual void Field(const char* key, double& value) = 0;
  virtual void Field(const char* key, std::string& value) = 0;
  virtual void Field(const char* key, std::vector<int>& value) = 0;
  virtual void Field(const char* key, std::vector<double>& value) = 0;
  virtual void Field(const char* key, std::vector<std::string>& value) = 0;

  // A nested struct with a Visit of its own.
  template <class Options>
  void Group(const char* key, Options& options) {
    if (!Enter(key)) return;
    options.Visit(*this);
    Leave();
  }

  // An enum, written by name.
  template <class E>
  void Enum(const char* key, E& value, std::initializer_list<std::pair<const char*, E>> names) {
    std::string name;
    std::vector<std::string> allowed;
    for (const auto& [n, v] : names) {
      allowed.emplace_back(n);
      if (v == value) name = n;
    }
    Choice(key, name, allowed);
    for (const auto& [n, v] : names) {
      if (name == n) value = v;
    }
  }

 protected:
  // false: the group is to be passed over.
  virtual bool Enter(const char* key) = 0;
  virtual void Leave() = 0;
  // Sets value to one of allowed.
  virtual void Choice(const char* key, std::string& value, const std::vector<std::string>& allowed) = 0;
};

namespace internal {
// Erased forms, so that yaml-cpp stays in options.cc.
using VisitFunction = void (*)(void* options, OptionVisitor& visitor);
void ReadOptions(const std::string& source, const std::string& yaml, const std::vector<std::string>& sets,
                 void* options, VisitFunction visit);
std::string DumpOptions(void* options, VisitFunction visit);
std::vector<std::pair<std::string, std::string>> ListOptions(void* options, VisitFunction visit);
template <class Options>
void VisitErased(void* options, OptionVisitor& visitor) {
  static_cast<Options*>(options)->Visit(visitor);
}
}  // namespace internal

// Fills options from YAML text; source names it in errors. sets: "a.b=value" each, applied on top.
template <class Options>
void ReadOptions(const std::string& source, const std::string& yaml, const std::vector<std::string>& sets,
                 Options& options) {
  internal::ReadOptions(source, yaml, sets, &options, internal::VisitErased<Options>);
}

// All keys with their values, as YAML that ReadOptions takes back.
template <class Options>
std::string DumpOptions(const Options& options) {
  Options copy = options;
  return internal::DumpOptions(&copy, internal::VisitErased<Options>);
}

// The same one by one: the whole key, "a.b.c", and its value.
template <class Options>
std::vector<std::pair<std::string, std::string>> ListOptions(const Options& options) {
  Options copy = options;
  return internal::ListOptions(&copy, internal::VisitErased<Options>);
}

}  // namespace earshot
