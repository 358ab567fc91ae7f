#include "src/serve/routes.h"

#include <gtest/gtest.h>

namespace earshot {
namespace {

const AccessPolicy kOpen({});

// The status of a refusal; 0: let in.
int StatusOf(const HttpRequest& request, const AccessPolicy& access = kOpen, bool draining = false) {
  const std::variant<Endpoint, HttpResponse> answer = Admit(request, access, draining);
  const HttpResponse* refusal = std::get_if<HttpResponse>(&answer);
  return refusal ? refusal->status : 0;
}

TEST(Routes, KnowsItsPaths) {
  for (const char* path : {"/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/x"})
    EXPECT_EQ(StatusOf({.path = path}), 0) << path;
  EXPECT_EQ(StatusOf({.method = "POST", .path = "/v1/audio/transcriptions"}), 0);
  for (const char* path : {"/", "/vosk", "/v1/stream", "/v1/realtime"})
    EXPECT_EQ(StatusOf({.path = path, .is_upgrade = true}), 0) << path;
  for (const char* path : {"/x", "//", "/static/../../etc/passwd", "/static", "/v1", "/healthz/", ""})
    EXPECT_EQ(StatusOf({.path = path}), 404) << path;
}

TEST(Routes, WrongMethodsAreToldTheRightOnes) {
  const std::variant<Endpoint, HttpResponse> answer =
      Admit({.method = "GET", .path = "/v1/audio/transcriptions"}, kOpen, false);
  const HttpResponse& refusal = std::get<HttpResponse>(answer);
  EXPECT_EQ(refusal.status, 405);
  EXPECT_EQ(refusal.headers.front().first, "Allow");
  EXPECT_EQ(refusal.headers.front().second, "POST, OPTIONS");
  EXPECT_EQ(StatusOf({.method = "DELETE", .path = "/v1/models"}), 405);
}

TEST(Routes, AWebSocketIsNoPage) { EXPECT_EQ(StatusOf({.path = "/v1/stream"}), 426); }

TEST(Routes, TokensGuardAllButHealthAndThePage) {
  const AccessPolicy access({.tokens = {"t"}});
  EXPECT_EQ(StatusOf({.path = "/healthz"}, access), 0);
  EXPECT_EQ(StatusOf({.path = "/readyz"}, access), 0);
  for (const char* path : {"/metrics", "/v1/models"}) EXPECT_EQ(StatusOf({.path = path}, access), 401) << path;
  EXPECT_EQ(StatusOf({.method = "POST", .path = "/v1/audio/transcriptions"}, access), 401);
  for (const char* path : {"/", "/vosk", "/v1/stream", "/v1/realtime"})
    EXPECT_EQ(StatusOf({.path = path, .is_upgrade = true}, access), 401) << path;
  HttpRequest request{.path = "/v1/models"};
  request.headers.emplace("authorization", "Bearer t");
  EXPECT_EQ(StatusOf(request, access), 0);
}

TEST(Routes, ADrainingServerTakesNothingNew) {
  EXPECT_EQ(StatusOf({.path = "/v1/stream", .is_upgrade = true}, kOpen, true), 503);
  EXPECT_EQ(StatusOf({.method = "POST", .path = "/v1/audio/transcriptions"}, kOpen, true), 503);
  EXPECT_EQ(StatusOf({.path = "/metrics"}, kOpen, true), 0);
}

TEST(Routes, TargetsAreDecoded) {
  HttpRequest request;
  ASSERT_TRUE(ParseTarget("/v1/models/a%20b%2Fc?x=1+2&y=%41&z", request));
  EXPECT_EQ(request.path, "/v1/models/a b/c");
  EXPECT_EQ(request.query.at("x"), "1 2");
  EXPECT_EQ(request.query.at("y"), "A");
  EXPECT_EQ(request.query.at("z"), "");
  for (const char* target : {"", "x", "http://a/", "/%", "/%4", "/%zz", "/%00", "/?a=%g0"})
    EXPECT_FALSE(ParseTarget(target, request)) << target;
}

}  // namespace
}  // namespace earshot
