#include "src/base/options.h"

#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "src/base/error.h"
#include "src/base/nearest.h"

namespace earshot {
namespace {

std::string Joined(const std::string& path, const std::string& key) { return path.empty() ? key : path + "." + key; }

class YamlReader : public OptionVisitor {
 public:
  YamlReader(std::string source, const YAML::Node& root) : source_(std::move(source)) { Push("", root); }

  void Field(const char* key, bool& value) override { Scalar(key, value, "true or false"); }
  void Field(const char* key, int& value) override { Scalar(key, value, "a whole number"); }
  void Field(const char* key, int64_t& value) override { Scalar(key, value, "a whole number"); }
  void Field(const char* key, float& value) override { Scalar(key, value, "a number"); }
  void Field(const char* key, double& value) override { Scalar(key, value, "a number"); }
  void Field(const char* key, std::string& value) override { Scalar(key, value, "a text"); }
  void Field(const char* key, std::vector<int>& value) override { List(key, value, "a list of whole numbers"); }
  void Field(const char* key, std::vector<double>& value) override { List(key, value, "a list of numbers"); }
  void Field(const char* key, std::vector<std::string>& value) override { List(key, value, "a list of texts"); }

  // Every key of the current map that no Field took is an error.
  void RejectUnknown() {
    const Level& level = levels_.back();
    if (!level.node.IsMap()) return;
    std::vector<std::string> seen;
    for (const auto& entry : level.node) {
      const auto key = entry.first.as<std::string>();
      if (std::find(seen.begin(), seen.end(), key) != seen.end())
        Throw("{}: '{}' is given twice", Where(entry.first), Joined(level.path, key));
      seen.push_back(key);
      bool known = false;
      for (const std::string& k : level.known) known = known || k == key;
      if (!known)
        Throw("{}: unknown key '{}'{}", Where(entry.first), Joined(level.path, key), Suggestion(key, level.known));
    }
  }

 protected:
  bool Enter(const char* key) override {
    const YAML::Node node = Take(key);
    if (node && !node.IsNull() && !node.IsMap())
      Throw("{}: '{}' is to hold keys of its own, found '{}'", Where(node), Path(key), Text(node));
    Push(Path(key), node && node.IsMap() ? node : YAML::Node(YAML::NodeType::Map));
    return true;
  }

  void Leave() override {
    RejectUnknown();
    levels_.pop_back();
  }

  void Choice(const char* key, std::string& value, const std::vector<std::string>& allowed) override {
    const YAML::Node node = Take(key);
    if (!node) return;
    const std::string found = Text(node);
    for (const std::string& name : allowed) {
      if (name == found) {
        value = found;
        return;
      }
    }
    Throw("{}: '{}' is '{}'{}", Where(node), Path(key), found, Suggestion(found, allowed));
  }

 private:
  struct Level {
    std::string path;
    YAML::Node node;
    std::vector<std::string> known;
  };

  void Push(const std::string& path, const YAML::Node& node) { levels_.push_back({path, node, {}}); }
  std::string Path(const char* key) const { return Joined(levels_.back().path, key); }

  std::string Where(const YAML::Node& node) const {
    const YAML::Mark mark = node.Mark();
    return mark.is_null() ? source_ : fmt::format("{}:{}", source_, mark.line + 1);
  }

  static std::string Text(const YAML::Node& node) {
    if (node.IsScalar()) return node.Scalar();
    return node.IsNull() ? "nothing" : node.IsSequence() ? "a list" : "a map";
  }

  YAML::Node Take(const char* key) {
    levels_.back().known.emplace_back(key);
    const YAML::Node& node = levels_.back().node;
    return node.IsMap() ? static_cast<const YAML::Node&>(node)[key] : YAML::Node(YAML::NodeType::Undefined);
  }

  template <class T>
  void Scalar(const char* key, T& value, const char* expected) {
    const YAML::Node node = Take(key);
    if (!node) return;
    if (std::is_same_v<T, std::string> && node.IsNull()) {
      value = T();
      return;
    }
    try {
      if (!node.IsScalar()) throw YAML::Exception(node.Mark(), "");
      value = node.as<T>();
      if constexpr (std::is_floating_point_v<T>) {
        if (!std::isfinite(value)) throw YAML::Exception(node.Mark(), "");
      }
    } catch (const YAML::Exception&) {
      Throw("{}: '{}' is '{}', expected {}", Where(node), Path(key), Text(node), expected);
    }
  }

  template <class T>
  void List(const char* key, std::vector<T>& value, const char* expected) {
    const YAML::Node node = Take(key);
    if (!node) return;
    try {
      if (!node.IsSequence()) throw YAML::Exception(node.Mark(), "");
      value = node.as<std::vector<T>>();
    } catch (const YAML::Exception&) {
      const std::string found =
          node.IsSequence() ? "[" + Text(node[0]) + (node.size() > 1 ? ", ...]" : "]") : Text(node);
      Throw("{}: '{}' is '{}', expected {}, such as [1, 2]", Where(node), Path(key), found, expected);
    }
  }

  std::string source_;
  std::vector<Level> levels_;
};

class YamlWriter : public OptionVisitor {
 public:
  YamlWriter() { out_ << YAML::BeginMap; }
  std::string Finish() {
    out_ << YAML::EndMap;
    return std::string(out_.c_str()) + "\n";
  }

