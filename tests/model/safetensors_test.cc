#include "src/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstring>

#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_match.h"

namespace earshot {
namespace {

using testing::HasSubstr;

class SafetensorsTest : public testing::Test {
 protected:
  // A file as the format says: 8 bytes little-endian length, header, data.
  std::string Write(const std::string& header, const std::string& data) const {
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>((header.size() >> (8 * i)) & 0xFFU));
    WriteFileAtomically(path_, bytes + header + data);
    return path_;
  }
  // What loading says; the file must be named in it.
  std::string ErrorOf(const std::string& header, const std::string& data) const {
    Write(header, data);
    return LoadError();
  }
  std::string LoadError() const {
    try {
      LoadSafetensors(path_);
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(path_));
      return e.what();
    }
    return "no error";
  }

  TempFolder folder_;
  std::string path_ = folder_.Path("model.safetensors");
};

// Bytes written by hand after the format's description, not by our writer.
TEST_F(SafetensorsTest, ReadsAFileWrittenByHand) {
  const std::string data(
      "\x00\x00\x80\x3F\x00\x00\x00\xC0\x00\x00\x00\x3F"  // 1, -2, 0.5
      "\x00\x3C\x00\xC0"                                  // half: 1, -2
      "\x80\x3F"                                          // bfloat16: 1
      "\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF"                  // -2
      "\x01\x00",
      28);
  Write(
      R"({"__metadata__":{"made":"by hand"},"f":{"dtype":"F32","shape":[3,1],"data_offsets":[0,12]},)"
      R"("h":{"dtype":"F16","shape":[2],"data_offsets":[12,16]},"b":{"dtype":"BF16","shape":[],"data_offsets":[16,18]},)"
      R"("i":{"dtype":"I64","shape":[1],"data_offsets":[18,26]},"t":{"dtype":"BOOL","shape":[2],"data_offsets":[26,28]},)"
      R"("none":{"dtype":"F32","shape":[0,4],"data_offsets":[28,28]}}   )",
      data);
  const SafetensorsFile file = LoadSafetensors(path_);
  EXPECT_EQ(file.metadata, (std::map<std::string, std::string>{{"made", "by hand"}}));
  ASSERT_EQ(file.tensors.size(), 6);
  EXPECT_TRUE(torch::equal(file.tensors.at("f"), torch::tensor({1.0F, -2.0F, 0.5F}).view({3, 1})));
  EXPECT_TRUE(torch::equal(file.tensors.at("h"), torch::tensor({1.0F, -2.0F}).to(torch::kHalf)));
  EXPECT_TRUE(torch::equal(file.tensors.at("b"), torch::tensor(1.0F).to(torch::kBFloat16)));
  EXPECT_TRUE(torch::equal(file.tensors.at("i"), torch::tensor({-2}, torch::kInt64)));
  EXPECT_TRUE(torch::equal(file.tensors.at("t"), torch::tensor({true, false})));
  EXPECT_EQ(file.tensors.at("none").sizes().vec(), (std::vector<int64_t>{0, 4}));
}

