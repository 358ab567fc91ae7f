#include "src/base/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/base/error.h"

namespace earshot {
namespace {

using testing::HasSubstr;

enum class Colour { kRed, kGreen };

struct Inner {
  int count = 3;
  std::vector<double> range = {0.5, 2};
  void Visit(OptionVisitor& v) {
    v.Field("count", count);
    v.Field("range", range);
  }
};

struct Outer {
  bool flag = false;
  int64_t large = 1;
  float single = 0.1F;
  double rate = 1e-3;
  std::string name = "plain";
  std::vector<int> layers;
  std::vector<std::string> words;
  Colour colour = Colour::kRed;
  Inner inner;
  void Visit(OptionVisitor& v) {
    v.Field("flag", flag);
    v.Field("large", large);
    v.Field("single", single);
    v.Field("rate", rate);
    v.Field("name", name);
    v.Field("layers", layers);
    v.Field("words", words);
    v.Enum("colour", colour, {{"red", Colour::kRed}, {"green", Colour::kGreen}});
    v.Group("inner", inner);
  }
};

std::string ErrorOf(const std::string& yaml, const std::vector<std::string>& sets = {}) {
  Outer options;
  try {
    ReadOptions("file.yaml", yaml, sets, options);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(OptionsTest, KeysThatAreThereAreTakenAndOthersKeepTheirDefaults) {
  Outer o;
  ReadOptions("file.yaml", "flag: true\nlayers: [1, 2]\ncolour: green\ninner: {count: 9}\n",
              {"inner.range=[1, 3]", "name=x=y"}, o);
  EXPECT_TRUE(o.flag);
  EXPECT_EQ(o.layers, (std::vector<int>{1, 2}));
  EXPECT_EQ(o.colour, Colour::kGreen);
  EXPECT_EQ(o.inner.count, 9);
  EXPECT_EQ(o.inner.range, (std::vector<double>{1, 3}));
  EXPECT_EQ(o.name, "x=y");
  EXPECT_EQ(o.rate, 1e-3);
}

TEST(OptionsTest, DumpIsReadBackWithoutLoss) {
  Outer o;
  o.single = 1.0F / 3;
  o.rate = 1.0 / 3;
  o.name = "a: b # c";
  o.words = {"yes", "no", "1", ""};
  o.large = int64_t{1} << 60;
  Outer back;
  ReadOptions("dump", DumpOptions(o), {}, back);
  EXPECT_EQ(back.single, o.single);
  EXPECT_EQ(back.rate, o.rate);
  EXPECT_EQ(back.name, o.name);
  EXPECT_EQ(back.words, o.words);
  EXPECT_EQ(back.large, o.large);
  EXPECT_EQ(DumpOptions(back), DumpOptions(o));
}

TEST(OptionsTest, AnUnknownKeyNamesLineAndNearest) {
  const std::string error = ErrorOf("flag: true\ninner:\n  cuont: 2\n");
  EXPECT_THAT(error, HasSubstr("file.yaml:3"));
  EXPECT_THAT(error, HasSubstr("inner.cuont"));
  EXPECT_THAT(error, HasSubstr("did you mean 'count'"));
  EXPECT_THAT(ErrorOf("", {"inner.cuont=2"}), HasSubstr("did you mean 'count'"));
}

TEST(OptionsTest, AWrongTypeSaysWhatWasExpected) {
  EXPECT_THAT(ErrorOf("inner: {count: many}"),
              AllOf(HasSubstr("inner.count"), HasSubstr("many"), HasSubstr("whole number")));
  EXPECT_THAT(ErrorOf("flag: 2"), HasSubstr("true or false"));
  EXPECT_THAT(ErrorOf("layers: 3"), HasSubstr("list"));
  EXPECT_THAT(ErrorOf("inner: 3"), HasSubstr("keys of its own"));
  EXPECT_THAT(ErrorOf("colour: gren"), HasSubstr("did you mean 'green'"));
  EXPECT_THAT(ErrorOf("[1, 2]"), HasSubstr("a list"));
  EXPECT_THAT(ErrorOf("flag: [1"), HasSubstr("not YAML"));
  EXPECT_THAT(ErrorOf("layers: [a, 2]"), HasSubstr("'[a, ...]'"));
  EXPECT_THAT(ErrorOf("flag: true\ninner:\n  count: 1\ninner:\n  count: 2\n"),
              AllOf(HasSubstr("file.yaml:4"), HasSubstr("'inner' is given twice")));
}

TEST(OptionsTest, ASetThatIsNoAssignmentIsAnError) {
  EXPECT_THAT(ErrorOf("", {"flag"}), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(ErrorOf("", {"=1"}), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(ErrorOf("flag: true", {"flag.deep=1"}), HasSubstr("not a group"));
}

}  // namespace
}  // namespace earshot
