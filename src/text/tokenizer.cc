#include "src/text/tokenizer.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "src/text/utf8.h"
#include "src/text/wer.h"

namespace earshot {
namespace {

constexpr const char* kBlank = "<blk>";
constexpr const char* kSosEos = "<sos/eos>";
constexpr const char* kUnknown = "<unk>";
constexpr std::string_view kWordStart = "\xE2\x96\x81";  // U+2581

const char* TypeName(TokenizerType type) {
  switch (type) {
    case TokenizerType::kChar: return "char";
    case TokenizerType::kBpe: return "bpe";
    case TokenizerType::kUnigram: return "unigram";
    case TokenizerType::kWord: return "word";
  }
  return "";
}

// Hands the texts over one by one, so that no copy of the corpus goes to disk.
class TextIterator : public sentencepiece::SentenceIterator {
 public:
  explicit TextIterator(const std::vector<std::string>& texts) : texts_(texts) {}
  bool done() const override { return next_ >= texts_.size(); }
  void Next() override { ++next_; }
  const std::string& value() const override { return texts_[next_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& texts_;
  size_t next_ = 0;
};

// The special tokens, every character, and the bytes: what a model has before its first merge.
int SmallestVocab(const TokenizerOptions& options, const std::vector<std::string>& texts) {
  std::set<char32_t> characters;
  for (const std::string& text : texts) {
    const std::u32string decoded = DecodeUtf8(text);
    characters.insert(decoded.begin(), decoded.end());
  }
  // The space stands in the model as U+2581, and is there even when no text has two words.
  const bool has_space = characters.contains(U' ');
  return 3 + static_cast<int>(characters.size()) + (has_space ? 0 : 1) + (options.byte_fallback ? 256 : 0);
}

sentencepiece::util::Status Train(const TokenizerOptions& options, int vocab_size,
                                  const std::vector<std::string>& texts, std::string* model) {
  const std::unordered_map<std::string, std::string> arguments = {
      {"model_type", TypeName(options.type)},
      {"vocab_size", std::to_string(vocab_size)},
      {"hard_vocab_limit", "false"},
      {"character_coverage", "1"},
      {"normalization_rule_name", options.normalization},
      {"byte_fallback", options.byte_fallback ? "true" : "false"},
      {"control_symbols", fmt::format("{},{}", kBlank, kSosEos)},
      {"unk_id", "2"},
      {"bos_id", "-1"},
      {"eos_id", "-1"},
      {"pad_id", "-1"},
      {"num_threads", "1"},
      // SentencePiece drops longer sentences in silence; a transcript is to count whatever its length.
      {"max_sentence_length", "1000000"},
      // Errors come back as a status; everything below is its own log.
      {"minloglevel", "3"},
  };
  TextIterator iterator(texts);
  return sentencepiece::SentencePieceTrainer::Train(arguments, &iterator, model);
}

}  // namespace

void TokenizerOptions::Visit(OptionVisitor& visitor) {
  visitor.Enum("type", type,
               {{"char", TokenizerType::kChar},
                {"bpe", TokenizerType::kBpe},
                {"unigram", TokenizerType::kUnigram},
                {"word", TokenizerType::kWord}});
  visitor.Field("vocab_size", vocab_size);
  visitor.Field("normalization", normalization);
  visitor.Field("byte_fallback", byte_fallback);
}

void TokenizerOptions::Validate() const {
  if (vocab_size < 4) Throw("vocab_size is {}, expected at least 4: three special tokens and a piece", vocab_size);
  const std::vector<std::string> rules = {"identity", "nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf"};
  if (std::find(rules.begin(), rules.end(), normalization) == rules.end())
    Throw("normalization is '{}', expected one of identity, nmt_nfkc, nfkc, nmt_nfkc_cf, nfkc_cf", normalization);
  if (byte_fallback && (type == TokenizerType::kChar || type == TokenizerType::kWord))
    Throw("byte_fallback is for bpe and unigram, type is {}", TypeName(type));
}

void TrainTokenizer(const TokenizerOptions& options, const std::vector<std::string>& texts,
                    const std::string& model_path) {
  options.Validate();
  std::vector<std::string> sentences;
  for (const std::string& text : texts) {
    if (!SplitWords(text).empty()) sentences.push_back(text);
  }
  if (sentences.empty()) Throw("{}: no text to train a tokenizer on ({} utterances)", model_path, texts.size());
  const int smallest = SmallestVocab(options, sentences);
  const bool subwords = options.type == TokenizerType::kBpe || options.type == TokenizerType::kUnigram;
  int vocab_size = options.vocab_size;
  if ((subwords || options.type == TokenizerType::kChar) && vocab_size < smallest)
    Throw("vocab_size is {}, but the texts have {} characters and special tokens; set it to {} or more", vocab_size,
          smallest, smallest);

  std::string model;
  sentencepiece::util::Status status = Train(options, vocab_size, sentences, &model);
  // A BPE trainer may run out of pairs before it has vocab_size pieces, and says so instead of stopping.
  while (!status.ok() && subwords && vocab_size > smallest) {
    vocab_size = std::max(smallest, vocab_size - std::max(1, vocab_size / 20));
    status = Train(options, vocab_size, sentences, &model);
  }
  if (!status.ok()) Throw("{}: SentencePiece cannot train: {}", model_path, status.ToString());
  Tokenizer::FromBytes(model, model_path);
  WriteFileAtomically(model_path, model);
}

struct Tokenizer::Model {
  sentencepiece::SentencePieceProcessor processor;
};

Tokenizer::Tokenizer(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

Tokenizer Tokenizer::Load(const std::string& path) { return FromBytes(ReadFile(path), path); }

Tokenizer Tokenizer::FromBytes(std::string_view bytes, const std::string& source) {
  auto model = std::make_shared<Model>();
  const auto status = model->processor.LoadFromSerializedProto(bytes);
  if (!status.ok()) Throw("{}: not a SentencePiece model ({} bytes): {}", source, bytes.size(), status.ToString());
  const char* const expected[] = {kBlank, kSosEos, kUnknown};
  for (int id = 0; id < 3; ++id) {
    const std::string found = id < model->processor.GetPieceSize() ? model->processor.IdToPiece(id) : "nothing";
    if (found != expected[id])
      Throw("{}: token {} is '{}', expected '{}'; was it trained by earshot?", source, id, found, expected[id]);
  }
  return Tokenizer(std::move(model));
}

std::vector<int> Tokenizer::Encode(const std::string& text) const { return model_->processor.EncodeAsIds(text); }

std::string Tokenizer::Decode(std::span<const int> tokens) const {
  for (const int token : tokens) EARSHOT_CHECK(token >= 0 && token < Size(), "token {} of {}", token, Size());
  return model_->processor.DecodeIds(std::vector<int>(tokens.begin(), tokens.end()));
}

std::string Tokenizer::Piece(int token) const {
  EARSHOT_CHECK(token >= 0 && token < Size(), "token {} of {}", token, Size());
  return model_->processor.IdToPiece(token);
}

bool Tokenizer::StartsWord(int token) const { return Piece(token).starts_with(kWordStart); }

int Tokenizer::Size() const { return model_->processor.GetPieceSize(); }

}  // namespace earshot
