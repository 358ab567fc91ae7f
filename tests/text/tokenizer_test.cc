#include "src/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "src/base/atomic_file.h"
#include "src/base/error.h"

namespace earshot {
namespace {

using testing::HasSubstr;

const std::vector<std::string> kTexts = {"YES",          "NO",          "RUBOUT G M",  "SEVEN OH FOUR", "TWENTY SEVEN",
                                         "SEVENTY FOUR", "ENTER FORTY", "ERASE SEVEN", "REPEAT",        ""};

class TokenizerTest : public testing::Test {
 protected:
  TokenizerTest() { std::filesystem::remove_all(folder_); }
  ~TokenizerTest() override { std::filesystem::remove_all(folder_); }

  Tokenizer Train(const TokenizerOptions& options, const std::vector<std::string>& texts = kTexts) {
    TrainTokenizer(options, texts, path_);
    return Tokenizer::Load(path_);
  }

  std::string folder_ =
      testing::TempDir() + "earshot_tokenizer_" + testing::UnitTest::GetInstance()->current_test_info()->name();
  std::string path_ = folder_ + "/tokenizer.model";
};

template <class F>
std::string ErrorOf(F&& function) {
  try {
    function();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST_F(TokenizerTest, EveryTypeRoundTripsItsTexts) {
  for (const TokenizerType type :
       {TokenizerType::kChar, TokenizerType::kBpe, TokenizerType::kUnigram, TokenizerType::kWord}) {
    const Tokenizer tokenizer = Train({.type = type, .vocab_size = 40});
    EXPECT_EQ(tokenizer.Piece(tokenizer.blank_id()), "<blk>");
    EXPECT_EQ(tokenizer.Piece(tokenizer.sos_eos_id()), "<sos/eos>");
    EXPECT_EQ(tokenizer.Piece(tokenizer.unk_id()), "<unk>");
    EXPECT_LE(tokenizer.Size(), 40);
    for (const std::string& text : kTexts) {
      const std::vector<int> tokens = tokenizer.Encode(text);
      EXPECT_EQ(tokenizer.Decode(tokens), text);
      for (const int token : tokens) EXPECT_GT(token, tokenizer.unk_id()) << text;
    }
  }
}

TEST_F(TokenizerTest, SizesOfTheTypes) {
  // 17 letters, the space, three special tokens.
  EXPECT_EQ(Train({.type = TokenizerType::kChar, .vocab_size = 1000}).Size(), 21);
  EXPECT_EQ(Train({.type = TokenizerType::kChar, .vocab_size = 21}).Size(), 21);
  EXPECT_THROW(Train({.type = TokenizerType::kChar, .vocab_size = 20}), Error);
  EXPECT_EQ(Train({.type = TokenizerType::kBpe, .vocab_size = 30}).Size(), 30);
  EXPECT_EQ(Train({.type = TokenizerType::kChar}).Encode("YES NO").size(), 7U);
  const Tokenizer words = Train({.type = TokenizerType::kWord, .vocab_size = 1000});
  EXPECT_EQ(words.Encode("SEVEN OH FOUR").size(), 3U);
  EXPECT_EQ(words.Encode("SEVEN NINE"), (std::vector<int>{words.Encode("SEVEN")[0], words.unk_id()}));
}

TEST_F(TokenizerTest, MoreTokensThanTheTextsHoldIsNoError) {
  for (const TokenizerType type :
       {TokenizerType::kChar, TokenizerType::kBpe, TokenizerType::kUnigram, TokenizerType::kWord}) {
    const Tokenizer tokenizer = Train({.type = type, .vocab_size = 5000});
    EXPECT_LT(tokenizer.Size(), 200);
    EXPECT_EQ(tokenizer.Decode(tokenizer.Encode("SEVEN OH FOUR")), "SEVEN OH FOUR");
  }
  // So large a BPE is one of whole words.
  EXPECT_EQ(Train({.type = TokenizerType::kBpe, .vocab_size = 5000}).Encode("SEVEN OH FOUR").size(), 3U);
}

TEST_F(TokenizerTest, TheSameTextsGiveTheSameModel) {
  for (const TokenizerType type : {TokenizerType::kBpe, TokenizerType::kUnigram}) {
    Train({.type = type, .vocab_size = 30});
    const std::string first = ReadFile(path_);
    Train({.type = type, .vocab_size = 30});
    EXPECT_EQ(ReadFile(path_), first);
    EXPECT_LT(first.size(), 2000U);
  }
}

TEST_F(TokenizerTest, SpecialTokensAreNotText) {
  const Tokenizer tokenizer = Train({.type = TokenizerType::kChar});
  const std::vector<int> yes = tokenizer.Encode("YES");
  EXPECT_EQ(tokenizer.Decode(std::vector<int>{1, 0, yes[0], yes[1], 0, yes[2], yes[3], 1}), "YES");
  EXPECT_EQ(tokenizer.Decode(std::vector<int>{}), "");
  EXPECT_TRUE(tokenizer.Encode("").empty());
  // Written out, they are letters: no transcript can smuggle a blank in.
  for (const int token : tokenizer.Encode("<blk>")) EXPECT_GE(token, tokenizer.unk_id());
}

TEST_F(TokenizerTest, UnknownCharacters) {
  const Tokenizer letters = Train({.type = TokenizerType::kBpe, .vocab_size = 30});
  EXPECT_THAT(letters.Encode("NO 7"), testing::Contains(letters.unk_id()));
  const Tokenizer bytes = Train({.type = TokenizerType::kBpe, .vocab_size = 300, .byte_fallback = true});
  EXPECT_EQ(bytes.Decode(bytes.Encode("NO 7ë")), "NO 7ë");
}

TEST_F(TokenizerTest, KnowsWhereWordsStart) {
  const Tokenizer tokenizer = Train({.type = TokenizerType::kBpe, .vocab_size = 30});
  int words = 0;
  for (const int token : tokenizer.Encode("SEVEN OH FOUR")) words += tokenizer.StartsWord(token);
  EXPECT_EQ(words, 3);
}

TEST_F(TokenizerTest, ErrorsSayWhatToDo) {
  EXPECT_THAT(ErrorOf([&] { Train({}, {"", " "}); }), HasSubstr("no text to train a tokenizer on (2 utterances)"));
  EXPECT_THAT(ErrorOf([&] { Train({.vocab_size = 10}); }), HasSubstr("set it to 21 or more"));
  EXPECT_THAT(ErrorOf([&] { Train({.vocab_size = 2}); }), HasSubstr("vocab_size is 2"));
  EXPECT_THAT(ErrorOf([&] { Train({.normalization = "nfd"}); }), HasSubstr("normalization is 'nfd'"));
  EXPECT_THAT(ErrorOf([&] { Train({.type = TokenizerType::kChar, .byte_fallback = true}); }),
              HasSubstr("byte_fallback"));
  EXPECT_THAT(ErrorOf([&] { Tokenizer::Load(path_); }), HasSubstr("cannot be read"));
  WriteFileAtomically(path_, "no model");
  EXPECT_THAT(ErrorOf([&] { Tokenizer::Load(path_); }), HasSubstr("not a SentencePiece model (8 bytes)"));
}

TEST_F(TokenizerTest, IdsOutsideTheModelAreALogicError) {
  const Tokenizer tokenizer = Train({.type = TokenizerType::kChar});
  EXPECT_THROW(tokenizer.Decode(std::vector<int>{tokenizer.Size()}), LogicError);
  EXPECT_THROW(tokenizer.Piece(-1), LogicError);
}

}  // namespace
}  // namespace earshot