TEST_F(SafetensorsTest, EveryTypeAndLayoutComesBack) {
  TensorMap tensors;
  const torch::Tensor values = torch::tensor({-3.0, 0.0, 1.0, 2.5, 100.0, 7.0}, torch::kDouble).view({2, 3});
  for (const auto type : {torch::kDouble, torch::kFloat, torch::kHalf, torch::kBFloat16, torch::kInt64, torch::kInt32,
                          torch::kInt16, torch::kInt8, torch::kUInt8, torch::kBool})
    tensors[torch::toString(type)] = values.abs().to(type);
  tensors["transposed"] = values.t();
  tensors["scalar"] = torch::tensor(4.0F);
  tensors["empty"] = torch::zeros({3, 0});
  tensors["not finite"] = torch::tensor({INFINITY, -INFINITY});
  tensors["name \"quoted\" \n \xC3\xA9"] = torch::ones({1});
  SaveSafetensors(path_, tensors, {{"format", "earshot"}, {"note", "a \"b\""}});
  const SafetensorsFile file = LoadSafetensors(path_);
  EXPECT_EQ(file.metadata.at("note"), "a \"b\"");
  ASSERT_EQ(file.tensors.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const torch::Tensor& back = file.tensors.at(name);
    EXPECT_EQ(back.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(torch::equal(back, tensor)) << name;
    EXPECT_TRUE(back.is_contiguous()) << name;
  }
  // The data begins at a multiple of eight bytes.
  uint64_t header = 0;
  std::memcpy(&header, ReadFile(path_).data(), sizeof(header));
  EXPECT_EQ(header % 8, 0);
  EXPECT_THROW(SaveSafetensors(path_, {{"c", torch::zeros({1}, torch::kComplexFloat)}}), LogicError);
}

TEST_F(SafetensorsTest, WhereverItIsCutItIsRefused) {
  SaveSafetensors(path_, {{"a", torch::ones({5})}, {"b", torch::ones({2, 2}, torch::kInt16)}});
  const std::string whole = ReadFile(path_);
  for (size_t size = 0; size < whole.size(); ++size) {
    WriteFileAtomically(path_, whole.substr(0, size));
    EXPECT_NE(LoadError(), "no error") << "cut to " << size << " of " << whole.size();
  }
  WriteFileAtomically(path_, whole + '\0');
  EXPECT_THAT(LoadError(), HasSubstr("the file has 29"));
}

TEST_F(SafetensorsTest, EachDamageIsNamed) {
  const std::string eight(8, '\0');
  const std::string a = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  EXPECT_THAT(ErrorOf("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", eight), "no error");
  EXPECT_THAT(ErrorOf("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})", eight),
              HasSubstr("'b' begins at byte 2 of the data, expected 4"));
  EXPECT_THAT(ErrorOf("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[5,9]}})", eight + '\0'),
              HasSubstr("'b' begins at byte 5 of the data, expected 4"));
  EXPECT_THAT(ErrorOf("{" + a + "}", eight), HasSubstr("take 4 bytes, the file has 8"));
  EXPECT_THAT(ErrorOf("{" + a + "," + a + "}", eight.substr(4)), HasSubstr("names tensor 'a' twice"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", eight.substr(4)),
              HasSubstr("'a' has type 'F31'"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", eight),
              HasSubstr("its shape and type make 12 bytes"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}})", eight), HasSubstr("offsets 8 to 4"));
  for (const char* shape : {"[4294967296,4294967296,4294967296]", "[9223372036854775807,2]", "[-1]", "[1.5]",
                            "[18446744073709551615]", "[0,18446744073709551615]"})
    EXPECT_THAT(ErrorOf(std::string(R"({"a":{"dtype":"F32","shape":)") + shape + R"(,"data_offsets":[0,8]}})", eight),
                HasSubstr("impossible shape"))
        << shape;
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}})", eight),
              HasSubstr("was it cut short?"));
  // No values at all, but more than torch can count beside the zero.
  EXPECT_NE(ErrorOf(R"({"a":{"dtype":"F32","shape":[0,9223372036854775807,9],"data_offsets":[0,0]}})", ""), "no error");
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1]}})", eight), HasSubstr("'a' lacks a proper"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", eight), HasSubstr("data_offsets"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", eight), HasSubstr("data_offsets"));
  EXPECT_THAT(ErrorOf(R"({"a":[]})", eight), HasSubstr("'a' lacks a proper"));
  EXPECT_THAT(ErrorOf(R"({"__metadata__":{"x":1}})", ""), HasSubstr("metadata 'x' is not a text"));
  EXPECT_THAT(ErrorOf("[]", ""), HasSubstr("not a JSON object"));
  EXPECT_THAT(ErrorOf("{\"a", ""), HasSubstr("not JSON"));
  EXPECT_THAT(ErrorOf("", ""), HasSubstr("not JSON"));
}

TEST_F(SafetensorsTest, HeaderLengthIsCheckedBeforeItIsRead) {
  WriteFileAtomically(path_, std::string("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", 10));
  EXPECT_THAT(LoadError(), HasSubstr("announces a header of 18446744073709551615 bytes in a file of 10"));
  WriteFileAtomically(path_, std::string("\x03\0\0\0\0\0\0\0{}", 10));
  EXPECT_THAT(LoadError(), HasSubstr("announces a header of 3 bytes"));
  EXPECT_THROW(LoadSafetensors(folder_.Path("missing")), Error);
  EXPECT_THROW(LoadSafetensors(folder_.Path("")), Error);
}

}  // namespace
}  // namespace earshot
