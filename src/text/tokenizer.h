// Text as token ids and back, on a SentencePiece model (Kudo and Richardson, EMNLP 2018).
//
//   TrainTokenizer({.type = TokenizerType::kBpe, .vocab_size = 200}, texts, "exp/tokenizer.model");
//   Tokenizer tokenizer = Tokenizer::Load("exp/tokenizer.model");
//   std::vector<int> tokens = tokenizer.Encode("RUBOUT G M");
//   std::string text = tokenizer.Decode(tokens);
//
// The ids are those of the heads: 0 blank, 1 start and end of sentence, 2 unknown, then the pieces.
// Immutable after Load and thread-safe; copies share the model.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/options.h"

namespace earshot {

enum class TokenizerType { kChar, kBpe, kUnigram, kWord };

struct TokenizerOptions {
  // char: one token a character. bpe: merges of the commonest pairs (Sennrich et al. 2016). unigram:
  // pieces of a unigram language model (Kudo 2018). word: whole words, and <unk> for all others.
  TokenizerType type = TokenizerType::kBpe;
  // Tokens with the three special ones. More than the texts hold is no error: the model stays smaller.
  int vocab_size = 500;
  // The rule of SentencePiece that is stored in the model and applied before splitting: identity,
  // nmt_nfkc, nfkc, nmt_nfkc_cf, nfkc_cf. All but identity add 240 KB of tables to the model.
  std::string normalization = "identity";
  // Characters that the texts lacked become their UTF-8 bytes instead of <unk>; costs 256 tokens.
  bool byte_fallback = false;

  void Visit(OptionVisitor& visitor);
  // Throws Error that names the key.
  void Validate() const;
};

// Trains on texts and writes the model, whole or not at all. The same texts give the same model.
// Throws Error when the texts are empty, when vocab_size holds less than the characters of the
// texts, and when the file cannot be written.
void TrainTokenizer(const TokenizerOptions& options, const std::vector<std::string>& texts,
                    const std::string& model_path);

class Tokenizer {
 public:
  // Throws Error when the file is not a SentencePiece model, or its first ids are not the special ones.
  static Tokenizer Load(const std::string& path);
  // The same of the bytes of a model; source names them in errors.
  static Tokenizer FromBytes(std::string_view bytes, const std::string& source);

  // text -> (U) ids. What the model lacks becomes unk_id; empty text gives no tokens.
  std::vector<int> Encode(const std::string& text) const;
  // (U) ids -> text. blank_id and sos_eos_id give nothing, unk_id gives U+2047.
  // Throws LogicError for an id outside [0, Size()).
  std::string Decode(std::span<const int> tokens) const;

  // As the model spells it: a word begins with U+2581.
  std::string Piece(int token) const;
  // Whether a new word begins with this token.
  bool StartsWord(int token) const;

  int Size() const;
  int blank_id() const { return 0; }
  int sos_eos_id() const { return 1; }
  int unk_id() const { return 2; }

 private:
  struct Model;
  explicit Tokenizer(std::shared_ptr<const Model> model);
  std::shared_ptr<const Model> model_;
};

}  // namespace earshot
