#include "src/serve/web_assets.h"

#include <gtest/gtest.h>

#include <set>

namespace earshot {
namespace {

TEST(WebAssets, AreFoundByTheirPathAlone) {
  for (const WebAsset& asset : WebAssets()) {
    EXPECT_TRUE(asset.path.starts_with("/static/")) << asset.path;
    EXPECT_EQ(FindWebAsset(asset.path), &asset);
    EXPECT_FALSE(asset.mime_type.empty());
    EXPECT_TRUE(asset.etag.starts_with('"') && asset.etag.ends_with('"') && asset.etag.size() > 2) << asset.etag;
  }
  EXPECT_EQ(FindWebAsset("/static/"), nullptr);
  EXPECT_EQ(FindWebAsset("/static/../server.cc"), nullptr);
  EXPECT_EQ(FindWebAsset("/"), FindWebAsset("/static/index.html"));
}

TEST(WebAssets, ABrowserThatHasAFileIsToldSo) {
  const WebAsset asset{.path = "/static/a.js", .mime_type = "text/javascript", .bytes = "x", .etag = "\"1\""};
  HttpRequest request;
  HttpResponse response = ServeWebAsset(asset, request);
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "x");
  std::set<std::string> names;
  for (const auto& [name, value] : response.headers) names.insert(name);
  for (const char* name : {"ETag", "Cache-Control", "Content-Security-Policy", "Permissions-Policy"})
    EXPECT_TRUE(names.contains(name)) << name;
  request.headers.emplace("if-none-match", "\"0\", W/\"1\"");
  response = ServeWebAsset(asset, request);
  EXPECT_EQ(response.status, 304);
  EXPECT_TRUE(response.body.empty());
  request.headers = {{"if-none-match", "\"2\""}};
  EXPECT_EQ(ServeWebAsset(asset, request).status, 200);
}

}  // namespace
}  // namespace earshot
