// earshot align: where each word of known texts is spoken, by forced CTC alignment.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "src/audio/audio_reader.h"
#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/progress_bar.h"
#include "src/data/manifest.h"
#include "src/decode/ctc_align.h"
#include "src/decode/word_times.h"
#include "src/model/asr_model.h"
#include "src/model/device.h"
#include "tools/cli/command.h"

namespace earshot {
namespace {

struct AlignArguments {
  std::string model, manifest, split, output, device = "auto";
  double extend_s = 0.2, margin_s = 0.05;
  bool keep_silence = false;
};

std::vector<Word> AlignUtterance(const AsrModel& model, const Utterance& utterance, const AlignArguments& arguments) {
  const torch::NoGradGuard no_grad;
  const std::vector<float> samples = ReadAudio(
      utterance.audio_path,
      {.sample_rate = model.sample_rate(), .offset_s = utterance.offset_s, .duration_s = utterance.duration_s});
  std::vector<float> features = model.Features(samples);
  const int64_t dim = model.extractor()->dim(), frames = static_cast<int64_t>(features.size()) / dim;
  if (frames == 0) Throw("{}: shorter than a frame", utterance.audio_path);
  const torch::Tensor input = torch::from_blob(features.data(), {1, frames, dim}).to(model.device());
  const CtcOutput output = model.network().forward(input, torch::tensor({frames}, torch::kInt64));
  const std::vector<int> tokens = model.tokenizer().Encode(utterance.text);
  if (std::find(tokens.begin(), tokens.end(), model.tokenizer().unk_id()) != tokens.end())
    Throw("'{}' holds what the model has no token for; is it of another case?", utterance.text);
  const auto aligned = AlignCtc(output.log_probs[0], tokens, model.tokenizer().blank_id());
  if (!aligned) Throw("{}: the text has more tokens than the encoder gives frames", utterance.audio_path);
  std::vector<Word> words = AlignedWords(*aligned, model.tokenizer(), model.encoder_frame_s());
  WidenWords(words, static_cast<double>(samples.size()) / model.sample_rate(), arguments.extend_s);
  if (!arguments.keep_silence) TrimWords(words, samples, model.sample_rate(), arguments.margin_s);
  return words;
}

void RunAlign(const AlignArguments& arguments) {
  const auto model = AsrModel::Load(arguments.model, ParseDevice(arguments.device));
  const std::vector<Utterance> utterances = LoadManifest(arguments.manifest, arguments.split);
  AtomicFile file(arguments.output);
  ProgressBar bar("align", static_cast<int64_t>(utterances.size()));
  int64_t done = 0, skipped = 0;
  for (const Utterance& utterance : utterances) {
    try {
      nlohmann::json line = {{"id", utterance.id}, {"words", nlohmann::json::array()}};
      for (const Word& word : AlignUtterance(*model, utterance, arguments)) {
        line["words"].push_back(
            {{"word", word.text}, {"start", word.start_s}, {"end", word.end_s}, {"confidence", word.confidence}});
      }
      file.stream() << line.dump() << "\n";
    } catch (const Error& e) {
      LogWarning("{} is left out: {}", utterance.id, e.what());
      ++skipped;
    }
    bar.Update(++done, "");
  }
  bar.Finish();
  file.Commit();
  LogInfo("{}: {} utterances aligned, {} left out", arguments.output, done - skipped, skipped);
}

}  // namespace

void AddAlign(CLI::App& app) {
  auto arguments = std::make_shared<AlignArguments>();
  CLI::App* command = app.add_subcommand("align", "Finds the times of the words of a manifest's texts.");
  command->add_option("--model", arguments->model, "model folder")->required()->type_name("DIR");
  command->add_option("--manifest", arguments->manifest, "utterances with their texts")->required()->type_name("FILE");
  command->add_option("--split", arguments->split, "the manifest's split to use [all]")->type_name("NAME");
  command
      ->add_option("-o,--output", arguments->output,
                   "one line of JSON an utterance: id, words with start and end in seconds")
      ->required()
      ->type_name("FILE.jsonl");
  command
      ->add_option("--extend", arguments->extend_s,
                   "most seconds that a word is widened by into the gap beside it [0.2]")
      ->type_name("S");
  command->add_option("--margin", arguments->margin_s, "silence that a word keeps at either end, at most [0.05]")
      ->type_name("S");
  command->add_flag("--keep-silence", arguments->keep_silence, "do not take the silence off the words' ends");
  command->add_option("--device", arguments->device, "cpu, cuda, cuda:N or auto [auto]")->type_name("NAME");
  command->footer(Examples({
      {"earshot align --model exp/chars/model --manifest data/an4/train.jsonl -o exp/words.jsonl",
       "for data.augment.splice.alignments"},
  }));
  command->callback([arguments] { RunAlign(*arguments); });
}

}  // namespace earshot
