// yesno (OpenSLR 1): one speaker says "yes" and "no" in Hebrew, eight words a recording, 60 recordings of 8 kHz.
// The name is the text: 0_1_... is NO YES ... .
#include <algorithm>
#include <filesystem>

#include "src/base/error.h"
#include "src/data/prepare_corpora.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

// "0_1_1" -> "NO YES YES"; empty when the name is not of this form.
std::string TextOfName(const std::string& name) {
  std::string text;
  for (size_t i = 0; i < name.size(); ++i) {
    const bool digit_due = i % 2 == 0;
    if (digit_due ? name[i] != '0' && name[i] != '1' : name[i] != '_') return "";
    if (!digit_due) continue;
    text += text.empty() ? "" : " ";
    text += name[i] == '1' ? "YES" : "NO";
  }
  return name.ends_with('_') ? "" : text;
}

Splits ReadYesno(const CorpusPreparer& corpus, const std::string& source_dir, const std::string&) {
  fs::path folder = source_dir;
  if (fs::exists(folder / "waves_yesno")) folder /= "waves_yesno";
  std::vector<Utterance> utterances;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".wav") continue;
    Utterance utterance;
    utterance.id = entry.path().stem().string();
    utterance.text = TextOfName(utterance.id);
    if (utterance.text.empty())
      Throw("{}: expected a name of 0 and 1 such as 0_1_1_0_1_0_0_1.wav; is it of this corpus?", entry.path().string());
    utterance.audio_path = entry.path().string();
    utterance.speaker = "yesno";
    utterances.push_back(std::move(utterance));
  }
  if (utterances.size() < 2) ThrowWrongFolder(corpus, source_dir, "0_1_....wav");
  std::sort(utterances.begin(), utterances.end(), [](const Utterance& a, const Utterance& b) { return a.id < b.id; });
  const std::vector<double> durations_s = Durations(utterances);
  for (size_t i = 0; i < utterances.size(); ++i) utterances[i].duration_s = durations_s[i];
  // As Kaldi's and icefall's recipes have it: the first half trains.
  const auto half = utterances.begin() + static_cast<std::ptrdiff_t>(utterances.size() / 2);
  return {{"train", {utterances.begin(), half}}, {"test", {half, utterances.end()}}};
}

}  // namespace

CorpusPreparer YesnoPreparer() {
  return {"yesno", "yesno: one speaker, two words of Hebrew; 30 + 30 recordings of eight words, 6 minutes",
          "download https://www.openslr.org/resources/1/waves_yesno.tar.gz, unpack it, and give the folder waves_yesno",
          ReadYesno, nullptr};
}

}  // namespace earshot
