#include "src/serve/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/serve/codes.h"

namespace earshot {
namespace {

HttpRequest With(std::initializer_list<std::pair<const std::string, std::string>> headers) {
  HttpRequest request;
  request.headers = headers;
  return request;
}

TEST(Access, WithoutTokensEverybodyMayAsk) { EXPECT_TRUE(AccessPolicy({}).AllowsToken(With({}))); }

TEST(Access, ATokenComesInTheHeaderOrASubprotocol) {
  const AccessPolicy access({.tokens = {"one", "t\xC3\xA9?>"}});
  EXPECT_TRUE(access.AllowsToken(With({{"authorization", "Bearer one"}})));
  EXPECT_TRUE(access.AllowsToken(With({{"authorization", "bearer  one"}})));
  EXPECT_TRUE(access.AllowsToken(With({{"sec-websocket-protocol", "realtime, openai-insecure-api-key.one"}})));
  EXPECT_TRUE(access.AllowsToken(With({{"sec-websocket-protocol", "earshot, bearer.b25l"}})));
  EXPECT_TRUE(access.AllowsToken(With({{"sec-websocket-protocol", "earshot, bearer.dMOpPz4"}})));  // no padding
  for (const char* header : {"", "Bearer", "Bearer ", "Bearer on", "Bearer onee", "Bearer ONE", "Basic one", "one"})
    EXPECT_FALSE(access.AllowsToken(With({{"authorization", header}}))) << header;
  EXPECT_FALSE(access.AllowsToken(With({})));
  EXPECT_FALSE(access.AllowsToken(With({{"sec-websocket-protocol", "earshot, bearer.!!!"}})));
}

TEST(Access, PagesAreTheServersOwnOrListed) {
  const AccessPolicy access({.allow_origins = {"https://example.org"}});
  const auto allows = [&](const char* origin, const char* host) {
    return access.AllowsOrigin(With({{"origin", origin}, {"host", host}}));
  };
  EXPECT_TRUE(access.AllowsOrigin(With({{"host", "localhost:8080"}})));  // a program
  EXPECT_TRUE(allows("http://localhost:8080", "localhost:8080"));
  EXPECT_TRUE(allows("http://127.0.0.1:8080", "127.0.0.1:8080"));
  EXPECT_TRUE(allows("http://[::1]:8080", "[::1]:8080"));
  EXPECT_TRUE(allows("http://localhost", "localhost:80"));
  EXPECT_TRUE(allows("https://example.org", "localhost:8080"));
  EXPECT_FALSE(allows("http://localhost:9090", "localhost:8080"));
  EXPECT_FALSE(allows("http://evil.example", "localhost:8080"));
  EXPECT_FALSE(allows("http://example.org", "localhost:8080"));  // another scheme
  EXPECT_FALSE(allows("null", "localhost:8080"));
  EXPECT_FALSE(allows("", "localhost:8080"));
  EXPECT_FALSE(allows("", ""));
}

TEST(Access, ANameThatWasMadeToPointHereIsNotOurs) {
  const HttpRequest rebound = With({{"origin", "http://evil.example:8080"}, {"host", "evil.example:8080"}});
  EXPECT_FALSE(AccessPolicy({}).AllowsOrigin(rebound));
  EXPECT_FALSE(AccessPolicy({}).AllowsOrigin(
      With({{"origin", "http://127.evil.example:8080"}, {"host", "127.evil.example:8080"}})));
  // A server for a network cannot know its own names.
  EXPECT_TRUE(AccessPolicy({.local_only = false}).AllowsOrigin(rebound));
}

TEST(Access, AStarAllowsEveryPage) {
  const AccessPolicy access({.allow_origins = {"*"}});
  const HttpRequest request = With({{"origin", "http://any.example"}, {"host", "localhost"}});
  EXPECT_TRUE(access.AllowsOrigin(request));
  EXPECT_TRUE(access.IsForeignOrigin(request));
  EXPECT_FALSE(AccessPolicy({}).IsForeignOrigin(With({{"origin", "http://localhost"}, {"host", "localhost"}})));
}

}  // namespace
}  // namespace earshot