  void Field(const char* key, bool& value) override { Write(key, value); }
  void Field(const char* key, int& value) override { Write(key, value); }
  void Field(const char* key, int64_t& value) override { Write(key, value); }
  void Field(const char* key, float& value) override { Write(key, fmt::format("{}", value)); }
  void Field(const char* key, double& value) override { Write(key, fmt::format("{}", value)); }
  void Field(const char* key, std::string& value) override {
    // Quoted where a reader would take it for something else.
    out_ << YAML::Key << key << YAML::Value;
    if (value.empty()) out_ << YAML::DoubleQuoted;
    out_ << value;
  }
  void Field(const char* key, std::vector<int>& value) override { Write(key, YAML::Flow, value); }
  void Field(const char* key, std::vector<std::string>& value) override { Write(key, YAML::Flow, value); }
  void Field(const char* key, std::vector<double>& value) override {
    out_ << YAML::Key << key << YAML::Value << YAML::Flow << YAML::BeginSeq;
    for (const double v : value) out_ << fmt::format("{}", v);
    out_ << YAML::EndSeq;
  }

 protected:
  bool Enter(const char* key) override {
    out_ << YAML::Key << key << YAML::Value << YAML::BeginMap;
    return true;
  }
  void Leave() override { out_ << YAML::EndMap; }
  void Choice(const char* key, std::string& value, const std::vector<std::string>&) override { Write(key, value); }

 private:
  template <class... T>
  void Write(const char* key, const T&... values) {
    out_ << YAML::Key << key << YAML::Value;
    (out_ << ... << values);
  }

  YAML::Emitter out_;
};

class Lister : public OptionVisitor {
 public:
  std::vector<std::pair<std::string, std::string>> all;

  void Field(const char* key, bool& value) override { Add(key, value); }
  void Field(const char* key, int& value) override { Add(key, value); }
  void Field(const char* key, int64_t& value) override { Add(key, value); }
  void Field(const char* key, float& value) override { Add(key, value); }
  void Field(const char* key, double& value) override { Add(key, value); }
  void Field(const char* key, std::string& value) override { Add(key, value); }
  void Field(const char* key, std::vector<int>& value) override { AddList(key, value); }
  void Field(const char* key, std::vector<double>& value) override { AddList(key, value); }
  void Field(const char* key, std::vector<std::string>& value) override { AddList(key, value); }

 protected:
  bool Enter(const char* key) override {
    groups_.push_back(groups_.empty() ? key : Joined(groups_.back(), key));
    return true;
  }
  void Leave() override { groups_.pop_back(); }
  void Choice(const char* key, std::string& value, const std::vector<std::string>&) override { Add(key, value); }

 private:
  template <class T>
  void Add(const char* key, const T& value) {
    all.emplace_back(Joined(groups_.empty() ? "" : groups_.back(), key), fmt::format("{}", value));
  }
  template <class T>
  void AddList(const char* key, const std::vector<T>& value) {
    Add(key, fmt::format("[{}]", fmt::join(value, ", ")));
  }

  std::vector<std::string> groups_;
};

// Applies "a.b=value": the maps on the way are made where they are missing.
void Set(const YAML::Node& root, const std::string& assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0)
    Throw("--set {}: expected KEY=VALUE, such as --set train.epochs=10", assignment);
  YAML::Node value;
  try {
    value = YAML::Load(assignment.substr(equals + 1));
  } catch (const YAML::Exception& e) {
    Throw("--set {}: the value is not YAML: {}", assignment, e.msg);
  }
  YAML::Node node = root;
  size_t begin = 0;
  while (true) {
    const size_t dot = assignment.find('.', begin);
    const bool last = dot == std::string::npos || dot > equals;
    const std::string key = assignment.substr(begin, (last ? equals : dot) - begin);
    if (last) {
      node[key] = value;
      return;
    }
    YAML::Node next = node[key];
    if (!next || next.IsNull()) {
      node[key] = YAML::Node(YAML::NodeType::Map);
      next.reset(node[key]);
    } else if (!next.IsMap()) {
      Throw("--set {}: '{}' is not a group of keys", assignment, assignment.substr(0, dot));
    }
    node.reset(next);
    begin = dot + 1;
  }
}

}  // namespace

namespace internal {

void ReadOptions(const std::string& source, const std::string& yaml, const std::vector<std::string>& sets,
                 void* options, VisitFunction visit) {
  YAML::Node root;
  try {
    root = YAML::Load(yaml);
  } catch (const YAML::Exception& e) {
    Throw("{}:{}: not YAML: {}", source, e.mark.line + 1, e.msg);
  }
  if (!root || root.IsNull()) root = YAML::Node(YAML::NodeType::Map);
  if (!root.IsMap())
    Throw("{}: expected keys and values, found {}", source, root.IsSequence() ? "a list" : "one value");
  for (const std::string& assignment : sets) Set(root, assignment);
  YamlReader reader(source, root);
  visit(options, reader);
  reader.RejectUnknown();
}

std::vector<std::pair<std::string, std::string>> ListOptions(void* options, VisitFunction visit) {
  Lister lister;
  visit(options, lister);
  return lister.all;
}

std::string DumpOptions(void* options, VisitFunction visit) {
  YamlWriter writer;
  visit(options, writer);
  return writer.Finish();
}

}  // namespace internal
}  // namespace earshot
